//! Random IPv6 packets that are often meant for somebody: extension headers, fragments, and errors about such. Lengths may be
//! wrong, and checksums are.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::Ipv6Addr;

use crate::packet::mac;
use crate::scene::{MAC_A, MAC_B};

const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

/// Addresses of our server, of others, public ones, of containers, of nobody; and one that is IPv4's.
const ADDRESSES: [&str; 9] = [
    "fd50::1",
    "fd50::1",
    "fd50::2",
    "fd50::3",
    "2001:db8::9",
    "2001:db8::3",
    "2001:db8::7",
    "fd00::1:2",
    "::ffff:192.168.50.1",
];

/// Source and destination.
type Ends = (&'static str, &'static str);

/// Any of them.
pub fn ends6() -> impl Strategy<Value = Ends> {
    (select(&ADDRESSES[..]), select(&ADDRESSES[..]))
}

/// A frame between some of them, mostly the `usual`, whose fragments have identifications from `id` on.
pub fn frame6(id: u32, usual: Ends) -> impl Strategy<Value = Vec<u8>> {
    let ports = (select(vec![6, 17]), port(), port(), any::<u32>()).prop_map(|(proto, src, dst, rest)| {
        (proto, [&src.to_be_bytes()[..], &dst.to_be_bytes(), &rest.to_be_bytes()].concat())
    });
    let icmp = (prop_oneof![3 => 128..=129u8, 1 => 0..=140u8], port())
        .prop_map(|(kind, id)| (ICMPV6, [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1]].concat()));
    let other = select(vec![1, 47, 50, 59, 132]).prop_map(|proto| (proto, vec![7; 8]));
    let carried = prop_oneof![3 => ports, 2 => icmp, 2 => other].boxed();
    let quoted = (0..=5u8, packet(id, ends6().boxed(), carried.clone()))
        .prop_map(|(kind, packet)| (ICMPV6, [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &packet].concat()));
    let ends = prop_oneof![2 => Just(usual), 1 => ends6()].boxed();
    let any = prop_oneof![2 => packet(id, ends.clone(), carried), 1 => packet(id, ends, quoted.boxed())];
    let cut = prop_oneof![6 => Just(0), 1 => 0..60usize];
    (any, cut).prop_map(|(packet, cut)| {
        let (to, from) = (mac(MAC_A).0, mac(MAC_B).0);
        let frame = [&to[..], &from, &[0x86, 0xdd], &packet].concat();
        frame[..frame.len() - cut.min(packet.len())].to_vec()
    })
}

fn port() -> impl Strategy<Value = u16> {
    select(vec![22, 53, 80, 4500, 20479, 20480, 20481, 21312, 21313, 59903, 59904])
}

/// An IP packet of what `carried` gives, its protocol and bytes, behind any chain of extension headers.
fn packet(id: u32, ends: BoxedStrategy<Ends>, carried: BoxedStrategy<(u8, Vec<u8>)>) -> impl Strategy<Value = Vec<u8>> {
    let headers = prop_oneof![3 => Just(Vec::new()), 3 => vec(extension(id), 1..4), 1 => vec(extension(id), 4..9)];
    let longer = prop_oneof![6 => Just(0), 1 => -20..20i32];
    (ends, headers, carried, longer).prop_map(|((src, dst), headers, (proto, carried), longer)| {
        let (mut next, mut after) = (proto, carried);
        for (kind, mut header) in headers.into_iter().rev() {
            header[0] = next;
            (next, after) = (kind, [header, after].concat());
        }
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let length = (after.len() as i32 + longer) as u16;
        let [high, low] = length.to_be_bytes();
        [&[0x60, 0, 0, 0, high, low, next, 64][..], &octets(src), &octets(dst), &after].concat()
    })
}

/// An extension header, without the first byte: that says what follows.
fn extension(id: u32) -> impl Strategy<Value = (u8, Vec<u8>)> {
    // The field of offset and flags: whole, first, later, last, and with a bit that is reserved.
    let fields = select(vec![0u16, 0, 1, 1, 0x0008, 0x0009, 0x0002, 0x0003, 0x2000]);
    let fragment = (fields, 0..3u32).prop_map(move |(field, nth)| {
        let id = id.wrapping_add(nth).to_be_bytes();
        (FRAGMENT, [&[0, 0][..], &field.to_be_bytes(), &id].concat())
    });
    let options = (select(vec![0, 60, 135]), 0..3u8).prop_map(|(kind, len)| (kind, of_units(len, 0)));
    let routing = (0..3u8, prop_oneof![3 => Just(0), 1 => 1..3u8]).prop_map(|(len, left)| (43, of_units(len, left)));
    prop_oneof![3 => fragment, 2 => options, 2 => routing]
}

/// A header of `len` times eight bytes and eight more, with its third byte after the length.
fn of_units(len: u8, third: u8) -> Vec<u8> {
    let mut header = vec![0; (usize::from(len) + 1) * 8];
    (header[1], header[3]) = (len, third);
    header
}
