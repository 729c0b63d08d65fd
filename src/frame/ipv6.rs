//! The IPv6 header and its extension headers (RFC 8200).

use std::iter;

use super::parse::{ETHERNET_LEN, Macs};
use super::transport::{self, Part};
use super::{Fragment, Frame, L4, Malformed, Packet, Parsed, ipv4};
use crate::units::{Ip, Proto};

/// Length of the fixed header in bytes.
pub(super) const HEADER_LEN: usize = 40;

/// How many extension headers are walked. RFC 8200 section 4.1 knows five places; hosts send one or two.
const MAX_EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Parses `l3`, what follows the frame's Ethernet header. Jumbograms (RFC 2675) are refused by their length.
#[inline(never)]
pub(super) fn parse(
    l3: &[u8],
    frame: &Frame,
    macs: Macs,
    into: &mut Result<Parsed, Malformed>,
) -> Result<(), Malformed> {
    let header = l3.first_chunk::<HEADER_LEN>().ok_or(Malformed::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Malformed::BadVersion);
    }
    let total_len = HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if ETHERNET_LEN + total_len > frame.total_len() {
        return Err(Malformed::BadTotalLength);
    }
    let (src, dst) = addresses(header);
    if src.is_v4() || dst.is_v4() {
        return Err(Malformed::MappedAddress);
    }
    let packet = l3.get(..total_len.min(l3.len())).unwrap_or(l3);
    let Chain { proto, l4_at, fragment, source_route } = walk(packet, total_len)?;
    let l4 = packet.get(l4_at..).ok_or(Malformed::Truncated)?;
    let l4_len = total_len.saturating_sub(l4_at) as u32;
    let has_options = l4_at > HEADER_LEN;
    let l4_at = (ETHERNET_LEN + l4_at) as u16;

    let part = Part { proto, is_v4: false, fragment, l4_at, l4_len };
    *into = Ok(Parsed::Ip(Packet {
        src,
        dst,
        l4: L4::Portless,
        l3_end: (ETHERNET_LEN + total_len) as u32,
        l3_at: ETHERNET_LEN as u16,
        l4_at,
        ip_id: 0,
        eth_dst: macs.dst,
        eth_src: macs.src,
        proto,
        ttl: header[7],
        dscp_ecn: header[0] << 4 | header[1] >> 4,
        dont_fragment: true,
        fragment,
        has_options,
        source_route,
    }));
    // The transport header is written where it stays, not moved there with the packet.
    match into {
        Ok(Parsed::Ip(packet)) => transport::parse(l4, part, &mut packet.l4),
        _ => Ok(()),
    }
}

/// Source and destination of a fixed header.
#[inline]
pub(super) fn addresses(header: &[u8; HEADER_LEN]) -> (Ip, Ip) {
    let address = |at: usize| {
        let octets = header.get(at..).and_then(|tail| tail.first_chunk::<16>());
        Ip::from_v6_octets(octets.copied().unwrap_or_default())
    };
    (address(8), address(24))
}

/// What the extension headers lead to. Offsets count from the IPv6 header.
pub(super) struct Chain {
    pub proto: Proto,
    pub l4_at: usize,
    pub fragment: Fragment,
    pub source_route: bool,
}

/// Follows the extension headers of `packet`, which is `total_len` bytes long where it is complete.
#[inline]
pub(super) fn walk(packet: &[u8], total_len: usize) -> Result<Chain, Malformed> {
    let next = packet.get(6).copied().ok_or(Malformed::Truncated)?;
    let chain = Chain { proto: Proto(next), l4_at: HEADER_LEN, fragment: Fragment::Whole, source_route: false };
    if is_extension(next) { walk_extensions(packet, total_len, chain) } else { Ok(chain) }
}

fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// One of them, which begins with `head`. Offsets count from the IPv6 header.
struct Extension {
    kind: u8,
    /// Where the octet is that says what it is.
    kind_at: usize,
    at: usize,
    head: [u8; 8],
}

impl Extension {
    /// It may say that it ends beyond the packet.
    fn end(&self) -> usize {
        self.at + if self.kind == FRAGMENT { 8 } else { (usize::from(self.head[1]) + 1) * 8 }
    }
}

/// The extension headers of `packet`, as many as are walked, until one has no room in it for its first 8 octets.
fn extensions(packet: &[u8]) -> impl Iterator<Item = Extension> {
    let (mut kind_at, mut at) = (6, HEADER_LEN);
    let next = move || {
        let kind = packet.get(kind_at).copied().filter(|&kind| is_extension(kind))?;
        let extension = Extension { kind, kind_at, at, head: *packet.get(at..)?.first_chunk()? };
        (kind_at, at) = (at, extension.end());
        Some(extension)
    };
    iter::from_fn(next).take(MAX_EXTENSIONS)
}

#[cold]
fn walk_extensions(packet: &[u8], total_len: usize, mut chain: Chain) -> Result<Chain, Malformed> {
    for extension in extensions(packet) {
        let [next, _, offset0, offset1, ..] = extension.head;
        (chain.proto, chain.l4_at) = (Proto(next), extension.end());
        if is_misplaced(&extension) || chain.l4_at > packet.len() {
            return Err(Malformed::BadExtensionHeader);
        }
        if extension.kind == ROUTING {
            let segments_left = offset1;
            chain.source_route |= segments_left > 0;
        }
        if extension.kind == FRAGMENT {
            if chain.fragment != Fragment::Whole {
                return Err(Malformed::BadExtensionHeader);
            }
            let offset_more = u16::from_be_bytes([offset0, offset1]);
            let (offset, more) = (offset_more >> 3, offset_more & 1 != 0);
            // An atomic fragment is whole (RFC 6946).
            if offset > 0 || more {
                let payload_len = total_len.saturating_sub(chain.l4_at);
                chain.fragment = ipv4::fragment_of(offset, more, payload_len, chain.proto)?;
            }
            if chain.fragment == Fragment::Later {
                return Ok(chain);
            }
        }
    }
    if is_extension(chain.proto.0) { Err(Malformed::BadExtensionHeader) } else { Ok(chain) }
}

