//! The transport header: TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792) and ICMPv6 (RFC 4443).

use super::{Fragment, L4, Malformed, TcpFlags, embedded};
use crate::units::Proto;

/// What the IP header says about the part that follows it.
pub(super) struct Part {
    pub proto: Proto,
    pub is_v4: bool,
    pub fragment: Fragment,
    /// Where it starts in the frame.
    pub l4_at: u16,
    /// Its length in bytes, in further buffers too.
    pub l4_len: u32,
}

/// Parses the header that `l4` starts with, to where the packet is.
#[inline(always)]
pub(super) fn parse(l4: &[u8], part: Part, into: &mut L4) -> Result<(), Malformed> {
    match part.proto {
        _ if part.fragment == Fragment::Later => *into = L4::Later,
        Proto::TCP => {
            let (src, dst, flags) = tcp(l4, &part)?;
            *into = L4::Tcp { src, dst, flags };
        }
        Proto::UDP => {
            let (src, dst) = udp(l4, &part)?;
            *into = L4::Udp { src, dst };
        }
        Proto::ICMP if part.is_v4 => *into = icmp(l4, &part)?,
        Proto::ICMPV6 if !part.is_v4 => *into = icmpv6(l4, &part)?,
        _ => *into = L4::Portless,
    }
    Ok(())
}

#[inline(always)]
fn tcp(l4: &[u8], part: &Part) -> Result<(u16, u16, TcpFlags), Malformed> {
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, flags, ..] =
        *l4.first_chunk::<20>().ok_or(Malformed::TcpHeader)?;
    let header_len = u32::from(offset >> 4) * 4;
    // Options may go on in the second fragment; the ports and flags may not (RFC 1858).
    if header_len < 20 || (header_len > part.l4_len && part.fragment == Fragment::Whole) {
        return Err(Malformed::TcpHeader);
    }
    Ok((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]), TcpFlags(flags)))
}

#[inline(always)]
fn udp(l4: &[u8], part: &Part) -> Result<(u16, u16), Malformed> {
    let [s0, s1, d0, d1, len0, len1, c0, c1] = *l4.first_chunk::<8>().ok_or(Malformed::UdpHeader)?;
    let len = u32::from(u16::from_be_bytes([len0, len1]));
    if len < 8 || (len > part.l4_len && part.fragment == Fragment::Whole) {
        return Err(Malformed::UdpLength);
    }
    if !part.is_v4 && [c0, c1] == [0, 0] {
        return Err(Malformed::UdpUnchecked);
    }
    Ok((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

#[inline(never)]
fn icmp(l4: &[u8], part: &Part) -> Result<L4, Malformed> {
    let (&[kind, code, _, _, id0, id1, _, _], quoted) = l4.split_first_chunk::<8>().ok_or(Malformed::IcmpHeader)?;
    let id = u16::from_be_bytes([id0, id1]);
    Ok(match (kind, code) {
        (8, 0) => L4::EchoRequest { id },
        (0, 0) => L4::EchoReply { id },
        // Unreachable, time exceeded, parameter problem. Source quench and redirect are no router's to carry
        // (RFC 6633, RFC 1812 section 5.2.7.2).
        (3 | 11 | 12, _) => L4::IcmpError { kind, code, embedded: embedded::parse_v4(quoted, part.l4_at + 8)? },
        _ => L4::Icmp { kind, code },
    })
}

#[inline(never)]
fn icmpv6(l4: &[u8], part: &Part) -> Result<L4, Malformed> {
    let (&[kind, code, _, _, id0, id1, _, _], quoted) = l4.split_first_chunk::<8>().ok_or(Malformed::IcmpHeader)?;
    let id = u16::from_be_bytes([id0, id1]);
    Ok(match (kind, code) {
        (128, 0) => L4::EchoRequest { id },
        (129, 0) => L4::EchoReply { id },
        (1..=4, _) => L4::IcmpError { kind, code, embedded: embedded::parse_v6(quoted, part.l4_at + 8)? },
        _ => L4::Icmp { kind, code },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(proto: Proto, is_v4: bool, fragment: Fragment, l4: &[u8]) -> Result<L4, Malformed> {
        let mut parsed = L4::Portless;
        parse(l4, Part { proto, is_v4, fragment, l4_at: 34, l4_len: l4.len() as u32 }, &mut parsed)?;
        Ok(parsed)
    }

    #[test]
    fn icmp_of_the_other_family_is_a_protocol_without_ports() {
        let request = [[8, 0, 0, 0, 0, 7, 0, 1], [128, 0, 0, 0, 0, 7, 0, 1]];
        for (proto, is_v4, request) in [(Proto::ICMP, true, request[0]), (Proto::ICMPV6, false, request[1])] {
            assert_eq!(parsed(proto, is_v4, Fragment::Whole, &request), Ok(L4::EchoRequest { id: 7 }));
            assert_eq!(parsed(proto, !is_v4, Fragment::Whole, &request), Ok(L4::Portless));
        }
    }

    #[test]
    fn options_of_tcp_may_go_on_in_the_second_fragment_but_not_beyond_the_packet() {
        let mut header = [0; 20];
        (header[3], header[12]) = (80, 0x60);
        let segment = L4::Tcp { src: 0, dst: 80, flags: TcpFlags::default() };
        assert_eq!(parsed(Proto::TCP, true, Fragment::First, &header), Ok(segment));
        assert_eq!(parsed(Proto::TCP, true, Fragment::Whole, &header), Err(Malformed::TcpHeader));
    }
}
