//! The transport header: TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792) and ICMPv6 (RFC 4443).

use super::{Fragment, L4, Malformed, Packet, TcpFlags, embedded};
use crate::units::Proto;

/// Parses the header that `l4` starts with; `packet` holds all but its `l4`.
#[inline]
pub(super) fn parse(l4: &[u8], packet: &Packet) -> Result<L4, Malformed> {
    match packet.proto {
        Proto::TCP => tcp(l4, packet),
        Proto::UDP => udp(l4, packet),
        Proto::ICMP if packet.is_v4() => icmp(l4, packet),
        Proto::ICMPV6 if !packet.is_v4() => icmpv6(l4, packet),
        _ => Ok(L4::Portless),
    }
}

#[inline]
fn tcp(l4: &[u8], packet: &Packet) -> Result<L4, Malformed> {
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, flags, ..] =
        *l4.first_chunk::<20>().ok_or(Malformed::TcpHeader)?;
    let header_len = u32::from(offset >> 4) * 4;
    // Options may go on in the second fragment; the ports and flags may not (RFC 1858).
    if header_len < 20 || (header_len > packet.l4_len() && packet.fragment == Fragment::Whole) {
        return Err(Malformed::TcpHeader);
    }
    Ok(L4::Tcp { src: u16::from_be_bytes([s0, s1]), dst: u16::from_be_bytes([d0, d1]), flags: TcpFlags(flags) })
}

#[inline]
fn udp(l4: &[u8], packet: &Packet) -> Result<L4, Malformed> {
    let [s0, s1, d0, d1, len0, len1, ..] = *l4.first_chunk::<8>().ok_or(Malformed::UdpHeader)?;
    let len = u32::from(u16::from_be_bytes([len0, len1]));
    if len < 8 || (len > packet.l4_len() && packet.fragment == Fragment::Whole) {
        return Err(Malformed::UdpLength);
    }
    Ok(L4::Udp { src: u16::from_be_bytes([s0, s1]), dst: u16::from_be_bytes([d0, d1]) })
}

#[inline]
fn icmp(l4: &[u8], packet: &Packet) -> Result<L4, Malformed> {
    let (&[kind, code, _, _, id0, id1, _, _], quoted) = l4.split_first_chunk::<8>().ok_or(Malformed::IcmpHeader)?;
    let id = u16::from_be_bytes([id0, id1]);
    Ok(match (kind, code) {
        (8, 0) => L4::EchoRequest { id },
        (0, 0) => L4::EchoReply { id },
        // Unreachable, time exceeded, parameter problem. Source quench and redirect are no router's to carry
        // (RFC 6633, RFC 1812 section 5.2.7.2).
        (3 | 11 | 12, _) => L4::IcmpError { kind, code, embedded: embedded::parse_v4(quoted, packet.l4_at + 8)? },
        _ => L4::Icmp { kind, code },
    })
}

fn icmpv6(l4: &[u8], packet: &Packet) -> Result<L4, Malformed> {
    let (&[kind, code, _, _, id0, id1, _, _], quoted) = l4.split_first_chunk::<8>().ok_or(Malformed::IcmpHeader)?;
    let id = u16::from_be_bytes([id0, id1]);
    Ok(match (kind, code) {
        (128, 0) => L4::EchoRequest { id },
        (129, 0) => L4::EchoReply { id },
        (1..=4, _) => L4::IcmpError { kind, code, embedded: embedded::parse_v6(quoted, packet.l4_at + 8)? },
        _ => L4::Icmp { kind, code },
    })
}
