//! Rewriting addresses and ports, with checksums.

use super::checksum::{self, Sum};
use super::{Fragment, Frame, L4, Packet, ipv4, ipv6, sctp};
use crate::units::{Ip, Mac, Proto};

/// What becomes of a packet's headers. The port is ignored where the protocol has none. An echo has one identifier,
/// which takes the port of `dst`, else of `src`. Addresses must be of the packet's family.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rewrite {
    pub src: Option<(Ip, u16)>,
    pub dst: Option<(Ip, u16)>,
    /// Takes one off the TTL or hop limit; 0 stays 0.
    pub decrement_ttl: bool,
    /// The new IPv4 identification; ignored for IPv6.
    pub ip_id: Option<u16>,
}

impl Rewrite {
    /// True if its addresses are of the family named.
    #[inline(always)]
    pub(super) fn is_of_family(&self, v4: bool) -> bool {
        let fits = |end: Option<(Ip, u16)>| end.is_none_or(|(ip, _)| ip.is_v4() == v4);
        fits(self.src) && fits(self.dst)
    }

    /// The new identifier of an echo.
    #[inline]
    pub(super) fn echo_id(&self) -> Option<u16> {
        self.dst.or(self.src).map(|(_, id)| id)
    }
}

/// What was done about the transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumWork {
    /// Nothing: the packet has none that covers what was changed.
    None,
    /// It was updated by the difference (RFC 1624). A wrong one stays wrong.
    Incremental,
    /// It was partial, only the pseudo header's sum as offloading stacks leave it, or SCTP's and zero, and was computed in
    /// full.
    Completed,
    /// A UDP checksum of zero, that is none (RFC 768), stays zero.
    Zero,
}

/// Writes new addresses, ports, TTL and identification, and brings the checksums up to date. Old values are read from
/// the frame, so a packet may be rewritten twice. Addresses of the other family change nothing.
#[inline(always)]
pub fn rewrite(frame: &mut Frame, packet: &Packet, with: &Rewrite) -> ChecksumWork {
    let rest = frame.rest();
    let is_v4 = packet.is_v4();
    let Some((head, l4)) = frame.bytes_mut().split_at_mut_checked(usize::from(packet.l4_at)) else {
        return ChecksumWork::None;
    };
    let Some(l3) = head.get_mut(usize::from(packet.l3_at)..) else { return ChecksumWork::None };
    if !with.is_of_family(is_v4) {
        return ChecksumWork::None;
    }
    let addresses = if is_v4 {
        let Some(header) = l3.first_chunk_mut() else { return ChecksumWork::None };
        rewrite_ipv4(header, with)
    } else {
        let Some(header) = l3.first_chunk_mut() else { return ChecksumWork::None };
        rewrite_ipv6(header, with)
    };

    let change = match packet.l4 {
        L4::Tcp { .. } => {
            let Some(header) = l4.first_chunk_mut::<18>() else { return ChecksumWork::None };
            Change { checksum_at: 16, words: rewrite_ports(header, with), pseudo_len: packet.l4_len() }
        }
        L4::Udp { .. } => {
            let Some(header) = l4.first_chunk_mut::<8>() else { return ChecksumWork::None };
            let words = rewrite_ports(header, with);
            if [header[6], header[7]] == [0, 0] {
                return ChecksumWork::Zero;
            }
            let len = u16::from_be_bytes([header[4], header[5]]);
            Change { checksum_at: 6, words, pseudo_len: u32::from(len) }
        }
        L4::EchoRequest { .. } | L4::EchoReply { .. } => {
            let Some(header) = l4.first_chunk_mut::<8>() else { return ChecksumWork::None };
            let words = rewrite_echo_id(header, with);
            if is_v4 {
                update_at(header, 2, words);
                return ChecksumWork::Incremental;
            }
            Change { checksum_at: 2, words, pseudo_len: packet.l4_len() }
        }
        L4::Icmp { .. } | L4::IcmpError { .. } if !is_v4 => {
            Change { checksum_at: 2, words: Sum::ZERO, pseudo_len: packet.l4_len() }
        }
        L4::Portless if packet.proto == Proto::SCTP && packet.fragment == Fragment::Whole => {
            let completed = sctp::complete(l4, rest, packet.l4_len() as usize);
            return if completed { ChecksumWork::Completed } else { ChecksumWork::None };
        }
        L4::Icmp { .. } | L4::IcmpError { .. } | L4::Portless | L4::Later => return ChecksumWork::None,
    };

    let pseudo_rest = Sum::ZERO.plus_u16(u16::from(packet.proto.0)).plus_u32(change.pseudo_len);
    let is_partial = packet.fragment == Fragment::Whole
        && read_u16(l4, change.checksum_at) == addresses.before.plus(pseudo_rest).fold();
    if is_partial {
        complete(l4, rest, &change, addresses.after.plus(pseudo_rest), matches!(packet.l4, L4::Udp { .. }));
        return ChecksumWork::Completed;
    }
    let updated = checksum::update(read_u16(l4, change.checksum_at), addresses.delta().plus(change.words));
    // A UDP checksum that comes out as zero is sent as its other form, since zero would say that there is none.
    let is_udp = matches!(packet.l4, L4::Udp { .. });
    write_u16(l4, change.checksum_at, if is_udp && updated == 0 { 0xffff } else { updated });
    ChecksumWork::Incremental
}

/// Writes the Ethernet addresses.
#[inline(always)]
pub fn set_macs(frame: &mut Frame, dst: Mac, src: Mac) {
    if let Some((to, rest)) = frame.bytes_mut().split_first_chunk_mut::<6>()
        && let Some(from) = rest.first_chunk_mut::<6>()
    {
        (*to, *from) = (dst.0, src.0);
    }
}

