//! A rewritten packet is the packet that etherparse builds for the new addresses and ports.

use proptest::collection::vec;
use proptest::prelude::*;
use sixway::frame::{ChecksumWork, Fragment, Frame, L4, Packet, Parsed, Rewrite, TcpFlags, checksum, parse, rewrite};
use sixway::units::Proto;

use crate::spec::{
    Spec, Transport, any_spec, any_spec_and_rewrite, first_fragment, packet_of, plain, pseudo_sum, residue,
};

/// Rewrites a copy of `bytes` in one buffer.
fn rewritten(bytes: &[u8], with: &Rewrite) -> (Vec<u8>, ChecksumWork) {
    let mut bytes = bytes.to_vec();
    let packet = packet_of(&mut bytes);
    let len = bytes.len();
    let work = rewrite(&mut Frame::new(&mut bytes, 0, len), &packet, with);
    (bytes, work)
}

/// Cuts bytes into a first buffer, which holds `first` of them, and further ones of the lengths given.
fn cut<'a>(bytes: &'a [u8], first: usize, lengths: &[usize]) -> (Vec<u8>, Vec<&'a [u8]>) {
    let (first, mut tail) = bytes.split_at(first.min(bytes.len()));
    let mut rest = Vec::new();
    for &length in lengths {
        let (piece, after) = tail.split_at(length.min(tail.len()));
        rest.push(piece);
        tail = after;
    }
    rest.push(tail);
    (first.to_vec(), rest)
}

fn headers_end(spec: &Spec) -> usize {
    match spec.l4 {
        Transport::Tcp { options, .. } => spec.l4_at() + 20 + options * 4,
        _ => spec.l4_at() + 8,
    }
}

