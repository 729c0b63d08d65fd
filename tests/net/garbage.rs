//! A flood of bad ideas changes nothing but counters, and the counters add up.

use std::net::Ipv4Addr;

use crate::lab::capture::Capture;
use crate::lab::peers::{Greeter, connect, greeting, says_back};
use crate::lab::raw::{self, Injector, Random};
use crate::lab::{Lab, SOON, gateway_mac, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const FLOOD: usize = 20_000;

/// Random bytes, truncated headers, wrong lengths, bad checksums, options and every IP protocol, from a container of
/// each server and from a host on the underlay, while connections live on.
#[test]
fn a_garbage_flood_changes_nothing_but_counters() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut streams: Vec<_> = ["alice", "carol", "dave"]
        .map(|client| {
            let mut stream = connect(lab.at(client), (WEB, 80)).unwrap_or_else(|error| panic!("{client}: {error}"));
            greeting(&mut stream);
            (client, stream)
        })
        .into();
    let strangers = ["bob", "shop"].map(|name| Capture::start(lab.at(name), "eth0", "ip"));
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_26);
    println!("seed {seed}");
    let mut random = Random(seed);
    for (from, interface, ours, next) in [
        ("alice", "eth0", "02:42:0a:00:00:01", None),
        ("web", "eth0", "02:42:0a:00:00:0a", None),
        ("router", "eth1", "02:00:00:00:00:fe", Some("02:00:00:00:00:01")),
        ("router", "eth1", "02:00:00:00:00:fe", Some("02:00:00:00:00:02")),
    ] {
        let next = next.map_or_else(|| gateway_mac(&lab, from), raw::mac);
        let mut injector = Injector::new(lab.at(from), interface);
        for _ in 0..FLOOD {
            injector.send(&bad_idea(&mut random, raw::mac(ours), next));
        }
        for (client, stream) in &mut streams {
            says_back(stream, b"still there?").unwrap_or_else(|error| panic!("{client} after {from}'s flood: {error}"));
        }
    }
    for server in [1, 2] {
        until("the counters to add up", SOON, || lab.engine(server).counters_add_up().then_some(()));
        println!("s{server} dropped:\n{}", lab.engine(server).all_drops());
    }
    for capture in &strangers {
        let strays = capture.packets();
        assert!(strays.is_empty(), "a packet of blue's or the wire's in green: {:?}", strays[0]);
    }
}

fn bad_idea(random: &mut Random, ours: [u8; 6], next: [u8; 6]) -> Vec<u8> {
    let addresses: [[u8; 4]; 9] = [
        [10, 0, 0, 1],
        [10, 0, 0, 3],
        [10, 0, 0, 10],
        [192, 168, 50, 1],
        [192, 168, 50, 2],
        [169, 254, 1, 1],
        [255, 255, 255, 255],
        [224, 0, 0, 1],
        [127, 0, 0, 1],
    ];
    let ports = [7_u16, 80, 20480, 20481, 20482, 32768, 40960, 49152, 53];
    let (from, to) = (addresses[random.below(9)].into(), addresses[random.below(9)].into());
    let (from_port, to_port) = (ports[random.below(9)], ports[random.below(9)]);
    let payload = vec![random.next() as u8; random.below(200)];
    let mut frame = match random.below(3) {
        0 => raw::tcp((ours, next), (from, from_port), (to, to_port), random.below(2) == 0),
        _ => raw::udp((ours, next), (from, from_port), (to, to_port), &payload),
    };
    match random.below(8) {
        0 => frame[14..].iter_mut().for_each(|byte| *byte = random.next() as u8), // noise
        1 => frame.truncate(15 + random.below(frame.len() - 15)),
        2 => frame[16] = random.next() as u8,                 // total length
        3 => frame[23] = random.next() as u8,                 // protocol
        4 => frame[14] = 0x40 | (random.next() as u8 & 0x0f), // header length: options, or none at all
        5 => frame[12..14].copy_from_slice(&(random.next() as u16).to_be_bytes()), // ethertype
        6 => frame[20..22].copy_from_slice(&(random.next() as u16).to_be_bytes()), // fragments
        _ => {}
    }
    if random.below(2) == 0 {
        let at = 14 + random.below(frame.len() - 14);
        frame[at] ^= 1 << random.below(8);
    }
    if random.below(4) != 0 && frame.len() >= 34 {
        let header: &mut [u8] = &mut frame[14..34];
        header[10..12].fill(0);
        let sum = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&sum.to_be_bytes()); // get past the first check
    }
    frame
}
