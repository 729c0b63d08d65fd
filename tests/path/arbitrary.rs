//! Random packets that are often meant for somebody.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::packet::{ACK, FIN, Packet, RST, SYN, arp, error, icmp_message, other, tcp, udp};
use crate::packet::{echo_reply, echo_request};
use crate::scene::{MAC_A, MAC_B, PORTS_A, container_mac, port_mac};

/// Addresses of containers, servers, the gateway, the outside, and some that nobody should have.
const ADDRESSES: &[&str] = &[
    "10.1.0.2",
    "10.1.0.3",
    "10.1.0.4",
    "10.1.0.5",
    "10.1.0.8",
    "10.1.0.9",
    "10.2.0.2",
    "10.9.9.9",
    "172.20.0.1",
    "172.20.0.2",
    "172.21.0.1",
    "192.168.50.1",
    "192.168.50.2",
    "192.168.50.3",
    "169.254.1.1",
    "198.51.100.7",
    "203.0.113.9",
    "203.0.113.3",
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "240.0.0.1",
];

/// The address of the container behind each port of server A.
const OWN: &[(&str, &str)] = &[
    ("native", "10.1.0.2"),
    ("plain", "10.1.0.3"),
    ("public", "10.1.0.4"),
    ("small", "10.1.0.5"),
    ("twin-a", "10.1.0.9"),
    ("twin-b", "10.1.0.9"),
    ("red", "10.1.0.2"),
    ("green", "172.20.0.1"),
    ("ops", "172.21.0.1"),
];

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![
        select(vec![22, 53, 80, 81, 443, 4500, 8080, 40000, 40001]),
        20480..=20500u16,
        20736..=22800u16,
        any::<u16>(),
    ]
}

fn endpoint() -> impl Strategy<Value = String> {
    (select(ADDRESSES), number()).prop_map(|(ip, port)| format!("{ip}:{port}"))
}

fn flags() -> impl Strategy<Value = u8> {
    select(vec![SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, 0])
}

/// A packet from `src`, or to anywhere.
fn packet(src: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = Packet> {
    let basic = (src, endpoint(), 0..9u8, flags(), any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(
        |(src, dst, kind, flags, proto, payload)| {
            let id = |name: &str| name.rsplit(':').next().unwrap().parse().unwrap();
            let bare = |name: &str| name.split(':').next().unwrap().to_owned();
            let packet = match kind {
                0..=2 => tcp(&src, &dst, flags),
                3 | 4 => udp(&src, &dst),
                5 => echo_request(&bare(&src), &bare(&dst), id(&src)),
                6 => echo_reply(&bare(&src), &bare(&dst), id(&dst)),
                7 => {
                    let quoted = if flags & SYN != 0 { tcp(&dst, &src, flags) } else { udp(&dst, &src) };
                    return error(&bare(&src), &bare(&dst), 3 + 8 * (flags & 1), proto % 16, &quoted);
                }
                _ if proto % 4 == 0 => icmp_message(&bare(&src), &bare(&dst), proto),
                _ => other(&bare(&src), &bare(&dst), select_proto(proto)),
            };
            packet.payload(&payload)
        },
    );
    let shape = (prop_oneof![4 => Just(64u8), 1 => 0..=3u8], any::<bool>(), any::<u16>(), 0..24u8, any::<u8>());
    (basic, shape).prop_map(|(packet, (ttl, atomic, id, odd, tos))| {
        let packet = packet.ttl(ttl).tos(tos);
        let packet = if atomic { packet } else { packet.id(id) };
        match odd {
            0 => packet.fragment(0, true),
            1 => packet.fragment(100, false),
            2 => packet.options(&[0x94, 4, 0, 0]),
            3 => packet.options(&[0x83, 7, 4, 10, 9, 9, 9, 0]),
            4..=8 => packet.partial_checksum(),
            9 | 10 => packet.bad_checksum(),
            11 => packet.padding(9),
            _ => packet,
        }
    })
}

/// TCP, UDP and ICMP have their own forms.
fn select_proto(proto: u8) -> u8 {
    match proto {
        1 | 6 | 17 => 50,
        other => other,
    }
}

/// A well-formed frame and the port of server A that it comes in by.
pub fn frame() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let from_container = select(OWN).prop_flat_map(|(port, own)| {
        let own_name = number().prop_map(move |number| format!("{own}:{number}"));
        let src = prop_oneof![9 => own_name.boxed(), 1 => endpoint().boxed()];
        (Just(port), packet(src)).prop_map(|(port, packet)| (port, packet.from(port).bytes()))
    });
    let from_wire = packet(endpoint()).prop_map(|packet| ("uplink", packet.eth(MAC_B, MAC_A).bytes()));
    let neighbour = (select(OWN), select(ADDRESSES), 1..=3u16).prop_map(|((port, own), target, operation)| {
        let me = container_mac(port);
        (port, arp(operation, port_mac(port), (me, own), (me, target)))
    });
    prop_oneof![6 => from_container, 6 => from_wire, 1 => neighbour]
}

/// The same with some bytes turned, cut or added; the IP checksum is put right again, or not.
pub fn mutated() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let turns = vec((0..80usize, any::<u8>()), 0..6);
    (frame(), turns, prop_oneof![3 => Just(None), 1 => (0..90usize).prop_map(Some)], any::<bool>()).prop_map(
        |((port, mut frame), turns, cut, right)| {
            for (at, byte) in turns {
                if let Some(old) = frame.get_mut(at) {
                    *old = byte;
                }
            }
            if let Some(cut) = cut {
                frame.truncate(cut);
            }
            if right {
                put_ip_checksum_right(&mut frame);
            }
            (port, frame)
        },
    )
}

/// Nothing but noise.
pub fn noise() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    (select(PORTS_A), vec(any::<u8>(), 0..200), any::<bool>()).prop_map(|(port, mut frame, ip)| {
        if ip && frame.len() > 14 {
            frame[12..14].copy_from_slice(&[8, 0]);
            frame[14] = 0x45;
            put_ip_checksum_right(&mut frame);
        }
        (port, frame)
    })
}

fn put_ip_checksum_right(frame: &mut [u8]) {
    let Some(ip) = frame.get_mut(14..) else { return };
    let Some(len) = ip.first().map(|first| usize::from(first & 15) * 4).filter(|&len| len >= 20) else { return };
    let Some(header) = ip.get_mut(..len) else { return };
    header[10..12].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(header).ones_complement();
    header[10..12].copy_from_slice(&sum.to_ne_bytes());
}
