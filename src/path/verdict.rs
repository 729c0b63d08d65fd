//! What becomes of a frame: exactly one verdict each, and a reason for every drop.

use crate::flow::FragmentKey;
use crate::frame::Malformed;
use crate::units::{Ip, PortId};

/// The fate of one received frame. The engine counts each frame under exactly one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Rewritten in place: send it out of `port`.
    Forward { port: PortId },
    /// Rewritten in place, and larger than what leaves: send it out of `port` in pieces of at most `mtu` bytes of IP
    /// ([`frame::cut`](crate::frame::cut)).
    Cut { port: PortId, mtu: u32 },
    /// Turned into an answer in place: send it out of `port`.
    Answer { port: PortId, answer: Answer },
    /// Gone, for a reason that is counted.
    Drop(Reason),
    /// Taken in: it told us something and wants no answer.
    Consume,
    /// Taken in: it may be the answer to a probe of the control side, which is told.
    Heard,
    /// Not ours: the kernel's.
    Host,
    /// Rewritten in place but for its two MACs: `hop` has to be resolved first, then send it out of `port`, in pieces
    /// if need be.
    Hold { port: PortId, hop: Ip },
    /// A later fragment whose first has not come: walk it again when [`has_come`](super::has_come), and after
    /// [`FRAGMENT_PATIENCE_MS`](super::FRAGMENT_PATIENCE_MS) see what becomes of it ([`given_up`](super::given_up)).
    Await { key: FragmentKey },
}

/// Declares a closed enum whose variants are at once a word in the docs, a counter and a label.
macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of `index`.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word that counters, metrics and docs use.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            /// The place of its counter: below `ALL.len()`.
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named_enum! {
    /// What an answer is: the label of the `answered` counter.
    Answer {
        /// An ARP reply with the port's own MAC.
        Arp => "arp",
        /// A neighbour advertisement with the port's own MAC.
        Neighbour => "neighbour",
        /// A router advertisement.
        Router => "router",
        /// An echo reply for the gateway, a reachable inside address or our own server.
        Echo => "echo",
        /// ICMP time exceeded (RFC 1812 section 5.2.7.3).
        TimeExceeded => "time_exceeded",
        /// A TCP reset to a segment whose destination nobody holds.
        Reset => "reset",
        /// ICMP host or port unreachable: nobody holds the destination.
        Unreachable => "unreachable",
        /// ICMP communication administratively prohibited (code 13): no way out, or no free port in the block.
        Prohibited => "prohibited",
        /// ICMP fragmentation needed, with the MTU of the way (RFC 1191).
        FragmentationNeeded => "fragmentation_needed",
        /// ICMP parameter problem: a header makes no sense (RFC 1812 section 4.3.3.5).
        ParameterProblem => "parameter_problem",
    }
}

