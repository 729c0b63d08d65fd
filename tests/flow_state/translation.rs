//! Translation: RFC 4787 section 4, RFC 5382 section 4, RFC 5508 section 3, RFC 7857 sections 2 and 3.

use super::{WEB, at, block, geometry, ip, range, remote, server, state};
use sixway::flow::{ECHO_CLAIM_WORDS, Geometry, Holding, Refused, Side, Signal, State, Timers};
use sixway::table::mapped::Words;
use sixway::units::{Endpoint, Proto, Tick};
use std::sync::atomic::Ordering::SeqCst;

fn tcp(host: u8) -> Endpoint {
    remote(Proto::TCP, &format!("198.51.100.{host}"), 443)
}

fn udp(host: u8) -> Endpoint {
    remote(Proto::UDP, &format!("198.51.100.{host}"), 53)
}

/// RFC 4787 REQ-1, RFC 5382 REQ-1: one mapping for all remotes, and all remotes enter by it.
#[test]
fn an_inside_port_has_one_wire_port_for_all_remotes() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let port = state.translate_out(&pool, 51_000, &udp(1), Signal::Datagram, at(0)).unwrap();
    assert_eq!(state.translate_out(&pool, 51_000, &udp(2), Signal::Datagram, at(0)), Ok(port));
    for host in 1..10 {
        assert_eq!(state.translate_in(&pool, port, &udp(host), Signal::Datagram, at(1)), Some(51_000));
    }
}

#[test]
fn the_preferred_port_is_base_plus_port_modulo_size() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    for inside in [0, 255, 256, 40_001, 65_535] {
        let wire = state.translate_out(&pool, inside, &udp(1), Signal::Datagram, at(0));
        let home = 20736 + inside % 256;
        match inside {
            256 | 65_535 => assert!(wire.is_ok_and(|wire| wire != home), "taken: {inside}"),
            _ => assert_eq!(wire, Ok(home)),
        }
    }
}

/// RFC 4787 REQ-4: parity is kept where the preferred port is taken.
#[test]
fn parity_is_preserved() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    for nth in 0..8 {
        let wire = state.translate_out(&pool, 40_001 + 256 * nth, &udp(1), Signal::Datagram, at(0)).unwrap();
        assert_eq!(wire % 2, 1);
    }
}

#[test]
fn the_pool_of_a_native_block_is_its_last_eighth() {
    let state = state();
    let ports = range(20736, 20991);
    block(&state, ports, WEB, at(0));
    let pool = state.pool(server(), ports, true, WEB).unwrap();
    assert_eq!(pool.ports(), range(20960, 20991));
    let wire = state.translate_out(&pool, 40_001, &udp(1), Signal::Datagram, at(0)).unwrap();
    assert_eq!(wire, 20960 + 40_001 % 32);
    assert_eq!(state.translate_in(&pool, wire, &udp(1), Signal::Datagram, at(0)), Some(40_001));
    assert_eq!(state.pool(server(), range(20736, 20743), true, WEB).unwrap().ports(), range(20743, 20743));
}

#[test]
fn only_aligned_ranges_of_ours_are_pools() {
    let state = state();
    assert!(state.pool(server(), range(20737, 20992), false, WEB).is_none(), "unaligned");
    assert!(state.pool(server(), range(20736, 20739), true, WEB).is_none(), "too small for native");
    assert!(state.pool(server(), range(16384, 32767), false, WEB).is_none(), "not all of it is owned");
    assert!(state.pool(ip("192.168.50.2"), range(20736, 20991), false, WEB).is_none(), "not our server");
    let state = State::memory(&Geometry { servers: vec![server()], ports: range(20500, 20999) }).unwrap();
    assert!(state.pool(server(), range(20480, 20511), false, WEB).is_none(), "it begins before the range");
    assert!(state.pool(server(), range(20992, 21007), false, WEB).is_none(), "it goes on after the range");
}

