//! What a restarted engine carries on with, and what a flood is worth to it.

use crate::packet::{ACK, SYN, tcp, udp};
use crate::scene::{MAC_A, MAC_B, MAC_ROUTER, server_a};
use crate::world::World;

/// Another engine on the state that the first one left.
fn restarted(before: World) -> World {
    let mut after = server_a();
    after.now = before.now.after_ms(100);
    after.state = before.state;
    after.settle();
    after
}

#[test]
fn a_restarted_engine_carries_on_with_every_connection() {
    let mut world = server_a();
    let sent = [
        ("plain", tcp("10.1.0.3:40000", "10.2.0.2:80", SYN)),
        ("plain", tcp("10.1.0.3:40001", "198.51.100.7:443", SYN)),
        ("native", tcp("10.1.0.2:20740", "198.51.100.7:443", SYN)),
        ("native", tcp("10.1.0.2:20741", "172.20.0.2:443", SYN)),
    ];
    for (port, packet) in sent {
        let outcome = world.receive(port, &packet.from(port).bytes());
        assert_eq!(world.words(outcome.verdict), "forward uplink");
    }
    let mut world = restarted(world);
    let answers = [
        ("192.168.50.2:20480", "192.168.50.1:21312", MAC_B, "plain"),
        ("198.51.100.7:443", "192.168.50.1:21313", MAC_ROUTER, "plain"),
        ("198.51.100.7:443", "192.168.50.1:20740", MAC_ROUTER, "native"),
        ("192.168.50.2:20483", "192.168.50.1:20741", MAC_B, "native"),
    ];
    for (from, to, hop, port) in answers {
        let outcome = world.receive("uplink", &tcp(from, to, SYN | ACK).eth(hop, MAC_A).bytes());
        assert_eq!(world.words(outcome.verdict), format!("forward {port}"), "{from} to {to}");
    }
}

#[test]
fn a_container_that_answers_probes_often_is_heard_a_thousand_times_a_second() {
    let mut world = server_a();
    let says = tcp("10.1.0.2:80", "169.254.1.1:61000", SYN | ACK).from("native").bytes();
    let heard = |world: &mut World| {
        let outcome = world.receive("native", &says);
        world.words(outcome.verdict)
    };
    for _ in 0..1000 {
        assert_eq!(heard(&mut world), "heard");
    }
    assert_eq!(heard(&mut world), "drop rate_limited");
    world.later(1);
    assert_eq!(heard(&mut world), "heard");
}

#[test]
fn a_container_that_is_refused_often_is_answered_a_thousand_times_a_second() {
    let mut world = server_a();
    let refused = |world: &mut World| {
        let outcome = world.receive("native", &udp("10.1.0.2:20740", "10.9.9.9:53").from("native").bytes());
        world.words(outcome.verdict)
    };
    for _ in 0..1000 {
        assert_eq!(refused(&mut world), "answer native unreachable");
    }
    assert_eq!(refused(&mut world), "drop rate_limited");
    let neighbour = world.receive("plain", &udp("10.1.0.3:40000", "10.9.9.9:53").from("plain").bytes());
    assert_eq!(world.words(neighbour.verdict), "answer plain unreachable", "the others are answered");
    world.later(1);
    assert_eq!(refused(&mut world), "answer native unreachable");
}
