//! What becomes of a frame: exactly one verdict each, and a reason for every drop.

use crate::frame::Malformed;
use crate::units::{Ip, PortId};

/// The fate of one received frame. The engine counts each frame under exactly one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Rewritten in place: send it out of `port`.
    Forward { port: PortId },
    /// Turned into an answer in place: send it out of `port`.
    Answer { port: PortId, answer: Answer },
    /// Gone, for a reason that is counted.
    Drop(Reason),
    /// Taken in: it told us something and wants no answer.
    Consume,
    /// Not ours: the kernel's.
    Host,
    /// Rewritten in place but for its two MACs: `hop` has to be resolved first, then send it out of `port`.
    Hold { port: PortId, hop: Ip },
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
    }
}

named_enum! {
    /// Why a frame was dropped.
    Reason {
        // What the frame is.
        /// Shorter than its headers say.
        Truncated => "truncated",
        /// A header contradicts itself or the length of the packet.
        MalformedHeader => "malformed_header",
        /// The IPv4 header checksum is wrong.
        BadIpChecksum => "bad_ip_checksum",
        /// A VLAN tag: carried by no port yet.
        VlanTagged => "vlan_tagged",
        /// Neither IP nor ARP.
        NotIp => "not_ip",
        /// Loose or strict source routing (RFC 7126 section 4.3 advises against it).
        SourceRoute => "source_route",
        /// A fragment: its ports are known to the first one only.
        Fragment => "fragment",
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
            Malformed::BadIpChecksum => Reason::BadIpChecksum,
            Malformed::VlanTagged => Reason::VlanTagged,
            Malformed::SourceRoute => Reason::SourceRoute,
            _ => Reason::MalformedHeader,
        }
    }
}
