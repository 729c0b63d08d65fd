//! One version of the mapping, and the two functions over it that do all the work.
//!
//! Nothing here waits, allocates or fails; every lookup is a probe or two of a hash table. Bursts ask for the memory of
//! their lookups first: see the `prefetch` functions, two stages each.

use crate::table::{Handle, Snapshot};
use crate::units::{Endpoint, Ip, Mac, NetworkId, Proto};

use super::hash::{address_hash, inside_hash, ip_hash, mix, pair_hash, widen, wire_hash};
use super::live::Names;
use super::name::{Inside, Public, Wire};
use super::record::{
    BY_ADDRESS, BY_CONTAINER, BY_INSIDE, BY_PAIR, BY_PUBLIC, BY_WIRE, Binding, Container, ContainerId, Flags, Group,
    Server, ServiceName, Space, blocks_hash, public_hash, shared_hash, wire_name,
};
use super::service::Service;
use super::sizes::{Sizes, base_of, exponents};

/// One version of the mapping.
#[derive(Clone, Copy)]
pub struct View<'g> {
    names: &'g Names,
    at: Snapshot<'g>,
}

/// What a wire name stands for.
#[derive(Clone, Copy, Debug)]
pub struct Inner<'g> {
    pub binding: &'g Binding,
    /// Equal distance from the base, whatever the mode: a default-mode block's entries come on top.
    pub inside: Inside<Endpoint>,
}

/// Where an inside name leads.
#[derive(Clone, Copy, Debug)]
pub enum Outer<'g> {
    Found {
        binding: &'g Binding,
        wire: Wire<Endpoint>,
    },
    /// A service whose replicas are all draining.
    NoReplica,
    /// The address has bindings in the network, but none for this protocol and port.
    Unbound,
    /// Nobody in the network has the address.
    Unknown,
}

/// An inside address that has bindings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Some binding of it takes new connections.
    pub has_active: bool,
}

