//! A fragment that came before the first of its packet: what a driver asks that keeps it.

use sixway::path::{Verdict, given_up, has_come};

use crate::packet::udp;
use crate::parts::fragments;
use crate::scene::{MAC_A, MAC_B, server_a};

#[test]
fn a_fragment_waits_until_its_first_has_come_and_else_is_given_up() {
    let out = udp("10.1.0.2:20740", "10.2.0.2:53").from("native");
    let home = udp("192.168.50.2:20481", "192.168.50.1:20740").eth(MAC_B, MAC_A);
    // From beyond it may be the kernel's; what a container sends never is.
    for (port, packet, without) in [("native", out, "drop fragment_unclaimed"), ("uplink", home, "host")] {
        let mut world = server_a();
        let parts = fragments(&packet.payload(&[7; 200]).bytes(), 64, 7);
        let Verdict::Await { key } = world.receive(port, &parts[1]).verdict else { panic!("{port}: it does not wait") };
        assert!(!world.ask(|cx| has_come(cx, key)), "{port}");
        assert_eq!(world.words(world.ask(|cx| given_up(cx, world.port(port)))), without);
        world.receive(port, &parts[0]);
        assert!(world.ask(|cx| has_come(cx, key)), "{port}");
    }
}