#[test]
fn what_comes_in_without_an_entry_is_for_nobody() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    assert_eq!(state.translate_in(&pool, 20800, &udp(1), Signal::Datagram, at(0)), None);
    let wire = state.translate_out(&pool, 51_000, &udp(1), Signal::Datagram, at(0)).unwrap();
    for other in (20736..=20991).filter(|&port| port != wire) {
        assert_eq!(state.translate_in(&pool, other, &udp(1), Signal::Datagram, at(0)), None);
    }
    for beyond in [0, 20735, 20992, 65_535] {
        assert_eq!(state.translate_in(&pool, beyond, &udp(1), Signal::Datagram, at(0)), None);
    }
    assert_eq!(state.translate_in(&pool, wire, &tcp(1), Signal::Segment, at(0)), None, "protocols are apart");
}

/// RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-2.
#[test]
fn entries_end_by_their_timers() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let echo = remote(Proto::ICMP, "198.51.100.1", 0);
    let stories = [
        (udp(1), vec![Signal::Datagram], 300),
        (echo, vec![Signal::Datagram], 60),
        (tcp(1), vec![Signal::Syn], 240),
        (tcp(2), vec![Signal::Syn, Signal::Segment], 7440),
        (tcp(3), vec![Signal::Syn, Signal::Segment, Signal::Rst], 240),
    ];
    for (nth, (to, signals, timer)) in stories.into_iter().enumerate() {
        let inside = 50_000 + nth as u16;
        let mut wire = 0;
        for signal in signals {
            wire = state.translate_out(&pool, inside, &to, signal, at(1000)).unwrap();
        }
        assert_eq!(state.peek_in(&pool, wire, &to, at(1000 + timer)), Some(inside), "{to} at {timer}");
        assert_eq!(state.peek_in(&pool, wire, &to, at(1001 + timer)), None, "{to} after {timer}");
    }
}

/// RFC 5508 REQ-1: the identifier is the port, and the remote is an address.
#[test]
fn an_echo_reply_finds_its_asker_by_the_identifier() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let asked = remote(Proto::ICMP, "198.51.100.1", 7);
    let wire = state.translate_out(&pool, 7, &asked, Signal::Datagram, at(0)).unwrap();
    let answers = remote(Proto::ICMP, "198.51.100.1", wire);
    assert_eq!(state.translate_in(&pool, wire, &answers, Signal::Datagram, at(0)), Some(7));
}

/// RFC 7857 section 3 (port overlapping).
#[test]
fn a_full_block_goes_on_with_other_remotes() {
    let state = state();
    let pool = block(&state, range(20736, 20743), WEB, at(0));
    for inside in 0..8 {
        state.translate_out(&pool, 1000 + inside, &udp(1), Signal::Datagram, at(0)).unwrap();
    }
    assert_eq!(state.translate_out(&pool, 2000, &udp(1), Signal::Datagram, at(0)), Err(Refused::Exhausted));
    let mut wires = vec![];
    for inside in 2000..2008 {
        let wire = state.translate_out(&pool, inside, &udp(2), Signal::Datagram, at(0)).unwrap();
        assert_eq!(state.translate_in(&pool, wire, &udp(2), Signal::Datagram, at(0)), Some(inside));
        assert_eq!(state.translate_out(&pool, inside, &udp(2), Signal::Datagram, at(0)), Ok(wire), "and stays");
        wires.push(wire);
    }
    wires.sort_unstable();
    assert!(wires.into_iter().eq(20736..=20743));
    assert_eq!(state.translate_out(&pool, 2008, &udp(2), Signal::Datagram, at(0)), Err(Refused::Exhausted));
    for inside in 1000..1008 {
        let wire = state.translate_out(&pool, inside, &udp(1), Signal::Datagram, at(0)).unwrap();
        assert_eq!(state.translate_in(&pool, wire, &udp(1), Signal::Datagram, at(0)), Some(inside), "none was robbed");
    }
}

