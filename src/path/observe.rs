//! The steps of a walk, for `explain`: the same code with an observer that listens. On the packet path the observer
//! is [`Silent`], and the compiler removes it.

use super::verdict::{Reason, Verdict};
use crate::frame::ChecksumWork;
use crate::units::{Endpoint, Ip, Mac, NetworkId, PortId};

/// Listens to a walk.
pub trait Observer {
    fn step(&mut self, step: Step);
}

/// Hears nothing and costs nothing.
pub struct Silent;

impl Observer for Silent {
    #[inline(always)]
    fn step(&mut self, _: Step) {}
}

/// One step of a walk, in the order in which they are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The headers were understood.
    Parsed { src: Endpoint, dst: Endpoint, ttl: u8, length: u32 },
    /// An ICMP error: from here on the flow that it embeds is looked at, turned round.
    Embedded { src: Endpoint, dst: Endpoint },
    /// The access port holds the sender.
    Holder { mac: Mac, ip: Ip, network: NetworkId },
    /// A destination was looked up as an inside name of this network.
    InsideName { network: NetworkId, name: Endpoint, found: Found },
    /// The service has several replicas: why it is the one that the step before named.
    Replica { why: Chosen },
    /// A wire name was looked up.
    WireName { name: Endpoint, found: Found },
    /// A public name was looked up.
    PublicName { name: Endpoint, found: Found },
    /// The address is outside.
    Outside { ip: Ip },
    /// The source leaves under this name.
    SourceLeavesAs { name: Endpoint, how: SourceName },
    /// The destination is replaced by this name.
    DestinationBecomes { name: Endpoint },
    /// The receiver sees the sender as this name.
    SourceArrivesAs { name: Endpoint },
    /// The container is behind this access port.
    Container { port: PortId, mac: Mac },
    /// Headers were rewritten; what was done about the L4 checksum.
    Rewritten { ttl: u8, ip_id: Option<u16>, checksum: ChecksumWork },
    /// The SYN offered larger segments than fit the MTU of the way out, in bytes of IP.
    MssLowered { mtu: u32 },
    /// The next hop on the underlay, its MAC if it is known.
    NextHop { ip: Ip, mac: Option<Mac> },
    /// An answer is due for this reason.
    AnswerDue { reason: Reason },
    /// The end.
    Decided(Verdict),
}

/// The outcome of a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The other name of the binding.
    Binding { name: Endpoint, server: Ip },
    /// The address is bound, but not this port.
    Unbound,
    /// The service has no replica to take it.
    NoReplica,
    /// Nothing is known of it.
    Unknown,
}

/// Which rule named the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceName {
    Service,
    Public,
    NativeBlock,
    Translated,
}

/// Why a flow goes to this replica and to no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chosen {
    /// It is new, and the hash picks this one of those that are active.
    Hash,
    /// It is new, and the hash picks this one of those that stand by: none is active.
    Standby,
    /// It is there already.
    Affinity,
    /// It is there already, though the replica takes no new ones.
    Drain,
    /// It began while this one had the name for itself.
    Former,
}
