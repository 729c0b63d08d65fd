//! The IPv6 header and its extension headers (RFC 8200).

use super::parse::{ETHERNET_LEN, Macs};
use super::{Fragment, L4, Malformed, Packet, ipv4, transport};
use crate::units::{Ip, Proto};

/// Length of the fixed header in bytes.
pub(super) const HEADER_LEN: usize = 40;

/// How many extension headers are walked. RFC 8200 section 4.1 knows five places; hosts send one or two.
const MAX_EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Parses what follows the Ethernet header; `rest_len` more bytes lie in further buffers. Jumbograms (RFC 2675) are
/// refused by their length.
#[inline]
pub(super) fn parse(l3: &[u8], rest_len: usize, macs: Macs) -> Result<Packet, Malformed> {
    let header = l3.first_chunk::<HEADER_LEN>().ok_or(Malformed::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Malformed::BadVersion);
    }
    let total_len = HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if total_len > l3.len() + rest_len {
        return Err(Malformed::BadTotalLength);
    }
    let (src, dst) = addresses(header);
    if src.is_v4() || dst.is_v4() {
        return Err(Malformed::MappedAddress);
    }
    let packet_bytes = l3.get(..total_len.min(l3.len())).unwrap_or(l3);
    let chain = walk(packet_bytes, total_len)?;

    let mut packet = Packet {
        src,
        dst,
        l4: L4::Later,
        l3_end: (ETHERNET_LEN + total_len) as u32,
        l3_at: ETHERNET_LEN as u16,
        l4_at: (ETHERNET_LEN + chain.l4_at) as u16,
        ip_id: 0,
        eth_dst: macs.dst,
        eth_src: macs.src,
        proto: chain.proto,
        ttl: header[7],
        dscp_ecn: header[0] << 4 | header[1] >> 4,
        dont_fragment: true,
        fragment: chain.fragment,
        has_options: chain.l4_at > HEADER_LEN,
        source_route: chain.source_route,
    };
    if chain.fragment != Fragment::Later {
        let l4 = packet_bytes.get(chain.l4_at..).ok_or(Malformed::Truncated)?;
        packet.l4 = transport::parse(l4, &packet)?;
    }
    Ok(packet)
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

#[cold]
fn walk_extensions(packet: &[u8], total_len: usize, mut chain: Chain) -> Result<Chain, Malformed> {
    for position in 0..MAX_EXTENSIONS {
        let kind = chain.proto.0;
        if !is_extension(kind) {
            return Ok(chain);
        }
        if kind == HOP_BY_HOP && position > 0 {
            return Err(Malformed::BadExtensionHeader);
        }
        let extension = packet.get(chain.l4_at..).and_then(|tail| tail.first_chunk::<8>());
        let [next, len, offset0, offset1, ..] = *extension.ok_or(Malformed::BadExtensionHeader)?;
        chain.proto = Proto(next);
        chain.l4_at += if kind == FRAGMENT { 8 } else { (usize::from(len) + 1) * 8 };
        if chain.l4_at > packet.len() {
            return Err(Malformed::BadExtensionHeader);
        }
        if kind == ROUTING {
            let segments_left = offset1;
            chain.source_route |= segments_left > 0;
        }
        if kind == FRAGMENT {
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