impl<'g> View<'g> {
    pub(super) fn new(names: &'g Names, at: Snapshot<'g>) -> View<'g> {
        View { names, at }
    }

    /// Grows with every change set.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.at.version()
    }

    /// `inner`: the inside name of a wire name, with its binding.
    #[inline]
    #[must_use]
    pub fn inner(&self, name: Wire<Endpoint>) -> Option<Inner<'g>> {
        let Wire(Endpoint { proto, ip, port }) = name;
        let sizes = self.names.wire_sizes.around(port);
        if sizes & Sizes::SERVICE != 0
            && let Some(found) = self.bound_at(ip, proto, port, 0)
        {
            return Some(found);
        }
        exponents(sizes & !(sizes >> 31)).find_map(|log2| self.bound_at(ip, proto, port, log2))
    }

    #[inline]
    fn bound_at(&self, server: Ip, proto: Proto, port: u16, log2: u8) -> Option<Inner<'g>> {
        let base = base_of(port, log2);
        let hash = wire_hash(server, base, log2);
        let is_it = |binding: &Binding| {
            binding.wire_hash == hash
                && binding.wire_base == base
                && binding.log2 == log2
                && binding.proto.serves(proto)
                && self.server_of(binding).is_some_and(|of| of.ip == server)
        };
        let (_, binding) = self.names.bindings.find(BY_WIRE, widen(hash), &self.at, is_it)?;
        Some(Inner { binding, inside: binding.inside_of(proto, port) })
    }

    /// `outer`: the wire name of an inside name. Services come before client blocks; of several replicas, `flow_hash`
    /// picks one.
    #[inline]
    #[must_use]
    pub fn outer(&self, network: NetworkId, name: Inside<Endpoint>, flow_hash: u64) -> Outer<'g> {
        let binding = match self.service(network, name) {
            Some(service) => match service.pick(flow_hash) {
                Some(binding) => Some(binding),
                None => return Outer::NoReplica,
            },
            None => self.block(network, name),
        };
        match binding.and_then(|binding| Some((binding, self.wire_of(binding, name.0.proto, name.0.port)?))) {
            Some((binding, wire)) => Outer::Found { binding, wire },
            None if self.address(network, name.0.ip).is_some() => Outer::Unbound,
            None => Outer::Unknown,
        }
    }

    /// The wire name of an inside port of `binding`: also where an earlier choice of a replica is to be kept.
    #[inline]
    #[must_use]
    pub fn wire_of(&self, binding: &Binding, proto: Proto, inside_port: u16) -> Option<Wire<Endpoint>> {
        Some(wire_name(binding, self.server_of(binding)?, proto, inside_port))
    }

    /// The service of an inside name, with one replica or several.
    #[inline]
    #[must_use]
    pub fn service(&self, network: NetworkId, name: Inside<Endpoint>) -> Option<Service<'g>> {
        let Inside(Endpoint { proto, ip, port }) = name;
        let sizes = self.names.inside_sizes.around(port);
        if sizes & Sizes::SERVICE != 0 {
            let is_it = |binding: &Binding| {
                binding.inside_base == port
                    && binding.ip == ip
                    && binding.network == network
                    && !binding.is_block()
                    && binding.proto.serves(proto)
            };
            let hash = inside_hash(network, ip, port, 0);
            if let Some((_, binding)) = self.names.bindings.find(BY_INSIDE, hash, &self.at, is_it) {
                return Some(Service::one(*self, binding));
            }
        }
        if sizes & Sizes::GROUP == 0 {
            return None;
        }
        self.group(ServiceName { space: Space::Inside(network), ip, port }, proto)
    }

    #[inline]
    fn group(&self, name: ServiceName, proto: Proto) -> Option<Service<'g>> {
        let is_it = |group: &Group| group.name == name && group.proto == proto;
        let (_, group) = self.names.groups.find(0, name.hash(), &self.at, is_it)?;
        Some(Service::several(*self, group))
    }

    /// The client block whose inside range covers the port.
    #[inline]
    #[must_use]
    pub fn block(&self, network: NetworkId, name: Inside<Endpoint>) -> Option<&'g Binding> {
        let Inside(Endpoint { proto, ip, port }) = name;
        exponents(self.names.inside_sizes.around(port)).find_map(|log2| {
            let base = base_of(port, log2);
            let is_it = |binding: &Binding| {
                binding.inside_base == base
                    && binding.log2 == log2
                    && binding.ip == ip
                    && binding.network == network
                    && binding.is_block()
                    && binding.proto.serves(proto)
            };
            let hash = inside_hash(network, ip, base, log2);
            self.names.bindings.find(BY_INSIDE, hash, &self.at, is_it).map(|(_, binding)| binding)
        })
    }

    /// Whether an inside address has bindings in the network, and such as take new connections.
    #[inline]
    #[must_use]
    pub fn address(&self, network: NetworkId, ip: Ip) -> Option<Address> {
        let mut address: Option<Address> = None;
        let hash = address_hash(network, ip);
        // Stops at the first container that is active; most addresses have but one container.
        let is_it = |container: &Container| {
            if container.ip != ip || container.network != network {
                return false;
            }
            let has_active = container.has_active();
            address = Some(Address { has_active });
            has_active
        };
        let _ = self.names.containers.find(BY_ADDRESS, hash, &self.at, is_it);
        address
    }

    /// The service that a public name stands for, with one replica or several.
    #[inline]
    #[must_use]
    pub fn public(&self, name: Public<Endpoint>) -> Option<Service<'g>> {
        let Public(Endpoint { proto, ip, port }) = name;
        let (address, _) = self.names.public_ips.find(0, ip_hash(ip), &self.at, |public| public.ip == ip)?;
        let is_it = |binding: &Binding| {
            binding.public_ip == address
                && binding.public_port == port
                && binding.is_public()
                && binding.proto.serves(proto)
        };
        if let Some((_, binding)) = self.names.bindings.find(BY_PUBLIC, public_hash(address, port), &self.at, is_it) {
            return Some(Service::one(*self, binding));
        }
        self.group(ServiceName { space: Space::Public, ip, port }, proto)
    }

    /// The public name of a binding that has one, for a protocol that it serves.
    #[inline]
    #[must_use]
    pub fn public_name(&self, binding: &Binding, proto: Proto) -> Option<Public<Endpoint>> {
        let ip = self.public_address(binding)?;
        Some(Public(Endpoint { proto, ip, port: binding.public_port }))
    }

    pub(super) fn public_address(&self, binding: &Binding) -> Option<Ip> {
        binding.is_public().then(|| self.names.public_ips.get(binding.public_ip, &self.at).map(|public| public.ip))?
    }

    /// True if some binding publishes the address.
    #[inline]
    #[must_use]
    pub fn is_public_ip(&self, ip: Ip) -> bool {
        self.names.public_ips.find(0, ip_hash(ip), &self.at, |public| public.ip == ip).is_some()
    }

    /// The server of an underlay address, if it is a ServerIP: by preference a record with a MAC.
    #[inline]
    #[must_use]
    pub fn server(&self, ip: Ip) -> Option<&'g Server> {
        let mut any = None;
        self.names.servers.find_all(0, ip_hash(ip), &self.at, |_, server| {
            if server.ip == ip && any.is_none_or(|found: &Server| found.mac.is_none()) {
                any = Some(server);
            }
        });
        any
    }

    /// The server of a binding, with the MAC of that line. Always there for a binding of this view.
    #[inline]
    #[must_use]
    pub fn server_of(&self, binding: &Binding) -> Option<&'g Server> {
        self.names.servers.get(binding.server, &self.at)
    }

    /// The container of a binding. Always there for a binding of this view.
    #[inline]
    #[must_use]
    pub fn container_of(&self, binding: &Binding) -> Option<&'g Container> {
        self.container(binding.container)
    }

    /// The container of a handle that this view gave.
    #[inline]
    #[must_use]
    pub fn container(&self, handle: Handle) -> Option<&'g Container> {
        self.names.containers.get(handle, &self.at)
    }

    /// Calls `each` with every container of the network that may send as (MAC, IP): those of this MAC, and those
    /// whose MAC is to be resolved. More than one only where they differ by `id`, or by having a MAC at all.
    #[inline]
    pub fn containers(&self, network: NetworkId, mac: Mac, ip: Ip, mut each: impl FnMut(Handle, &'g Container)) {
        for mac in [Some(mac), None] {
            let hash = pair_hash(network, mac, ip);
            self.names.containers.find_all(BY_PAIR, hash, &self.at, |handle, container| {
                if container.ip == ip && container.network == network && container.mac() == mac {
                    each(handle, container);
                }
            });
        }
    }

    /// The container that sends as (MAC, IP) behind an access port: that of the port's `id`, if it says one, else the
    /// one without id, else the first. A container of that MAC comes before one whose MAC is to be resolved.
    #[inline]
    #[must_use]
    pub fn sender(
        &self,
        network: NetworkId,
        mac: Mac,
        ip: Ip,
        id: Option<ContainerId>,
    ) -> Option<(Handle, &'g Container)> {
        self.sender_with(network, Some(mac), ip, id).or_else(|| self.sender_with(network, None, ip, id))
    }

    #[inline]
    fn sender_with(
        &self,
        network: NetworkId,
        mac: Option<Mac>,
        ip: Ip,
        id: Option<ContainerId>,
    ) -> Option<(Handle, &'g Container)> {
        let hash = pair_hash(network, mac, ip);
        let is_pair = |c: &Container| c.ip == ip && c.network == network && c.mac() == mac;
        let exact = |c: &Container| is_pair(c) && c.id == id;
        let found = self.names.containers.find(BY_PAIR, hash, &self.at, exact);
        if found.is_some() || id.is_some() {
            return found;
        }
        self.names.containers.find(BY_PAIR, hash, &self.at, is_pair)
    }

    /// The service binding of this very container for one of its own ports.
    #[inline]
    #[must_use]
    pub fn source_service(
        &self,
        handle: Handle,
        container: &Container,
        proto: Proto,
        port: u16,
    ) -> Option<&'g Binding> {
        let sizes = self.names.inside_sizes.around(port);
        let is_it = |binding: &Binding| {
            binding.container == handle
                && binding.inside_base == port
                && !binding.is_block()
                && binding.proto.serves(proto)
        };
        if sizes & Sizes::SERVICE != 0 {
            let hash = inside_hash(container.network, container.ip, port, 0);
            if let Some((_, binding)) = self.names.bindings.find(BY_INSIDE, hash, &self.at, is_it) {
                return Some(binding);
            }
        }
        if sizes & Sizes::GROUP == 0 {
            return None;
        }
        let hash = shared_hash(handle, port);
        self.names.bindings.find(BY_CONTAINER, hash, &self.at, is_it).map(|(_, binding)| binding)
    }

    /// The client block of this very container: the one whose inside range covers `port`, else the lowest that serves
    /// the protocol.
    #[inline]
    #[must_use]
    pub fn source_block(&self, handle: Handle, proto: Proto, port: u16) -> Option<&'g Binding> {
        let mut best: Option<&'g Binding> = None;
        self.names.bindings.find_all(BY_CONTAINER, blocks_hash(handle), &self.at, |_, binding| {
            if binding.container != handle || !binding.is_block() || !binding.proto.serves(proto) {
                return;
            }
            let rank = |b: &Binding| (!b.inside_ports().contains(port), b.inside_base, b.wire_base);
            if best.is_none_or(|best| rank(binding) < rank(best)) {
                best = Some(binding);
            }
        });
        best
    }

    /// Who owns a wire port of a binding, and as what: the container's identity and the distance between its inside
    /// and wire ports. Equal before and after a change, where the name still means the same. Never 0.
    #[inline]
    #[must_use]
    pub fn owner(&self, binding: &Binding) -> u64 {
        let container = self.container_of(binding).map_or(0, Container::identity);
        mix(container, u64::from(binding.inside_base.wrapping_sub(binding.wire_base))) | 1
    }

    /// The identity of a binding: equal on every server, after a move and after a restart. What affinity entries
    /// name. Never 0.
    #[inline]
    #[must_use]
    pub fn identity(&self, binding: &Binding) -> u64 {
        let container = self.container_of(binding).map_or(0, Container::identity);
        binding_identity(binding, container)
    }

    /// Every binding, in no particular order. For the control plane.
    pub fn bindings(&self) -> impl Iterator<Item = &'g Binding> {
        self.names.bindings.iter(&self.at).map(|(_, binding)| binding)
    }

    /// The bindings of our own ServerIPs, in no particular order. For claims and probes.
    pub fn local_bindings(&self) -> impl Iterator<Item = &'g Binding> {
        let view = *self;
        self.bindings().filter(move |binding| view.server_of(binding).is_some_and(|server| server.local))
    }

    /// Every server record, in no particular order: our own, and all that bindings name.
    pub fn servers(&self) -> impl Iterator<Item = &'g Server> {
        self.names.servers.iter(&self.at).map(|(_, server)| server)
    }

    /// Every container with its handle, in no particular order.
    pub fn all_containers(&self) -> impl Iterator<Item = (Handle, &'g Container)> {
        self.names.containers.iter(&self.at)
    }

    /// Every published address, in no particular order.
    pub fn public_ips(&self) -> impl Iterator<Item = Ip> {
        self.names.public_ips.iter(&self.at).map(|(_, public)| public.ip)
    }

    /// What the choice tables of services with several replicas cost.
    #[must_use]
    pub fn slots_bytes(&self) -> usize {
        let cost = |group: &Group| group.slots.memory_bytes() + size_of_val(&*group.replicas);
        self.names.groups.iter(&self.at).map(|(_, group)| cost(group)).sum()
    }

    pub(super) fn binding(&self, handle: Handle) -> Option<&'g Binding> {
        self.names.bindings.get(handle, &self.at)
    }

    pub(super) fn names(&self) -> &'g Names {
        self.names
    }
}

