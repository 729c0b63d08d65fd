//! The records of the live tables.
//!
//! Written by: the one [`NamesWriter`](super::NamesWriter), before they become visible. Read by: every worker. The
//! atomics say for themselves who writes them.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::table::{Handle, Record};
use crate::units::{Endpoint, Ip, Mac, NetworkId, PortId, PortRange, Proto};

use super::hash::{address_hash, inside_hash, ip_hash, mix, pair_hash, widen};
use super::maglev::Slots;
use super::name::{Inside, Wire};
use super::replica::ReplicaId;
use super::spec::Protocol;

/// The yes-or-no properties of a binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flags(pub(super) u16);

impl Flags {
    pub(super) const BLOCK: u16 = 1;
    pub(super) const NATIVE: u16 = 1 << 1;
    pub(super) const STANDBY: u16 = 1 << 2;
    pub(super) const DRAIN: u16 = 1 << 3;
    pub(super) const PUBLIC: u16 = 1 << 4;
    /// Several bindings hold the inside name: it is found as a [`Group`].
    pub(super) const SHARED: u16 = 1 << 5;
    /// The same of the public name.
    pub(super) const PUBLIC_SHARED: u16 = 1 << 6;
    /// See [`Health`](super::Health); neither of the two: unknown.
    pub(super) const UNHEALTHY: u16 = 1 << 7;
    pub(super) const HEALTHY: u16 = 1 << 8;

    #[inline]
    pub(super) fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }
}

/// One binding, in the 48 bytes that share a cache line with its lifetime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    pub(super) ip: Ip,
    pub(super) server: Handle,
    pub(super) container: Handle,
    /// A handle in the table of public addresses, if PUBLIC.
    pub(super) public_ip: Handle,
    /// Of the wire name: the server's address is not in this record.
    pub(super) wire_hash: u32,
    pub(super) network: NetworkId,
    pub(super) wire_base: u16,
    pub(super) inside_base: u16,
    pub(super) public_port: u16,
    pub(super) weight: u16,
    pub(super) proto: Protocol,
    pub(super) log2: u8,
    pub(super) flags: Flags,
}

const _: () = assert!(size_of::<Binding>() == 48);

/// Indexes of the table of bindings.
pub(super) const BY_WIRE: usize = 0;
/// Services of one binding, and all blocks.
pub(super) const BY_INSIDE: usize = 1;
/// Public names of one binding.
pub(super) const BY_PUBLIC: usize = 2;
/// Blocks, and bindings that share their inside name, by their container.
pub(super) const BY_CONTAINER: usize = 3;

impl Record for Binding {
    fn hash_of(&self, index: usize) -> Option<u64> {
        match index {
            BY_WIRE => Some(widen(self.wire_hash)),
            BY_INSIDE if self.flags.has(Flags::SHARED) => None,
            BY_INSIDE => Some(inside_hash(self.network, self.ip, self.inside_base, self.log2)),
            BY_PUBLIC if self.is_public() && !self.flags.has(Flags::PUBLIC_SHARED) => {
                Some(public_hash(self.public_ip, self.public_port))
            }
            BY_CONTAINER if self.is_block() => Some(blocks_hash(self.container)),
            BY_CONTAINER if self.flags.has(Flags::SHARED) => Some(shared_hash(self.container, self.inside_base)),
            _ => None,
        }
    }
}

#[inline]
pub(super) fn public_hash(ip: Handle, port: u16) -> u64 {
    mix(u64::from(ip.0), u64::from(port))
}

#[inline]
pub(super) fn blocks_hash(container: Handle) -> u64 {
    mix(u64::from(container.0), 1 << 16)
}

#[inline]
pub(super) fn shared_hash(container: Handle, port: u16) -> u64 {
    mix(u64::from(container.0), 1 << 17 | u64::from(port))
}

impl Binding {
    /// The network that it belongs to.
    #[inline]
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// The protocols that it serves.
    #[inline]
    #[must_use]
    pub fn proto(&self) -> Protocol {
        self.proto
    }

    /// The inside address.
    #[inline]
    #[must_use]
    pub fn ip(&self) -> Ip {
        self.ip
    }

    /// The handle of its container.
    #[inline]
    #[must_use]
    pub fn container(&self) -> Handle {
        self.container
    }

    /// The server ports: one for a service; 0 for a portless protocol.
    #[inline]
    #[must_use]
    pub fn wire_ports(&self) -> PortRange {
        range(self.wire_base, self.log2)
    }

    /// The inside ports that stand against them.
    #[inline]
    #[must_use]
    pub fn inside_ports(&self) -> PortRange {
        range(self.inside_base, self.log2)
    }

    /// The exponent of the number of ports.
    #[inline]
    #[must_use]
    pub fn log2(&self) -> u8 {
        self.log2
    }

    /// True for a client block, false for a service binding.
    #[inline]
    #[must_use]
    pub fn is_block(&self) -> bool {
        self.flags.has(Flags::BLOCK)
    }

