//! Next hops that the mapping leaves to the kernel: a packet waits until its station is found.

use std::net::Ipv4Addr;

use crate::lab::capture::Capture;
use crate::lab::peers::{self, Parrot};
use crate::lab::{Lab, MAPPING, SOON, engine::Engine, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// Web's name, at a server that is not there.
const NOWHERE: &str = "blue udp - 192.168.50.77:20490 - 10.0.0.77:7\n";

fn held(engine: &Engine) -> u64 {
    let ports = engine.get("/v1/ports");
    ports.as_array().expect("a list").iter().filter_map(|port| port["held"].as_u64()).sum()
}

/// Nobody knows the far server's MAC, neither the mapping nor the kernel, for the server has just come up: the first
/// datagram waits while the kernel asks, and then it leaves.
#[test]
fn the_first_packet_waits_for_its_next_hop_and_is_not_lost() {
    let mut lab = Lab::new();
    lab.set_mapping(&format!("{MAPPING}{NOWHERE}"));
    lab.start(1);
    let capture = Capture::start(lab.at("wire"), "br0", "udp");
    let socket = peers::udp(lab.at("alice"), (Ipv4Addr::new(10, 0, 0, 77), 7));
    socket.send(b"I can wait").expect("a datagram");
    until("it waits", SOON, || (held(lab.engine(1)) == 1).then_some(()));
    lab.at("router").ip("addr add 192.168.50.77/24 dev eth1");
    let there = Ipv4Addr::new(192, 168, 50, 77);
    let seen = capture.until("it leaves", |seen| seen.dst == there);
    assert!(seen.bytes.ends_with(b"I can wait") && seen.checksums_right, "{seen:?}");
    assert_eq!(lab.engine(1).dropped_but_multicast(), 0, "{}", lab.engine(1).all_drops());
}

/// A server that never answers costs its own packets, and no others: they are few that wait, and all are counted.
#[test]
fn a_next_hop_that_never_answers_holds_up_nobody_else() {
    let mut lab = Lab::new();
    lab.set_mapping(&format!("{MAPPING}{NOWHERE}"));
    lab.start(1);
    lab.start(2);
    let _parrot = Parrot::start(lab.at("web"), 7);
    let to_nowhere = peers::udp(lab.at("alice"), (Ipv4Addr::new(10, 0, 0, 77), 7));
    let to_web = peers::udp(lab.at("carol"), (WEB, 7));
    const SENT: u64 = 2000;
    for number in 0..SENT {
        let _ = to_nowhere.send(&number.to_be_bytes());
        if number % 500 == 0 {
            assert!(peers::udp_echo(&to_web, b"still there?", 3), "others' packets go on");
        }
    }
    let lost = until("all of them are given up", 4 * SOON, || {
        let lost = lab.engine(1).drops(None, "unresolved");
        (lost >= SENT).then_some(lost)
    });
    println!("{lost} packets to a server that is not there were dropped as `unresolved`");
    assert!(peers::udp_echo(&to_web, b"still there?", 3));
}
