//! Any bytes, any length: never a panic, and never a byte touched outside the frame.

use proptest::collection::vec;
use proptest::prelude::*;
use sixway::frame::{
    Frame, IcmpError, Parsed, Rewrite, Router, arp_reply, checksum, clamp_mss, echo_reply, fragment_field,
    header_problem, icmp_error, may_answer_with_error, neighbour_advertisement, parse, parse_ndp, pop_tags, push_tags,
    rewrite, rewrite_error, router_advertisement, set_fragment_id, set_macs, tcp_reset,
};
use sixway::units::{Ip, Mac, VlanTags};

use crate::spec::{Spec, Transport, any_ip, any_rewrite, any_spec};

/// Does everything to the bytes that this room can do; `other` are the bytes of a frame that was never parsed.
fn do_everything(bytes: &[u8], first: usize, other: &[u8], with: &Rewrite, from: Ip) {
    let (first, rest) = bytes.split_at(first.min(bytes.len()));
    let rest = [rest];
    for (start, room) in [(0, 0), (64, 0), (0, 64), (13, 13)] {
        let on_a_copy = |act: &mut dyn FnMut(&mut Frame)| {
            for content in [first, other] {
                let mut buf = [&vec![0; start], content, &vec![0; room]].concat();
                act(&mut Frame::with_rest(&mut buf, start, content.len(), &rest));
            }
        };
        let mut buf = [&vec![0; start], first, &vec![0; room]].concat();
        let parsed = parse(&Frame::with_rest(&mut buf, start, first.len(), &rest));
        on_a_copy(&mut |frame| set_macs(frame, Mac::BROADCAST, Mac::ZERO));
        on_a_copy(&mut |frame| {
            let tags = VlanTags::new(&[7]).unwrap();
            let _ = (pop_tags(frame, tags), push_tags(frame, tags));
        });
        match parsed {
            Ok(Parsed::Ip(packet)) => {
                let _ = (packet.src_endpoint(), packet.dst_endpoint(), may_answer_with_error(&packet));
                on_a_copy(&mut |frame| {
                    let _ = rewrite(frame, &packet, with);
                    let _ = rewrite(frame, &packet, with);
                });
                on_a_copy(&mut |frame| {
                    rewrite_error(frame, &packet, with, with);
                });
                on_a_copy(&mut |frame| {
                    echo_reply(frame, &packet);
                });
                on_a_copy(&mut |frame| {
                    tcp_reset(frame, &packet);
                });
                on_a_copy(&mut |frame| {
                    clamp_mss(frame, &packet, 1400);
                });
                on_a_copy(&mut |frame| {
                    let _ = (fragment_field(frame, &packet), parse_ndp(frame, &packet));
                    set_fragment_id(frame, &packet, 7);
                });
                on_a_copy(&mut |frame| {
                    neighbour_advertisement(frame, &packet, from, Mac::ZERO, true);
                });
                on_a_copy(&mut |frame| {
                    router_advertisement(frame, &packet, &Router { ip: from, mac: Mac::ZERO, mtu: 1400 });
                });
                on_a_copy(&mut |frame| {
                    icmp_error(frame, &packet, from, IcmpError::FragmentationNeeded { mtu: 1400 });
                });
            }
            Ok(Parsed::Arp(arp)) => on_a_copy(&mut |frame| {
                arp_reply(frame, &arp, Mac::ZERO);
            }),
            Err(why) => on_a_copy(&mut |frame| {
                if let Some((packet, error)) = header_problem(frame, why) {
                    icmp_error(frame, &packet, from, error);
                }
            }),
            Ok(Parsed::Other { .. }) => {}
        }
    }
}

/// Makes the IPv4 header's checksum right, so that damage gets past it.
fn fix_ip_checksum(bytes: &mut [u8]) {
    let len = bytes.get(14).map_or(0, |first| usize::from(first & 0xf) * 4);
    if len >= 20 && bytes.len() >= 14 + len {
        bytes[24..26].fill(0);
        let sum = checksum::of(&bytes[14..14 + len]).checksum();
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

fn any_victim() -> impl Strategy<Value = Vec<u8>> {
    let error = (any_spec(), 0_u8..20, any::<u8>()).prop_map(|(about, kind, code)| {
        let payload = about.build()[14..].to_vec();
        Spec { l4: Transport::Error { kind, code, parameter: 0 }, payload, ..about }.build()
    });
    prop_oneof![any_spec().prop_map(|spec| spec.build()), error]
}

fn any_rewrite_of_any_family() -> impl Strategy<Value = (Rewrite, Ip)> {
    any::<bool>().prop_flat_map(|v4| (any_rewrite(v4), any_ip(v4)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn arbitrary_bytes(
        bytes in vec(any::<u8>(), 0..200),
        ethertype in prop_oneof![Just([8, 0]), Just([8, 6]), Just([0x86, 0xdd]), any::<[u8; 2]>()],
        version in prop_oneof![Just(0x45), Just(0x4f), Just(0x60), any::<u8>()],
        first in 0_usize..200,
        (with, from) in any_rewrite_of_any_family(),
    ) {
        let mut bytes = bytes;
        if let Some(slot) = bytes.get_mut(12..14) {
            slot.copy_from_slice(&ethertype);
        }
        if let Some(slot) = bytes.get_mut(14) {
            *slot = version;
        }
        fix_ip_checksum(&mut bytes);
        do_everything(&bytes, first, &[], &with, from);
    }

    #[test]
    fn damaged_packets(
        bytes in any_victim(),
        other in any_victim(),
        damage in vec((0_usize..120, any::<u8>()), 0..6),
        keep in prop_oneof![0_usize..120, Just(usize::MAX)],
        first in prop_oneof![0_usize..120, Just(usize::MAX)],
        (with, from) in any_rewrite_of_any_family(),
    ) {
        let mut bytes = bytes;
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        fix_ip_checksum(&mut bytes);
        bytes.truncate(keep);
        do_everything(&bytes, first, &other, &with, from);
    }
}
