//! Why bytes are no packet.

macro_rules! malformed {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why bytes are no packet that may be forwarded. Each is one drop reason, one counter and one label.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Malformed {
            $($(#[$doc])* $variant,)*
        }

        impl Malformed {
            /// All of them, in order of their discriminants.
            pub const ALL: &[Malformed] = &[$(Malformed::$variant,)*];

            /// The reason's name in counters, metrics and documents.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Malformed::$variant => $name,)*
                }
            }
        }
    };
}

malformed! {
    /// The bytes end within the Ethernet or IP header, or all headers do not lie in the first buffer.
    Truncated => "malformed_truncated",
    /// The frame has an 802.1Q or 802.1ad tag, which is not carried.
    VlanTagged => "vlan_tagged",
    /// The IP version is not the one that the Ethernet type names.
    BadVersion => "malformed_version",
    /// The IPv4 header is shorter than 20 bytes or longer than the packet.
    BadHeaderLength => "malformed_header_length",
    /// The IP length is less than its header or more than the frame holds.
    BadTotalLength => "malformed_total_length",
    /// The IPv4 header's checksum is wrong (RFC 1812 section 5.2.2).
    BadIpChecksum => "malformed_ip_checksum",
    /// An IPv4 option's length is wrong (RFC 791 section 3.1).
    BadOptions => "malformed_ip_options",
    /// Tiny, overlapping or oversized fragments (RFC 1858, RFC 3128, RFC 791 section 3.2).
    BadFragment => "malformed_fragment",
    /// An IPv6 packet with an IPv4-mapped address (RFC 4942 section 2.2).
    MappedAddress => "malformed_mapped_address",
    /// IPv6 extension headers that do not fit, are out of order or too many.
    BadExtensionHeader => "malformed_extension_header",
    /// The TCP header does not fit, or its data offset is wrong (RFC 9293 section 3.1).
    TcpHeader => "malformed_tcp_header",
    /// The UDP header does not fit.
    UdpHeader => "malformed_udp_header",
    /// The UDP length is less than 8 or more than the packet holds (RFC 768).
    UdpLength => "malformed_udp_length",
    /// The ICMP header does not fit.
    IcmpHeader => "malformed_icmp_header",
    /// An ICMP error embeds less than an IP header and 8 bytes (RFC 792).
    EmbeddedTruncated => "malformed_embedded_truncated",
    /// An ICMP error embeds what no error may be about: not an IP header, a later fragment, an ICMP message that is no
    /// query (RFC 1122 section 3.2.2); or a source route, which nothing that was forwarded had (RFC 5508 section 7.3).
    EmbeddedHeader => "malformed_embedded_header",
    /// An ARP packet that is not Ethernet and IPv4 (RFC 826).
    Arp => "malformed_arp",
    /// A message of neighbour discovery that must be ignored (RFC 4861 sections 6.1 and 7.1).
    Ndp => "malformed_ndp",
    /// A UDP datagram over IPv6 without a checksum (RFC 8200 section 8.1).
    UdpUnchecked => "malformed_udp_unchecked",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_has_a_name_of_its_own() {
        let names: HashSet<_> = Malformed::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Malformed::ALL.len());
        for (index, &reason) in Malformed::ALL.iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
