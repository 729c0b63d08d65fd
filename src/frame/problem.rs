//! Headers that make no sense, but whose sender can be told where (RFC 792; RFC 1812 sections 4.3.3.5 and 5.2.2; RFC 4443
//! section 3.4). Most that is wrong with a frame is never told of: what fails the other checks may be from anybody.

use super::parse::ETHERNET_LEN;
use super::{Fragment, Frame, IcmpError, L4, Malformed, Packet, ipv4, ipv6};
use crate::units::{Ip, Mac, Proto};

/// What may be told of a frame that [`parse`](super::parse) has refused for `why`: options or extension headers that do not
/// fit, or a packet that is longer than its frame. The packet says as much as an answer needs: addresses, where it is, and
/// whether it is one that no error may be about. `None`, if nobody is told.
#[cold]
#[must_use]
pub fn header_problem(frame: &Frame, why: Malformed) -> Option<(Packet, IcmpError)> {
    let (ethernet, l3) = frame.bytes().split_first_chunk::<ETHERNET_LEN>()?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, kind @ ..] = *ethernet;
    let (headers, at) = match kind {
        [0x08, 0x00] => of_ipv4(l3, why)?,
        [0x86, 0xdd] => of_ipv6(l3, why)?,
        _ => return None,
    };
    let packet = Packet {
        src: headers.src,
        dst: headers.dst,
        l4: headers.l4,
        l3_end: (ETHERNET_LEN + headers.total_len).min(frame.total_len()) as u32,
        l3_at: ETHERNET_LEN as u16,
        l4_at: ETHERNET_LEN as u16,
        ip_id: 0,
        eth_dst: Mac([d0, d1, d2, d3, d4, d5]),
        eth_src: Mac([s0, s1, s2, s3, s4, s5]),
        proto: headers.proto,
        ttl: 0,
        dscp_ecn: headers.dscp_ecn,
        dont_fragment: true,
        fragment: headers.fragment,
        has_options: true,
        source_route: false,
    };
    Some((packet, IcmpError::ParameterProblem { at }))
}

/// What an answer needs to know.
struct Headers {
    src: Ip,
    dst: Ip,
    proto: Proto,
    l4: L4,
    fragment: Fragment,
    total_len: usize,
    dscp_ecn: u8,
}

/// The header's checksum has been found to be right.
fn of_ipv4(l3: &[u8], why: Malformed) -> Option<(Headers, u16)> {
    let header = l3.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let [version_ihl, dscp_ecn, l0, l1, _, _, f0, f1, _, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let header_len = usize::from(version_ihl & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes([l0, l1]));
    let at = match why {
        Malformed::BadOptions => {
            ipv4::HEADER_LEN + ipv4::has_source_route(l3.get(ipv4::HEADER_LEN..header_len)?).err()?
        }
        // Less than its own header could be anything.
        Malformed::BadTotalLength if total_len >= header_len => 2,
        _ => return None,
    };
    let flags_offset = u16::from_be_bytes([f0, f1]);
    let headers = Headers {
        src: Ip::from_v4_octets([s0, s1, s2, s3]),
        dst: Ip::from_v4_octets([d0, d1, d2, d3]),
        proto: Proto(proto),
        l4: transport(Proto(proto), l3.get(header_len..), true),
        fragment: Fragment::of(flags_offset & 0x1fff, flags_offset & 0x2000 != 0),
        total_len,
        dscp_ecn,
    };
    Some((headers, at as u16))
}

fn of_ipv6(l3: &[u8], why: Malformed) -> Option<(Headers, u16)> {
    let header = l3.first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let total_len = ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let (src, dst) = ipv6::addresses(header);
    if src.is_v4() || dst.is_v4() {
        return None;
    }
    let chain = ipv6::walk(l3, total_len);
    let at = match why {
        Malformed::BadTotalLength => 4,
        Malformed::BadExtensionHeader => ipv6::misfit(l3.get(..total_len).unwrap_or(l3))?,
        _ => return None,
    };
    let (proto, l4, fragment) = match chain {
        Ok(chain) => (chain.proto, transport(chain.proto, l3.get(chain.l4_at..), false), chain.fragment),
        // Where the headers lead cannot be known.
        Err(_) => (Proto(59), L4::Portless, Fragment::Whole),
    };
    Some((Headers { src, dst, proto, l4, fragment, total_len, dscp_ecn: header[0] << 4 | header[1] >> 4 }, at as u16))
}

/// As much of a transport header as says whether an error may be about it.
fn transport(proto: Proto, l4: Option<&[u8]>, is_v4: bool) -> L4 {
    let icmp = if is_v4 { Proto::ICMP } else { Proto::ICMPV6 };
    match l4 {
        Some(&[kind, code, ..]) if proto == icmp => L4::Icmp { kind, code },
        // It might be any message.
        _ if proto == icmp => L4::Later,
        _ => L4::Portless,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these bytes of Ethernet and IP, and some that are no part of the packet.
    fn told(l3: &[u8], kind: [u8; 2], why: Malformed) -> Option<(Packet, IcmpError)> {
        let mut bytes = [&[2; 12][..], &kind, l3, &[0xee; 6]].concat();
        let len = bytes.len();
        header_problem(&Frame::new(&mut bytes, 0, len), why)
    }

    #[test]
    fn an_answer_quotes_the_packet_and_no_padding() {
        // From 10.0.0.1 to 10.0.0.2, ESP, with an option of length 1.
        let with_flags =
            |flags| [0x46, 0x28, 0, 32, 0, 0, flags, 0, 64, 50, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 7, 1, 0, 0];
        for (flags, fragment) in [(0, Fragment::Whole), (0x20, Fragment::First), (0x40, Fragment::Whole)] {
            let l3 = [&with_flags(flags)[..], &[0; 8]].concat();
            let (packet, error) = told(&l3, [0x08, 0x00], Malformed::BadOptions).unwrap();
            assert_eq!((packet.l3_end, packet.fragment, packet.dscp_ecn), (14 + 32, fragment, 0x28));
            assert_eq!(error, IcmpError::ParameterProblem { at: 21 });
        }
    }

    /// A packet between these two, with options for every hop behind others.
    fn with_late_options(src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        let options = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        [&[0x6a, 0xb0, 0, 0, 0, 16, 60, 64][..], &src, &dst, &options(0), &options(59)].concat()
    }

    #[test]
    fn so_does_one_of_ipv6_and_there_are_no_mapped_addresses_in_it() {
        let native = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        let told = |src, dst| told(&with_late_options(src, dst), [0x86, 0xdd], Malformed::BadExtensionHeader);
        let (packet, error) = told(native, native).unwrap();
        assert_eq!((packet.l3_end, packet.dscp_ecn), (14 + 56, 0xab));
        assert_eq!(error, IcmpError::ParameterProblem { at: 40 });
        assert!(told(mapped, native).is_none() && told(native, mapped).is_none());
    }

    #[test]
    fn an_extension_header_may_end_with_the_packet() {
        let mut whole = with_late_options([0xfd; 16], [0xfd; 16]);
        whole[40] = 60;
        assert_eq!(ipv6::misfit(&whole), None);
        whole[49] = 1;
        assert_eq!(ipv6::misfit(&whole), Some(49));
    }
}
