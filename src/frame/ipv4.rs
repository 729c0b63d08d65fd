//! The IPv4 header (RFC 791).

use super::parse::{ETHERNET_LEN, Macs};
use super::transport::{self, Part};
use super::{
    Fragment, Frame, L4, Malformed, Packet, Parsed,
    checksum::{self, Sum},
};
use crate::units::{Ip, Proto};

/// Length of the header without options, in bytes.
pub(super) const HEADER_LEN: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Parses `l3`, what follows the frame's Ethernet header.
#[inline(always)]
pub(super) fn parse(
    l3: &[u8],
    frame: &Frame,
    macs: Macs,
    into: &mut Result<Parsed, Malformed>,
) -> Result<(), Malformed> {
    let header = l3.first_chunk::<HEADER_LEN>().ok_or(Malformed::Truncated)?;
    // Whole words, so that the header is loaded five times and not twenty.
    let [version_to_len, id_to_offset, ttl_to_checksum, src, dst] = words(header);
    let version_ihl = (version_to_len >> 24) as u8;
    let mut header_len = HEADER_LEN;
    let mut source_route = false;
    if version_ihl == 0x45 {
        let sum = Sum::ZERO.plus_u32(version_to_len).plus_u32(id_to_offset).plus_u32(ttl_to_checksum);
        if sum.plus_u32(src).plus_u32(dst).fold() != 0xffff {
            return Err(Malformed::BadIpChecksum);
        }
    } else {
        (header_len, source_route) = check_long_header(l3, version_ihl)?;
    }

    let total_len = (version_to_len & 0xffff) as usize;
    if total_len < header_len || ETHERNET_LEN + total_len > frame.total_len() {
        return Err(Malformed::BadTotalLength);
    }
    let flags_offset = id_to_offset as u16;
    let proto = Proto((ttl_to_checksum >> 16) as u8);
    let fragment = fragment(flags_offset, total_len - header_len, proto)?;
    let l4 = l3.get(header_len..total_len.min(l3.len())).ok_or(Malformed::Truncated)?;
    let l4_at = (ETHERNET_LEN + header_len) as u16;

    let part = Part { proto, is_v4: true, fragment, l4_at, l4_len: (total_len - header_len) as u32 };
    *into = Ok(Parsed::Ip(Packet {
        src: Ip::from_v4_bits(src),
        dst: Ip::from_v4_bits(dst),
        l4: L4::Portless,
        l3_end: (ETHERNET_LEN + total_len) as u32,
        l3_at: ETHERNET_LEN as u16,
        l4_at,
        ip_id: (id_to_offset >> 16) as u16,
        eth_dst: macs.dst,
        eth_src: macs.src,
        proto,
        ttl: (ttl_to_checksum >> 24) as u8,
        dscp_ecn: (version_to_len >> 16) as u8,
        dont_fragment: flags_offset & DONT_FRAGMENT != 0,
        fragment,
        has_options: header_len > HEADER_LEN,
        source_route,
    }));
    // The transport header is written where it stays, not moved there with the packet.
    match into {
        Ok(Parsed::Ip(packet)) => transport::parse(l4, part, &mut packet.l4),
        _ => Ok(()),
    }
}

/// The header's five words, in host order.
#[inline(always)]
fn words(header: &[u8; HEADER_LEN]) -> [u32; 5] {
    let mut words = [0; 5];
    for (word, &octets) in words.iter_mut().zip(header.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(octets);
    }
    words
}

#[inline]
fn fragment(flags_offset: u16, payload_len: usize, proto: Proto) -> Result<Fragment, Malformed> {
    if flags_offset & (MORE_FRAGMENTS | OFFSET_MASK) == 0 {
        return Ok(Fragment::Whole);
    }
    fragment_of(flags_offset & OFFSET_MASK, flags_offset & MORE_FRAGMENTS != 0, payload_len, proto)
}