/// Options for every hop stand first or nowhere.
fn is_misplaced(extension: &Extension) -> bool {
    extension.kind == HOP_BY_HOP && extension.at > HEADER_LEN
}

/// Which octet of `packet`, counted from the IPv6 header, keeps its extension headers from making sense: what says that one
/// follows that is misplaced, or the length of one that reaches beyond the packet's end.
#[cold]
pub(super) fn misfit(packet: &[u8]) -> Option<usize> {
    extensions(packet).find_map(|extension| {
        if is_misplaced(&extension) {
            Some(extension.kind_at)
        } else {
            (extension.end() > packet.len()).then_some(extension.at + 1)
        }
    })
}

/// Where the fragment header of `packet` is, counted from the IPv6 header.
#[cold]
pub(super) fn fragment_header_at(packet: &[u8]) -> Option<usize> {
    extensions(packet).find(|extension| extension.kind == FRAGMENT).map(|extension| extension.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{L4, parse};

    /// An IPv6 packet fd00::1 -> fd00::2 whose headers after the fixed one are `tail`.
    fn parsed(next: u8, tail: &[u8]) -> Result<Packet, Malformed> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x6a, 0xb0, 0, 0];
        bytes.extend([0, tail.len() as u8, next, 64]);
        bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend(tail);
        let len = bytes.len();
        match parse(&Frame::new(&mut bytes, 0, len))? {
            Parsed::Ip(packet) => Ok(packet),
            other => panic!("{other:?}"),
        }
    }

    const UDP: [u8; 8] = [0, 53, 0, 54, 0, 8, 0x12, 0x34];

    fn after(headers: &[[u8; 8]]) -> Vec<u8> {
        [headers.concat(), UDP.to_vec()].concat()
    }

    #[test]
    fn the_last_header_is_the_protocol() {
        let plain = parsed(17, &UDP).unwrap();
        assert_eq!(plain.dst_endpoint().to_string(), "udp [fd00::2]:54");
        assert_eq!((plain.dscp_ecn, plain.l4_at, plain.has_options), (0xab, 54, false));

        let headers = [[60, 0, 1, 4, 0, 0, 0, 0], [43, 0, 1, 4, 0, 0, 0, 0], [17, 0, 2, 1, 0, 0, 0, 0]];
        let packet = parsed(0, &after(&headers)).unwrap();
        assert_eq!((packet.l4_at, packet.has_options, packet.source_route), (78, true, true));
        assert_eq!(packet.src_endpoint().to_string(), "udp [fd00::1]:53");
        assert_eq!(parsed(59, &[]).unwrap().l4, L4::Portless);
    }

    #[test]
    fn fragments_are_told_apart() {
        let fragment =
            |offset_more: [u8; 2]| parsed(44, &after(&[[17, 0, offset_more[0], offset_more[1], 0, 0, 0, 9]]));
        assert_eq!(fragment([0, 0]).unwrap().fragment, Fragment::Whole, "atomic");
        assert_eq!(parsed(44, &[59, 0, 0, 0, 0, 0, 0, 9]).unwrap().l4, L4::Portless, "atomic, of nothing");
        assert_eq!(fragment([0, 1]).unwrap().fragment, Fragment::First);
        let later = fragment([0, 0x10]).unwrap();
        assert_eq!((later.fragment, later.l4, later.proto), (Fragment::Later, L4::Later, Proto::UDP));
    }

    #[test]
    fn chains_that_make_no_sense_are_refused() {
        let options = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        let refused = |next, tail: &[u8]| parsed(next, tail).unwrap_err();
        assert_eq!(refused(60, &after(&[options(0), options(17)])), Malformed::BadExtensionHeader, "hop-by-hop late");
        assert_eq!(refused(60, &after(&[options(60); 7])), Malformed::BadExtensionHeader, "too many");
        assert_eq!(refused(60, &after(&[[17, 9, 1, 4, 0, 0, 0, 0]])), Malformed::BadExtensionHeader, "too long");
        let twice = [[44, 0, 0, 1, 0, 0, 0, 9], [17, 0, 0, 1, 0, 0, 0, 9]];
        assert_eq!(refused(44, &after(&twice)), Malformed::BadExtensionHeader, "fragmented twice");
    }

    #[test]
    fn a_mapped_address_is_refused() {
        let mut bytes = [0_u8; 62];
        bytes[12..22].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
        bytes[32..38].copy_from_slice(&[0xff, 0xff, 10, 1, 0, 2]);
        bytes[38] = 0xfd;
        bytes[54..].copy_from_slice(&UDP);
        assert_eq!(parse(&Frame::new(&mut bytes, 0, 62)), Err(Malformed::MappedAddress));
        bytes[32] = 0xfe;
        assert!(parse(&Frame::new(&mut bytes, 0, 62)).is_ok());
    }
}
