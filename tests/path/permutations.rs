//! Fragments in any order, some of them twice: what is put together behind the servers is the packet that was sent.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::fixtures::fragments::{Crossing, crossings};
use crate::packet::{Packet, udp};
use crate::parts::{fragments, payload, reassembled};
use crate::scene::{server_a, server_b};
use crate::world::World;

/// What a driver does: it walks frames, and keeps what came before its first.
struct Driver {
    world: World,
    early: Vec<Vec<u8>>,
}

impl Driver {
    fn new(world: World) -> Driver {
        Driver { world, early: Vec::new() }
    }

    /// All that leaves, in order.
    fn receive(&mut self, port: &str, frame: &[u8]) -> Vec<Vec<u8>> {
        let mut sent = self.walk(port, frame.to_vec());
        for frame in std::mem::take(&mut self.early) {
            sent.extend(self.walk(port, frame));
        }
        sent
    }

    fn walk(&mut self, port: &str, frame: Vec<u8>) -> Vec<Vec<u8>> {
        let outcome = self.world.receive(port, &frame);
        if self.world.words(outcome.verdict) == "await" {
            self.early.push(frame);
        }
        outcome.out.into_iter().chain(outcome.pieces).collect()
    }
}

/// The frames, some of them twice, in an order that the numbers say.
fn shuffled(frames: &[Vec<u8>], copies: &[Index], order: &[Index]) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = frames.iter().chain(copies.iter().map(|copy| copy.get(frames))).cloned().collect();
    for at in (1..frames.len()).rev() {
        let other = order[at % order.len()].index(at + 1);
        frames.swap(at, other);
    }
    frames
}

fn any_order() -> impl Strategy<Value = (Vec<Index>, Vec<Index>)> {
    (vec(any::<Index>(), 0..4), vec(any::<Index>(), 60))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn a_packet_over_two_servers_is_the_packet_that_was_sent(
        content in vec(any::<u8>(), 0..6000),
        (step, mtu) in (10..190_usize, 300..1500_u32),
        (at_home, on_wire) in (any_order(), any_order()),
    ) {
        let (mut a, mut b) = (Driver::new(server_a()), Driver::new(server_b()));
        set_mtu(&mut a.world, "uplink", mtu);
        let packet: Packet = udp("10.1.0.2:20740", "10.2.0.2:53").payload(&content).id(7).from("native");
        let whole = packet.bytes();
        let sent = fragments(&whole, step * 8, 7);
        prop_assume!(sent.len() > 1 && sent.len() < 56);
        let wire: Vec<Vec<u8>> =
            shuffled(&sent, &at_home.0, &at_home.1).iter().flat_map(|frame| a.receive("native", frame)).collect();
        prop_assert!(wire.iter().all(|frame| frame.len() <= 14 + mtu as usize));
        prop_assume!(wire.len() < 56);
        let arrived: Vec<Vec<u8>> =
            shuffled(&wire, &on_wire.0, &on_wire.1).iter().flat_map(|frame| b.receive("uplink", frame)).collect();
        is_nothing_but(&reassembled(&arrived), (17, payload(&whole).1))?;
    }

    #[test]
    fn fragments_leave_as_their_packet_would(
        which in any::<Index>(), step in 3..12_usize, (copies, order) in any_order(),
    ) {
        let crossings = crossings();
        let Crossing { world, before, port, whole } = which.get(&crossings);
        let begun = || {
            let mut driver = Driver::new(world());
            before.iter().for_each(|(port, frame)| { driver.receive(port, frame); });
            driver
        };
        let expected = begun().receive(port, whole);
        prop_assert_eq!(expected.len(), 1);
        let (proto, expected) = payload(&expected[0]);
        let mut driver = begun();
        let came = shuffled(&fragments(whole, step * 8, 77), &copies, &order);
        let went: Vec<Vec<u8>> = came.iter().flat_map(|frame| driver.receive(port, frame)).collect();
        is_nothing_but(&reassembled(&went), (proto, expected))?;
        prop_assert!(driver.early.is_empty());
    }
}

/// A copy of the first fragment that comes when all others have gone begins another packet: that may be whole, too.
fn is_nothing_but(packets: &[(u8, Vec<u8>)], (proto, payload): (u8, &[u8])) -> Result<(), TestCaseError> {
    prop_assert!(!packets.is_empty());
    for packet in packets {
        prop_assert_eq!(packet, &(proto, payload.to_vec()));
    }
    Ok(())
}

fn set_mtu(world: &mut World, port: &str, mtu: u32) {
    let id = world.port(port);
    let around = &world.assembly.around;
    let changed = around.port(id).map(|port| sixway::path::Port { mtu, ..port.clone() });
    world.assembly.around = around.with_port(id, changed);
}