/// The holder of a shared port must not begin to use it with the remote that it is shared for.
#[test]
fn the_holder_of_a_shared_port_leaves_by_another_one_to_that_remote() {
    let state = state();
    let pool = block(&state, range(20736, 20739), WEB, at(0));
    for inside in 1000..1004 {
        state.translate_out(&pool, inside, &udp(1), Signal::Datagram, at(0)).unwrap();
    }
    let wire = state.translate_out(&pool, 2000, &udp(2), Signal::Datagram, at(0)).unwrap();
    let holder = state.translate_in(&pool, wire, &udp(1), Signal::Datagram, at(0)).unwrap();
    let elsewhere = state.translate_out(&pool, holder, &udp(2), Signal::Datagram, at(0)).unwrap();
    assert_ne!(elsewhere, wire);
    assert_eq!(state.translate_in(&pool, wire, &udp(2), Signal::Datagram, at(0)), Some(2000));
    assert_eq!(state.translate_in(&pool, elsewhere, &udp(2), Signal::Datagram, at(0)), Some(holder));
    assert_eq!(state.translate_out(&pool, holder, &udp(1), Signal::Datagram, at(0)), Ok(wire), "as ever");
}

/// In blocks of more than 64 ports a record lies in a class of ports, and an inside port's first entry may be in another
/// class than the inside port itself: what comes in for the record must not leave by the entry.
#[test]
fn a_port_that_is_shared_is_not_given_to_others_for_that_remote() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let out = |inside, to: &Endpoint, now| state.translate_out(&pool, inside, to, Signal::Datagram, at(now)).unwrap();
    for inside in 0..256 {
        out(inside, &udp(1), 0);
    }
    // Laid over the port of inside port 7, say, as there is no other.
    let shared = out(1000, &udp(2), 200);
    let holder = shared - pool.ports().first;
    for inside in (0..256).filter(|&inside| inside != holder) {
        out(inside, &udp(1), 250);
    }
    // The holder's entry expires. Another inside port gets its port, which is the only one, but not for that remote.
    let newcomer = (2000..2256).find(|inside| inside % 4 != shared % 4).unwrap();
    let to_other = out(newcomer, &udp(3), 400);
    assert_eq!(to_other, shared);
    let to_same = out(newcomer, &udp(2), 401);
    assert_ne!(to_same, shared);
    let into = |port, from: &Endpoint| state.translate_in(&pool, port, from, Signal::Datagram, at(402));
    assert_eq!(into(shared, &udp(2)), Some(1000));
    assert_eq!(into(shared, &udp(3)), Some(newcomer));
    assert_eq!(into(to_same, &udp(2)), Some(newcomer));

    // Nor does it get the port in the first place, if that remote is the one that it calls.
    let state = self::state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let out = |inside, to: &Endpoint, now| state.translate_out(&pool, inside, to, Signal::Datagram, at(now));
    (0..256).for_each(|inside| assert!(out(inside, &udp(1), 0).is_ok()));
    assert_eq!(out(1000, &udp(2), 200), Ok(shared));
    (0..256).filter(|&inside| inside != holder).for_each(|inside| assert!(out(inside, &udp(1), 250).is_ok()));
    assert!(out(newcomer, &udp(2), 400).is_ok_and(|port| port != shared));
}

#[test]
fn a_port_that_talks_to_several_is_not_shared() {
    let state = state();
    let pool = block(&state, range(20736, 20736), WEB, at(0));
    state.translate_out(&pool, 1000, &udp(1), Signal::Datagram, at(0)).unwrap();
    state.translate_out(&pool, 1000, &udp(2), Signal::Datagram, at(0)).unwrap();
    assert_eq!(state.translate_out(&pool, 2000, &udp(3), Signal::Datagram, at(0)), Err(Refused::Exhausted));
    assert_eq!(state.translate_out(&pool, 2000, &udp(3), Signal::Datagram, at(301)), Ok(20736), "when it is over");
}

