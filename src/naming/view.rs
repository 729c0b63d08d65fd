//! One version of the mapping, and the two functions over it that do all the work.
//!
//! Nothing here waits, allocates or fails; every lookup is a probe or two of a hash table. Bursts ask for the memory of
//! their lookups first: see [`Lead`].

use std::sync::atomic::Ordering;

use crate::table::{Handle, Snapshot};
use crate::units::{Endpoint, Ip, Mac, NetworkId, Proto};

use super::hash::{address_hash, inside_hash, ip_hash, mix, pair_hash, widen, wire_hash};
use super::lead::{Lead, with_services};
use super::live::Names;
use super::name::{Inside, Public, Wire};
use super::record::{
    BY_ADDRESS, BY_CONTAINER, BY_INSIDE, BY_PAIR, BY_PUBLIC, BY_WIRE, Binding, Container, ContainerId, Flags, Group,
    Illness, Server, ServiceName, Space, blocks_hash, illness_hash, public_hash, shared_hash, wire_name,
};
use super::service::{Choice, Service};
use super::sizes::{Sizes, base_of, exponents};

/// One version of the mapping.
#[derive(Clone, Copy)]
pub struct View<'g> {
    names: &'g Names,
    at: Snapshot<'g>,
}

/// A binding with the server that it is on: what both functions find.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'g> {
    pub binding: &'g Binding,
    pub server: &'g Server,
}

impl Placed<'_> {
    /// The wire name of an inside port.
    #[inline]
    #[must_use]
    pub fn wire_of(&self, proto: Proto, inside_port: u16) -> Wire<Endpoint> {
        wire_name(self.binding, self.server, proto, inside_port)
    }

    /// The wire name of a service binding.
    #[inline]
    #[must_use]
    pub fn service_name(&self, proto: Proto) -> Wire<Endpoint> {
        self.wire_of(proto, self.binding.inside_base)
    }

    /// The inside name of a wire port: equal distance from the base, whatever the mode. A default-mode block's entries
    /// come on top.
    #[inline]
    #[must_use]
    pub fn inside_of(&self, proto: Proto, wire_port: u16) -> Inside<Endpoint> {
        self.binding.inside_of(proto, wire_port)
    }
}

