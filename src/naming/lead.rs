//! Lookups in bursts: each is begun for every packet before it is finished for any, so that one packet's memory is on
//! its way while others are looked at.

use crate::table::{self, Handle};
use crate::units::{Endpoint, Ip, NetworkId};

use super::hash::{address_hash, inside_hash, ip_hash, widen, wire_hash};
use super::name::{Inside, Public, Wire};
use super::record::{BY_ADDRESS, BY_INSIDE, BY_PUBLIC, BY_WIRE, Group, ServiceName, Space, public_hash};
use super::replica::ReplicaId;
use super::sizes::{Sizes, base_of, exponents};
use super::view::View;

/// Members of a group that are asked for; of more, a search meets some of the others.
const MEMBERS_AHEAD: usize = 64;

/// A lookup of one name that has been begun: what it tries first, and where that most likely leads. Good for the view
/// that gave it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lead {
    hash: u64,
    likely: Option<Handle>,
    /// What lies around the port.
    pub(super) sizes: u32,
    /// Or [`GROUP`].
    log2: u8,
}

/// Instead of a size: hash and record are those of a group, as nobody seemed to hold the name alone.
const GROUP: u8 = u8::MAX;

impl Lead {
    fn new(sizes: u32, hash: impl FnOnce(u8) -> u64) -> Lead {
        match with_services(sizes).next() {
            Some(log2) => Lead { hash: hash(log2), sizes, log2, ..Lead::default() },
            None => Lead { sizes, ..Lead::default() },
        }
    }

    /// True if nobody seems to hold the name alone, and several may.
    #[inline(always)]
    #[must_use]
    pub fn may_be_shared(&self) -> bool {
        self.likely.is_none() && self.sizes & Sizes::GROUP != 0
    }

    /// The hash of the group of that name, and the record that it is likely to lead to.
    #[inline(always)]
    pub(super) fn group_key(&self, hash: impl FnOnce() -> u64) -> (u64, Option<Handle>) {
        if self.log2 == GROUP { (self.hash, self.likely) } else { (hash(), None) }
    }

    /// The size, hash and likely record of what it tries first.
    #[inline(always)]
    pub(super) fn first(&self) -> (u8, u64, Option<Handle>) {
        (self.log2, self.hash, self.likely)
    }

    /// The hash for blocks of 2^`log2` ports, and the record that it is likely to lead to.
    #[inline(always)]
    pub(super) fn key(&self, log2: u8, hash: impl FnOnce() -> u64) -> (u64, Option<Handle>) {
        if log2 == self.log2 { (self.hash, self.likely) } else { (hash(), None) }
    }
}

/// The exponents of what lies around a port, a service being as large as a block of one port.
#[inline(always)]
pub(super) fn with_services(sizes: u32) -> impl Iterator<Item = u8> {
    exponents(sizes | sizes >> Sizes::SERVICE.trailing_zeros())
}

/// First `lead_*` for every packet, then `follow_*` for every packet, then `*_from`.
impl View<'_> {
    /// Begins [`View::inner`]: asks for the bucket.
    #[inline(always)]
    #[must_use]
    pub fn lead_inner(&self, Wire(name): Wire<Endpoint>) -> Lead {
        let Endpoint { ip, port, .. } = name;
        let sizes = self.names().wire_sizes.around(port);
        let lead = Lead::new(sizes, |log2| u64::from(wire_hash(ip, base_of(port, log2), log2)));
        self.names().bindings.prefetch_bucket(BY_WIRE, widen(lead.hash as u32), self.at());
        lead
    }

    /// Goes on with [`View::inner`]: asks for the record.
    #[inline(always)]
    pub fn follow_inner(&self, lead: &mut Lead) {
        lead.likely = self.names().bindings.prefetch_record(BY_WIRE, widen(lead.hash as u32), self.at());
    }

    /// Begins [`View::outer`]: asks for the bucket.
    #[inline(always)]
    #[must_use]
    pub fn lead_outer(&self, network: NetworkId, Inside(name): Inside<Endpoint>) -> Lead {
        let Endpoint { ip, port, .. } = name;
        let sizes = self.names().inside_sizes.around(port);
        let lead = Lead::new(sizes, |log2| inside_hash(network, ip, base_of(port, log2), log2));
        self.names().bindings.prefetch_bucket(BY_INSIDE, lead.hash, self.at());
        lead
    }

    /// Goes on with [`View::outer`]: asks for the record.
    #[inline(always)]
    pub fn follow_outer(&self, lead: &mut Lead) {
        lead.likely = self.names().bindings.prefetch_record(BY_INSIDE, lead.hash, self.at());
    }
}

