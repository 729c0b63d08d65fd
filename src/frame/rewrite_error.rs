//! Rewriting an ICMP error: its own header and the packet that it quotes (RFC 5508 sections 4 and 5).

use super::checksum::{self, Sum};
use super::rewrite::{
    Rewrite, read_u16, rewrite_echo_id, rewrite_ipv4, rewrite_ipv6, rewrite_ports, update_at, write_u16,
};
use super::{EmbeddedL4, Frame, L4, Packet};

/// Writes the outer and the embedded header of an ICMP error and brings up to date, in this order, the embedded IP and
/// transport checksums, the ICMP checksum and the outer IP checksum. Wrong ones stay wrong. False, and nothing is
/// changed, if the packet is no error, not this frame's, or an address is of the other family.
pub fn rewrite_error(frame: &mut Frame, packet: &Packet, outer: &Rewrite, embedded: &Rewrite) -> bool {
    let L4::IcmpError { embedded: quote, .. } = packet.l4 else { return false };
    let is_v4 = packet.is_v4();
    if !outer.is_of_family(is_v4) || !embedded.is_of_family(is_v4) {
        return false;
    }
    let (l3_at, l4_at) = (usize::from(packet.l3_at), usize::from(packet.l4_at));
    let (quote_at, quoted_l4_at) = (usize::from(quote.l3_at), usize::from(quote.l4_at));
    let Some((head, icmp)) = frame.bytes_mut().split_at_mut_checked(l4_at) else { return false };
    let Some(l3) = head.get_mut(l3_at..) else { return false };
    let Some((icmp_header, quoted)) = quote_at.checked_sub(l4_at).and_then(|at| icmp.split_at_mut_checked(at)) else {
        return false;
    };
    let Some((quoted_l3, quoted_l4)) =
        quoted_l4_at.checked_sub(quote_at).and_then(|at| quoted.split_at_mut_checked(at))
    else {
        return false;
    };
    // No more than this is touched, so the difference of its sums is the ICMP checksum's.
    let touched = quoted_l4.len().min(18);
    let Some(quoted_l4) = quoted_l4.get_mut(..touched) else { return false };

    let addresses = if is_v4 {
        let (Some(header), Some(quoted_header)) = (l3.first_chunk_mut(), quoted_l3.first_chunk_mut()) else {
            return false;
        };
        let before = checksum::of(quoted_header).plus(checksum::of(quoted_l4));
        rewrite_ipv4(header, outer);
        let quoted_delta = rewrite_ipv4(quoted_header, embedded).delta();
        rewrite_quoted_l4(quoted_l4, quote.l4, quote.has_l4_checksum, true, quoted_delta, embedded);
        checksum::of(quoted_header).plus(checksum::of(quoted_l4)).minus(before)
    } else {
        let (Some(header), Some(quoted_header)) = (l3.first_chunk_mut(), quoted_l3.first_chunk_mut()) else {
            return false;
        };
        let before = checksum::of(quoted_header).plus(checksum::of(quoted_l4));
        let pseudo_delta = rewrite_ipv6(header, outer).delta();
        let quoted_delta = rewrite_ipv6(quoted_header, embedded).delta();
        rewrite_quoted_l4(quoted_l4, quote.l4, quote.has_l4_checksum, false, quoted_delta, embedded);
        checksum::of(quoted_header).plus(checksum::of(quoted_l4)).minus(before).plus(pseudo_delta)
    };
    update_at(icmp_header, 2, addresses);
    true
}

/// Writes ports or identifier of the quoted transport header, and its checksum as far as it is quoted.
fn rewrite_quoted_l4(l4: &mut [u8], kind: EmbeddedL4, has_checksum: bool, is_v4: bool, addresses: Sum, with: &Rewrite) {
    let Some(header) = l4.first_chunk_mut::<8>() else { return };
    let (checksum_at, delta) = match kind {
        EmbeddedL4::Tcp => (16, addresses.plus(rewrite_ports(header, with))),
        EmbeddedL4::Udp => (6, addresses.plus(rewrite_ports(header, with))),
        EmbeddedL4::EchoRequest | EmbeddedL4::EchoReply => {
            let id = rewrite_echo_id(header, with);
            // ICMPv6 has a pseudo header, ICMP has none.
            (2, if is_v4 { id } else { id.plus(addresses) })
        }
        EmbeddedL4::Portless => return,
    };
    if has_checksum {
        let updated = checksum::update(read_u16(l4, checksum_at), delta);
        let is_udp = kind == EmbeddedL4::Udp;
        write_u16(l4, checksum_at, if is_udp && updated == 0 { 0xffff } else { updated });
    }
}
