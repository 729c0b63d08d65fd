//! The packet that an ICMP error quotes.

use super::{Embedded, EmbeddedL4, Fragment, Malformed, ipv4, ipv6};
use crate::units::{Endpoint, Ip, Proto};

/// Parses the quoted IPv4 packet that starts at offset `at` of the frame. Its lengths and checksums may be anything:
/// the quote is cut, and routers on the way have changed it.
#[cold]
pub(super) fn parse_v4(quoted: &[u8], at: u16) -> Result<Embedded, Malformed> {
    let header = quoted.first_chunk::<{ ipv4::HEADER_LEN }>().ok_or(Malformed::EmbeddedTruncated)?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[0] >> 4 != 4 || header_len < ipv4::HEADER_LEN || offset != 0 {
        return Err(Malformed::EmbeddedHeader);
    }
    let l4 = quoted.get(header_len..).ok_or(Malformed::EmbeddedTruncated)?;
    // An option may be what the error is about.
    if ipv4::has_source_route(quoted.get(ipv4::HEADER_LEN..header_len).unwrap_or_default()) == Ok(true) {
        return Err(Malformed::EmbeddedHeader);
    }
    let proto = Proto(header[9]);
    let transport = transport(l4, proto, proto == Proto::ICMP, (8, 0))?;
    let address = |a, b, c, d| Ip::from_v4_octets([header[a], header[b], header[c], header[d]]);
    Ok(transport.embedded(proto, address(12, 13, 14, 15), address(16, 17, 18, 19), at, header_len))
}

/// Parses the quoted IPv6 packet that starts at offset `at` of the frame.
#[cold]
pub(super) fn parse_v6(quoted: &[u8], at: u16) -> Result<Embedded, Malformed> {
    let header = quoted.first_chunk::<{ ipv6::HEADER_LEN }>().ok_or(Malformed::EmbeddedTruncated)?;
    if header[0] >> 4 != 6 {
        return Err(Malformed::EmbeddedHeader);
    }
    let (src, dst) = ipv6::addresses(header);
    if src.is_v4() || dst.is_v4() {
        return Err(Malformed::MappedAddress);
    }
    let total_len = ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let chain = ipv6::walk(quoted, total_len).map_err(|_| Malformed::EmbeddedHeader)?;
    if chain.fragment == Fragment::Later || chain.source_route {
        return Err(Malformed::EmbeddedHeader);
    }
    let l4 = quoted.get(chain.l4_at..).ok_or(Malformed::EmbeddedTruncated)?;
    let transport = transport(l4, chain.proto, chain.proto == Proto::ICMPV6, (128, 129))?;
    Ok(transport.embedded(chain.proto, src, dst, at, chain.l4_at))
}

/// What the quoted transport header says.
struct Transport {
    l4: EmbeddedL4,
    src: u16,
    dst: u16,
    has_checksum: bool,
}

impl Transport {
    fn embedded(&self, proto: Proto, src: Ip, dst: Ip, at: u16, header_len: usize) -> Embedded {
        Embedded {
            src: Endpoint { proto, ip: src, port: self.src },
            dst: Endpoint { proto, ip: dst, port: self.dst },
            l3_at: at,
            l4_at: at + header_len as u16,
            l4: self.l4,
            has_l4_checksum: self.has_checksum,
        }
    }
}

/// Reads ports or identifier; `echo` are the ICMP types of request and reply.
fn transport(l4: &[u8], proto: Proto, is_icmp: bool, echo: (u8, u8)) -> Result<Transport, Malformed> {
    let is_ported = is_icmp || matches!(proto, Proto::TCP | Proto::UDP);
    if !is_ported {
        return Ok(Transport { l4: EmbeddedL4::Portless, src: 0, dst: 0, has_checksum: false });
    }
    let [b0, b1, b2, b3, b4, b5, b6, b7] = *l4.first_chunk::<8>().ok_or(Malformed::EmbeddedTruncated)?;
    let (src, dst) = (u16::from_be_bytes([b0, b1]), u16::from_be_bytes([b2, b3]));
    if is_icmp {
        let id = u16::from_be_bytes([b4, b5]);
        let l4 = match b0 {
            kind if kind == echo.0 => EmbeddedL4::EchoRequest,
            kind if kind == echo.1 => EmbeddedL4::EchoReply,
            _ => return Err(Malformed::EmbeddedHeader),
        };
        return Ok(Transport { l4, src: id, dst: id, has_checksum: true });
    }
    Ok(if proto == Proto::TCP {
        Transport { l4: EmbeddedL4::Tcp, src, dst, has_checksum: l4.len() >= 18 }
    } else {
        Transport { l4: EmbeddedL4::Udp, src, dst, has_checksum: [b6, b7] != [0, 0] }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv6 header, fd00::1 to fd00::2, then a routing header with so many segments left and the ports of UDP.
    fn routed(segments_left: u8) -> Vec<u8> {
        let mut quoted = vec![0x60, 0, 0, 0, 0, 16, 43, 64];
        for last in [1, 2] {
            quoted.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        quoted.extend([17, 0, 4, segments_left, 0, 0, 0, 0]);
        quoted.extend([0, 53, 0, 54, 0, 8, 0x12, 0x34]);
        quoted
    }

    #[test]
    fn nothing_that_was_forwarded_had_a_way_to_go() {
        assert_eq!(parse_v6(&routed(1), 62).unwrap_err(), Malformed::EmbeddedHeader);
        assert_eq!(parse_v6(&routed(0), 62).unwrap().dst.port, 54);
    }
}
