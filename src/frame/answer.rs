//! What answers made in place have in common.

use super::{Fragment, Frame, L4, Packet, checksum, ipv4, ipv6};
use crate::units::{Ip, Mac, Proto};

/// The TTL or hop limit of every packet that we make (RFC 1340, as Linux).
pub(super) const TTL: u8 = 64;

/// True if an ICMP error may be sent about the packet: never about an ICMP error, a redirect or the like, a later
/// fragment, a broadcast or multicast on either layer, nor to a source that is no single host (RFC 1122 section 3.2.2,
/// RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)).
#[must_use]
pub fn may_answer_with_error(packet: &Packet) -> bool {
    let is_error = match packet.l4 {
        L4::IcmpError { .. } | L4::Later => true,
        L4::Icmp { kind, .. } if packet.is_v4() => matches!(kind, 3 | 4 | 5 | 11 | 12),
        // Redirects too (RFC 4443 section 2.4 (e.2)).
        L4::Icmp { kind, .. } => kind < 128 || kind == 137,
        _ => false,
    };
    !is_error && packet.fragment != Fragment::Later && may_answer(packet)
}

/// True if the packet came from one host and was meant for another one: nobody sends to itself by a network.
pub(super) fn may_answer(packet: &Packet) -> bool {
    let is_between_stations = !packet.eth_dst.is_group() && !packet.eth_src.is_group();
    is_between_stations && packet.src != packet.dst && is_single_host(packet.src) && is_one_target(packet.dst)
}

/// True for an address that names one host beyond this one.
pub(super) fn is_single_host(ip: Ip) -> bool {
    let is_this_or_loopback =
        if ip.is_v4() { matches!(ip.v4_octets(), [0 | 127, ..]) } else { matches!(ip.bits(), 0 | 1) };
    !is_this_or_loopback && is_one_target(ip)
}

/// False for multicast, broadcast and, for IPv4, class E (RFC 1122 section 3.2.1.3).
pub(super) fn is_one_target(ip: Ip) -> bool {
    if ip.is_v4() { ip.v4_octets()[0] < 224 } else { ip.bits() >> 120 != 0xff }
}

/// Source and destination as they stand in the frame.
pub(super) fn addresses(frame: &Frame, packet: &Packet) -> Option<(Ip, Ip)> {
    let l3 = frame.bytes().get(usize::from(packet.l3_at)..)?;
    if packet.is_v4() {
        let header = l3.first_chunk::<{ ipv4::HEADER_LEN }>()?;
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
        Some((Ip::from_v4_octets([s0, s1, s2, s3]), Ip::from_v4_octets([d0, d1, d2, d3])))
    } else {
        Some(ipv6::addresses(l3.first_chunk()?))
    }
}

/// The IP header of a packet that we make.
pub(super) struct Header {
    pub src: Ip,
    pub dst: Ip,
    pub proto: Proto,
    pub dscp_ecn: u8,
    /// Length of what follows it, in bytes.
    pub payload_len: usize,
}

impl Header {
    /// The header's length: without options.
    pub(super) fn len_of(is_v4: bool) -> usize {
        if is_v4 { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN }
    }

    /// Writes the Ethernet header that goes back to the packet's sender, and this header after it. IPv4 packets are
    /// atomic: with DF, so that their identification may be 0 (RFC 6864 section 4.1). False if they do not fit.
    pub(super) fn write(&self, to: &Packet, bytes: &mut [u8]) -> bool {
        self.write_between(to.eth_src, to.eth_dst, bytes)
    }

