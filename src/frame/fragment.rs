//! Fragments: what a fragment says of itself, and cutting packets into such (RFC 791 section 3.2, RFC 8200 section 4.5).

use std::ops::Range;

use super::checksum::{self, Sum};
use super::rewrite::{read_u16, update_at, write_u16};
use super::{Frame, Packet, ipv4, ipv6, parse::ETHERNET_LEN};

/// The longest header of a piece: Ethernet with two VLAN tags, and IPv4 with all options that fit.
const MAX_HEADERS: usize = ETHERNET_LEN + 8 + 60;
/// Of no meaning yet: it stays as it is, in every piece (RFC 1812 section 5.2.5).
const RESERVED: u16 = 0x8000;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Which part of which packet a fragment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentField {
    /// 16 bits of it in IPv4.
    pub id: u32,
    /// The part of the packet that it holds, in units of eight bytes; the end of the last one is rounded up.
    pub part: (u16, u16),
    pub is_last: bool,
}

/// What a packet that was parsed as a fragment says of itself. `None` for a whole one.
#[must_use]
pub fn fragment_field(frame: &Frame, packet: &Packet) -> Option<FragmentField> {
    let l3 = frame.bytes().get(usize::from(packet.l3_at)..)?;
    let (id, offset, more, part_at) = if packet.is_v4() {
        let field = read_u16(l3, 6);
        let id = u32::from(packet.ip_id);
        (id, field & OFFSET_MASK, field & MORE_FRAGMENTS != 0, packet.l4_at)
    } else {
        let at = ipv6::fragment_header_at(l3)?;
        let &[_, _, o0, o1, i0, i1, i2, i3] = l3.get(at..)?.first_chunk()?;
        let field = u16::from_be_bytes([o0, o1]);
        (u32::from_be_bytes([i0, i1, i2, i3]), field >> 3, field & 1 != 0, packet.l3_at + at as u16 + 8)
    };
    if offset == 0 && !more {
        return None;
    }
    let len = packet.l3_end.saturating_sub(u32::from(part_at));
    let end = u32::from(offset) + len.div_ceil(8);
    Some(FragmentField { id, part: (offset, u16::try_from(end).ok()?), is_last: !more })
}

/// Gives a fragment another identification: of IPv4 the lower 16 bits of it.
pub fn set_fragment_id(frame: &mut Frame, packet: &Packet, id: u32) {
    let Some(l3) = frame.bytes_mut().get_mut(usize::from(packet.l3_at)..) else { return };
    if packet.is_v4() {
        let old = read_u16(l3, 4);
        write_u16(l3, 4, id as u16);
        update_at(l3, 10, Sum::ZERO.replace_u16(old, id as u16));
    } else if let Some(at) = ipv6::fragment_header_at(l3) {
        write_u16(l3, at + 4, (id >> 16) as u16);
        write_u16(l3, at + 6, id as u16);
    }
}

/// The pieces that a packet is cut into.
#[derive(Clone, Debug)]
pub struct Cut {
    headers: Headers,
    later_headers: Headers,
    /// What is still to be cut, in bytes of the frame.
    rest: Range<usize>,
    /// The offset of what comes next, in units of eight bytes.
    offset: u16,
    /// The packet is a fragment itself, and not the last one.
    more: bool,
    mtu: usize,
}

/// A piece of a packet: headers of its own, then some bytes of the packet.
#[derive(Clone, Debug)]
pub struct Piece {
    headers: Headers,
    payload: Range<usize>,
}

/// An Ethernet and an IPv4 header.
#[derive(Clone, Copy, Debug)]
struct Headers {
    bytes: [u8; MAX_HEADERS],
    len: usize,
    /// Where the IPv4 header starts.
    ip_at: usize,
}

/// Cuts an IPv4 packet, or a fragment of one, into pieces of at most `mtu` bytes of IP. Its identification stays, so it
/// must be one that tells it from others; VLAN tags stay, too. `None` if it must not be cut or can't be: IPv6, DF, an MTU with no room for eight
/// bytes, or what `parse` refuses.
#[must_use]
pub fn cut(frame: &Frame, mtu: u32) -> Option<Cut> {
    let ip_at = ipv4_at(frame.bytes())?;
    let header = frame.bytes().get(ip_at..)?.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let is_v4 = header[0] >> 4 == 4;
    let (header_len, total_len) = (usize::from(header[0] & 0xf) * 4, usize::from(read_u16(header, 2)));
    let field = read_u16(header, 6);
    let (end, mtu) = (ip_at + total_len, mtu as usize);
    let fits = header_len >= header.len() && total_len >= header_len && end <= frame.total_len();
    if !is_v4 || !fits || field & DONT_FRAGMENT != 0 || mtu < header_len + 8 {
        return None;
    }
    let headers = Headers::first(frame.bytes().get(..ip_at + header_len)?, ip_at)?;
    let (offset, more) = (field & OFFSET_MASK, field & MORE_FRAGMENTS != 0);
    Some(Cut { later_headers: headers.of_later(), headers, rest: ip_at + header_len..end, offset, more, mtu })
}

