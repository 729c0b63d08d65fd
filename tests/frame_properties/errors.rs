//! ICMP errors: both headers and every checksum as etherparse builds them.

use proptest::prelude::*;
use sixway::frame::{EmbeddedL4, Frame, L4, Malformed, Parsed, Rewrite, parse, rewrite_error};
use sixway::units::Proto;

use crate::parts::fragments;
use crate::spec::{Spec, Transport, any_ip, any_rewrite, any_spec, packet_of, plain, residue};

/// An error about `about`, of which it quotes `quote_len` bytes.
#[derive(Clone, Debug)]
struct ErrorSpec {
    outer: Spec,
    about: Spec,
    quote_len: usize,
}

impl ErrorSpec {
    fn build(&self) -> Vec<u8> {
        let quoted = self.about.build();
        let payload = quoted[14..].iter().copied().take(self.quote_len).collect();
        Spec { payload, ..self.outer.clone() }.build()
    }
}

/// Any error with any rewrite of its two headers.
fn any_error() -> impl Strategy<Value = (ErrorSpec, Rewrite, Rewrite)> {
    any_spec().prop_flat_map(|about| {
        let v4 = about.is_v4();
        let least = about.l4_at() - 14 + 8;
        let kinds =
            if v4 { prop_oneof![Just(3_u8), Just(11), Just(12)] } else { prop_oneof![Just(1_u8), Just(2), Just(3)] };
        let outer = (any_ip(v4), any_ip(v4), any::<u8>(), any::<u16>(), kinds, any::<u8>(), any::<u32>(), 0_usize..=10);
        let quote_len = prop_oneof![least..least + 40, Just(548)];
        (Just(about), outer, quote_len, any_rewrite(v4), any_rewrite(v4)).prop_map(|(about, outer, quote_len, a, b)| {
            let (src, dst, ttl, id, kind, code, parameter, options) = outer;
            let l4 = Transport::Error { kind, code, parameter };
            let outer =
                Spec { src, dst, ttl, id, dont_fragment: false, dscp_ecn: 0xc0, options, l4, payload: Vec::new() };
            (ErrorSpec { outer, about, quote_len }, a, b)
        })
    })
}