#[test]
fn closed_connections_make_room_for_a_new_syn_oldest_first() {
    let state = state();
    let pool = block(&state, range(20736, 20739), WEB, at(0));
    let mut wires = vec![];
    for inside in 1000..1004 {
        wires.push(state.translate_out(&pool, inside, &tcp(1), Signal::Syn, at(0)).unwrap());
        state.translate_out(&pool, inside, &tcp(1), Signal::Segment, at(0)).unwrap();
    }
    let close = |nth: usize, when: Tick| {
        let inside = 1000 + nth as u16;
        state.translate_out(&pool, inside, &tcp(1), Signal::Fin, when).unwrap();
        state.translate_in(&pool, wires[nth], &tcp(1), Signal::Fin, when).unwrap();
        state.translate_out(&pool, inside, &tcp(1), Signal::Segment, when).unwrap();
    };
    let try_new = |inside, signal, now| state.translate_out(&pool, inside, &tcp(1), signal, now);
    assert_eq!(try_new(2000, Signal::Syn, at(1)), Err(Refused::Exhausted), "none has closed");
    // Found in the other order.
    close(1, at(10));
    close(2, at(11));
    assert_eq!(try_new(2000, Signal::Segment, at(12)), Err(Refused::Exhausted), "only a SYN recycles");
    assert_eq!(state.peek_in(&pool, wires[2], &tcp(1), at(12)), Some(1002), "the last acknowledgement may be repeated");
    assert_eq!(try_new(2000, Signal::Syn, at(12)), Ok(wires[1]));
    assert_eq!(try_new(2001, Signal::Syn, at(12)), Ok(wires[2]));
    assert_eq!(try_new(2002, Signal::Syn, at(12)), Err(Refused::Exhausted));
}

#[test]
fn closed_connections_that_share_a_port_make_room_for_a_new_syn_oldest_first() {
    let state = state();
    let pool = block(&state, range(20736, 20739), WEB, at(0));
    let out = |inside, host, signal, now| state.translate_out(&pool, inside, &tcp(host), signal, at(now));
    let connect = |inside, host| out(inside, host, Signal::Segment, 0).unwrap();
    (1000..1004).for_each(|inside| assert!(connect(inside, 1) >= 20736));
    let wires: Vec<u16> = (2000..2004).map(|inside| connect(inside, 2)).collect();
    for (nth, when) in [(1, 11), (2, 10), (3, 12)] {
        out(2000 + nth, 2, Signal::Rst, when).unwrap();
    }
    assert_eq!(out(3000, 2, Signal::Segment, 13), Err(Refused::Exhausted), "only a SYN recycles");
    assert_eq!(out(3000, 2, Signal::Syn, 13), Ok(wires[2]));
    assert_eq!(out(3001, 2, Signal::Syn, 13), Ok(wires[1]));
    assert_eq!(out(3002, 2, Signal::Syn, 13), Ok(wires[3]));
    assert_eq!(out(3003, 2, Signal::Syn, 13), Err(Refused::Exhausted), "the last one lives");
    assert_eq!(state.translate_in(&pool, wires[0], &tcp(2), Signal::Segment, at(13)), Some(2000));
}

/// Records of all blocks lie in one table, and those for one remote among each other.
#[test]
fn full_blocks_that_call_the_same_remotes_keep_apart() {
    let state = state();
    let blocks = [20528, 20512, 20496, 20480].map(|first| range(first, first + 15));
    let pools = blocks.map(|ports| block(&state, ports, u64::from(ports.first), at(0)));
    // The same inside ports everywhere.
    let flows = || (0..16).flat_map(|nth| pools.iter().map(move |pool| (pool, nth)));
    for (pool, nth) in flows() {
        assert!(state.translate_out(pool, 1000 + nth, &udp(1), Signal::Datagram, at(0)).is_ok());
    }
    // Of these, some have a record of the next block in the run of one before it.
    let remotes = || (73..81).map(udp);
    for (to, (pool, nth)) in remotes().flat_map(|to| flows().map(move |flow| (to, flow))) {
        let wire = state.translate_out(pool, 2000 + nth, &to, Signal::Datagram, at(0)).unwrap();
        assert!(pool.ports().contains(wire), "{wire} is not one of {:?}", pool.ports());
    }
    for (from, pool) in remotes().flat_map(|from| pools.iter().map(move |pool| (from, pool))) {
        let wires = pool.ports().first..=pool.ports().last;
        let mut insides: Vec<_> = wires.map(|wire| state.peek_in(pool, wire, &from, at(0))).collect();
        insides.sort_unstable();
        assert!(insides.into_iter().eq((2000..2016).map(Some)), "from {from} into {:?}", pool.ports());
    }
}