/// Which fragment it is, by its offset in units of 8 bytes. Refuses what can only be an attack: one that would overlap
/// a TCP header (RFC 1858 section 3.2.2), one that reaches beyond 65535 bytes, an odd piece in the middle, and one that
/// holds nothing.
#[cold]
pub(super) fn fragment_of(offset: u16, more: bool, payload_len: usize, proto: Proto) -> Result<Fragment, Malformed> {
    let overlaps_tcp = offset == 1 && proto == Proto::TCP;
    let too_long = usize::from(offset) * 8 + payload_len > usize::from(u16::MAX);
    let odd = more && !payload_len.is_multiple_of(8);
    if overlaps_tcp || too_long || odd || payload_len == 0 {
        return Err(Malformed::BadFragment);
    }
    Ok(Fragment::of(offset, more))
}

/// Checks a header that does not begin with version 4 and five words; gives its length, and true if it holds a source
/// route.
#[cold]
fn check_long_header(l3: &[u8], version_ihl: u8) -> Result<(usize, bool), Malformed> {
    if version_ihl >> 4 != 4 {
        return Err(Malformed::BadVersion);
    }
    let header_len = usize::from(version_ihl & 0xf) * 4;
    let header = l3.get(..header_len).ok_or(Malformed::BadHeaderLength)?;
    let options = header.get(HEADER_LEN..).ok_or(Malformed::BadHeaderLength)?;
    if checksum::of(header).fold() != 0xffff {
        return Err(Malformed::BadIpChecksum);
    }
    let source_route = has_source_route(options).map_err(|_| Malformed::BadOptions)?;
    Ok((header_len, source_route))
}