named_enum! {
    /// Why a frame was dropped.
    Reason {
        // What the frame is: first all that `Malformed` names, under the same words.
        /// The bytes end within the Ethernet or IP header, or all headers do not lie in the first buffer.
        Truncated => "malformed_truncated",
        /// The frame's VLAN tags are not those of its port: access ports have none.
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
        /// query (RFC 1122 section 3.2.2).
        EmbeddedHeader => "malformed_embedded_header",
        /// An ARP packet that is not Ethernet and IPv4 (RFC 826).
        Arp => "malformed_arp",
        /// A message of neighbour discovery that must be ignored (RFC 4861 sections 6.1 and 7.1).
        Ndp => "malformed_ndp",
        /// A UDP datagram over IPv6 without a checksum (RFC 8200 section 8.1).
        UdpUnchecked => "malformed_udp_unchecked",
        /// Neither IP nor ARP.
        NotIp => "not_ip",
        /// Loose or strict source routing (RFC 7126 section 4.3 advises against it).
        SourceRoute => "source_route",
        /// A fragment of what nobody has to send in fragments: an ICMP error, or another ICMP message than echo.
        Fragment => "fragment",
        /// A fragment of which all has gone on already.
        FragmentDuplicate => "fragment_duplicate",
        /// A fragment that overlaps another of its packet or reaches beyond its end, or whose packet has such (RFC 1858,
        /// RFC 5722).
        FragmentOverlap => "fragment_overlap",
        /// A fragment of a packet in more parts that do not touch than are remembered.
        FragmentScattered => "fragment_scattered",
        /// A later fragment of a container whose first did not come in time, or that there was no room for.
        FragmentUnclaimed => "fragment_unclaimed",
        /// Addressed to another station's MAC.
        OtherMac => "other_mac",
        /// To a multicast or broadcast address.
        Multicast => "multicast",
        /// To or from an address that no router may forward (RFC 6890).
        Martian => "martian",

        // Who sends it.
        /// The access port holds no such (MAC, IP): spoofed, or not bound to this server.
        SpoofedSource => "spoofed_source",
        /// Another access port holds this (MAC, IP).
        HeldElsewhere => "held_elsewhere",
        /// From the underlay, under a wire name that no binding has.
        UnmappedSource => "unmapped_source",
        /// The container has no client block, and the source port no service binding that may serve.
        NoClientBlock => "no_client_block",
        /// Every port of the client block is in use.
        BlockExhausted => "block_exhausted",

        // Where it goes.
        /// No binding has this destination.
        NoBinding => "no_binding",
        /// All bindings of the destination are standby, draining or unhealthy.
        NoReplica => "no_replica",
        /// The two networks are not peered.
        NetworkDenied => "network_denied",
        /// The network may not reach the outside.
        OutsideDenied => "outside_denied",
        /// A service of a server, and the network is not let to them.
        ServerDenied => "server_denied",
        /// From outside to a binding that is not public.
        NotPublic => "not_public",
        /// From outside, or from a peer, to a port that has not lately sent there.
        NotSolicited => "not_solicited",
        /// To a translated port that has no entry.
        NoEntry => "no_entry",
        /// The wire name changed its owner a moment ago.
        Quarantine => "quarantine",
        /// The bound container is not here: the wire name belongs to another server.
        NotLocal => "not_local",
        /// No access port holds the container yet.
        NoPort => "no_port",
        /// The server has no uplink to send it by.
        NoUplink => "no_uplink",

        // On its way.
        /// The hop limit ran out, and no error may be sent about it.
        TtlExpired => "ttl_expired",
        /// Larger than the MTU of the way.
        TooBig => "too_big",
        /// An ICMP message that no flow accounts for.
        IcmpUnrelated => "icmp_unrelated",
        /// An answer was due, but too many were sent of late (RFC 1812 section 4.3.2.8).
        RateLimited => "rate_limited",
        /// An answer was due that the buffer can't hold.
        NoRoom => "no_room",
        /// No route leads there.
        NoRoute => "no_route",
        /// The next hop's MAC is not known, and nobody can be asked for it.
        NoNeighbour => "no_neighbour",
        /// The next hop did not answer in time, or too many frames wait for theirs.
        Unresolved => "unresolved",
        /// The transmit queue of the port is full.
        TransmitFull => "transmit_full",
    }
}

impl From<Malformed> for Reason {
    fn from(why: Malformed) -> Reason {
        match why {
            Malformed::Truncated => Reason::Truncated,
            Malformed::VlanTagged => Reason::VlanTagged,
            Malformed::BadVersion => Reason::BadVersion,
            Malformed::BadHeaderLength => Reason::BadHeaderLength,
            Malformed::BadTotalLength => Reason::BadTotalLength,
            Malformed::BadIpChecksum => Reason::BadIpChecksum,
            Malformed::BadOptions => Reason::BadOptions,
            Malformed::BadFragment => Reason::BadFragment,
            Malformed::MappedAddress => Reason::MappedAddress,
            Malformed::BadExtensionHeader => Reason::BadExtensionHeader,
            Malformed::TcpHeader => Reason::TcpHeader,
            Malformed::UdpHeader => Reason::UdpHeader,
            Malformed::UdpLength => Reason::UdpLength,
            Malformed::IcmpHeader => Reason::IcmpHeader,
            Malformed::EmbeddedTruncated => Reason::EmbeddedTruncated,
            Malformed::EmbeddedHeader => Reason::EmbeddedHeader,
            Malformed::Arp => Reason::Arp,
            Malformed::Ndp => Reason::Ndp,
            Malformed::UdpUnchecked => Reason::UdpUnchecked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }

    #[test]
    fn a_malformed_frame_is_dropped_under_the_word_that_the_parser_has_for_it() {
        for &why in Malformed::ALL {
            assert_eq!(Reason::from(why).as_str(), why.as_str());
        }
    }
}