/// The packet with a partial checksum, as an offloading stack leaves it: the pseudo header's sum, not inverted.
fn partial(spec: &Spec) -> Option<Vec<u8>> {
    let at = spec.checksum_at()?;
    if !matches!(spec.l4, Transport::Tcp { .. } | Transport::Udp { .. }) {
        return None;
    }
    let mut bytes = spec.build();
    let sum = pseudo_sum(&packet_of(&mut bytes));
    let stored = if sum == 0 { 0xffff } else { sum as u16 };
    bytes[at..at + 2].copy_from_slice(&stored.to_be_bytes());
    Some(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_rewrite_gives_what_building_from_scratch_gives((spec, with) in any_spec_and_rewrite(), padding in 0_usize..30) {
        let mut bytes = spec.build();
        bytes.resize(bytes.len() + padding, 0xee);
        let mut expected = spec.rewritten(&with).build();
        expected.resize(expected.len() + padding, 0xee);
        prop_assert_eq!(rewritten(&bytes, &with).0, expected);
    }

    #[test]
    fn parsing_gives_what_was_built(spec in any_spec(), padding in 0_usize..30) {
        let mut bytes = spec.build();
        let end = bytes.len();
        bytes.resize(end + padding, 0);
        let packet = packet_of(&mut bytes);
        prop_assert_eq!((packet.src, packet.dst, packet.proto), (spec.src, spec.dst, spec.proto()));
        prop_assert_eq!((packet.ttl, packet.dscp_ecn, packet.fragment), (spec.ttl, spec.dscp_ecn, Fragment::Whole));
        prop_assert_eq!((packet.l3_at, usize::from(packet.l4_at)), (14, spec.l4_at()));
        prop_assert_eq!(packet.l3_end as usize, end);
        prop_assert_eq!(packet.has_options, spec.options > 0);
        if spec.is_v4() {
            prop_assert_eq!((packet.ip_id, packet.dont_fragment), (spec.id, spec.dont_fragment));
        }
        let ports = (packet.src_endpoint().port, packet.dst_endpoint().port);
        match spec.l4 {
            Transport::Tcp { src, dst, flags, .. } => {
                prop_assert_eq!(ports, (src, dst));
                prop_assert_eq!(packet.l4, L4::Tcp { src, dst, flags: TcpFlags(flags) });
            }
            Transport::Udp { src, dst, .. } => prop_assert_eq!(ports, (src, dst)),
            Transport::Echo { is_request, id, .. } => {
                prop_assert_eq!(packet.l4, if is_request { L4::EchoRequest { id } } else { L4::EchoReply { id } });
                prop_assert_eq!(ports, (id, id));
            }
            _ => prop_assert_eq!(packet.l4, L4::Portless),
        }
    }

    #[test]
    fn a_rewrite_and_its_inverse_leave_the_packet_as_it_was((spec, with) in any_spec_and_rewrite()) {
        let with = Rewrite { decrement_ttl: false, ip_id: None, ..with };
        let bytes = spec.build();
        let there = rewritten(&bytes, &with).0;
        let packet = packet_of(&mut bytes.clone());
        let (src, dst) = (packet.src_endpoint(), packet.dst_endpoint());
        let back = Rewrite { src: Some((src.ip, src.port)), dst: Some((dst.ip, dst.port)), ..with };
        prop_assert_eq!(rewritten(&there, &back).0, bytes);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much((spec, with) in any_spec_and_rewrite(), error in 1_u16..0xffff) {
        let mut bytes = spec.build();
        if let Some(at) = spec.checksum_at() {
            let stored = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let wrong = stored.wrapping_add(error);
            // Zero is no wrong checksum of UDP, but none.
            prop_assume!(wrong != 0);
            bytes[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
            let packet = packet_of(&mut bytes);
            let before = residue(&bytes, &packet);
            prop_assume!(before != 0);
            // A value that happens to be the pseudo header's sum is taken for a partial checksum.
            prop_assume!(packet.proto == Proto::ICMP || u64::from(wrong) % 0xffff != pseudo_sum(&packet));
            let (mut after, work) = rewritten(&bytes, &with);
            prop_assert_eq!(work, ChecksumWork::Incremental);
            let packet = packet_of(&mut after);
            prop_assert_eq!(residue(&after, &packet), before);
        }
    }

    #[test]
    fn a_partial_checksum_is_completed((spec, with) in any_spec_and_rewrite(), padding in 0_usize..30) {
        if let Some(mut bytes) = partial(&spec) {
            bytes.resize(bytes.len() + padding, 0xee);
            let mut expected = spec.rewritten(&with).build();
            expected.resize(expected.len() + padding, 0xee);
            let (after, work) = rewritten(&bytes, &with);
            prop_assert_eq!(work, ChecksumWork::Completed);
            prop_assert_eq!(after, expected);
        }
    }

    #[test]
    fn a_packet_in_several_buffers_is_rewritten_as_in_one(
        (spec, with) in any_spec_and_rewrite(),
        first in 0_usize..200,
        lengths in vec(0_usize..400, 0..5),
        padding in 0_usize..30,
        is_partial in any::<bool>(),
    ) {
        let whole = if is_partial { partial(&spec) } else { None };
        let mut whole = whole.unwrap_or_else(|| spec.build());
        whole.resize(whole.len() + padding, 0xee);
        let (mut buffer, rest) = cut(&whole, headers_end(&spec) + first, &lengths);
        let len = buffer.len();
        let mut frame = Frame::with_rest(&mut buffer, 0, len, &rest);
        let Parsed::Ip(packet) = parse(&frame).unwrap() else { panic!() };
        rewrite(&mut frame, &packet, &with);
        let after: Vec<u8> = frame.bytes().iter().copied().chain(rest.concat()).collect();
        let mut expected = spec.rewritten(&with).build();
        expected.resize(expected.len() + padding, 0xee);
        prop_assert_eq!(after, expected);
    }

    #[test]
    fn a_first_fragment_gets_the_checksum_of_the_whole((spec, with) in any_spec_and_rewrite(), more in 0_usize..8) {
        let keep = (headers_end(&spec) - spec.l4_at()).next_multiple_of(8) + more * 8;
        if !spec.is_v4() || spec.payload.len() <= keep || spec.checksum_at().is_none() {
            return Ok(());
        }
        let mut fragment = first_fragment(&spec, &spec.build(), keep);
        prop_assert_eq!(packet_of(&mut fragment).fragment, Fragment::First);
        let after = spec.rewritten(&with);
        let expected = first_fragment(&after, &after.build(), keep);
        prop_assert_eq!(rewritten(&fragment, &with).0, expected);
    }

    #[test]
    fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_ones((spec, with) in any_spec_and_rewrite()) {
        let l4 = Transport::Udp { src: spec.id, dst: 4500, has_checksum: true };
        let mut spec = Spec { l4, payload: vec![0, 0, 7], ..spec };
        let at = spec.checksum_at().unwrap();
        let after = spec.rewritten(&with).build();
        // The payload's first word takes up what is left to 0xffff.
        spec.payload[..2].copy_from_slice(&after[at..at + 2]);
        let (after, _) = rewritten(&spec.build(), &with);
        prop_assert_eq!(&after[at..at + 2], &[0xff, 0xff]);
        prop_assert_eq!(&after, &spec.rewritten(&with).build());
        let (after, work) = rewritten(&partial(&spec).unwrap(), &with);
        prop_assert_eq!(work, ChecksumWork::Completed);
        prop_assert_eq!(&after, &spec.rewritten(&with).build());
    }

    #[test]
    fn a_packet_may_be_rewritten_twice_by_one_parse((spec, with) in any_spec_and_rewrite(), again in any::<(u16, u16)>()) {
        let mut bytes = spec.build();
        let packet: Packet = packet_of(&mut bytes);
        let second = Rewrite { src: with.dst.map(|(ip, _)| (ip, again.0)), dst: with.src.map(|(ip, _)| (ip, again.1)), ..with };
        let len = bytes.len();
        let mut frame = Frame::new(&mut bytes, 0, len);
        rewrite(&mut frame, &packet, &with);
        rewrite(&mut frame, &packet, &second);
        prop_assert_eq!(bytes, spec.rewritten(&with).rewritten(&second).build());
    }

    #[test]
    fn sums_do_not_depend_on_how_bytes_are_cut(bytes in vec(any::<u8>(), 0..300), first in 0_usize..300, lengths in vec(0_usize..60, 0..9)) {
        let (first, rest) = cut(&bytes, first, &lengths);
        let pieces = std::iter::once(first.as_slice()).chain(rest);
        let plain = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum::<u64>();
        let of_chain = checksum::of_chain(pieces).fold();
        prop_assert_eq!(of_chain, checksum::of(&bytes).fold());
        prop_assert_eq!(u64::from(of_chain) % 0xffff, plain % 0xffff);
        prop_assert_eq!(of_chain == 0, plain == 0);
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let l4 = Transport::Udp { src: 1, dst: 2, has_checksum: false };
    let spec = Spec { l4, ..plain(Proto::UDP, &[1, 2, 3]) };
    let with = Rewrite { src: Some(("192.168.50.1".parse().unwrap(), 20480)), ..Rewrite::default() };
    let (after, work) = rewritten(&spec.build(), &with);
    assert_eq!(work, ChecksumWork::Zero);
    assert_eq!(after, spec.rewritten(&with).build());
}

#[test]
fn an_address_of_the_other_family_changes_nothing() {
    let spec = plain(Proto::UDP, &[]);
    let with = Rewrite { dst: Some(("fd00::1".parse().unwrap(), 7)), decrement_ttl: true, ..Rewrite::default() };
    assert_eq!(rewritten(&spec.build(), &with), (spec.build(), ChecksumWork::None));
}

#[test]
fn the_checksum_of_a_fragment_is_never_taken_for_a_partial_one() {
    // What could be completed over is not all here.
    let spec = plain(Proto::UDP, &[1; 64]);
    let mut fragment = first_fragment(&spec, &spec.build(), 16);
    let (of_fragment, of_whole) = (pseudo_sum(&packet_of(&mut fragment)), pseudo_sum(&packet_of(&mut spec.build())));
    assert_eq!(of_whole - of_fragment, 8 + 64 - 16);
    for stored in [of_fragment as u16, of_whole as u16] {
        fragment[40..42].copy_from_slice(&stored.to_be_bytes());
        assert_eq!(rewritten(&fragment, &Rewrite::default()).1, ChecksumWork::Incremental);
    }
}

#[test]
fn only_icmpv6_has_addresses_in_its_checksum() {
    let four = plain(Proto::ICMP, &[7; 41]);
    let six = Spec { src: "fd00::1".parse().unwrap(), dst: "fd00::2".parse().unwrap(), ..four.clone() };
    for (spec, new_src, timestamp_or_query, work) in
        [(four, "192.168.50.1", 13, ChecksumWork::None), (six, "2001:db8::9", 139, ChecksumWork::Incremental)]
    {
        let quote = spec.build()[14..].to_vec();
        for (kind, payload) in [(timestamp_or_query, vec![7; 12]), (3, quote)] {
            let spec = Spec { l4: Transport::Error { kind, code: 0, parameter: 9 }, payload, ..spec.clone() };
            let with = Rewrite { src: Some((new_src.parse().unwrap(), 0)), ..Rewrite::default() };
            assert_eq!(rewritten(&spec.build(), &with), (spec.rewritten(&with).build(), work), "{spec:?}");
        }
    }
}

#[test]
fn nothing_is_completed_but_whole_packets_of_sctp() {
    let with = Rewrite { src: Some(("192.168.50.1".parse().unwrap(), 0)), ..Rewrite::default() };
    let zeroes = |proto| Spec { l4: Transport::Portless { proto }, ..plain(Proto::UDP, &[0; 64]) };
    for proto in [47, 50] {
        let expected = (zeroes(proto).rewritten(&with).build(), ChecksumWork::None);
        assert_eq!(rewritten(&zeroes(proto).build(), &with), expected, "its zeroes are data");
    }
    let (sctp, after) = (zeroes(132), zeroes(132).rewritten(&with));
    let fragment = first_fragment(&sctp, &sctp.build(), 32);
    let expected = (first_fragment(&after, &after.build(), 32), ChecksumWork::None);
    assert_eq!(rewritten(&fragment, &with), expected, "its checksum is over more than is here");
    let (completed, work) = rewritten(&sctp.build(), &with);
    assert_eq!(work, ChecksumWork::Completed);
    assert_ne!(completed[sctp.l4_at() + 8..sctp.l4_at() + 12], [0; 4]);
}
