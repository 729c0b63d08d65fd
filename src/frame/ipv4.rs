//! The IPv4 header (RFC 791).

use super::parse::{ETHERNET_LEN, Macs};
use super::{Fragment, Malformed, Packet, checksum, transport};
use crate::units::{Ip, Proto};

/// Length of the header without options, in bytes.
pub(super) const HEADER_LEN: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Parses what follows the Ethernet header; `rest_len` more bytes lie in further buffers.
#[inline]
pub(super) fn parse(l3: &[u8], rest_len: usize, macs: Macs) -> Result<Packet, Malformed> {
    let header = l3.first_chunk::<HEADER_LEN>().ok_or(Malformed::Truncated)?;
    let [version_ihl, dscp_ecn, len0, len1, id0, id1, frag0, frag1, ttl, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *header;
    let header_len = usize::from(version_ihl & 0xf) * 4;
    let mut source_route = false;
    if version_ihl == 0x45 {
        if checksum::of_words(header) != 0xffff {
            return Err(Malformed::BadIpChecksum);
        }
    } else {
        source_route = check_long_header(l3, version_ihl)?;
    }

    let total_len = usize::from(u16::from_be_bytes([len0, len1]));
    if total_len < header_len || total_len > l3.len() + rest_len {
        return Err(Malformed::BadTotalLength);
    }
    let flags_offset = u16::from_be_bytes([frag0, frag1]);
    let proto = Proto(proto);
    let fragment = fragment(flags_offset, total_len - header_len, proto)?;

    let mut packet = Packet {
        src: Ip::from_v4_octets([s0, s1, s2, s3]),
        dst: Ip::from_v4_octets([d0, d1, d2, d3]),
        l4: super::L4::Later,
        l3_end: (ETHERNET_LEN + total_len) as u32,
        l3_at: ETHERNET_LEN as u16,
        l4_at: (ETHERNET_LEN + header_len) as u16,
        ip_id: u16::from_be_bytes([id0, id1]),
        eth_dst: macs.dst,
        eth_src: macs.src,
        proto,
        ttl,
        dscp_ecn,
        dont_fragment: flags_offset & DONT_FRAGMENT != 0,
        fragment,
        has_options: header_len > HEADER_LEN,
        source_route,
    };
    if fragment != Fragment::Later {
        let l4 = l3.get(header_len..total_len.min(l3.len())).ok_or(Malformed::Truncated)?;
        packet.l4 = transport::parse(l4, &packet)?;
    }
    Ok(packet)
}

#[inline]
fn fragment(flags_offset: u16, payload_len: usize, proto: Proto) -> Result<Fragment, Malformed> {
    if flags_offset & (MORE_FRAGMENTS | OFFSET_MASK) == 0 {
        return Ok(Fragment::Whole);
    }
    fragment_of(flags_offset & OFFSET_MASK, flags_offset & MORE_FRAGMENTS != 0, payload_len, proto)
}

/// Which fragment it is, by its offset in units of 8 bytes. Refuses what can only be an attack: one that would overlap
/// a TCP header (RFC 1858 section 3.2.2), one that reaches beyond 65535 bytes, and an odd piece in the middle.
#[cold]
pub(super) fn fragment_of(offset: u16, more: bool, payload_len: usize, proto: Proto) -> Result<Fragment, Malformed> {
    let overlaps_tcp = offset == 1 && proto == Proto::TCP;
    let too_long = usize::from(offset) * 8 + payload_len > usize::from(u16::MAX);
    let odd = more && !payload_len.is_multiple_of(8);
    if overlaps_tcp || too_long || odd {
        return Err(Malformed::BadFragment);
    }
    Ok(if offset == 0 { Fragment::First } else { Fragment::Later })
}

/// Checks a header that does not begin with version 4 and five words; true if it holds a source route.
#[cold]
fn check_long_header(l3: &[u8], version_ihl: u8) -> Result<bool, Malformed> {
    if version_ihl >> 4 != 4 {
        return Err(Malformed::BadVersion);
    }
    let header_len = usize::from(version_ihl & 0xf) * 4;
    if header_len < HEADER_LEN {
        return Err(Malformed::BadHeaderLength);
    }
    let header = l3.get(..header_len).ok_or(Malformed::BadHeaderLength)?;
    if checksum::of(header).fold() != 0xffff {
        return Err(Malformed::BadIpChecksum);
    }
    has_source_route(header.get(HEADER_LEN..).unwrap_or_default())
}

/// Walks the options: true if one is a loose or strict source route.
fn has_source_route(mut options: &[u8]) -> Result<bool, Malformed> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    let mut found = false;
    loop {
        match *options {
            [] | [END, ..] => return Ok(found),
            [NO_OPERATION, ref tail @ ..] => options = tail,
            [kind, len, ..] if len >= 2 => {
                found |= matches!(kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE);
                options = options.get(usize::from(len)..).ok_or(Malformed::BadOptions)?;
            }
            _ => return Err(Malformed::BadOptions),
        }
    }
}
