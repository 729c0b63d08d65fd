//! Names that several bindings share: their groups of replicas, made anew whenever one of them changes.

use crate::table::{self, Handle};
use crate::units::Proto;

use super::hash::inside_hash;
use super::maglev::{Contender, Slots};
use super::record::{BY_INSIDE, BY_PUBLIC, Binding, Flags, Group, ServiceName, Space, public_hash};
use super::replica::ReplicaId;
use super::sizes::Sizes;
use super::staging::Staging;
use super::view::binding_identity;

/// More replicas than this are not chosen among.
const MAX_REPLICAS: usize = u16::MAX as usize - 1;

impl Staging<'_> {
    /// Finds out whether a new service binding shares its names, and marks it and the others so.
    pub(super) fn share_names(&mut self, new: &mut Binding) {
        if new.is_block() {
            return;
        }
        let name = self.inside_name(new);
        if self.share(new, name, Flags::SHARED) {
            new.flags.0 |= Flags::SHARED;
        }
        if let Some(name) = self.public_name(new)
            && self.share(new, name, Flags::PUBLIC_SHARED)
        {
            new.flags.0 |= Flags::PUBLIC_SHARED;
        }
    }

    fn share(&mut self, new: &Binding, name: ServiceName, flag: u16) -> bool {
        let mut shared = self.regroup.contains(&name) || self.has_group(new, name);
        while let Some(handle) = self.alone_under(new, name) {
            self.reflag(handle, flag, true);
            shared = true;
        }
        shared
    }

    /// A binding that has had the name for itself until now, for a protocol of `new`.
    fn alone_under(&self, new: &Binding, name: ServiceName) -> Option<Handle> {
        let bindings = &self.names.bindings;
        let found = match name.space {
            Space::Inside(network) => {
                if self.names.inside_sizes.around(name.port) & Sizes::SERVICE == 0 {
                    return None;
                }
                let is_it = |other: &Binding| {
                    other.inside_base == name.port
                        && other.ip == name.ip
                        && other.network == network
                        && !other.is_block()
                        && other.proto.overlaps(new.proto)
                };
                bindings.find_staged(BY_INSIDE, inside_hash(network, name.ip, name.port, 0), self.writer, is_it)
            }
            Space::Public => {
                let is_it = |other: &Binding| {
                    other.public_ip == new.public_ip
                        && other.public_port == name.port
                        && other.is_public()
                        && other.proto.overlaps(new.proto)
                };
                bindings.find_staged(BY_PUBLIC, public_hash(new.public_ip, name.port), self.writer, is_it)
            }
        };
        found.map(|(handle, _)| handle)
    }

    fn has_group(&self, new: &Binding, name: ServiceName) -> bool {
        if matches!(name.space, Space::Inside(_)) && self.names.inside_sizes.around(name.port) & Sizes::GROUP == 0 {
            return false;
        }
        let is_it = |group: &Group| group.name == name && new.proto.serves(group.proto);
        self.names.groups.find_staged(0, name.hash(), self.writer, is_it).is_some()
    }

    /// Gives a binding another record that differs by a flag; every group that it is in is made anew.
    fn reflag(&mut self, handle: Handle, flag: u16, to_be: bool) {
        let Some(binding) = self.binding(handle) else { return };
        let flags = if to_be { binding.flags.0 | flag } else { binding.flags.0 & !flag };
        self.set_flags(handle, Flags(flags));
    }

    /// Gives a binding another record with these flags; every group that it is in is made anew.
    pub(super) fn set_flags(&mut self, handle: Handle, flags: Flags) {
        let Some(mut binding) = self.binding(handle).cloned() else { return };
        self.retire(handle);
        binding.flags = flags;
        let new = self.add(binding);
        self.reflagged.insert(handle, new);
        self.re_place(handle, new);
    }

    /// The record that a binding has now.
    pub(super) fn latest(&self, mut handle: Handle) -> Handle {
        while let Some(&next) = self.reflagged.get(&handle) {
            handle = next;
        }
        handle
    }

    /// Makes every group anew whose members changed. A name that is left with one binding needs no group.
    pub(super) fn make_groups(&mut self) {
        while let Some(&name) = self.regroup.iter().next() {
            self.regroup.remove(&name);
            let flag = match name.space {
                Space::Inside(_) => Flags::SHARED,
                Space::Public => Flags::PUBLIC_SHARED,
            };
            let members = self.take_members(name, flag);
            match members[..] {
                [] => {}
                [(_, only)] => self.reflag(only, flag, false),
                _ => self.make_group(name, &members),
            }
        }
    }

    /// Retires the groups of the name and returns who is to be in the new ones, in the order of identities.
    fn take_members(&mut self, name: ServiceName, flag: u16) -> Vec<(u64, Handle)> {
        let mut handles = self.newcomers.get(&name).cloned().unwrap_or_default();
        let (mut old, mut before) = (Vec::new(), Vec::new());
        self.names.groups.find_all_staged(0, name.hash(), self.writer, |handle, group| {
            if group.name == name {
                old.push(handle);
                handles.extend_from_slice(&group.replicas);
                before.extend_from_slice(&group.ids);
            }
        });
        for handle in old {
            self.names.groups.retire(self.writer, handle);
        }
        let mut members: Vec<(u64, Handle)> = handles
            .into_iter()
            .map(|handle| self.latest(handle))
            .filter_map(|handle| {
                let binding = self.binding(handle).filter(|binding| binding.flags.has(flag))?;
                let container = self.names.containers.get_staged(binding.container, self.writer)?;
                Some((binding_identity(binding, container.identity()), handle))
            })
            .collect();
        members.sort_unstable();
        members.dedup();
        members.truncate(MAX_REPLICAS);
        let is_member =
            |id: &ReplicaId| members.binary_search_by_key(id, |&(identity, _)| ReplicaId::of(identity)).is_ok();
        self.staged.replicas_gone.extend(before.into_iter().filter(|id| !is_member(id)));
        members
    }

    fn make_group(&mut self, name: ServiceName, members: &[(u64, Handle)]) {
        let mut protos: Vec<Proto> = Vec::new();
        for &(_, handle) in members {
            if let Some(binding) = self.binding(handle) {
                protos.extend(binding.proto.each(binding.ip));
            }
        }
        protos.sort_unstable();
        protos.dedup();
        for proto in protos {
            let serving: Vec<(u64, Handle, &Binding)> = members
                .iter()
                .filter_map(|&(identity, handle)| Some((identity, handle, self.binding(handle)?)))
                .filter(|(_, _, binding)| binding.proto.serves(proto))
                .collect();
            let contenders = |eligible: fn(&Binding) -> bool| -> Vec<Contender> {
                let numbered = serving.iter().enumerate();
                numbered
                    .filter(|(_, (_, _, binding))| eligible(binding))
                    .map(|(at, &(identity, _, binding))| Contender {
                        position: at as u16,
                        identity,
                        weight: binding.weight,
                    })
                    .collect()
            };
            let mut chosen = contenders(Binding::is_active);
            if chosen.is_empty() {
                chosen = contenders(Binding::is_eligible);
            }
            let slots = Slots::share(&chosen, &contenders(|_| true));
            let former = self.former(name, proto);
            let former = serving.iter().position(|&(identity, ..)| Some(identity) == former).map(|at| at as u16);
            let replicas = serving.iter().map(|&(_, handle, _)| handle).collect();
            let ids = serving.iter().map(|&(identity, ..)| ReplicaId::of(identity)).collect();
            self.names.groups.insert(self.writer, Group { name, proto, replicas, ids, slots, former });
        }
    }

    /// Who has had the name for itself, as packets see it until this change set is committed.
    fn former(&self, name: ServiceName, proto: Proto) -> Option<u64> {
        let guard = table::pin();
        let before = self.names.view(&guard);
        Some(before.identity(before.named(name, proto)?.former()?.binding))
    }

    pub(super) fn inside_name(&self, binding: &Binding) -> ServiceName {
        ServiceName { space: Space::Inside(binding.network), ip: binding.ip, port: binding.inside_base }
    }

    pub(super) fn public_name(&self, binding: &Binding) -> Option<ServiceName> {
        if !binding.is_public() {
            return None;
        }
        let ip = self.names.public_ips.get_staged(binding.public_ip, self.writer)?.ip;
        Some(ServiceName { space: Space::Public, ip, port: binding.public_port })
    }
}