    /// As [`Header::write`], between any two stations.
    pub(super) fn write_between(&self, to: Mac, from: Mac, bytes: &mut [u8]) -> bool {
        let Some((ethernet, l3)) = bytes.split_first_chunk_mut::<14>() else { return false };
        let is_v4 = self.src.is_v4();
        ethernet[..6].copy_from_slice(&to.0);
        ethernet[6..12].copy_from_slice(&from.0);
        ethernet[12..].copy_from_slice(if is_v4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        if is_v4 {
            let Some(header) = l3.first_chunk_mut() else { return false };
            self.write_v4(header);
        } else {
            let Some(header) = l3.first_chunk_mut() else { return false };
            self.write_v6(header);
        }
        true
    }

    fn write_v4(&self, header: &mut [u8; ipv4::HEADER_LEN]) {
        let [l0, l1] = ((ipv4::HEADER_LEN + self.payload_len) as u16).to_be_bytes();
        let [s0, s1, s2, s3] = self.src.v4_octets();
        let [d0, d1, d2, d3] = self.dst.v4_octets();
        *header = [0x45, self.dscp_ecn, l0, l1, 0, 0, 0x40, 0, TTL, self.proto.0, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3];
        [header[10], header[11]] = checksum::of(header).checksum().to_be_bytes();
    }

    fn write_v6(&self, header: &mut [u8; ipv6::HEADER_LEN]) {
        let class_and_flow = 6 << 28 | u32::from(self.dscp_ecn) << 20;
        header[..4].copy_from_slice(&u32::to_be_bytes(class_and_flow));
        header[4..6].copy_from_slice(&(self.payload_len as u16).to_be_bytes());
        [header[6], header[7]] = [self.proto.0, TTL];
        header[8..24].copy_from_slice(&self.src.bits().to_be_bytes());
        header[24..].copy_from_slice(&self.dst.bits().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::TcpFlags;

    fn ip(text: &str) -> Ip {
        text.parse().unwrap()
    }

    fn segment() -> Packet {
        Packet {
            src: ip("10.1.0.2"),
            dst: ip("10.2.0.2"),
            l4: L4::Tcp { src: 1, dst: 2, flags: TcpFlags::SYN },
            l3_end: 54,
            l3_at: 14,
            l4_at: 34,
            ip_id: 0,
            eth_dst: Mac([2, 0, 0, 0, 0, 1]),
            eth_src: Mac([2, 0, 0, 0, 0, 2]),
            proto: Proto::TCP,
            ttl: 1,
            dscp_ecn: 0,
            dont_fragment: false,
            fragment: Fragment::Whole,
            has_options: false,
            source_route: false,
        }
    }

    #[test]
    fn errors_are_never_about_errors_fragments_or_groups() {
        let packet = segment();
        assert!(may_answer_with_error(&packet));
        assert!(may_answer_with_error(&Packet { l4: L4::Icmp { kind: 13, code: 0 }, ..packet }));
        for dst in ["224.0.0.1", "255.255.255.255"] {
            assert!(!may_answer_with_error(&Packet { dst: ip(dst), ..packet }), "to {dst}");
        }
        for src in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1", "240.0.0.1"] {
            assert!(!may_answer_with_error(&Packet { src: ip(src), ..packet }), "from {src}");
        }
        for src in ["::", "::1", "ff02::1"] {
            assert!(!may_answer_with_error(&Packet { src: ip(src), dst: ip("fd00::2"), ..packet }), "from {src}");
        }
        assert!(!may_answer_with_error(&Packet { eth_dst: Mac::BROADCAST, ..packet }));
        assert!(!may_answer_with_error(&Packet { src: packet.dst, ..packet }), "from where it goes to");
        assert!(!may_answer_with_error(&Packet { l4: L4::Later, fragment: Fragment::Later, ..packet }));
        assert!(!may_answer_with_error(&Packet { l4: L4::Icmp { kind: 5, code: 1 }, ..packet }), "a redirect");
    }

    #[test]
    fn of_icmpv6_only_what_informs_is_answered_and_no_redirect() {
        let about = |kind| {
            let l4 = L4::Icmp { kind, code: 1 };
            may_answer_with_error(&Packet { src: ip("fd00::1"), dst: ip("fd00::2"), l4, ..segment() })
        };
        for kind in 0..=255 {
            // Types below 128 are errors, those that are still to be defined too (RFC 4443 section 2.1).
            let informs = kind >= 128;
            assert_eq!(about(kind), informs && kind != 137, "type {kind}");
        }
    }
}