/// Where the IPv4 header of a frame starts, behind two VLAN tags at most.
fn ipv4_at(frame: &[u8]) -> Option<usize> {
    let kind = |at: usize| frame.get(at - 2..at);
    let is_tag = |at: usize| matches!(kind(at), Some([0x81, 0x00] | [0x88, 0xa8]));
    let at = (ETHERNET_LEN..=ETHERNET_LEN + 8).step_by(4).find(|&at| !is_tag(at))?;
    (kind(at) == Some(&[0x08, 0x00])).then_some(at)
}

impl Iterator for Cut {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.rest.is_empty() {
            return None;
        }
        let room = self.mtu - (self.headers.len - self.headers.ip_at);
        let is_last = self.rest.len() <= room;
        let len = if is_last { self.rest.len() } else { room / 8 * 8 };
        let payload = self.rest.start..self.rest.start + len;
        let headers = self.headers.with(len, self.offset, self.more || !is_last);
        self.rest.start = payload.end;
        self.offset += (len / 8) as u16;
        self.headers = self.later_headers;
        Some(Piece { headers, payload })
    }
}

impl Piece {
    /// Its length in bytes, Ethernet header included.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it has headers
    pub fn len(&self) -> usize {
        self.headers.len + self.payload.len()
    }

    /// Copies its bytes from the `from`th on, as many as there are and fit, out of the frame that it was cut from. Returns
    /// how many those were.
    pub fn copy(&self, frame: &Frame, from: usize, into: &mut [u8]) -> usize {
        let own = self.headers.bytes.get(..self.headers.len).and_then(|own| own.get(from..)).unwrap_or_default();
        let mut done = copy_to(own, into, 0);
        let mut at = self.payload.start + (from + done).saturating_sub(self.headers.len);
        let mut part_at = 0;
        for part in std::iter::once(frame.bytes()).chain(frame.rest().iter().copied()) {
            let within = part.get(..self.payload.end.saturating_sub(part_at)).unwrap_or(part);
            if let Some(bytes) = at.checked_sub(part_at).and_then(|skip| within.get(skip..)) {
                let copied = copy_to(bytes, into, done);
                (done, at) = (done + copied, at + copied);
            }
            part_at += part.len();
        }
        done
    }
}

fn copy_to(bytes: &[u8], into: &mut [u8], at: usize) -> usize {
    let Some(place) = into.get_mut(at..) else { return 0 };
    let len = bytes.len().min(place.len());
    place.iter_mut().zip(bytes).for_each(|(to, &from)| *to = from);
    len
}

impl Headers {
    fn first(bytes: &[u8], ip_at: usize) -> Option<Headers> {
        let mut headers = Headers { bytes: [0; MAX_HEADERS], len: bytes.len(), ip_at };
        headers.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(headers)
    }

    /// Without the options that belong into the first fragment alone: those whose type's high bit is not set (RFC 791
    /// section 3.1).
    fn of_later(&self) -> Headers {
        let options_at = self.ip_at + ipv4::HEADER_LEN;
        let mut later = Headers { bytes: [0; MAX_HEADERS], len: options_at, ip_at: self.ip_at };
        copy_to(self.bytes.get(..options_at).unwrap_or_default(), &mut later.bytes, 0);
        let mut options = self.bytes.get(options_at..self.len).unwrap_or_default();
        while let [kind, tail @ ..] = options {
            let len = match (kind, tail) {
                (0, _) | (2.., []) => break,
                (1, _) => 1,
                (_, [len, ..]) => usize::from(*len),
            };
            let Some((option, rest)) = options.split_at_checked(len).filter(|_| len > 0) else { break };
            if kind & 0x80 != 0 {
                copy_to(option, &mut later.bytes, later.len);
                later.len += option.len();
            }
            options = rest;
        }
        // The end of the options is filled up with zeroes, "end of option list".
        later.len = options_at + (later.len - options_at).next_multiple_of(4);
        later
    }

    /// The headers of a piece with `len` bytes of payload.
    fn with(&self, len: usize, offset: u16, more: bool) -> Headers {
        let mut piece = *self;
        let header_len = self.len - self.ip_at;
        let Some(ip) = piece.bytes.get_mut(self.ip_at..self.len) else { return piece };
        if let Some(first) = ip.first_mut() {
            *first = 0x40 | (header_len / 4) as u8;
        }
        write_u16(ip, 2, (header_len + len) as u16);
        let reserved = read_u16(ip, 6) & RESERVED;
        write_u16(ip, 6, offset | reserved | if more { MORE_FRAGMENTS } else { 0 });
        write_u16(ip, 10, 0);
        let sum = checksum::of(ip).checksum();
        write_u16(ip, 10, sum);
        piece
    }
}