    /// True if the container's local port range is the first 7/8 of the inside range.
    #[inline]
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.flags.has(Flags::NATIVE)
    }

    /// True if it serves only when no active replica is left.
    #[inline]
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.flags.has(Flags::STANDBY)
    }

    /// True if it gets no new connections.
    #[inline]
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.flags.has(Flags::DRAIN)
    }

    /// True if it takes new connections now: neither standby nor draining nor unhealthy.
    #[inline]
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.flags.has(Flags::STANDBY | Flags::DRAIN | Flags::UNHEALTHY)
    }

    /// True if it has a public name.
    #[inline]
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.flags.has(Flags::PUBLIC)
    }

    /// True if other bindings hold its inside name too.
    #[inline]
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.flags.has(Flags::SHARED)
    }

    /// True if other bindings hold its public name too.
    #[inline]
    #[must_use]
    pub fn is_public_shared(&self) -> bool {
        self.flags.has(Flags::PUBLIC_SHARED)
    }

    /// Share among the replicas of its service.
    #[inline]
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// The inside name of a wire port of this binding: equal distance from the base.
    #[inline]
    #[must_use]
    pub fn inside_of(&self, proto: Proto, wire_port: u16) -> Inside<Endpoint> {
        let port = self.inside_base.wrapping_add(wire_port.wrapping_sub(self.wire_base));
        Inside(Endpoint { proto, ip: self.ip, port })
    }

    /// The wire port of an inside port of this binding: the inverse.
    #[inline]
    #[must_use]
    pub fn wire_port_of(&self, inside_port: u16) -> u16 {
        self.wire_base.wrapping_add(inside_port.wrapping_sub(self.inside_base))
    }
}

/// The range of 2^`log2` ports from an aligned base.
#[inline]
pub(super) fn range(base: u16, log2: u8) -> PortRange {
    PortRange { first: base, last: base | ((1u32 << (log2 & 31)) - 1) as u16 }
}

/// Stands for the text of an `id=` option; the same text always gives the same, until the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ContainerId(pub(super) NonZeroU32);

/// Somebody who sends and receives as (MAC, IP) in a network. Stays the same record while any binding names it.
#[derive(Debug)]
pub struct Container {
    pub(super) ip: Ip,
    pub(super) owner: u64,
    pub(super) id: Option<ContainerId>,
    /// A [`Held`]: the access port that proved to hold the pair, plus one, above the MAC; 0 for none. Written by the
    /// workers.
    held_by: AtomicU64,
    /// Bindings in the staged state. Written and read by the writer only.
    pub(super) bindings: AtomicU32,
    /// Bindings that take new connections. Written by the writer, around each commit.
    active: AtomicU32,
    /// Bindings to our own ServerIPs. The same.
    local: AtomicU32,
    pub(super) network: NetworkId,
    /// `Mac::ZERO` for "to be resolved".
    pub(super) mac: Mac,
}

const _: () = assert!(size_of::<Container>() == 56);

/// Indexes of the table of containers.
pub(super) const BY_PAIR: usize = 0;
pub(super) const BY_ADDRESS: usize = 1;
/// Those that have an id, which then stands in for the MAC.
pub(super) const BY_ID: usize = 2;

impl Record for Container {
    fn hash_of(&self, index: usize) -> Option<u64> {
        match index {
            BY_PAIR => Some(pair_hash(self.network, self.mac(), self.ip)),
            BY_ADDRESS => Some(address_hash(self.network, self.ip)),
            _ => self.id.map(|id| id_hash(self.network, id, self.ip)),
        }
    }
}

#[inline]
pub(super) fn id_hash(network: NetworkId, id: ContainerId, ip: Ip) -> u64 {
    mix(address_hash(network, ip), u64::from(id.0.get()))
}

impl Container {
    pub(super) fn new(network: NetworkId, mac: Option<Mac>, ip: Ip, id: Option<ContainerId>, owner: u64) -> Container {
        let mac = mac.unwrap_or(Mac::ZERO);
        let zero = AtomicU32::default;
        Container {
            ip,
            owner,
            id,
            held_by: AtomicU64::new(0),
            bindings: zero(),
            active: zero(),
            local: zero(),
            network,
            mac,
        }
    }

    /// The network that it belongs to.
    #[inline]
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// The inside address.
    #[inline]
    #[must_use]
    pub fn ip(&self) -> Ip {
        self.ip
    }