/// RFC 7857 section 2.2: a reset translates, and the entry waits in case it was forged.
#[test]
fn a_reset_closes_and_a_forged_one_is_outlived() {
    let state = state();
    let pool = block(&state, range(20736, 20736), WEB, at(0));
    let wire = state.translate_out(&pool, 1000, &tcp(1), Signal::Syn, at(0)).unwrap();
    state.translate_out(&pool, 1000, &tcp(1), Signal::Segment, at(0)).unwrap();
    assert_eq!(state.translate_in(&pool, wire, &tcp(1), Signal::Rst, at(1)), Some(1000));
    state.translate_out(&pool, 1000, &tcp(1), Signal::Segment, at(2)).unwrap();
    assert_eq!(state.translate_out(&pool, 2000, &tcp(1), Signal::Syn, at(3)), Err(Refused::Exhausted), "alive");
    assert_eq!(state.translate_in(&pool, wire, &tcp(1), Signal::Rst, at(4)), Some(1000));
    assert_eq!(state.translate_out(&pool, 2000, &tcp(1), Signal::Syn, at(5)), Ok(wire));
}

#[test]
fn a_reset_without_a_connection_makes_no_entry() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    assert_eq!(state.translate_out(&pool, 1000, &tcp(1), Signal::Rst, at(0)), Err(Refused::Stray));
    assert_eq!(state.peek_out(&pool, 1000, &tcp(1), at(0)), None);
}

/// A connection that was open before its entry was lost goes on by the port that it prefers, the same as before.
#[test]
fn a_connection_in_mid_stream_gets_a_long_lived_entry() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    assert_eq!(state.translate_out(&pool, 40_000, &tcp(1), Signal::Segment, at(0)), Ok(20736 + 40_000 % 256));
    assert_eq!(state.peek_in(&pool, 20736 + 40_000 % 256, &tcp(1), at(7440)), Some(40_000));
}

#[test]
fn peeking_changes_nothing() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let would = state.peek_translation(&pool, 40_000, &udp(1), (Signal::Datagram, at(0)), |_| false);
    assert_eq!(would, Ok(20736 + 40_000 % 256));
    assert_eq!(state.peek_out(&pool, 40_000, &udp(1), at(0)), None);
    let wire = state.translate_out(&pool, 40_000, &udp(1), Signal::Datagram, at(0)).unwrap();
    assert_eq!(Ok(wire), would);
    assert_eq!(state.peek_out(&pool, 40_000, &udp(9), at(299)), Some(wire));
    assert_eq!(state.peek_in(&pool, wire, &udp(9), at(299)), Some(40_000));
    assert_eq!(state.peek_in(&pool, wire, &udp(1), at(301)), None, "and has refreshed nothing");
}

#[test]
fn a_block_of_another_container_translates_nothing() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let wire = state.translate_out(&pool, 40_000, &udp(1), Signal::Datagram, at(0)).unwrap();
    let stranger = state.pool(server(), range(20736, 20991), false, 0xbad).unwrap();
    assert_eq!(state.translate_out(&stranger, 40_000, &udp(1), Signal::Datagram, at(0)), Err(Refused::NotOwner));
    assert_eq!(state.translate_in(&stranger, wire, &udp(1), Signal::Datagram, at(0)), None);
    let esp = remote(Proto::ESP, "198.51.100.1", 0);
    assert_eq!(state.translate_out(&pool, 0, &esp, Signal::Datagram, at(0)), Err(Refused::NotOwner), "it has no ports");
}