/// True if the quote holds what an error must, the IP header and 8 bytes, and does not end within a checksum, half of
/// which nobody can update.
fn is_enough(error: &ErrorSpec) -> bool {
    let is_tcp = matches!(error.about.l4, Transport::Tcp { .. });
    if is_tcp && error.quote_len == error.about.l4_at() - 14 + 17 {
        return false;
    }
    let quoted = error.about.build().len() - 14;
    let is_portless = matches!(error.about.l4, Transport::Portless { .. });
    is_portless || quoted.min(error.quote_len) >= error.about.l4_at() - 14 + 8
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn both_headers_are_rewritten_as_if_built_so((error, outer, embedded) in any_error(), padding in 0_usize..30) {
        prop_assume!(is_enough(&error));
        let mut bytes = error.build();
        bytes.resize(bytes.len() + padding, 0xee);
        let packet = packet_of(&mut bytes);
        let L4::IcmpError { embedded: quote, .. } = packet.l4 else { panic!("no error: {packet:?}") };
        prop_assert_eq!((quote.src.ip, quote.dst.ip), (error.about.src, error.about.dst));
        match error.about.l4 {
            Transport::Tcp { src, dst, .. } => {
                prop_assert_eq!((quote.l4, quote.src.port, quote.dst.port), (EmbeddedL4::Tcp, src, dst));
                let quoted = error.quote_len.min(error.about.build().len() - 14);
                prop_assert_eq!(quote.has_l4_checksum, quoted >= error.about.l4_at() - 14 + 18);
            }
            Transport::Udp { src, dst, has_checksum } => {
                prop_assert_eq!((quote.l4, quote.src.port, quote.dst.port), (EmbeddedL4::Udp, src, dst));
                prop_assert_eq!(quote.has_l4_checksum, has_checksum);
            }
            Transport::Echo { id, is_request, .. } => {
                let kind = if is_request { EmbeddedL4::EchoRequest } else { EmbeddedL4::EchoReply };
                prop_assert_eq!((quote.l4, quote.src.port, quote.dst.port), (kind, id, id));
            }
            _ => prop_assert_eq!(quote.l4, EmbeddedL4::Portless),
        }

        let len = bytes.len();
        prop_assert!(rewrite_error(&mut Frame::new(&mut bytes, 0, len), &packet, &outer, &embedded));
        let expected = ErrorSpec {
            outer: error.outer.rewritten(&outer),
            about: error.about.rewritten(&embedded),
            quote_len: error.quote_len,
        };
        let mut expected = expected.build();
        expected.resize(expected.len() + padding, 0xee);
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn a_wrong_icmp_checksum_stays_wrong_by_as_much((error, outer, embedded) in any_error(), by in 1_u16..0xffff) {
        prop_assume!(is_enough(&error));
        let mut bytes = error.build();
        let at = error.outer.checksum_at().unwrap();
        let wrong = u16::from_be_bytes([bytes[at], bytes[at + 1]]).wrapping_add(by);
        bytes[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
        let packet = packet_of(&mut bytes);
        let before = residue(&bytes, &packet);
        let len = bytes.len();
        rewrite_error(&mut Frame::new(&mut bytes, 0, len), &packet, &outer, &embedded);
        let packet = packet_of(&mut bytes);
        prop_assert_eq!(residue(&bytes, &packet), before);
    }

    #[test]
    fn an_error_that_quotes_too_little_is_malformed((error, ..) in any_error(), missing in 1_usize..60) {
        let least = error.about.l4_at() - 14 + 8;
        let error = ErrorSpec { quote_len: least.saturating_sub(missing), ..error };
        let mut bytes = error.build();
        let len = bytes.len();
        let is_portless = matches!(error.about.l4, Transport::Portless { .. });
        let parsed = parse(&Frame::new(&mut bytes, 0, len));
        prop_assert!(parsed.is_err() || (is_portless && missing <= 8), "{:?}", parsed);
    }
}

/// "Port unreachable" about the packet.
fn unreachable(about: &Spec) -> ErrorSpec {
    let l4 = Transport::Error { kind: 3, code: 3, parameter: 0 };
    let outer = Spec { src: about.dst, dst: about.src, l4, payload: Vec::new(), ..about.clone() };
    ErrorSpec { outer, about: about.clone(), quote_len: 548 }
}

#[test]
fn an_embedded_udp_checksum_that_comes_out_as_zero_becomes_ones() {
    let with = Rewrite { src: Some(("192.168.50.1".parse().unwrap(), 20480)), ..Rewrite::default() };
    let mut about = plain(Proto::UDP, &[0, 0]);
    let at = about.checksum_at().unwrap();
    about.payload = about.rewritten(&with).build()[at..at + 2].to_vec();
    let mut bytes = unreachable(&about).build();
    let packet = packet_of(&mut bytes);
    let len = bytes.len();
    assert!(rewrite_error(&mut Frame::new(&mut bytes, 0, len), &packet, &Rewrite::default(), &with));
    let expected = ErrorSpec { about: about.rewritten(&with), ..unreachable(&about) };
    assert_eq!(bytes, expected.build());
    assert_eq!(bytes[42 + 26..42 + 28], [0xff, 0xff]);
}

#[test]
fn an_address_of_the_other_family_changes_nothing_of_either_header() {
    let as_built = unreachable(&plain(Proto::UDP, &[])).build();
    let other = Some(("fd00::1".parse().unwrap(), 80));
    let (own, src, dst) = (
        Rewrite { decrement_ttl: true, ..Rewrite::default() },
        Rewrite { src: other, ..Rewrite::default() },
        Rewrite { dst: other, ..Rewrite::default() },
    );
    for (outer, embedded) in [(src, own), (dst, own), (own, src), (own, dst)] {
        let mut bytes = as_built.clone();
        let packet = packet_of(&mut bytes);
        let len = bytes.len();
        assert!(!rewrite_error(&mut Frame::new(&mut bytes, 0, len), &packet, &outer, &embedded));
        assert_eq!(bytes, as_built);
    }
}

#[test]
fn a_quote_that_ends_within_the_tcp_checksum_has_none() {
    let error = ErrorSpec { quote_len: 20 + 17, ..unreachable(&plain(Proto::TCP, &[])) };
    let L4::IcmpError { embedded, .. } = packet_of(&mut error.build()).l4 else { panic!() };
    assert!(!embedded.has_l4_checksum);
}

/// What an error about the packet is taken for, if it quotes these bytes.
fn parse_quoting(about: &Spec, quoted: &[u8]) -> Result<Parsed, Malformed> {
    let mut bytes = Spec { payload: quoted.to_vec(), ..unreachable(about).outer }.build();
    let len = bytes.len();
    parse(&Frame::new(&mut bytes, 0, len))
}

#[test]
fn no_error_may_be_about_a_later_fragment_or_another_error() {
    let parse_quoting = |quoted: &[u8]| parse_quoting(&plain(Proto::UDP, &[]), quoted);
    let mut later = plain(Proto::UDP, &[1; 8]).build()[14..].to_vec();
    later[7] = 1;
    assert_eq!(parse_quoting(&later), Err(Malformed::EmbeddedHeader));
    let error = unreachable(&plain(Proto::UDP, &[])).build();
    assert_eq!(parse_quoting(&error[14..]), Err(Malformed::EmbeddedHeader));
}

#[test]
fn an_error_is_about_a_packet_of_its_own_family() {
    let four = plain(Proto::UDP, &[7; 40]);
    let six = Spec { src: "fd00::1".parse().unwrap(), dst: "fd00::2".parse().unwrap(), ..four.clone() };
    let (quote4, quote6) = (&four.build()[14..], &six.build()[14..]);
    assert!(parse_quoting(&four, quote4).is_ok() && parse_quoting(&six, quote6).is_ok());
    assert_eq!(parse_quoting(&four, quote6), Err(Malformed::EmbeddedHeader));
    assert_eq!(parse_quoting(&six, quote4), Err(Malformed::EmbeddedHeader));
    let mut wrong = quote4.to_vec();
    for version_and_length in [0x65, 0x44] {
        wrong[0] = version_and_length;
        assert_eq!(parse_quoting(&four, &wrong), Err(Malformed::EmbeddedHeader), "{version_and_length:02x}");
    }
    for end_at in [8, 24] {
        let mut wrong = quote6.to_vec();
        wrong[end_at..end_at + 12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        assert_eq!(parse_quoting(&six, &wrong), Err(Malformed::MappedAddress), "at {end_at}");
    }
}

#[test]
fn an_error_may_be_about_the_first_fragment_of_a_jumbo_packet() {
    let four = plain(Proto::UDP, &[7; 20_000]);
    let six = Spec { src: "fd00::1".parse().unwrap(), dst: "fd00::2".parse().unwrap(), ..four.clone() };
    for about in [four, six] {
        let first = &fragments(&about.build(), 8936, 7)[0];
        let Ok(Parsed::Ip(packet)) = parse_quoting(&about, &first[14..500]) else { panic!("{about:?}") };
        let L4::IcmpError { embedded, .. } = packet.l4 else { panic!("{packet:?}") };
        assert_eq!((embedded.src.port, embedded.dst.port), (1024, 80));
    }
}
