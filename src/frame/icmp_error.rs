//! ICMP errors of our own (RFC 792, RFC 1812 section 4.3; RFC 4443 section 3).

use super::answer::{self, Header};
use super::checksum::{self, Sum};
use super::{Frame, Packet, may_answer_with_error, parse::ETHERNET_LEN};
use crate::units::{Ip, Proto};

/// What an error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpError {
    /// The TTL or hop limit ran out on the way.
    TimeExceeded,
    /// There is no route to the destination's network.
    NetUnreachable,
    HostUnreachable,
    /// The destination does not speak the protocol. For ICMPv6 port unreachable: a parameter problem would have to say
    /// which header it is.
    ProtocolUnreachable,
    PortUnreachable,
    /// A rule forbids it: code 13 (RFC 1812 section 5.2.7.1), for ICMPv6 code 1.
    AdminProhibited,
    /// The packet is larger than the next link, in bytes of IP, and must not be fragmented (RFC 1191 section 4); for
    /// ICMPv6 "packet too big".
    FragmentationNeeded {
        mtu: u16,
    },
    /// A header makes no sense: the octet of the packet that is wrong (RFC 792; RFC 4443 section 3.4, of whose codes 0 is
    /// for any).
    ParameterProblem {
        at: u16,
    },
}

impl IcmpError {
    /// Type, code and the four bytes after the checksum.
    fn header(self, is_v4: bool) -> (u8, u8, u32) {
        match (self, is_v4) {
            (IcmpError::NetUnreachable, true) => (3, 0, 0),
            (IcmpError::HostUnreachable, true) => (3, 1, 0),
            (IcmpError::ProtocolUnreachable, true) => (3, 2, 0),
            (IcmpError::PortUnreachable, true) => (3, 3, 0),
            (IcmpError::FragmentationNeeded { mtu }, true) => (3, 4, u32::from(mtu)),
            (IcmpError::AdminProhibited, true) => (3, 13, 0),
            (IcmpError::TimeExceeded, true) => (11, 0, 0),
            (IcmpError::ParameterProblem { at }, true) => (12, 0, u32::from(at) << 24),
            (IcmpError::NetUnreachable, false) => (1, 0, 0),
            (IcmpError::AdminProhibited, false) => (1, 1, 0),
            (IcmpError::HostUnreachable, false) => (1, 3, 0),
            (IcmpError::ProtocolUnreachable | IcmpError::PortUnreachable, false) => (1, 4, 0),
            (IcmpError::FragmentationNeeded { mtu }, false) => (2, 0, u32::from(mtu)),
            (IcmpError::TimeExceeded, false) => (3, 0, 0),
            (IcmpError::ParameterProblem { at }, false) => (4, 0, u32::from(at)),
        }
    }
}

/// Length of the ICMP header in bytes.
const ICMP_LEN: usize = 8;
/// The longest error: RFC 1812 section 4.3.2.3, and the least IPv6 MTU (RFC 4443 section 2.4 (c)).
const MAX_V4: usize = 576;
const MAX_V6: usize = 1280;
/// Internetwork control (RFC 1812 section 4.3.2.5).
const PRECEDENCE: u8 = 0xc0;

/// Turns the packet into an error about it, from `from` to its source, in place: it quotes the packet as it stands in
/// the frame, as much as fits 576 bytes (1280 for IPv6) and lies in the first buffer. The frame's start may move into
/// the room before it. False, and nothing is changed, if no error may be sent ([`may_answer_with_error`]), `from` is
/// of the other family, or the buffer has no room.
pub fn icmp_error(frame: &mut Frame, packet: &Packet, from: Ip, error: IcmpError) -> bool {
    let is_v4 = packet.is_v4();
    if from.is_v4() != is_v4 || !may_answer_with_error(packet) {
        return false;
    }
    let Some((to, _)) = answer::addresses(frame, packet) else { return false };

    let added = Header::len_of(is_v4) + ICMP_LEN;
    let max_quote = if is_v4 { MAX_V4 } else { MAX_V6 } - added;
    let l3_at = usize::from(packet.l3_at);
    let in_frame = (packet.l3_end as usize).min(frame.len());
    let Some(quote_len) = in_frame.checked_sub(l3_at).map(|len| len.min(max_quote)) else { return false };

    // The quote stays where it is if there is room before it for the new headers.
    let quote_from = frame.start() + l3_at;
    let start = quote_from.checked_sub(added + ETHERNET_LEN).unwrap_or(frame.start());
    let quote_at = start + ETHERNET_LEN + added;
    if !frame.set_bounds(start, ETHERNET_LEN + added + quote_len) {
        return false;
    }
    frame.buffer_mut().copy_within(quote_from..quote_from + quote_len, quote_at);

    let proto = if is_v4 { Proto::ICMP } else { Proto::ICMPV6 };
    let payload_len = ICMP_LEN + quote_len;
    // The precedence is ours, the type of service is the packet's, and errors are not ECN-capable.
    let dscp_ecn = PRECEDENCE | packet.dscp_ecn & 0x1c;
    let bytes = frame.bytes_mut();
    if !(Header { src: from, dst: to, proto, dscp_ecn, payload_len }).write(packet, bytes) {
        return false;
    }
    let Some(icmp) = bytes.get_mut(ETHERNET_LEN + Header::len_of(is_v4)..) else { return false };
    let Some(header) = icmp.first_chunk_mut::<ICMP_LEN>() else { return false };
    let (kind, code, parameter) = error.header(is_v4);
    let [p0, p1, p2, p3] = parameter.to_be_bytes();
    *header = [kind, code, 0, 0, p0, p1, p2, p3];
    let pseudo = if is_v4 { Sum::ZERO } else { checksum::pseudo_header(from, to, proto, payload_len as u32) };
    super::rewrite::write_u16(icmp, 2, pseudo.plus(checksum::of(icmp)).checksum());
    true
}