#[test]
fn losing_forgets_entries_records_and_clocks() {
    let state = state();
    let ports = range(20736, 20737);
    let pool = block(&state, ports, WEB, at(0));
    for (inside, host) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        state.translate_out(&pool, inside, &udp(host), Signal::Datagram, at(0)).unwrap();
    }
    let slot = state.slot(server(), Proto::UDP, 20736).unwrap();
    state.touch(slot, Side::Outside, Signal::Datagram, at(0));
    state.lose(server(), Proto::UDP, ports);
    assert!(!state.admits(slot, Side::Outside, Signal::Datagram, at(0)));
    for wire in 20736..=20737 {
        for host in 1..=2 {
            assert_eq!(state.peek_in(&pool, wire, &udp(host), at(0)), None);
        }
    }
    for inside in 11..=14 {
        state.translate_out(&pool, inside, &udp((inside - 9) as u8 / 2), Signal::Datagram, at(0)).unwrap();
    }
}

#[test]
fn losing_a_port_forgets_the_records_at_that_port_only() {
    let state = state();
    let pool = block(&state, range(20736, 20737), WEB, at(0));
    let out = |inside, host| state.translate_out(&pool, inside, &udp(host), Signal::Datagram, at(0)).unwrap();
    [1, 2].into_iter().for_each(|inside| assert_ne!(out(inside, 1), 0));
    let wires = [3, 4].map(|inside| out(inside, 2));
    state.lose(server(), Proto::UDP, range(wires[0], wires[0]));
    assert_eq!(state.peek_in(&pool, wires[0], &udp(2), at(0)), None);
    assert_eq!(state.peek_in(&pool, wires[1], &udp(2), at(0)), Some(4));
    assert_eq!(state.peek_out(&pool, 4, &udp(2), at(0)), Some(wires[1]));
}

#[test]
fn sweeping_frees_what_has_expired_and_nothing_else() {
    let state = state();
    let pool = block(&state, range(20736, 20737), WEB, at(0));
    for (inside, host, when) in [(1, 1, 0), (2, 1, 0), (3, 2, 0), (4, 2, 0), (2, 1, 200), (4, 2, 200)] {
        state.translate_out(&pool, inside, &udp(host), Signal::Datagram, at(when)).unwrap();
    }
    state.sweep(at(301));
    assert_eq!(state.peek_out(&pool, 1, &udp(1), at(10)), None, "freed, whatever the clock says");
    assert_eq!(state.peek_out(&pool, 3, &udp(2), at(10)), None);
    assert!(
        state.peek_out(&pool, 2, &udp(1), at(301)).is_some() && state.peek_out(&pool, 4, &udp(2), at(301)).is_some()
    );
}

#[test]
fn echo_claims_follow_requests() {
    let state = state().with_timers(Timers { echo: 90, ..Timers::DEFAULT });
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let echo = remote(Proto::ICMP, "198.51.100.1", 0);
    let before = state.translate_out(&pool, 40_000, &echo, Signal::Datagram, at(100)).unwrap();
    let array = |port: &str| {
        let path = std::env::temp_dir().join(format!("sixway-flow-echo-{port}-{}", std::process::id()));
        let claims = Words::replace(&path, ECHO_CLAIM_WORDS).unwrap();
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let program = Words::<std::sync::atomic::AtomicU32>::from_fd(&file, ECHO_CLAIM_WORDS).unwrap();
        std::fs::remove_file(&path).unwrap();
        (claims, program)
    };
    let [(claims, program), (others, other_program)] = ["uplink", "wan"].map(array);
    let until = |id: u16| {
        let until = program[2 * usize::from(id)].load(SeqCst);
        assert_eq!(other_program[2 * usize::from(id)].load(SeqCst), until, "replies may come by either port");
        until
    };
    let small = Words::memory(2 * 65536 - 1).unwrap();
    assert!(!state.attach_echo_claims(vec![small], at(110)), "two words for each identifier");
    assert!(state.attach_echo_claims(vec![claims, others], at(110)));
    assert_eq!(until(before), 110 + 91, "what the state remembers is claimed at once");
    assert_eq!(until(20999), 0);
    let slot = state.slot(server(), Proto::ICMP, 20999).unwrap();
    state.touch(slot, Side::Outside, Signal::Datagram, at(200));
    assert_eq!(until(20999), 291, "the first second in which the reply is not ours");
    assert!(state.expects_echo(slot, at(290)) && !state.expects_echo(slot, at(291)));
    for now in [300, 330] {
        let wire = state.translate_out(&pool, 40_001, &echo, Signal::Datagram, at(now)).unwrap();
        assert_eq!(until(wire), now as u32 + 91, "with every request");
    }
    let wire = state.translate_out(&pool, 40_002, &udp(1), Signal::Datagram, at(300)).unwrap();
    assert_eq!(until(wire), 0, "a port is no identifier");
    assert!(!state.attach_echo_claims(vec![Words::memory(ECHO_CLAIM_WORDS).unwrap()], at(110)), "once");
}

