//! What may enter through a port: RFC 4787 section 5, RFC 5382 section 5, RFC 5508 section 3.

use super::{at, server, state};
use sixway::flow::{Side, Signal, Slot, State};
use sixway::units::Proto;

fn slot(state: &State, proto: Proto) -> Slot {
    state.slot(server(), proto, 20500).expect("ours")
}

#[test]
fn only_our_names_have_slots() {
    let state = state();
    assert!(state.slot(server(), Proto::TCP, 20479).is_none() && state.slot(server(), Proto::TCP, 21504).is_none());
    assert!(state.slot(super::ip("192.168.50.2"), Proto::TCP, 20500).is_none());
    assert!(state.slot(server(), Proto::ESP, 0).is_some(), "a portless protocol is a name of its own");
    assert_ne!(slot(&state, Proto::TCP), slot(&state, Proto::UDP));
}

#[test]
fn a_port_that_never_sent_admits_nothing() {
    let state = state();
    for proto in [Proto::TCP, Proto::UDP, Proto::ICMP, Proto::ESP] {
        for signal in [Signal::Syn, Signal::Segment, Signal::Rst, Signal::Datagram] {
            assert!(!state.admits(slot(&state, proto), Side::Outside, signal, at(0)), "{proto} {signal:?}");
        }
    }
}

/// RFC 4787 REQ-5: not less than 5 minutes here. REQ-6: what leaves refreshes, and nothing else does.
#[test]
fn udp_is_admitted_for_five_minutes_after_the_last_sent() {
    let state = state();
    let slot = slot(&state, Proto::UDP);
    state.touch(slot, Side::Outside, Signal::Datagram, at(1000));
    assert!(state.admits(slot, Side::Outside, Signal::Datagram, at(1300)));
    assert!(state.admits(slot, Side::Outside, Signal::Datagram, at(1300)), "looking refreshes nothing");
    assert!(!state.admits(slot, Side::Outside, Signal::Datagram, at(1301)));
    state.touch(slot, Side::Outside, Signal::Datagram, at(1301));
    assert!(state.admits(slot, Side::Outside, Signal::Datagram, at(1500)));
}

#[test]
fn the_outside_and_the_peers_have_clocks_of_their_own() {
    let state = state();
    let slot = slot(&state, Proto::UDP);
    state.touch(slot, Side::Peers, Signal::Datagram, at(5));
    assert!(state.admits(slot, Side::Peers, Signal::Datagram, at(5)));
    assert!(!state.admits(slot, Side::Outside, Signal::Datagram, at(5)));
    state.touch(slot, Side::Outside, Signal::Datagram, at(200));
    assert!(state.admits(slot, Side::Peers, Signal::Datagram, at(305)));
    assert!(!state.admits(slot, Side::Peers, Signal::Datagram, at(306)), "the other clock is not this one");
}

/// RFC 5508 REQ-2.
#[test]
fn an_echo_is_answered_for_a_minute() {
    let state = state();
    let slot = slot(&state, Proto::ICMP);
    state.touch(slot, Side::Outside, Signal::Datagram, at(10));
    assert!(state.admits(slot, Side::Outside, Signal::Datagram, at(70)));
    assert!(!state.admits(slot, Side::Outside, Signal::Datagram, at(71)));
}

/// RFC 5382 REQ-5.
#[test]
fn a_handshake_makes_the_tcp_clock_long() {
    let state = state();
    let slot = slot(&state, Proto::TCP);
    state.touch(slot, Side::Outside, Signal::Syn, at(0));
    assert!(state.admits(slot, Side::Outside, Signal::SynAck, at(240)));
    assert!(!state.admits(slot, Side::Outside, Signal::SynAck, at(241)));
    state.touch(slot, Side::Outside, Signal::Segment, at(1));
    assert!(state.admits(slot, Side::Outside, Signal::Segment, at(7441)));
    assert!(!state.admits(slot, Side::Outside, Signal::Segment, at(7442)));
}

/// RFC 5382 REQ-2: both send a SYN at once, and each must get the other's.
#[test]
fn a_syn_enters_only_while_the_latest_sent_was_a_syn() {
    let state = state();
    let slot = slot(&state, Proto::TCP);
    state.touch(slot, Side::Outside, Signal::Syn, at(0));
    assert!(state.admits(slot, Side::Outside, Signal::Syn, at(240)));
    assert!(!state.admits(slot, Side::Outside, Signal::Syn, at(241)));
    assert!(!state.admits(slot, Side::Peers, Signal::Syn, at(0)));
    state.touch(slot, Side::Outside, Signal::SynAck, at(1));
    assert!(state.admits(slot, Side::Outside, Signal::Syn, at(1)), "the peer may have to send its SYN again");
    state.touch(slot, Side::Outside, Signal::Segment, at(2));
    assert!(!state.admits(slot, Side::Outside, Signal::Syn, at(2)), "a connection stands: nobody may open one inwards");
    assert!(state.admits(slot, Side::Outside, Signal::Segment, at(2)));
}

#[test]
fn a_new_connection_neither_shortens_an_old_one_nor_inherits_from_a_cold_one() {
    let state = state();
    let slot = slot(&state, Proto::TCP);
    state.touch(slot, Side::Outside, Signal::Segment, at(0));
    state.touch(slot, Side::Outside, Signal::Syn, at(100));
    assert!(state.admits(slot, Side::Outside, Signal::Segment, at(7540)), "the first connection may still be open");
    state.touch(slot, Side::Outside, Signal::Syn, at(20_000));
    assert!(!state.admits(slot, Side::Outside, Signal::Segment, at(20_241)), "that one was over");
    state.touch(slot, Side::Outside, Signal::Segment, at(30_000));
    state.touch(slot, Side::Outside, Signal::Syn, at(37_000));
    assert!(!state.admits(slot, Side::Outside, Signal::Syn, at(37_241)), "for a SYN the short timer counts");
}

#[test]
fn a_reset_warms_nothing() {
    let state = state();
    let slot = slot(&state, Proto::TCP);
    state.touch(slot, Side::Outside, Signal::Rst, at(0));
    assert!(!state.admits(slot, Side::Outside, Signal::Segment, at(0)));
    state.touch(slot, Side::Outside, Signal::Syn, at(0));
    state.touch(slot, Side::Outside, Signal::Rst, at(200));
    assert!(!state.admits(slot, Side::Outside, Signal::Segment, at(241)));
}

#[test]
fn a_reader_whose_burst_began_up_to_a_minute_earlier_sees_a_warm_clock() {
    let state = state();
    let slot = slot(&state, Proto::UDP);
    state.touch(slot, Side::Outside, Signal::Datagram, at(161));
    let admits = |now| state.admits(slot, Side::Outside, Signal::Datagram, at(now));
    assert!(admits(160) && admits(101));
    assert!(!admits(100), "no worker is so far behind");
    for months in 1..17 * 12 {
        assert!(!admits(months * 30 * 86_400), "a port that sent {months} months ago is cold");
    }
}