    /// The MAC; `None` where the mapping says `-`.
    #[inline]
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        (self.mac != Mac::ZERO).then_some(self.mac)
    }

    /// What tells it from others of the same MAC and IP.
    #[inline]
    #[must_use]
    pub fn id(&self) -> Option<ContainerId> {
        self.id
    }

    /// Who it is, in a number that is the same on every server and after a restart: network name, id (or MAC) and
    /// inside address. Never 0.
    #[inline]
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.owner
    }

    /// True if some binding of it takes new connections.
    #[inline]
    #[must_use]
    pub fn has_active(&self) -> bool {
        self.active_bindings() > 0
    }

    pub(super) fn active_bindings(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// True if some binding ties it to this server.
    #[inline]
    #[must_use]
    pub fn is_bound_here(&self) -> bool {
        self.local.load(Ordering::Relaxed) > 0
    }

    pub(super) fn active(&self) -> &AtomicU32 {
        &self.active
    }

    pub(super) fn local(&self) -> &AtomicU32 {
        &self.local
    }

    /// Where it has proved to be, if it has.
    #[inline]
    #[must_use]
    pub fn held_by(&self) -> Option<Held> {
        NonZeroU64::new(self.held_by.load(Ordering::Acquire)).map(Held)
    }

    /// `port` claims to hold it, where it showed `mac`. True if it does from now on, or did before; false if another
    /// port came first.
    #[inline]
    pub fn hold(&self, port: PortId, mac: Mac) -> bool {
        let Some(mine) = Held::new(port, mac) else { return false };
        match self.held_by.compare_exchange(0, mine.0.get(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(_) => self.held_by().is_some_and(|held| held.port() == port),
        }
    }

    /// `port` went down: it holds the container no longer. True if it did.
    pub fn release(&self, port: PortId) -> bool {
        let held = self.held_by().filter(|held| held.port() == port);
        held.is_some_and(|Held(word)| {
            self.held_by.compare_exchange(word.get(), 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }
}

/// The access port that holds a container, and the MAC that it showed there: in one word, so that both change at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held(NonZeroU64);

impl Held {
    /// `None` for the one number too many.
    fn new(port: PortId, mac: Mac) -> Option<Held> {
        let [a, b, c, d, e, f] = mac.0;
        let [low, high] = port.0.checked_add(1)?.to_le_bytes();
        NonZeroU64::new(u64::from_le_bytes([a, b, c, d, e, f, low, high])).map(Held)
    }

    /// The access port.
    #[inline]
    #[must_use]
    pub fn port(self) -> PortId {
        PortId(((self.0.get() >> 48) as u16).wrapping_sub(1))
    }

    /// The container's MAC.
    #[inline]
    #[must_use]
    pub fn mac(self) -> Mac {
        let [a, b, c, d, e, f, _, _] = self.0.get().to_le_bytes();
        Mac([a, b, c, d, e, f])
    }
}

/// A container that has unhealthy bindings.
#[derive(Debug)]
pub(super) struct Illness {
    pub(super) container: Handle,
    /// How many.
    pub(super) bindings: u32,
}

impl Record for Illness {
    fn hash_of(&self, _index: usize) -> Option<u64> {
        Some(illness_hash(self.container))
    }
}

#[inline]
pub(super) fn illness_hash(container: Handle) -> u64 {
    mix(u64::from(container.0), 1 << 18)
}

/// A server as some binding names it: two MACs of one address are two records.
#[derive(Debug)]
pub struct Server {
    pub ip: Ip,
    /// `None`: to be resolved.
    pub mac: Option<Mac>,
    /// One of our own ServerIPs.
    pub local: bool,
    pub(super) bindings: AtomicU32,
}

impl Record for Server {
    fn hash_of(&self, _index: usize) -> Option<u64> {
        Some(ip_hash(self.ip))
    }
}

/// An address that some binding publishes.
#[derive(Debug)]
pub(super) struct PublicIp {
    pub(super) ip: Ip,
    pub(super) bindings: AtomicU32,
    /// Those of them that may get new connections.
    pub(super) eligible: AtomicU32,
}

impl Record for PublicIp {
    fn hash_of(&self, _index: usize) -> Option<u64> {
        Some(ip_hash(self.ip))
    }
}

/// Where a service's name means something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Space {
    Inside(NetworkId),
    Public,
}

/// The name of a service, but for the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct ServiceName {
    pub(super) space: Space,
    pub(super) ip: Ip,
    pub(super) port: u16,
}

impl ServiceName {
    #[inline]
    pub(super) fn hash(self) -> u64 {
        let space = match self.space {
            Space::Inside(network) => network,
            Space::Public => NetworkId(u16::MAX),
        };
        inside_hash(space, self.ip, self.port, u8::MAX)
    }
}

/// A service of several replicas.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: ServiceName,
    pub(super) proto: Proto,
    /// In the order of their identities, which is the same on every server.
    pub(super) replicas: Box<[Handle]>,
    /// Theirs, in the same order.
    pub(super) ids: Box<[ReplicaId]>,
    /// Positions in `replicas`.
    pub(super) slots: Slots,
    /// The position of the one that had the name for itself before.
    pub(super) former: Option<u16>,
}

impl Record for Group {
    fn hash_of(&self, _index: usize) -> Option<u64> {
        Some(self.name.hash())
    }
}

/// The wire name of an inside port of `binding` on its `server`.
#[inline]
pub(super) fn wire_name(binding: &Binding, server: &Server, proto: Proto, inside_port: u16) -> Wire<Endpoint> {
    let port = if proto.has_ports() { binding.wire_port_of(inside_port) } else { 0 };
    Wire(Endpoint { proto, ip: server.ip, port })
}