/// The whole owned range of the design, as blocks of 256, every port of it in use, in a few megabytes.
#[test]
fn the_owned_range_fills_to_the_last_port() {
    let geometry = Geometry { servers: vec![server()], ports: range(20480, 59903) };
    let state = State::memory(&geometry).unwrap();
    assert!(state.bytes() < 8 << 20, "{} bytes", state.bytes());
    for first in (20480..=59903).step_by(256) {
        let ports = range(first, first + 255);
        for (proto, signal) in
            [(Proto::TCP, Signal::Syn), (Proto::UDP, Signal::Datagram), (Proto::ICMP, Signal::Datagram)]
        {
            let owner = u64::from(first);
            state.assign(&Holding { server: server(), proto, ports, owner }, at(0));
            let pool = state.pool(server(), ports, false, owner).unwrap();
            let to = remote(proto, "198.51.100.1", 443);
            // The worst choice of inside ports there is: all prefer the same one.
            let wires: std::collections::BTreeSet<u16> =
                (0..256).map(|nth| state.translate_out(&pool, nth << 8, &to, signal, at(0)).unwrap()).collect();
            assert_eq!(wires.len(), 256);
            assert_eq!(state.translate_out(&pool, 1, &to, signal, at(0)), Err(Refused::Exhausted));
        }
    }
}

#[test]
fn several_servers_and_both_families_have_state_of_their_own() {
    let (v4, v6) = (server(), ip("fd00::1"));
    let state = State::memory(&Geometry { servers: vec![v4, v6], ports: geometry().ports }).unwrap();
    let ports = range(20736, 20991);
    for (server, proto) in [(v4, Proto::UDP), (v6, Proto::UDP), (v6, Proto::ICMPV6)] {
        state.assign(&Holding { server, proto, ports, owner: WEB }, at(0));
    }
    let pool = state.pool(v6, ports, false, WEB).unwrap();
    for (proto, port) in [(Proto::UDP, 53), (Proto::ICMPV6, 0)] {
        let wire =
            state.translate_out(&pool, 40_000, &remote(proto, "2001:db8::1", port), Signal::Datagram, at(0)).unwrap();
        assert_eq!(state.peek_in(&pool, wire, &remote(proto, "2001:db8::1", port), at(0)), Some(40_000));
        let v4_pool = state.pool(v4, ports, false, WEB).unwrap();
        assert_eq!(state.peek_in(&v4_pool, wire, &udp(1), at(0)), None);
    }
    assert!(State::memory(&Geometry { servers: vec![v4; 201], ports }).is_err());
}