/// Where an inside name leads.
#[derive(Clone, Copy)]
pub enum Outer<'g> {
    Found(Placed<'g>),
    /// A service that has several replicas, or one that drains or is unhealthy.
    Choice(Choice<'g>),
    /// The address has bindings in the network, but none for this protocol and port.
    Unbound,
    /// Nobody in the network has the address.
    Unknown,
}

/// An inside or public address that has bindings.
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

    /// The network of this name.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<NetworkId> {
        self.names.networks().id(name)
    }

    /// `inner`: the binding of a wire name, which knows its inside name.
    #[inline]
    #[must_use]
    pub fn inner(&self, name: Wire<Endpoint>) -> Option<Placed<'g>> {
        self.inner_from(&self.lead_inner(name), name)
    }

    /// As [`View::inner`], from a lead for this name.
    #[inline(always)]
    #[must_use]
    pub fn inner_from(&self, lead: &Lead, name: Wire<Endpoint>) -> Option<Placed<'g>> {
        let (log2, hash, likely) = lead.first();
        self.bound_at(name, log2, hash as u32, likely).or_else(|| self.inner_beyond(lead, name))
    }

    /// As [`View::inner_from`], in blocks of other sizes than that which the lead is for.
    #[inline(never)]
    fn inner_beyond(&self, lead: &Lead, name: Wire<Endpoint>) -> Option<Placed<'g>> {
        let Wire(Endpoint { ip, port, .. }) = name;
        with_services(lead.sizes).skip(1).find_map(|log2| {
            let hash = wire_hash(ip, base_of(port, log2), log2);
            self.bound_at(name, log2, hash, None)
        })
    }

    #[inline(always)]
    fn bound_at(&self, name: Wire<Endpoint>, log2: u8, hash: u32, likely: Option<Handle>) -> Option<Placed<'g>> {
        let Wire(Endpoint { proto, ip, port }) = name;
        let base = base_of(port, log2);
        let mut on = None;
        let is_it = |binding: &Binding| {
            if binding.wire_hash != hash || binding.wire_base != base || binding.log2 != log2 {
                return false;
            }
            on = self.server_of(binding).filter(|server| server.ip == ip);
            on.is_some() && binding.proto.serves(proto)
        };
        let (_, binding) = self.names.bindings.find_from(likely, BY_WIRE, widen(hash), &self.at, is_it)?;
        Some(Placed { binding, server: on? })
    }

    /// `outer`: the binding of an inside name, which knows its wire name. Services come before client blocks.
    #[inline]
    #[must_use]
    pub fn outer(&self, network: NetworkId, name: Inside<Endpoint>) -> Outer<'g> {
        self.outer_from(&self.lead_outer(network, name), network, name)
    }

    /// As [`View::outer`], from a lead for this name.
    #[inline(always)]
    #[must_use]
    pub fn outer_from(&self, lead: &Lead, network: NetworkId, name: Inside<Endpoint>) -> Outer<'g> {
        let binding = match self.service_from(lead, network, name) {
            Some(service) => match service.sole() {
                Ok(binding) => Some(binding),
                Err(choice) => return Outer::Choice(choice),
            },
            None => self.block_from(lead, network, name),
        };
        match binding.and_then(|binding| self.placed(binding)) {
            Some(placed) => Outer::Found(placed),
            None => self.nobody(network, name),
        }
    }

    #[cold]
    fn nobody(&self, network: NetworkId, name: Inside<Endpoint>) -> Outer<'g> {
        if self.address(network, name.0.ip).is_some() { Outer::Unbound } else { Outer::Unknown }
    }

    /// The service that a choice is about.
    #[must_use]
    pub fn service_of(&self, choice: Choice<'g>) -> Service<'g> {
        Service::of_choice(*self, choice)
    }

    /// A binding with its server. Always there for a binding of this view.
    #[inline]
    #[must_use]
    pub fn placed(&self, binding: &'g Binding) -> Option<Placed<'g>> {
        Some(Placed { binding, server: self.server_of(binding)? })
    }

    /// The service of an inside name, with one replica or several.
    #[inline]
    #[must_use]
    pub fn service(&self, network: NetworkId, name: Inside<Endpoint>) -> Option<Service<'g>> {
        self.service_from(&self.lead_outer(network, name), network, name)
    }

    #[inline(always)]
    fn service_from(&self, lead: &Lead, network: NetworkId, name: Inside<Endpoint>) -> Option<Service<'g>> {
        let Inside(Endpoint { proto, ip, port }) = name;
        if lead.sizes & Sizes::SERVICE != 0 {
            let is_it = |binding: &Binding| {
                binding.inside_base == port
                    && binding.ip == ip
                    && binding.network == network
                    && !binding.is_block()
                    && binding.proto.serves(proto)
            };
            let (hash, likely) = lead.key(0, || inside_hash(network, ip, port, 0));
            if let Some((_, binding)) = self.names.bindings.find_from(likely, BY_INSIDE, hash, &self.at, is_it) {
                return Some(Service::one(*self, binding));
            }
        }
        if lead.sizes & Sizes::GROUP == 0 {
            return None;
        }
        let name = ServiceName { space: Space::Inside(network), ip, port };
        self.group_from(lead.group_key(|| name.hash()), name, proto)
    }

    /// The service of either kind of name.
    pub(super) fn named(&self, name: ServiceName, proto: Proto) -> Option<Service<'g>> {
        let end = Endpoint { proto, ip: name.ip, port: name.port };
        match name.space {
            Space::Inside(network) => self.service(network, Inside(end)),
            Space::Public => self.public(Public(end)),
        }
    }

    #[inline]
    fn group(&self, name: ServiceName, proto: Proto) -> Option<Service<'g>> {
        self.group_from((name.hash(), None), name, proto)
    }

    #[inline]
    fn group_from(&self, key: (u64, Option<Handle>), name: ServiceName, proto: Proto) -> Option<Service<'g>> {
        let is_it = |group: &Group| group.name == name && group.proto == proto;
        let (_, group) = self.names.groups.find_from(key.1, 0, key.0, &self.at, is_it)?;
        Some(Service::several(*self, group))
    }

    /// The client block whose inside range covers the port.
    #[inline]
    #[must_use]
    pub fn block(&self, network: NetworkId, name: Inside<Endpoint>) -> Option<&'g Binding> {
        self.block_from(&self.lead_outer(network, name), network, name)
    }

    #[inline]
    fn block_from(&self, lead: &Lead, network: NetworkId, name: Inside<Endpoint>) -> Option<&'g Binding> {
        let Inside(Endpoint { proto, ip, port }) = name;
        exponents(lead.sizes).find_map(|log2| {
            let base = base_of(port, log2);
            let is_it = |binding: &Binding| {
                binding.inside_base == base
                    && binding.log2 == log2
                    && binding.ip == ip
                    && binding.network == network
                    && binding.is_block()
                    && binding.proto.serves(proto)
            };
            let (hash, likely) = lead.key(log2, || inside_hash(network, ip, base, log2));
            self.names.bindings.find_from(likely, BY_INSIDE, hash, &self.at, is_it).map(|(_, binding)| binding)
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
        if address.is_some_and(|address| address.has_active) && !self.names.illnesses.is_empty() {
            return Some(Address { has_active: self.any_well(network, ip) });
        }
        address
    }

    /// Whether a container of the address takes new connections although others are ill: a client block says nothing of
    /// a container whose services do not answer.
    #[cold]
    fn any_well(&self, network: NetworkId, ip: Ip) -> bool {
        let mut any = false;
        self.names.containers.find_all(BY_ADDRESS, address_hash(network, ip), &self.at, |handle, container| {
            if container.ip != ip || container.network != network {
                return;
            }
            let is_ill = |illness: &Illness| illness.container == handle && illness.bindings > 0;
            let ill = self.names.illnesses.find(0, illness_hash(handle), &self.at, is_ill).is_some();
            let mut blocks = 0;
            if ill {
                self.names.bindings.find_all(BY_CONTAINER, blocks_hash(handle), &self.at, |_, binding| {
                    blocks += u32::from(binding.container == handle && binding.is_block() && binding.is_active());
                });
            }
            any |= container.active_bindings() > blocks;
        });
        any
    }

    /// The service that a public name stands for, with one replica or several.
    #[inline]
    #[must_use]
    pub fn public(&self, name: Public<Endpoint>) -> Option<Service<'g>> {
        let Public(Endpoint { proto, ip, port }) = name;
        let address = self.public_address_of(ip)?;
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

    /// The handle by which bindings name a public address.
    #[inline]
    pub(super) fn public_address_of(&self, ip: Ip) -> Option<Handle> {
        self.names.public_ips.find(0, ip_hash(ip), &self.at, |public| public.ip == ip).map(|(address, _)| address)
    }

    pub(super) fn public_address(&self, binding: &Binding) -> Option<Ip> {
        binding.is_public().then(|| self.names.public_ips.get(binding.public_ip, &self.at).map(|public| public.ip))?
    }

    /// As [`View::public`]: the binding of the name, or the choice that there is.
    #[inline]
    #[must_use]
    pub fn published(&self, name: Public<Endpoint>) -> Outer<'g> {
        match self.public(name).map(|service| service.sole()) {
            Some(Ok(binding)) => self.placed(binding).map_or(Outer::Unknown, Outer::Found),
            Some(Err(choice)) => Outer::Choice(choice),
            None => Outer::Unknown,
        }
    }

    /// True if some binding publishes the address.
    #[inline]
    #[must_use]
    pub fn is_public_ip(&self, ip: Ip) -> bool {
        self.public_ip(ip).is_some()
    }

    /// Whether an address is public, and some binding there gets new connections.
    #[inline]
    #[must_use]
    pub fn public_ip(&self, ip: Ip) -> Option<Address> {
        let (_, public) = self.names.public_ips.find(0, ip_hash(ip), &self.at, |public| public.ip == ip)?;
        Some(Address { has_active: public.eligible.load(Ordering::Relaxed) > 0 })
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
    #[inline(always)]
    #[must_use]
    pub fn server_of(&self, binding: &Binding) -> Option<&'g Server> {
        self.names.servers.get(binding.server, &self.at)
    }

    /// The server record of a handle, where this view has it.
    pub(super) fn server_at(&self, handle: Handle) -> Option<&'g Server> {
        self.names.servers.get(handle, &self.at)
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
    #[inline(always)]
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

    /// Some bindings, and where to go on: at most `places` places of the table from the `first` are looked at. `None`:
    /// those were the last.
    pub fn some_bindings(&self, first: u32, places: u32) -> (impl Iterator<Item = &'g Binding>, Option<u32>) {
        let (some, next) = self.names.bindings.iter_some(first, places, &self.at);
        (some.map(|(_, binding)| binding), next)
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
        let cost =
            |group: &Group| group.slots.memory_bytes() + size_of_val(&*group.replicas) + size_of_val(&*group.ids);
        self.names.groups.iter(&self.at).map(|(_, group)| cost(group)).sum()
    }

    pub(super) fn binding(&self, handle: Handle) -> Option<&'g Binding> {
        self.names.bindings.get(handle, &self.at)
    }

    pub(super) fn names(&self) -> &'g Names {
        self.names
    }

    pub(super) fn at(&self) -> &Snapshot<'g> {
        &self.at
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