/// What tells a binding from every other: its container, protocol and inside ports.
#[inline]
pub(super) fn binding_identity(binding: &Binding, container: u64) -> u64 {
    let proto = match binding.proto {
        super::Protocol::Any => 0,
        super::Protocol::One(one) => one.0,
    };
    let kind = u64::from(binding.flags.has(Flags::BLOCK));
    let rest = kind << 32 | u64::from(proto) << 24 | u64::from(binding.inside_base) << 8 | u64::from(binding.log2);
    mix(container, rest) | 1
}

/// Hints for bursts. First `prefetch_*` for every packet, then `prefetch_*_record` for every packet, then the lookups.
impl View<'_> {
    /// First stage of [`View::inner`].
    #[inline]
    pub fn prefetch_inner(&self, name: Wire<Endpoint>) {
        self.each_wire_hash(name, |hash| self.names.bindings.prefetch_bucket(BY_WIRE, hash, &self.at));
    }

    /// Second stage of [`View::inner`].
    #[inline]
    pub fn prefetch_inner_record(&self, name: Wire<Endpoint>) {
        self.each_wire_hash(name, |hash| self.names.bindings.prefetch_record(BY_WIRE, hash, &self.at));
    }

    /// First stage of [`View::outer`], [`View::service`], [`View::block`] and [`View::source_service`].
    #[inline]
    pub fn prefetch_outer(&self, network: NetworkId, name: Inside<Endpoint>) {
        self.each_inside_hash(network, name, |hash| self.names.bindings.prefetch_bucket(BY_INSIDE, hash, &self.at));
    }

    /// Second stage of the same.
    #[inline]
    pub fn prefetch_outer_record(&self, network: NetworkId, name: Inside<Endpoint>) {
        self.each_inside_hash(network, name, |hash| self.names.bindings.prefetch_record(BY_INSIDE, hash, &self.at));
    }

    /// First stage of [`View::sender`] and [`View::containers`].
    #[inline]
    pub fn prefetch_sender(&self, network: NetworkId, mac: Mac, ip: Ip) {
        self.names.containers.prefetch_bucket(BY_PAIR, pair_hash(network, Some(mac), ip), &self.at);
    }

    /// Second stage of the same.
    #[inline]
    pub fn prefetch_sender_record(&self, network: NetworkId, mac: Mac, ip: Ip) {
        self.names.containers.prefetch_record(BY_PAIR, pair_hash(network, Some(mac), ip), &self.at);
    }

    /// First stage of [`View::source_block`].
    #[inline]
    pub fn prefetch_source_block(&self, container: Handle) {
        self.names.bindings.prefetch_bucket(BY_CONTAINER, blocks_hash(container), &self.at);
    }

    /// Second stage of the same.
    #[inline]
    pub fn prefetch_source_block_record(&self, container: Handle) {
        self.names.bindings.prefetch_record(BY_CONTAINER, blocks_hash(container), &self.at);
    }

    /// For [`View::container_of`], once the binding is found.
    #[inline]
    pub fn prefetch_container_of(&self, binding: &Binding) {
        self.names.containers.prefetch_handle(binding.container);
    }

    #[inline]
    fn each_wire_hash(&self, name: Wire<Endpoint>, mut each: impl FnMut(u64)) {
        let Wire(Endpoint { ip, port, .. }) = name;
        let sizes = self.names.wire_sizes.around(port);
        for log2 in exponents(sizes | sizes >> 31) {
            each(widen(wire_hash(ip, base_of(port, log2), log2)));
        }
    }

    #[inline]
    fn each_inside_hash(&self, network: NetworkId, name: Inside<Endpoint>, mut each: impl FnMut(u64)) {
        let Inside(Endpoint { ip, port, .. }) = name;
        let sizes = self.names.inside_sizes.around(port);
        for log2 in exponents(sizes | sizes >> 31) {
            each(inside_hash(network, ip, base_of(port, log2), log2));
        }
    }
}
