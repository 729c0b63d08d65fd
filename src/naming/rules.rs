//! The rules between bindings: what a new one must not do to those that are there, or come with it.

use crate::table::Handle;
use crate::units::PortRange;

use super::change::Rule;
use super::hash::{inside_hash, widen, wire_hash};
use super::record::{BY_INSIDE, BY_PUBLIC, BY_WIRE, Binding, Container, Flags, Group, public_hash, range};
use super::sizes::{Sizes, base_of, exponents};
use super::staging::Staging;

impl Staging<'_> {
    /// Checks a new binding against the staged state, and notes the first clash of each rule.
    pub(super) fn keeps_the_rules(&mut self, put: usize, new: &Binding) -> bool {
        let before = self.clashes.len();
        if let Some(other) = self.wire_overlap(new) {
            let message = "the wire name belongs to another binding: choose other server ports".to_owned();
            self.clash(put, Rule::WireOverlap, Some(other), message);
        }
        if new.is_block() {
            if let Some(other) = self.block_overlap(new) {
                let message = format!(
                    "the inside ports {} overlap those of another client block of {}: give a range of its own",
                    new.inside_ports(),
                    new.ip
                );
                self.clash(put, Rule::InsideOverlap, Some(other), message);
            }
            if let Some((other, rule)) = self.service_within(new) {
                let port = self.binding(other).map_or(0, |other| other.inside_base);
                let message =
                    format!("service port {port} lies {}: give another range", within(rule, new.inside_ports()));
                self.clash(put, rule, Some(other), message);
            }
        } else if let Some((other, rule)) = self.block_around(new) {
            let ports = self.binding(other).map_or(range(0, 0), Binding::inside_ports);
            let message = format!("service port {} lies {}", new.inside_base, within(rule, ports));
            self.clash(put, rule, Some(other), message);
        }
        if let Some(other) = self.published_elsewhere(new) {
            let message = "the public name belongs to another network: choose another address or port".to_owned();
            self.clash(put, Rule::PublicTaken, Some(other), message);
        }
        self.clashes.len() == before
    }

    pub(super) fn binding(&self, handle: Handle) -> Option<&Binding> {
        self.names.bindings.get_staged(handle, self.writer)
    }

    /// Another binding of some of the wire names. Aligned powers of two either nest or are apart: those around need
    /// one probe for each size, those within one for each place, and there are such only from before this change set.
    fn wire_overlap(&self, new: &Binding) -> Option<Handle> {
        let ip = self.names.servers.get_staged(new.server, self.writer)?.ip;
        let find = |base, log2| {
            let hash = wire_hash(ip, base, log2);
            let is_it = |other: &Binding| {
                other.wire_hash == hash
                    && other.wire_base == base
                    && other.log2 == log2
                    && other.proto.overlaps(new.proto)
                    && self.names.servers.get_staged(other.server, self.writer).is_some_and(|server| server.ip == ip)
            };
            self.names.bindings.find_staged(BY_WIRE, widen(hash), self.writer, is_it).map(|(handle, _)| handle)
        };
        let sizes = self.names.wire_sizes.within(new.wire_base, new.log2);
        self.find_nested((new.wire_base, new.log2), sizes, find)
    }

    fn block_overlap(&self, new: &Binding) -> Option<Handle> {
        let sizes = self.names.inside_sizes.within(new.inside_base, new.log2) & !Sizes::SERVICE;
        self.find_nested((new.inside_base, new.log2), sizes, |base, log2| self.find_block(new, base, log2))
    }

    /// A block of the same inside address, whose protocols overlap.
    fn find_block(&self, new: &Binding, base: u16, log2: u8) -> Option<Handle> {
        let is_it = |other: &Binding| {
            other.inside_base == base
                && other.log2 == log2
                && other.ip == new.ip
                && other.network == new.network
                && other.is_block()
                && other.proto.overlaps(new.proto)
        };
        let hash = inside_hash(new.network, new.ip, base, log2);
        self.names.bindings.find_staged(BY_INSIDE, hash, self.writer, is_it).map(|(handle, _)| handle)
    }

    /// Looks in every aligned range that holds, is or lies in the given one.
    fn find_nested(
        &self,
        (base, log2): (u16, u8),
        sizes: u32,
        find: impl Fn(u16, u8) -> Option<Handle>,
    ) -> Option<Handle> {
        exponents(sizes | sizes >> 31).find_map(|size| {
            if size >= log2 {
                return find(base_of(base, size), size);
            }
            if !self.any_older {
                return None;
            }
            let ports = range(base, log2);
            (ports.first..=ports.last).step_by(1 << size).find_map(|base| find(base, size))
        })
    }

    /// A service port of the same inside address within a new block, that must not be there. Services are inserted
    /// after blocks, so that there are such only from before this change set.
    fn service_within(&self, new: &Binding) -> Option<(Handle, Rule)> {
        if !self.any_older {
            return None;
        }
        let ports = new.inside_ports();
        (ports.first..=ports.last).find_map(|port| {
            let sizes = self.names.inside_sizes.around(port);
            if sizes & (Sizes::SERVICE | Sizes::GROUP) == 0 {
                return None;
            }
            let mut found = None;
            self.each_service(new, port, |handle, other| {
                found = found.or(self.forbidden(new, other).map(|rule| (handle, rule)));
            });
            found
        })
    }

    /// Every service binding of the same inside address and that port, whose protocols overlap with those of `new`.
    pub(super) fn each_service(&self, new: &Binding, port: u16, mut each: impl FnMut(Handle, &Binding)) {
        let is_it = |other: &Binding| {
            other.inside_base == port
                && other.ip == new.ip
                && other.network == new.network
                && !other.is_block()
                && other.proto.overlaps(new.proto)
        };
        let hash = inside_hash(new.network, new.ip, port, 0);
        self.names.bindings.find_all_staged(BY_INSIDE, hash, self.writer, |handle, other| {
            if is_it(other) {
                each(handle, other);
            }
        });
        let name = self.inside_name(&Binding { inside_base: port, ..new.clone() });
        self.names.groups.find_all_staged(0, name.hash(), self.writer, |_, group: &Group| {
            for &handle in group.replicas.iter().filter(|_| group.name == name) {
                let handle = self.latest(handle);
                if let Some(other) = self.binding(handle).filter(|other| is_it(other)) {
                    each(handle, other);
                }
            }
        });
    }

    /// A block of the same inside address around a new service port, that must not be there.
    fn block_around(&self, new: &Binding) -> Option<(Handle, Rule)> {
        exponents(self.names.inside_sizes.around(new.inside_base)).find_map(|log2| {
            let handle = self.find_block(new, base_of(new.inside_base, log2), log2)?;
            Some((handle, self.forbidden(self.binding(handle)?, new)?))
        })
    }

    /// Why a service port may not lie in the block.
    fn forbidden(&self, block: &Binding, service: &Binding) -> Option<Rule> {
        let identity = |binding: &Binding| {
            self.names.containers.get_staged(binding.container, self.writer).map(Container::identity)
        };
        if identity(block) != identity(service) {
            Some(Rule::ServiceInBlock)
        } else if block.flags.has(Flags::NATIVE) {
            Some(Rule::ServiceInNative)
        } else {
            None
        }
    }

    fn published_elsewhere(&self, new: &Binding) -> Option<Handle> {
        if !new.is_public() {
            return None;
        }
        let is_it = |other: &Binding| {
            other.public_ip == new.public_ip
                && other.public_port == new.public_port
                && other.is_public()
                && other.proto.overlaps(new.proto)
                && other.network != new.network
        };
        let hash = public_hash(new.public_ip, new.public_port);
        if let Some((handle, _)) = self.names.bindings.find_staged(BY_PUBLIC, hash, self.writer, is_it) {
            return Some(handle);
        }
        let name = self.public_name(new)?;
        let of_group = |group: &Group| {
            let members = group.replicas.iter().filter(|_| group.name == name).map(|&handle| self.latest(handle));
            members.into_iter().find(|&handle| self.binding(handle).is_some_and(is_it))
        };
        let mut found = self.newcomers.get(&name).and_then(|new| {
            new.iter().map(|&handle| self.latest(handle)).find(|&handle| self.binding(handle).is_some_and(is_it))
        });
        self.names.groups.find_all_staged(0, name.hash(), self.writer, |_, group| found = found.or(of_group(group)));
        found
    }
}

fn within(rule: Rule, ports: PortRange) -> String {
    match rule {
        Rule::ServiceInNative => format!("within the container's own native range {ports}"),
        _ => format!("within the client block {ports} of another container of the same address"),
    }
}