/// What changed in a transport header, and what its checksum needs.
struct Change {
    /// Where in the transport header its checksum is.
    checksum_at: usize,
    /// The difference of ports or identifier.
    words: Sum,
    /// The length that the pseudo header states.
    pseudo_len: u32,
}

/// The sums of both addresses before and after a rewrite.
pub(super) struct Addresses {
    pub before: Sum,
    pub after: Sum,
}

impl Addresses {
    #[inline]
    pub(super) fn delta(&self) -> Sum {
        self.after.minus(self.before)
    }
}

/// Rewrites an IPv4 header and its checksum.
#[inline(always)]
pub(super) fn rewrite_ipv4(header: &mut [u8; ipv4::HEADER_LEN], with: &Rewrite) -> Addresses {
    let word = |header: &[u8; ipv4::HEADER_LEN], a: usize| {
        u32::from_be_bytes([header[a], header[a + 1], header[a + 2], header[a + 3]])
    };
    let before = Sum::ZERO.plus_u32(word(header, 12)).plus_u32(word(header, 16));
    if let Some((ip, _)) = with.src {
        [header[12], header[13], header[14], header[15]] = ip.v4_octets();
    }
    if let Some((ip, _)) = with.dst {
        [header[16], header[17], header[18], header[19]] = ip.v4_octets();
    }
    let after = Sum::ZERO.plus_u32(word(header, 12)).plus_u32(word(header, 16));
    let addresses = Addresses { before, after };

    let mut delta = addresses.delta();
    if with.decrement_ttl && header[8] > 0 {
        let old = u16::from_be_bytes([header[8], header[9]]);
        header[8] -= 1;
        delta = delta.replace_u16(old, old - 0x100);
    }
    if let Some(id) = with.ip_id {
        delta = delta.replace_u16(u16::from_be_bytes([header[4], header[5]]), id);
        [header[4], header[5]] = id.to_be_bytes();
    }
    let stored = u16::from_be_bytes([header[10], header[11]]);
    [header[10], header[11]] = checksum::update(stored, delta).to_be_bytes();
    addresses
}

/// Rewrites an IPv6 header, which has no checksum.
#[inline]
pub(super) fn rewrite_ipv6(header: &mut [u8; ipv6::HEADER_LEN], with: &Rewrite) -> Addresses {
    let sum = |header: &[u8; ipv6::HEADER_LEN]| {
        let (src, dst) = ipv6::addresses(header);
        Sum::ZERO.plus_ip(src).plus_ip(dst)
    };
    let before = sum(header);
    if let Some((ip, _)) = with.src {
        header[8..24].copy_from_slice(&ip.bits().to_be_bytes());
    }
    if let Some((ip, _)) = with.dst {
        header[24..40].copy_from_slice(&ip.bits().to_be_bytes());
    }
    if with.decrement_ttl {
        header[7] = header[7].saturating_sub(1);
    }
    Addresses { before, after: sum(header) }
}

/// Writes new ports to a TCP or UDP header; gives their difference.
#[inline(always)]
pub(super) fn rewrite_ports<const N: usize>(header: &mut [u8; N], with: &Rewrite) -> Sum {
    const { assert!(N >= 4) };
    let mut delta = Sum::ZERO;
    if let Some((_, port)) = with.src {
        delta = delta.replace_u16(u16::from_be_bytes([header[0], header[1]]), port);
        [header[0], header[1]] = port.to_be_bytes();
    }
    if let Some((_, port)) = with.dst {
        delta = delta.replace_u16(u16::from_be_bytes([header[2], header[3]]), port);
        [header[2], header[3]] = port.to_be_bytes();
    }
    delta
}

/// Writes a new identifier to an echo header; gives its difference.
#[inline]
pub(super) fn rewrite_echo_id(header: &mut [u8; 8], with: &Rewrite) -> Sum {
    let old = u16::from_be_bytes([header[4], header[5]]);
    let Some(id) = with.echo_id() else { return Sum::ZERO };
    [header[4], header[5]] = id.to_be_bytes();
    Sum::ZERO.replace_u16(old, id)
}

/// Computes a checksum in full, over further buffers too.
#[cold]
fn complete(l4: &mut [u8], rest: &[&[u8]], change: &Change, pseudo: Sum, is_udp: bool) {
    write_u16(l4, change.checksum_at, 0);
    let mut left = change.pseudo_len as usize;
    let pieces = std::iter::once(&*l4).chain(rest.iter().copied()).map(|piece| {
        let piece = piece.get(..left).unwrap_or(piece);
        left -= piece.len();
        piece
    });
    let computed = pseudo.plus(checksum::of_chain(pieces)).checksum();
    write_u16(l4, change.checksum_at, if is_udp && computed == 0 { 0xffff } else { computed });
}

/// Updates the checksum at offset `at` by a difference.
#[inline]
pub(super) fn update_at(bytes: &mut [u8], at: usize, delta: Sum) {
    write_u16(bytes, at, checksum::update(read_u16(bytes, at), delta));
}

/// The word at offset `at`; 0 beyond the end.
#[inline]
pub(super) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|tail| tail.first_chunk()).map_or(0, |&word| u16::from_be_bytes(word))
}

/// Writes the word at offset `at`; nothing beyond the end.
#[inline]
pub(super) fn write_u16(bytes: &mut [u8], at: usize, word: u16) {
    if let Some(slot) = bytes.get_mut(at..).and_then(|tail| tail.first_chunk_mut()) {
        *slot = word.to_be_bytes();
    }
}