/// Ports that are kept for something else are given to nobody: not at first, not again, not to share.
#[test]
fn ports_that_are_kept_are_not_given() {
    let state = state();
    let pool = block(&state, range(20736, 20743), WEB, at(0));
    let out = |inside, host, now, kept: &[u16]| {
        let when = (Signal::Datagram, at(now));
        let would = state.peek_translation(&pool, inside, &udp(host), when, |port| kept.contains(&port));
        let answer = state.translate_out_beside(&pool, inside, &udp(host), when, |port| kept.contains(&port));
        assert_eq!(answer, would);
        answer
    };
    assert_eq!(out(1000, 1, 0, &[]), Ok(20736), "its home");
    assert_eq!(out(1000, 1, 400, &[20736]), Ok(20738), "not again");
    assert_eq!(out(1000, 1, 400, &[]), Ok(20738), "one entry for an inside port");
    assert_eq!(out(1008, 1, 400, &[20736]), Ok(20740), "not at first");
    let all_but_two: Vec<u16> = (20736..=20743).filter(|port| ![20738, 20740].contains(port)).collect();
    assert_eq!(out(1016, 1, 400, &all_but_two), Err(Refused::Exhausted));
    assert!(matches!(out(1016, 2, 400, &all_but_two), Ok(20738 | 20740)), "nor shared");
}

/// Whoever asks sees every live entry once, in pieces, the records that share a port among them.
#[test]
fn live_entries_are_listed() {
    let state = state();
    let pool = block(&state, range(20736, 20737), WEB, at(0));
    let six = remote(Proto::UDP, "2001:db8::1", 53);
    for (inside, to) in [(1000, udp(1)), (1001, udp(1)), (1002, udp(2)), (1003, udp(3)), (1004, six)] {
        state.translate_out(&pool, inside, &to, Signal::Datagram, at(0)).unwrap();
    }
    let list = |now| {
        let (mut all, mut place) = (Vec::new(), Some(0));
        while let Some(first) = place {
            let (some, next) = state.translated(first, 1000, at(now));
            all.extend(some.iter().map(|found| {
                assert_eq!((found.wire.ip, found.wire.proto, found.idle), (server(), Proto::UDP, now as u32));
                (found.inside_port, found.wire.port, found.remote)
            }));
            place = next;
        }
        all.sort_unstable_by_key(|found| found.0);
        all
    };
    assert_eq!(
        list(1),
        [
            (1000, 20736, None),
            (1001, 20737, None),
            (1002, 20736, Some(udp(2))),
            (1003, 20737, Some(udp(3))),
            (1004, 20736, None)
        ],
        "of IPv6 the remote is not known"
    );
    assert_eq!(list(301), []);
}

#[test]
fn a_listed_entry_says_how_far_its_connection_has_got() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let signals = [Signal::Syn, Signal::Segment, Signal::Fin, Signal::Rst];
    for (nth, signal) in signals.into_iter().enumerate() {
        let inside = 40_000 + nth as u16;
        state.translate_out(&pool, inside, &tcp(1), Signal::Syn, at(0)).unwrap();
        state.translate_out(&pool, inside, &tcp(1), signal, at(0)).unwrap();
    }
    state.translate_out(&pool, 40_004, &udp(1), Signal::Datagram, at(0)).unwrap();
    let (mut found, _) = state.translated(0, u32::MAX, at(0));
    found.sort_unstable_by_key(|found| found.inside_port);
    let states: Vec<&str> = found.iter().map(|found| found.state).collect();
    assert_eq!(states, ["opening", "established", "closing", "closed", "datagrams"]);
}

#[test]
fn a_public_name_and_an_inside_name_are_called_from_ports_of_their_own() {
    let state = state();
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let public = pool.for_public_names();
    let inside = state.translate_out(&pool, 40_001, &udp(1), Signal::Datagram, at(0)).unwrap();
    let called = state.translate_out(&public, 40_001, &udp(1), Signal::Datagram, at(0)).unwrap();
    assert_ne!(inside, called, "one container port, one remote, two names for it");
    assert_eq!(state.translate_out(&public, 40_001, &udp(2), Signal::Datagram, at(1)), Ok(called), "and stays");
    for (wire, own, other) in [(inside, &pool, &public), (called, &public, &pool)] {
        assert_eq!(state.translate_in(own, wire, &udp(1), Signal::Datagram, at(1)), Some(40_001));
        assert_eq!(state.translate_in(other, wire, &udp(1), Signal::Datagram, at(1)), None);
        assert_eq!(state.peek_in(other, wire, &udp(1), at(1)), None);
    }
}
