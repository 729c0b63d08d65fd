//! Answers made in place are the packets that etherparse builds.

use proptest::prelude::*;
use sixway::frame::{
    Fragment, Frame, IcmpError, Packet, echo_reply, icmp_error, may_answer_with_error, rewrite, tcp_reset,
};
use sixway::units::{Ip, Mac, Proto};

use crate::spec::{
    CONTAINER_MAC, PORT_MAC, Spec, Transport, any_ip, any_rewrite, any_spec, first_fragment, packet_of, plain,
};

/// A packet from one host to one, with the address of the router that answers.
fn any_answerable() -> impl Strategy<Value = (Spec, Ip)> {
    any_spec().prop_flat_map(|spec| {
        let v4 = spec.is_v4();
        (any_host(v4), any_host(v4), any_ip(v4))
            .prop_map(move |(src, dst, from)| (Spec { src, dst, ..spec.clone() }, from))
    })
}

/// An address that is no loopback, multicast or broadcast.
fn any_host(v4: bool) -> BoxedStrategy<Ip> {
    if !v4 {
        return any_ip(v4);
    }
    let first = prop_oneof![1_u8..=126, 128_u8..=223];
    (first, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ip::from_v4_octets([a, b, c, d])).boxed()
}

fn any_icmp_error() -> impl Strategy<Value = IcmpError> {
    prop_oneof![
        Just(IcmpError::TimeExceeded),
        Just(IcmpError::NetUnreachable),
        Just(IcmpError::HostUnreachable),
        Just(IcmpError::ProtocolUnreachable),
        Just(IcmpError::PortUnreachable),
        Just(IcmpError::AdminProhibited),
        any::<u16>().prop_map(|mtu| IcmpError::FragmentationNeeded { mtu }),
        (0_u16..256).prop_map(|at| IcmpError::ParameterProblem { at }),
    ]
}

/// Type, code and parameter by the RFCs.
fn on_the_wire(error: IcmpError, v4: bool) -> (u8, u8, u32) {
    let (v4_form, v6_form) = match error {
        IcmpError::TimeExceeded => ((11, 0, 0), (3, 0, 0)),
        IcmpError::NetUnreachable => ((3, 0, 0), (1, 0, 0)),
        IcmpError::HostUnreachable => ((3, 1, 0), (1, 3, 0)),
        IcmpError::ProtocolUnreachable => ((3, 2, 0), (1, 4, 0)),
        IcmpError::PortUnreachable => ((3, 3, 0), (1, 4, 0)),
        IcmpError::AdminProhibited => ((3, 13, 0), (1, 1, 0)),
        IcmpError::ParameterProblem { at } => ((12, 0, u32::from(at) << 24), (4, 0, at.into())),
        IcmpError::FragmentationNeeded { mtu } => ((3, 4, mtu.into()), (2, 0, mtu.into())),
    };
    if v4 { v4_form } else { v6_form }
}

