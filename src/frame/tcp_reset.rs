//! The reset that answers a segment of no connection (RFC 9293 section 3.5.2).

use super::answer::{self, Header};
use super::rewrite::write_u16;
use super::{Fragment, Frame, L4, Packet, TcpFlags, checksum, parse::ETHERNET_LEN};
use crate::units::Proto;

/// Length of the TCP header without options, in bytes.
pub(super) const TCP_LEN: usize = 20;

/// Turns a segment into the reset that answers it, in place. If the segment has an ACK, the reset takes its sequence
/// number from there; otherwise it has sequence number 0 and acknowledges the segment. Resets are never answered.
/// False, and nothing is changed, if the packet is no whole TCP segment from one host to one.
pub fn tcp_reset(frame: &mut Frame, packet: &Packet) -> bool {
    let L4::Tcp { flags, .. } = packet.l4 else { return false };
    if flags.has(TcpFlags::RST) || packet.fragment != Fragment::Whole || !answer::may_answer(packet) {
        return false;
    }
    let Some((src, dst)) = answer::addresses(frame, packet) else { return false };
    let l4 = frame.bytes().get(usize::from(packet.l4_at)..);
    let Some(&[s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, ..]) =
        l4.and_then(|l4| l4.first_chunk::<TCP_LEN>())
    else {
        return false;
    };
    let data_len = packet.l4_len().saturating_sub(u32::from(offset >> 4) * 4);
    let is_set = |flag| u32::from(flags.has(flag));
    let segment_len = data_len + is_set(TcpFlags::SYN) + is_set(TcpFlags::FIN);
    let (sequence, acknowledgment, flags) = if flags.has(TcpFlags::ACK) {
        ([a0, a1, a2, a3], [0; 4], TcpFlags::RST.0)
    } else {
        let end = u32::from_be_bytes([q0, q1, q2, q3]).wrapping_add(segment_len);
        ([0; 4], end.to_be_bytes(), TcpFlags::RST.0 | TcpFlags::ACK.0)
    };

    let tcp_at = ETHERNET_LEN + Header::len_of(packet.is_v4());
    let header = Header { src: dst, dst: src, proto: Proto::TCP, dscp_ecn: packet.dscp_ecn & !3, payload_len: TCP_LEN };
    if !frame.set_bounds(frame.start(), tcp_at + TCP_LEN) || !header.write(packet, frame.bytes_mut()) {
        return false;
    }
    let Some(tcp) = frame.bytes_mut().get_mut(tcp_at..) else { return false };
    let Some(segment) = tcp.first_chunk_mut::<TCP_LEN>() else { return false };
    let ([n0, n1, n2, n3], [k0, k1, k2, k3]) = (sequence, acknowledgment);
    *segment = [d0, d1, s0, s1, n0, n1, n2, n3, k0, k1, k2, k3, 0x50, flags, 0, 0, 0, 0, 0, 0];
    let pseudo = checksum::pseudo_header(dst, src, Proto::TCP, TCP_LEN as u32);
    write_u16(tcp, 16, pseudo.plus(checksum::of(tcp)).checksum());
    true
}