/// For public names there is a step more, as a name's hash is that of the address's handle: first `lead_public_ip` for
/// every packet.
impl View<'_> {
    /// Asks for the bucket of a public address.
    #[inline]
    pub fn lead_public_ip(&self, ip: Ip) {
        self.names().public_ips.prefetch_bucket(0, ip_hash(ip), self.at());
    }

    /// Begins [`View::public`]: asks for the bucket of the name, if its address is public.
    #[inline]
    #[must_use]
    pub fn lead_published(&self, Public(name): Public<Endpoint>) -> Lead {
        let Some(address) = self.public_address_of(name.ip) else { return Lead::default() };
        let hash = public_hash(address, name.port);
        self.names().bindings.prefetch_bucket(BY_PUBLIC, hash, self.at());
        // Of a name that nobody holds alone, several may.
        Lead { hash, sizes: Sizes::GROUP, ..Lead::default() }
    }

    /// Goes on with [`View::public`]: asks for the record.
    #[inline]
    pub fn follow_published(&self, lead: &mut Lead) {
        if lead.sizes != 0 {
            lead.likely = self.names().bindings.prefetch_record(BY_PUBLIC, lead.hash, self.at());
        }
    }

    /// Asks for what tells whether the caller's address is an inside one of the network that is called.
    #[inline]
    pub fn follow_caller(&self, lead: &Lead, caller: Ip) {
        if let Some(binding) = lead.likely.and_then(|handle| self.names().bindings.get(handle, self.at())) {
            let hash = address_hash(binding.network, caller);
            self.names().containers.prefetch_bucket(BY_ADDRESS, hash, self.at());
        }
    }

    /// As [`View::lead_group`], for a public name.
    #[inline]
    pub fn lead_public_group(&self, lead: &mut Lead, Public(name): Public<Endpoint>) {
        self.lead_group_of(lead, ServiceName { space: Space::Public, ip: name.ip, port: name.port });
    }
}

/// What follows for names that several bindings hold ([`Lead::may_be_shared`]), each for all packets of a burst.
impl View<'_> {
    /// Asks for the bucket of the group.
    #[inline]
    pub fn lead_group(&self, lead: &mut Lead, network: NetworkId, Inside(name): Inside<Endpoint>) {
        self.lead_group_of(lead, ServiceName { space: Space::Inside(network), ip: name.ip, port: name.port });
    }

    #[inline]
    fn lead_group_of(&self, lead: &mut Lead, name: ServiceName) {
        lead.hash = name.hash();
        lead.log2 = GROUP;
        self.names().groups.prefetch_bucket(0, lead.hash, self.at());
    }

    /// Asks for the group.
    #[inline]
    pub fn follow_group(&self, lead: &mut Lead) {
        lead.likely = self.names().groups.prefetch_record(0, lead.hash, self.at());
    }

    /// Asks for the list of its members.
    #[inline]
    pub fn follow_members(&self, lead: &Lead) {
        if let Some(group) = self.likely_group(lead) {
            group.ids.iter().step_by(8).take(MEMBERS_AHEAD / 8).for_each(|id| table::prefetch(id));
            group.replicas.iter().step_by(16).take(MEMBERS_AHEAD / 16).for_each(|handle| table::prefetch(handle));
        }
    }

    /// Asks for what the hash of a new flow looks at.
    #[inline]
    pub fn follow_slot(&self, lead: &Lead, flow_hash: u64) {
        if let Some(group) = self.likely_group(lead) {
            group.slots.prefetch(flow_hash);
        }
    }

    /// Asks for the binding that a new flow goes to.
    #[inline]
    pub fn follow_pick(&self, lead: &Lead, flow_hash: u64) {
        if let Some(group) = self.likely_group(lead)
            && let Some(position) = group.slots.pick(flow_hash)
            && let Some(&binding) = group.replicas.get(usize::from(position))
        {
            self.names().bindings.prefetch_handle(binding);
        }
    }

    /// Asks for the binding of the replica that a flow stays on.
    #[inline]
    pub fn follow_replica(&self, lead: &Lead, replica: ReplicaId) {
        if let Some(group) = self.likely_group(lead)
            && let Ok(position) = group.ids.binary_search(&replica)
            && let Some(&binding) = group.replicas.get(position)
        {
            self.names().bindings.prefetch_handle(binding);
        }
    }

    #[inline]
    fn likely_group(&self, lead: &Lead) -> Option<&Group> {
        let handle = lead.likely.filter(|_| lead.log2 == GROUP)?;
        self.names().groups.get(handle, self.at())
    }
}