/// A buffer with the packet at `start` and `room` bytes after it.
fn buffer(bytes: &[u8], start: usize, room: usize) -> Vec<u8> {
    [&vec![0xdd; start], bytes, &vec![0xdd; room]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_error_quotes_the_packet_to_its_sender(
        (spec, from) in any_answerable(),
        error in any_icmp_error(),
        start in prop_oneof![Just(0), Just(256), 0_usize..70],
        padding in 0_usize..20,
    ) {
        let bytes = spec.build();
        let padded = buffer(&bytes, 0, padding);
        let mut buf = buffer(&padded, start, 100);
        let packet = packet_of(&mut padded.clone());
        let mut frame = Frame::new(&mut buf, start, padded.len());
        prop_assert!(may_answer_with_error(&packet) && icmp_error(&mut frame, &packet, from, error));

        let (kind, code, parameter) = on_the_wire(error, spec.is_v4());
        let most = if spec.is_v4() { 576 - 28 } else { 1280 - 48 };
        let expected = Spec {
            src: from,
            dst: spec.src,
            ttl: 64,
            id: 0,
            dont_fragment: true,
            dscp_ecn: 0xc0 | spec.dscp_ecn & 0x1c,
            options: 0,
            l4: Transport::Error { kind, code, parameter },
            payload: bytes[14..].iter().copied().take(most).collect(),
        };
        prop_assert_eq!(frame.bytes(), expected.build_between(PORT_MAC, CONTAINER_MAC));
    }

    #[test]
    fn an_error_that_has_no_room_changes_nothing((spec, from) in any_answerable(), room in 0_usize..28) {
        let bytes = spec.build();
        if !spec.is_v4() || bytes.len() > 562 {
            return Ok(());
        }
        let mut buf = buffer(&bytes, 0, room);
        let packet = packet_of(&mut bytes.clone());
        let mut frame = Frame::new(&mut buf, 0, bytes.len());
        prop_assert!(!icmp_error(&mut frame, &packet, from, IcmpError::HostUnreachable));
        prop_assert_eq!(frame.bytes(), bytes);
    }

    #[test]
    fn an_echo_request_becomes_its_reply((spec, _) in any_answerable(), id in any::<u16>(), seq in any::<u16>()) {
        let request = Spec { l4: Transport::Echo { is_request: true, id, seq }, ..spec };
        let mut bytes = request.build();
        let packet = packet_of(&mut bytes);
        let len = bytes.len();
        prop_assert!(echo_reply(&mut Frame::new(&mut bytes, 0, len), &packet));
        let reply = Spec {
            src: request.dst,
            dst: request.src,
            ttl: 64,
            l4: Transport::Echo { is_request: false, id, seq },
            ..request
        };
        prop_assert_eq!(bytes, reply.build_between(PORT_MAC, CONTAINER_MAC));
    }

    #[test]
    fn a_segment_of_no_connection_is_reset((spec, _) in any_answerable()) {
        let mut bytes = spec.build();
        let packet = packet_of(&mut bytes);
        let len = bytes.len();
        let mut frame = Frame::new(&mut bytes, 0, len);
        let Transport::Tcp { src, dst, seq, ack, flags, .. } = spec.l4 else {
            prop_assert!(!tcp_reset(&mut frame, &packet));
            return Ok(());
        };
        if flags & 4 != 0 {
            prop_assert!(!tcp_reset(&mut frame, &packet), "a reset is never answered");
            return Ok(());
        }
        prop_assert!(tcp_reset(&mut frame, &packet));
        let segment_len = spec.payload.len() as u32 + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        let (seq, ack, flags) = if flags & 16 != 0 { (ack, 0, 4) } else { (0, seq.wrapping_add(segment_len), 20) };
        let reset = Spec {
            src: spec.dst,
            dst: spec.src,
            ttl: 64,
            id: 0,
            dont_fragment: true,
            dscp_ecn: spec.dscp_ecn & !3,
            options: 0,
            l4: Transport::Tcp { src: dst, dst: src, seq, ack, flags, options: 0 },
            payload: Vec::new(),
        };
        prop_assert_eq!(frame.bytes(), reset.build_between(PORT_MAC, CONTAINER_MAC));
    }
}

proptest! {
    /// A second opinion: a whole TCP/IP stack accepts what leaves here.
    #[test]
    fn another_stack_accepts_rewritten_packets_and_answers((spec, from) in any_answerable(), with in any_rewrite(true)) {
        use smoltcp::wire::{Icmpv4Packet, IpAddress, Ipv4Packet, TcpPacket, UdpPacket};
        if !spec.is_v4() {
            return Ok(());
        }
        let is_accepted = |bytes: &[u8]| {
            let ip = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
            let (src, dst): (IpAddress, IpAddress) = (ip.src_addr().into(), ip.dst_addr().into());
            ip.verify_checksum()
                && match ip.next_header().into() {
                    6 => TcpPacket::new_checked(ip.payload()).unwrap().verify_checksum(&src, &dst),
                    17 => UdpPacket::new_checked(ip.payload()).unwrap().verify_checksum(&src, &dst),
                    1 => Icmpv4Packet::new_checked(ip.payload()).unwrap().verify_checksum(),
                    _ => true,
                }
        };
        let bytes = spec.build();
        let packet = packet_of(&mut bytes.clone());
        let mut buf = buffer(&bytes, 64, 0);
        let mut frame = Frame::new(&mut buf, 64, bytes.len());
        rewrite(&mut frame, &packet, &with);
        prop_assert!(is_accepted(frame.bytes()));
        let mut buf = buffer(&bytes, 64, 0);
        let mut frame = Frame::new(&mut buf, 64, bytes.len());
        if tcp_reset(&mut frame, &packet) || echo_reply(&mut frame, &packet) {
            prop_assert!(is_accepted(frame.bytes()));
        }
        let mut buf = buffer(&bytes, 64, 0);
        let mut frame = Frame::new(&mut buf, 64, bytes.len());
        prop_assert!(icmp_error(&mut frame, &packet, from, IcmpError::TimeExceeded));
        prop_assert!(is_accepted(frame.bytes()));
    }
}

#[test]
fn what_must_not_be_answered_is_left_as_it_is() {
    let router = "169.254.1.1".parse().unwrap();
    let asked = plain(Proto::ICMP, &[7; 20]).build();
    let packet = packet_of(&mut asked.clone());
    let to_all = Packet { eth_dst: Mac::BROADCAST, ..packet };
    let refused = |act: &dyn Fn(&mut Frame) -> bool| {
        let mut buf = buffer(&asked, 64, 0);
        let mut frame = Frame::new(&mut buf, 64, asked.len());
        !act(&mut frame) && frame.bytes() == asked
    };
    let unreachable = |frame: &mut Frame, packet, from| icmp_error(frame, packet, from, IcmpError::HostUnreachable);
    assert!(!refused(&|frame| echo_reply(frame, &packet)) && !refused(&|frame| unreachable(frame, &packet, router)));
    assert!(refused(&|frame| echo_reply(frame, &to_all)));
    assert!(refused(&|frame| unreachable(frame, &to_all, router)));
    assert!(refused(&|frame| unreachable(frame, &packet, "fd00::1".parse().unwrap())), "from another family");
    let by_a_source_route = Packet { source_route: true, ..packet };
    assert!(refused(&|frame| echo_reply(frame, &by_a_source_route)), "whose way back is not known");
}

#[test]
fn a_fragment_gets_no_reset() {
    let spec = plain(Proto::TCP, &[7; 64]);
    let fragment = first_fragment(&spec, &spec.build(), 24);
    let mut bytes = fragment.clone();
    let packet = packet_of(&mut bytes);
    let mut frame = Frame::new(&mut bytes, 0, fragment.len());
    assert!(!tcp_reset(&mut frame, &packet));
    assert_eq!(frame.bytes(), fragment);
    assert!(may_answer_with_error(&packet), "the first fragment gets an error");
    let later = Packet { fragment: Fragment::Later, ..packet };
    assert!(!may_answer_with_error(&later), "and no other, even if it is known what it is of");
}

#[test]
fn an_error_quotes_the_first_buffer_only() {
    let whole = plain(Proto::UDP, &[7; 200]).build();
    let (first, rest) = whole.split_at(100);
    let rest = [rest];
    let mut buf = buffer(first, 64, 500);
    let mut frame = Frame::with_rest(&mut buf, 64, first.len(), &rest);
    let packet = packet_of(&mut whole.clone());
    assert!(icmp_error(&mut frame, &packet, packet.dst, IcmpError::HostUnreachable));
    assert_eq!(&frame.bytes()[42..], &first[14..]);
    assert_eq!(frame.total_len(), 42 + 86);
    assert_eq!(packet_of(&mut frame.bytes().to_vec()).ip_len(), 28 + 86);
}
