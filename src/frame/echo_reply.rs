//! The echo reply (RFC 792, RFC 1122 section 3.2.2.6; RFC 4443 section 4.2).

use super::checksum::Sum;
use super::rewrite::{Rewrite, read_u16, rewrite, set_macs, update_at, write_u16};
use super::{Fragment, Frame, L4, Packet, answer};

/// Turns an echo request into its reply, in place: addresses swapped, TTL 64, payload and further buffers as they are.
/// A wrong ICMP checksum stays wrong. Fragments of a request become fragments of the reply: of a later one, which has to
/// say in `packet` what it is a fragment of, only the addresses change. False, and nothing is changed, if it is no request
/// from one host to one.
pub fn echo_reply(frame: &mut Frame, packet: &Packet) -> bool {
    let L4::EchoRequest { id } = packet.l4 else { return false };
    let is_answerable = !packet.source_route && answer::may_answer(packet);
    let Some((src, dst)) = answer::addresses(frame, packet).filter(|_| is_answerable) else { return false };

    let is_later = packet.fragment == Fragment::Later;
    let headers = Packet { l4: if is_later { L4::Later } else { packet.l4 }, ..*packet };
    rewrite(frame, &headers, &Rewrite { src: Some((dst, id)), dst: Some((src, id)), ..Rewrite::default() });
    set_macs(frame, packet.eth_src, packet.eth_dst);
    let (l3_at, l4_at) = (usize::from(packet.l3_at), usize::from(packet.l4_at));
    let Some((head, l4)) = frame.bytes_mut().split_at_mut_checked(l4_at) else { return false };
    let Some(l3) = head.get_mut(l3_at..) else { return false };
    if packet.is_v4() {
        let old = read_u16(l3, 8);
        let new = u16::from(answer::TTL) << 8 | old & 0xff;
        write_u16(l3, 8, new);
        update_at(l3, 10, Sum::ZERO.replace_u16(old, new));
    } else if let Some(hop_limit) = l3.get_mut(7) {
        *hop_limit = answer::TTL;
    }
    if is_later {
        return true;
    }
    let old = read_u16(l4, 0);
    let new: u16 = if packet.is_v4() { 0x0000 } else { 0x8100 };
    write_u16(l4, 0, new);
    update_at(l4, 2, Sum::ZERO.replace_u16(old, new));
    true
}
