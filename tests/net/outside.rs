//! The world outside sees the server's address and a port of the container's block.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::lab::capture::Capture;
use crate::lab::peers::{self, Greeter, Parrot, connect, greeting, says_back};
use crate::lab::{Lab, OUTSIDE, server_ip};

/// A connection to the outside leaves as the server, on a port of the block, and its replies come back.
#[test]
fn connections_to_the_outside_leave_through_the_block() {
    let lab = Lab::running();
    let world = Greeter::start(lab.at("outside"), "world", 443);
    for (client, block) in [("alice", 32768..40960), ("bob", 40960..49152), ("carol", 49152..57344)] {
        let capture = Capture::start(lab.at("wire"), "br0", "tcp");
        let mut stream = connect(lab.at(client), (OUTSIDE, 443)).unwrap_or_else(|error| panic!("{client}: {error}"));
        assert_eq!(greeting(&mut stream), "I am world, you are 192.168.50.1", "{client}");
        says_back(&mut stream, &[9; 50_000]).expect("both directions work");
        let syn = capture.until("the SYN", |seen| seen.dst == OUTSIDE);
        assert_eq!(syn.src, server_ip(1));
        assert!(block.contains(&syn.ports.expect("TCP").0), "{client}: {syn:?}");
    }
    assert!(world.seen().iter().all(|peer| *peer == IpAddr::from(server_ip(1))));
}

/// UDP as well, and an ICMP error from the outside finds its way back in.
#[test]
fn datagrams_and_errors_from_the_outside_come_back() {
    let lab = Lab::running();
    let _parrot = Parrot::start(lab.at("outside"), 53);
    for client in ["alice", "carol"] {
        let socket = peers::udp(lab.at(client), (OUTSIDE, 53));
        assert!(peers::udp_echo(&socket, b"a question", 3), "{client}");
        let closed = peers::udp(lab.at(client), (OUTSIDE, 54));
        closed.send(b"anybody there?").expect("the first send meets no error");
        let error = closed.recv(&mut [0; 100]).expect_err("nobody answers");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{client}");
    }
}

/// What was not asked for does not come in: neither to a service that is not public nor to a silent port of a block.
#[test]
fn the_outside_cannot_enter_unasked() {
    let lab = Lab::running();
    let web = Greeter::start(lab.at("web"), "web", 80);
    let alice = Greeter::start(lab.at("alice"), "alice", 33000);
    for target in [(server_ip(2), 20480), (server_ip(1), 33000)] {
        let entered = peers::connect_within(lab.at("outside"), target, Duration::from_millis(500));
        assert!(entered.is_err(), "{target:?} must not be open to the outside");
    }
    assert!(web.seen().is_empty() && alice.seen().is_empty());
}

/// A service towards its peers is no name towards the outside: what web opens leaves from web's block.
#[test]
fn a_server_opens_connections_to_the_outside_from_its_block() {
    let lab = Lab::running();
    let _world = Greeter::start(lab.at("outside"), "world", 443);
    let capture = Capture::start(lab.at("wire"), "br0", "tcp");
    let mut stream = connect(lab.at("web"), (OUTSIDE, 443)).expect("web reaches the world");
    assert_eq!(greeting(&mut stream), "I am world, you are 192.168.50.2");
    let syn = capture.until("the SYN", |seen| seen.dst == OUTSIDE);
    assert!((32768..33792).contains(&syn.ports.expect("TCP").0), "{syn:?}");
    assert_eq!(syn.src, Ipv4Addr::new(192, 168, 50, 2));
}
