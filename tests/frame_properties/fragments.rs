//! Fragments: cutting, and what they say of themselves.

use etherparse::Ipv4Header;
use proptest::collection::vec;
use proptest::prelude::*;
use sixway::frame::{Fragment, Frame, cut, echo_reply, fragment_field, set_fragment_id};
use sixway::units::Proto;

use crate::parts::{fragments, payload, reassembled};
use crate::spec::{Spec, Transport, any_spec, packet_of, plain};

/// The pieces of a frame that lies in buffers of these lengths, copied by `step` bytes at a time.
fn pieces(whole: &[u8], first: usize, rest_step: usize, mtu: u32, step: usize) -> Option<Vec<Vec<u8>>> {
    let first = first.min(whole.len());
    let mut buffer = whole[..first].to_vec();
    let rest: Vec<&[u8]> = whole[first..].chunks(rest_step).collect();
    let frame = Frame::with_rest(&mut buffer, 0, first, &rest);
    let pieces = cut(&frame, mtu)?.map(|piece| {
        let mut bytes = vec![0xee; piece.len()];
        for from in (0..piece.len()).step_by(step) {
            let copied = piece.copy(&frame, from, &mut bytes[from..(from + step).min(piece.len())]);
            assert_eq!(copied, step.min(piece.len() - from));
        }
        bytes
    });
    Some(pieces.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    /// With 24 bytes beside the longest IPv4 header, so that a first piece shows the flags of TCP: less is refused as tiny.
    #[test]
    fn pieces_fit_and_are_the_packet_again(
        spec in any_spec(), payload_of in vec(any::<u8>(), 1..4000),
        mtu in 84_u32..1600, first in 80..600_usize, rest_step in 100..900_usize, step in 1..2000_usize,
    ) {
        let l4 = if let Transport::Error { .. } = spec.l4 { Transport::Portless { proto: 50 } } else { spec.l4.clone() };
        let whole = Spec { dont_fragment: false, payload: payload_of, l4, ..spec }.build();
        let Some(pieces) = pieces(&whole, first, rest_step, mtu, step) else {
            prop_assert!(whole[12..14] != [8, 0] || mtu < u32::from(whole[14] & 15) * 4 + 8);
            return Ok(());
        };
        prop_assert!(pieces.iter().all(|piece| piece.len() <= 14 + mtu as usize));
        if let [only] = &pieces[..] {
            prop_assert_eq!(only, &whole);
        } else {
            let (proto, payload) = payload(&whole);
            prop_assert_eq!(reassembled(&pieces), vec![(proto, payload.to_vec())]);
        }
        for mut piece in pieces.clone() {
            let packet = packet_of(&mut piece);
            prop_assert_eq!((packet.ip_id, packet.ttl), (packet_of(&mut whole.clone()).ip_id, whole[22]));
            prop_assert_eq!(packet.ip_len() as usize, piece.len() - 14);
        }
    }

    #[test]
    fn a_fragment_that_is_cut_again_is_still_a_part_of_its_packet(
        payload_of in vec(any::<u8>(), 100..3000), step in 10..150_usize, mtu in 68_u32..600,
    ) {
        let whole = plain(Proto::UDP, &payload_of).build();
        let fragments = fragments(&whole, step * 8, 9);
        let again: Vec<Vec<u8>> =
            fragments.iter().flat_map(|fragment| pieces(fragment, 5000, 1, mtu, 5000).unwrap()).collect();
        prop_assume!(again.len() > 1);
        let (proto, payload) = payload(&whole);
        prop_assert_eq!(reassembled(again.iter().rev()), vec![(proto, payload.to_vec())]);
    }

    #[test]
    fn a_fragment_says_which_part_it_is_and_takes_another_identification(
        spec in any_spec(), payload_of in vec(any::<u8>(), 40..2000), step in 3..100_usize, ids in any::<(u32, u32)>(),
    ) {
        let spec = Spec { payload: payload_of, options: 0, l4: Transport::Udp { src: 1, dst: 2, has_checksum: true }, ..spec };
        let whole = spec.build();
        let mask = if spec.is_v4() { 0xffff } else { u32::MAX };
        let total = payload(&whole).1.len();
        let renamed = fragments(&whole, step * 8, ids.1);
        for (nth, mut bytes) in fragments(&whole, step * 8, ids.0).into_iter().enumerate() {
            let (len, count) = (bytes.len(), renamed.len());
            let packet = packet_of(&mut bytes);
            let mut frame = Frame::new(&mut bytes, 0, len);
            let Some(field) = fragment_field(&frame, &packet) else {
                prop_assert!(count == 1 && packet.fragment == Fragment::Whole);
                continue;
            };
            prop_assert_eq!(field.id, ids.0 & mask);
            let end = ((nth + 1) * step * 8).min(total).div_ceil(8);
            prop_assert_eq!(field.part, ((nth * step) as u16, end as u16));
            prop_assert_eq!(field.is_last, nth + 1 == count);
            set_fragment_id(&mut frame, &packet, ids.1);
            prop_assert_eq!(frame.bytes(), &renamed[nth]);
        }
    }

    #[test]
    fn hostile_bytes_are_cut_without_harm(bytes in vec(any::<u8>(), 0..200), mtu in 0_u32..200, is_ip: bool) {
        let mut bytes = bytes;
        if is_ip && bytes.len() > 20 {
            bytes[12..14].copy_from_slice(&[8, 0]);
            (bytes[14], bytes[20]) = (0x40 | bytes[14] & 15, bytes[20] & 0xbf);
        }
        let len = bytes.len();
        let frame = Frame::new(&mut bytes, 0, len);
        for piece in cut(&frame, mtu).into_iter().flatten() {
            let mut into = vec![0; piece.len()];
            prop_assert_eq!(piece.copy(&frame, 0, &mut into), piece.len());
            prop_assert!(piece.len() <= 14 + mtu as usize);
        }
    }
}

/// A packet with 108 bytes after these options.
fn with_options(options: &[u8]) -> (Vec<u8>, Ipv4Header) {
    let whole = plain(Proto::UDP, &[7; 100]).build();
    let (header, _) = Ipv4Header::from_slice(&whole[14..]).unwrap();
    let mut header = Ipv4Header { options: options.try_into().unwrap(), dont_fragment: false, ..header };
    header.set_payload_len(108).unwrap();
    header.header_checksum = header.calc_header_checksum();
    ([&whole[..14], &header.to_bytes(), &whole[34..]].concat(), header)
}

#[test]
fn options_without_a_length_end_there() {
    // Stream identifier (copied), then one whose length is none.
    let (whole, header) = with_options(&[0x88, 4, 0, 5, 0x94, 0, 0, 0]);
    let pieces = pieces(&whole, 500, 1, 84, 500).unwrap();
    assert_eq!(pieces[0][14 + 20..14 + 28], header.options[..]);
    assert_eq!((pieces[1][14], &pieces[1][14 + 20..14 + 24]), (0x46, &[0x88, 4, 0, 5][..]));
}

#[test]
fn only_options_that_are_to_be_copied_are() {
    // Record route (not copied), no operation, stream identifier (copied).
    let (whole, header) = with_options(&[7, 7, 4, 10, 0, 0, 1, 1, 0x88, 4, 0, 5]);
    let pieces = pieces(&whole, 500, 1, 84, 500).unwrap();
    let options: Vec<Vec<u8>> =
        pieces.iter().map(|piece| Ipv4Header::from_slice(&piece[14..]).unwrap().0.options.to_vec()).collect();
    assert_eq!(options, [options[0].clone(), vec![0x88, 4, 0, 5]]);
    assert_eq!(options[0], header.options.to_vec());
    let (proto, payload) = payload(&whole);
    assert_eq!(reassembled(&pieces), [(proto, payload.to_vec())]);
}

#[test]
fn every_piece_has_the_reserved_bits_of_its_packet() {
    for (reserved, low_bit_of_tos) in [(0x80, 1), (0, 0)] {
        let mut whole = plain(Proto::UDP, &[7; 600]).build();
        whole[15] |= low_bit_of_tos;
        whole[20] |= reserved;
        let pieces = pieces(&whole, 900, 1, 300, 900).unwrap();
        assert_eq!(pieces.len(), 3);
        for piece in pieces {
            assert_eq!((piece[20] & 0x80, piece[15] & 1), (reserved, low_bit_of_tos));
            let words = piece[14..34].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
            assert_eq!(words.sum::<u32>() % 0xffff, 0, "its header's checksum is right");
        }
    }
}

#[test]
fn what_must_not_be_cut_is_not() {
    let spec = plain(Proto::UDP, &[7; 600]);
    assert_eq!(pieces(&Spec { dont_fragment: true, ..spec.clone() }.build(), 900, 1, 500, 900), None);
    let six = Spec { src: "fd00::1".parse().unwrap(), dst: "fd00::2".parse().unwrap(), ..spec.clone() };
    assert_eq!(pieces(&six.build(), 900, 1, 500, 900), None);
    assert_eq!(pieces(&spec.build(), 900, 1, 27, 900), None, "no room for eight bytes");
    let with_room = pieces(&spec.build(), 900, 1, 28, 900).unwrap();
    assert_eq!((with_room.len(), with_room[0].len()), (608 / 8, 14 + 28), "room for no more than that");
}

#[test]
fn two_tags_stay_before_each_piece_and_nobody_looks_behind_a_third() {
    let whole = plain(Proto::UDP, &[7; 600]).build();
    let tagged = |bytes: &[u8], tags: usize| [&bytes[..12], &[0x81, 0, 0, 7].repeat(tags), &bytes[12..]].concat();
    let bare = pieces(&whole, 900, 1, 500, 900).unwrap();
    for tags in 0..=2 {
        let expected = bare.iter().map(|piece| tagged(piece, tags)).collect();
        assert_eq!(pieces(&tagged(&whole, tags), 900, 1, 500, 900), Some(expected), "{tags}");
    }
    assert_eq!(pieces(&tagged(&whole, 3), 900, 1, 500, 900), None);
}

#[test]
fn the_fragments_of_an_echo_request_become_those_of_its_reply() {
    for six in [false, true] {
        let mut spec = plain(Proto::ICMP, &[7; 1000]);
        if six {
            (spec.src, spec.dst) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        }
        let request = spec.build();
        let replies: Vec<Vec<u8>> = fragments(&request, 400, 7)
            .into_iter()
            .map(|mut bytes| {
                let len = bytes.len();
                let mut packet = packet_of(&mut bytes);
                packet.l4 = packet_of(&mut request.clone()).l4;
                packet.proto = packet_of(&mut request.clone()).proto;
                let mut frame = Frame::new(&mut bytes, 0, len);
                assert!(echo_reply(&mut frame, &packet));
                frame.bytes().to_vec()
            })
            .collect();
        let mut whole = request.clone();
        let packet = packet_of(&mut whole);
        let len = whole.len();
        assert!(echo_reply(&mut Frame::new(&mut whole, 0, len), &packet));
        let (proto, payload) = payload(&whole);
        assert_eq!(reassembled(&replies), [(proto, payload.to_vec())]);
        let at = if six { 22..54 } else { 26..34 };
        assert!(replies.iter().all(|reply| reply[at.clone()] == whole[at.clone()] && reply[..12] == whole[..12]));
    }
}

#[test]
fn the_fragment_header_of_ipv6_may_come_after_others() {
    let six = Spec { src: "fd00::1".parse().unwrap(), dst: "fd00::2".parse().unwrap(), ..plain(Proto::UDP, &[7; 900]) };
    let whole = six.build();
    // Destination options of 24 bytes before it.
    let behind_options = |mut fragment: Vec<u8>| {
        (fragment[19], fragment[20]) = (fragment[19] + 24, 60);
        fragment.splice(54..54, [[44, 2, 1, 20, 0, 0, 0, 0], [0; 8], [0; 8]].concat());
        fragment
    };
    for (plain, renamed) in fragments(&whole, 200, 7).into_iter().zip(fragments(&whole, 200, 0x0908_0706)) {
        let said = |mut bytes: Vec<u8>| {
            let (packet, len) = (packet_of(&mut bytes), bytes.len());
            fragment_field(&Frame::new(&mut bytes, 0, len), &packet).unwrap()
        };
        let mut bytes = behind_options(plain.clone());
        assert_eq!(said(bytes.clone()), said(plain));
        let (packet, len) = (packet_of(&mut bytes), bytes.len());
        set_fragment_id(&mut Frame::new(&mut bytes, 0, len), &packet, 0x0908_0706);
        assert_eq!(bytes, behind_options(renamed));
    }
}