/// Walks the options: true if one is a loose or strict source route. Else which octet of them is wrong: a length that is too
/// small or too large, or the type of an option without one.
#[cold]
pub(super) fn has_source_route(options: &[u8]) -> Result<bool, usize> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    let (mut found, mut at) = (false, 0);
    loop {
        match *options.get(at..).unwrap_or_default() {
            [] | [END, ..] => return Ok(found),
            [NO_OPERATION, ..] => at += 1,
            [_] => return Err(at),
            [kind, len, ref tail @ ..] if len >= 2 && usize::from(len) <= tail.len() + 2 => {
                found |= matches!(kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE);
                at += usize::from(len);
            }
            _ => return Err(at + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::parse;

    /// Ethernet, then UDP 10.1.0.2:53 -> 10.2.0.2:54 of 10 bytes, with two bytes of padding.
    const UDP: [u8; 46] = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
        0x45, 0, 0, 30, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2, // IPv4
        0, 53, 0, 54, 0, 10, 0, 0, 0xaa, 0xbb, // UDP
        0, 0, // padding
    ];

    /// The packet with some bytes changed, and the IP checksum right for its `ihl` words.
    fn udp_with(changes: &[(usize, u8)], ihl: usize) -> Vec<u8> {
        let mut bytes = UDP.to_vec();
        for &(at, value) in changes {
            bytes[at] = value;
        }
        let sum = checksum::of(&bytes[14..14 + ihl * 4]).checksum().to_be_bytes();
        bytes[24..26].copy_from_slice(&sum);
        bytes
    }

    fn parsed(mut bytes: Vec<u8>) -> Result<Packet, Malformed> {
        let len = bytes.len();
        match parse(&Frame::new(&mut bytes, 0, len))? {
            Parsed::Ip(packet) => Ok(packet),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_header_says_what_it_says() {
        let packet = parsed(udp_with(&[], 5)).unwrap();
        assert_eq!(packet.src_endpoint().to_string(), "udp 10.1.0.2:53");
        assert_eq!(packet.dst_endpoint().to_string(), "udp 10.2.0.2:54");
        assert_eq!((packet.ip_id, packet.ttl, packet.dont_fragment), (0x1234, 64, true));
        assert_eq!((packet.l3_at, packet.l4_at, packet.l3_end), (14, 34, 44));
        assert_eq!((packet.ip_len(), packet.l4_len()), (30, 10));
    }

    #[test]
    fn each_broken_field_has_its_reason() {
        use Malformed::*;
        type Changes = &'static [(usize, u8)];
        let cases: [(Changes, usize, Malformed); 12] = [
            (&[(14, 0x55)], 5, BadVersion),
            (&[(14, 0x44)], 5, BadHeaderLength),
            (&[(14, 0x4f)], 5, BadHeaderLength),
            (&[(17, 19)], 5, BadTotalLength),
            (&[(17, 33)], 5, BadTotalLength),
            (&[(17, 27)], 5, UdpHeader),
            (&[(39, 11)], 5, UdpLength),
            (&[(39, 7)], 5, UdpLength),
            (&[(23, 6)], 5, TcpHeader),
            (&[(14, 0x46), (34, 7), (35, 5), (37, 0)], 6, BadOptions),
            (&[(14, 0x46), (34, 7), (35, 1), (36, 0)], 6, BadOptions),
            (&[(14, 0x46), (34, 7), (35, 0), (36, 0)], 6, BadOptions),
        ];
        for (changes, ihl, reason) in cases {
            assert_eq!(parsed(udp_with(changes, ihl)).unwrap_err(), reason, "{changes:?}");
        }
        let mut wrong = udp_with(&[], 5);
        wrong[25] ^= 1;
        assert_eq!(parsed(wrong).unwrap_err(), BadIpChecksum);
        for len in 0..34 {
            assert_eq!(parsed(udp_with(&[], 5)[..len].to_vec()).unwrap_err(), Truncated, "{len}");
        }
        assert_eq!(parsed(udp_with(&[(12, 0x81)], 5)).unwrap_err(), VlanTagged);
        let mut not_ipv6 = udp_with(&[(12, 0x86), (13, 0xdd)], 5);
        not_ipv6.resize(60, 0);
        assert_eq!(parsed(not_ipv6).unwrap_err(), BadVersion);
    }

    #[test]
    fn a_source_route_is_flagged() {
        let lsrr = udp_with(&[(14, 0x46), (23, 50), (34, 131), (35, 3), (36, 4), (37, 0)], 6);
        let packet = parsed(lsrr).unwrap();
        assert!(packet.source_route && packet.has_options);
        let record_route = udp_with(&[(14, 0x46), (23, 50), (34, 1), (35, 7), (36, 3), (37, 4)], 6);
        let packet = parsed(record_route).unwrap();
        assert!(!packet.source_route && packet.has_options);
        assert_eq!(packet.l4, L4::Portless);
    }

    #[test]
    fn fragments_are_told_apart_and_attacks_refused() {
        // The UDP length of a first fragment is that of the whole.
        let first = parsed(udp_with(&[(17, 28), (20, 0x20), (39, 99)], 5)).unwrap();
        assert_eq!((first.fragment, first.dst_endpoint().port), (Fragment::First, 54));
        let later = parsed(udp_with(&[(20, 0), (21, 1)], 5)).unwrap();
        assert_eq!((later.fragment, later.l4, later.dst_endpoint().port), (Fragment::Later, L4::Later, 0));

        let farthest = parsed(udp_with(&[(17, 27), (20, 0x1f), (21, 0xff)], 5)).unwrap();
        assert_eq!((farthest.fragment, farthest.l4_len()), (Fragment::Later, 7), "up to byte 65535");

        let refused = |changes: &[(usize, u8)]| parsed(udp_with(changes, 5)).unwrap_err();
        assert_eq!(refused(&[(20, 0x20)]), Malformed::BadFragment, "10 bytes in the middle");
        assert_eq!(refused(&[(17, 28), (20, 0x1f), (21, 0xff)]), Malformed::BadFragment, "beyond 65535");
        assert_eq!(refused(&[(20, 0), (21, 1), (23, 6)]), Malformed::BadFragment, "over a TCP header");
        assert_eq!(refused(&[(17, 28), (20, 0x20), (23, 6)]), Malformed::TcpHeader, "tiny");
    }

    #[test]
    fn the_octet_that_is_wrong_is_found() {
        for (options, expected) in [
            (&[7, 3, 4, 0][..], None),
            (&[1, 1, 7, 3], Some(3)),
            (&[7, 1, 0, 0], Some(1)),
            (&[7, 5, 4, 0], Some(1)),
            (&[1, 1, 1, 7], Some(3)),
            (&[0, 7, 9, 9], None),
            (&[7, 4, 4, 0, 0x94, 5, 0, 0], Some(5)),
            (&[], None),
        ] {
            assert_eq!(has_source_route(options).err(), expected, "{options:?}");
        }
    }
}
