//! What an identity or a key names in the staged state.

use crate::table::Handle;
use crate::units::{Ip, Mac, NetworkId};

use super::change::Rule;
use super::hash::{inside_hash, pair_hash};
use super::record::{BY_CONTAINER, BY_ID, BY_INSIDE, BY_PAIR, Binding, Container, blocks_hash, id_hash, shared_hash};
use super::sizes::Sizes;
use super::spec::{BindingKey, BindingSpec, KeyPorts, Ports, Protocol};
use super::staging::Staging;

/// Whose binding is looked for: all of an identity but the ports.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) network: NetworkId,
    proto: Protocol,
    mac: Option<Mac>,
    ip: Ip,
    pub(super) id: Option<&'a str>,
}

impl<'a> Who<'a> {
    pub(super) fn of(network: NetworkId, spec: &'a BindingSpec) -> Who<'a> {
        Who { network, proto: spec.proto, mac: spec.mac, ip: spec.ip, id: spec.id.as_deref() }
    }
}

impl Staging<'_> {
    /// The container of this very MAC.
    pub(super) fn find_pair(&self, who: Who<'_>) -> Option<Handle> {
        let id = who.id.map(|text| self.names.container_id(text));
        let is_it = |c: &Container| c.ip == who.ip && c.mac() == who.mac && c.network == who.network && c.id == id;
        let hash = pair_hash(who.network, who.mac, who.ip);
        self.names.containers.find_staged(BY_PAIR, hash, self.writer, is_it).map(|(handle, _)| handle)
    }

    /// Calls `each` with every container of that identity: where an id stands in for the MAC, a MAC that changes
    /// makes two for a while.
    fn each_container(&self, who: Who<'_>, mut each: impl FnMut(Handle)) {
        let Some(text) = who.id else {
            self.find_pair(who).into_iter().for_each(each);
            return;
        };
        let id = self.names.container_id(text);
        let hash = id_hash(who.network, id, who.ip);
        self.names.containers.find_all_staged(BY_ID, hash, self.writer, |handle, c| {
            if c.ip == who.ip && c.network == who.network && c.id == Some(id) {
                each(handle);
            }
        });
    }

    /// The binding of this identity, in the staged state.
    pub(super) fn find_ports(&self, who: Who<'_>, inside: Ports) -> Option<Handle> {
        let mut found = None;
        self.each_container(who, |container| found = found.or_else(|| self.find_of(container, who, inside)));
        found
    }

    /// The same of a container.
    pub(super) fn find_of(&self, container: Handle, who: Who<'_>, inside: Ports) -> Option<Handle> {
        let ((base, log2), is_block) = (inside.base_and_log2(), matches!(inside, Ports::Block(_)));
        let is_it = |binding: &Binding| {
            binding.container == container
                && binding.inside_base == base
                && binding.log2 == log2
                && binding.is_block() == is_block
                && binding.proto == who.proto
        };
        let bindings = &self.names.bindings;
        let find = |index, hash| bindings.find_staged(index, hash, self.writer, is_it).map(|(handle, _)| handle);
        let around = self.names.inside_sizes.around(base);
        let own_name = is_block || around & Sizes::SERVICE != 0;
        let found = if own_name { find(BY_INSIDE, inside_hash(who.network, who.ip, base, log2)) } else { None };
        let shared = found.is_none() && !is_block && around & Sizes::GROUP != 0;
        if shared { find(BY_CONTAINER, shared_hash(container, base)) } else { found }
    }

    /// The container's only block of equal numbers for that protocol; else how many there are.
    pub(super) fn find_same_numbers(&self, who: Who<'_>) -> Result<Handle, usize> {
        let mut found = Vec::new();
        self.each_container(who, |container| {
            let hash = blocks_hash(container);
            self.names.bindings.find_all_staged(BY_CONTAINER, hash, self.writer, |handle, binding| {
                let same = binding.inside_base == binding.wire_base && binding.is_block();
                if binding.container == container && same && binding.proto == who.proto {
                    found.push(handle);
                }
            });
        });
        match found[..] {
            [one] => Ok(one),
            _ => Err(found.len()),
        }
    }

    pub(super) fn find_key(&mut self, key: &BindingKey) -> Result<Handle, (Rule, String)> {
        let missing = || (Rule::NoSuchBinding, "no such binding".to_owned());
        let network = self
            .network(&key.network)
            .ok_or_else(|| (Rule::UnknownNetwork, format!("network `{}` is not configured", key.network)))?;
        let who = Who { network, proto: key.proto, mac: key.mac, ip: key.ip, id: key.id.as_deref() };
        match key.ports {
            KeyPorts::SameNumbers => self.find_same_numbers(who).map_err(|count| match count {
                0 => missing(),
                several => (Rule::Ambiguous, format!("the container has {several} such blocks: give the ports")),
            }),
            KeyPorts::Exactly(ports) => self.find_ports(who, ports).ok_or_else(missing),
        }
    }
}
