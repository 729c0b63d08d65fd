//! A change set in the making: what it puts and deletes, staged in the tables, where no packet sees it yet.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::table::{Handle, Writer};
use crate::units::{Endpoint, Ip, Mac, NetworkId, PortRange};

use super::ahead::{Ahead, BURST};
use super::change::{Clash, Located, Rule, Wanted};
use super::hash::{ip_hash, mix, text_hash, wire_hash};
use super::health::{Health, Judged};
use super::identity::Who;
use super::live::Names;
use super::placed::Placed;
use super::record::{
    BY_CONTAINER, BY_INSIDE, BY_PUBLIC, BY_WIRE, Binding, Container, ContainerId, Flags, PublicIp, Server, ServiceName,
};
use super::replica::ReplicaId;
use super::sizes::Sizes;
use super::spec::{BindingKey, BindingSpec, Part, Ports, Protocol};
use super::tally::{Referred, Tally};

/// What is staged, once it is known to break no rule.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) added: usize,
    pub(super) replaced: usize,
    pub(super) removed: usize,
    /// Wire names of our own servers that something was done to.
    pub(super) touched: Vec<(Ip, Protocol, PortRange)>,
    /// Portless wire names that something was done to: of our own servers, and published ones of others.
    pub(super) portless: Vec<Endpoint>,
    /// By how much the number of active bindings of a container changes.
    pub(super) active: Tally,
    /// The same of its unhealthy bindings.
    pub(super) unhealthy: Tally,
    /// The same of its bindings to our own ServerIPs.
    pub(super) local: Tally,
    /// By how much the number of a public address's bindings changes that may get new connections.
    pub(super) eligible: Tally,
    /// Public names that a binding gains or loses.
    pub(super) published: Vec<(Ip, u16, Protocol)>,
    /// Bindings that are gone, or have another in their place.
    pub(super) gone: Vec<Handle>,
    /// Positions of the puts that are new, or in the place of another.
    pub(super) put: Vec<u32>,
    /// What is known of bindings from now on.
    pub(super) health: Vec<Judged>,
    /// Bindings that are gone, or moved, of which something was known.
    pub(super) forgotten: Vec<Handle>,
    /// Replicas that have left their service.
    pub(super) replicas_gone: Vec<ReplicaId>,
    /// References counted so far, to be taken back if nothing comes of it.
    pub(super) referred: Referred,
}

impl Staged {
    /// Takes back what was counted. To be called before the tables are rolled back.
    pub(super) fn undo(self, names: &Names, writer: &Writer) {
        self.referred.undo(names, writer);
    }
}

/// A change set in the making.
pub(super) struct Staging<'w> {
    pub(super) names: &'w Names,
    pub(super) writer: &'w mut Writer,
    pub(super) puts: &'w [Located<BindingSpec>],
    placed: Placed,
    /// Puts that are to be inserted, as they are resolved.
    drafts: Vec<Draft>,
    pub(super) clashes: Vec<Clash>,
    pub(super) staged: Staged,
    /// Names of services whose groups are to be made anew, and new members of them.
    pub(super) regroup: HashSet<ServiceName>,
    pub(super) newcomers: HashMap<ServiceName, Vec<Handle>>,
    /// Bindings that got another record only because they share a name now, or no longer do.
    pub(super) reflagged: HashMap<Handle, Handle>,
    /// True while bindings from before this change set are in the tables: then a new block may lie around older,
    /// smaller ones.
    pub(super) any_older: bool,
    last_network: Option<(Arc<str>, NetworkId)>,
    last_server: Option<(Ip, Option<Mac>, Handle)>,
    /// Client blocks and public bindings among the drafts.
    blocks: usize,
    publics: usize,
}

/// A put whose network is known.
#[derive(Clone, Copy)]
pub(super) struct Draft {
    pub(super) put: u32,
    pub(super) network: NetworkId,
    log2: u8,
    /// What was known of the binding that it replaces.
    health: Health,
}

impl<'w> Staging<'w> {
    pub(super) fn new(names: &'w Names, writer: &'w mut Writer, puts: &'w [Located<BindingSpec>]) -> Staging<'w> {
        Staging {
            names,
            writer,
            puts,
            placed: Placed::new(puts.len(), names.len()),
            drafts: Vec::new(),
            clashes: Vec::new(),
            staged: Staged::default(),
            regroup: HashSet::new(),
            newcomers: HashMap::new(),
            reflagged: HashMap::new(),
            any_older: false,
            last_network: None,
            last_server: None,
            blocks: 0,
            publics: 0,
        }
    }

    /// Retires the bindings of these keys.
    pub(super) fn delete(&mut self, keys: &[Located<BindingKey>]) {
        for key in keys {
            match self.find_key(&key.value) {
                Ok(handle) => {
                    self.forget(handle);
                    self.retire(handle);
                    self.staged.gone.push(handle);
                    self.staged.removed += 1;
                }
                Err((rule, message)) => {
                    let binding = Located { line: key.line, value: Wanted::Delete(key.value.clone()) };
                    self.clashes.push(Clash { rule, part: rule.part(), binding, other: None, message });
                }
            }
        }
    }

    /// Finds what each put replaces: nothing is done where it is there already, and what differs is retired.
    /// `renumber`: a `*` block replaces the one of other numbers.
    pub(super) fn match_puts(&mut self, renumber: bool) {
        let none_before = self.names.bindings.is_empty();
        let mut burst = Vec::with_capacity(BURST);
        for first in (0..self.puts.len()).step_by(BURST) {
            let last = self.puts.len().min(first + BURST);
            burst.extend((first..last).filter_map(|put| self.draft(put)));
            if none_before {
                self.staged.added += burst.len();
                burst.drain(..).for_each(|draft| self.add_draft(draft));
                continue;
            }
            self.look_ahead(&burst, Ahead::Identity);
            burst.drain(..).for_each(|draft| self.match_put(draft, renumber));
        }
    }

    fn draft(&mut self, put: usize) -> Option<Draft> {
        let network = self.admit(put)?;
        let (_, log2) = self.puts[put].value.inside.base_and_log2();
        Some(Draft { put: put as u32, network, log2, health: Health::Unknown })
    }

    fn add_draft(&mut self, draft: Draft) {
        let spec = &self.puts[draft.put as usize].value;
        self.blocks += usize::from(spec.is_block());
        self.publics += usize::from(spec.public.is_some());
        self.drafts.push(draft);
        self.staged.put.push(draft.put);
    }

    fn match_put(&mut self, mut draft: Draft, renumber: bool) {
        let put = draft.put as usize;
        let puts = self.puts;
        let spec = &puts[put].value;
        let who = Who::of(draft.network, spec);
        let exact = self.find_ports(who, spec.inside);
        let found = match exact {
            None if renumber && spec.is_same_numbers() => self.find_same_numbers(who).ok(),
            exact => exact,
        };
        let Some(handle) = found else {
            self.staged.added += 1;
            self.add_draft(draft);
            return;
        };
        if self.put_of(handle).is_some() {
            self.clash(put, Rule::SameIdentity, Some(handle), "is the same binding as another".to_owned());
        } else if self.is_unchanged(handle, spec) {
            self.place(handle, put);
        } else {
            draft.health = self.health_where_it_is(handle, spec);
            if draft.health == Health::Unknown {
                self.forget(handle);
            }
            self.retire(handle);
            self.staged.gone.push(handle);
            self.add_draft(draft);
            self.staged.replaced += 1;
        }
    }

    /// Retires every binding that no put stands for.
    pub(super) fn retire_others(&mut self) {
        let others: Vec<Handle> = self
            .names
            .bindings
            .iter_staged(self.writer)
            .map(|(handle, _)| handle)
            .filter(|&handle| self.put_of(handle).is_none())
            .collect();
        self.staged.removed += others.len();
        others.iter().for_each(|&handle| {
            self.forget(handle);
            self.retire(handle);
        });
        self.staged.gone.extend(others);
    }

    /// Inserts the puts that are new or differ. Larger blocks go first, so that none is inserted around a smaller one
    /// of the same change set.
    pub(super) fn insert_puts(&mut self) {
        self.any_older = !self.names.bindings.is_empty();
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.sort_by_key(|draft| Reverse(draft.log2));
        let bindings = &self.names.bindings;
        for (index, more) in
            [(BY_WIRE, drafts.len()), (BY_INSIDE, drafts.len()), (BY_CONTAINER, self.blocks), (BY_PUBLIC, self.publics)]
        {
            bindings.reserve(self.writer, index, more);
        }
        for burst in drafts.chunks(BURST) {
            self.look_ahead(burst, Ahead::AllNames);
            burst.iter().for_each(|&draft| self.insert(draft));
        }
    }

    /// Makes the groups of services anew where they changed, and drops what nothing refers to any more.
    pub(super) fn settle(&mut self) {
        if !self.clashes.is_empty() {
            return;
        }
        self.make_groups();
        self.count_unhealthy();
        self.staged.referred.retire_unused(self.names, self.writer);
    }

    /// What was staged; or all that is wrong with it, in the order of the lines, with the counts as they were.
    pub(super) fn finish(mut self) -> Result<Staged, Vec<Clash>> {
        if self.clashes.is_empty() {
            return Ok(self.staged);
        }
        self.staged.undo(self.names, self.writer);
        self.clashes.sort_by_key(|clash| clash.binding.line);
        Err(self.clashes)
    }

    /// The rules that need no other binding. The network, if they are kept.
    fn admit(&mut self, put: usize) -> Option<NetworkId> {
        let spec = &self.puts[put].value;
        if let Err(fault) = spec.check() {
            self.clash_at(put, Rule::Malformed, fault.part, None, fault.message);
            return None;
        }
        let owned = self.names.owned();
        let outside = match spec.wire {
            Ports::None => None,
            Ports::One(port) => (!owned.contains(port)).then(|| format!("server port {port} is")),
            Ports::Block(range) => (!owned.contains(range.first) || !owned.contains(range.last))
                .then(|| format!("server ports {range} are")),
        };
        if let Some(outside) = outside {
            let message = format!("{outside} outside the owned range {owned} ([server] ports): choose from it");
            self.clash(put, Rule::NotOwned, None, message);
            return None;
        }
        let network = self.network(&spec.network);
        if network.is_none() {
            let message = format!("network `{}` is not configured: add a [[network]] of that name", spec.network);
            self.clash(put, Rule::UnknownNetwork, None, message);
        }
        network
    }

    fn insert(&mut self, draft: Draft) {
        let put = draft.put as usize;
        let puts = self.puts;
        let spec = &puts[put].value;
        let (inside_base, _) = spec.inside.base_and_log2();
        let (wire_base, log2) = spec.wire.base_and_log2();
        let who = Who::of(draft.network, spec);
        let pair = self.find_pair(who);
        let twin = match (who.id, pair) {
            (None, pair) => pair.and_then(|container| self.find_of(container, who, spec.inside)),
            (Some(_), _) => self.find_ports(who, spec.inside),
        };
        if let Some(twin) = twin {
            let message = "has the same identity (network, proto, id, ip, port) as another; \
                           replicas that share their MAC need an id=";
            self.clash(put, Rule::SameIdentity, Some(twin), message.to_owned());
            return;
        }
        let container = match pair {
            Some(container) => container,
            None => self.insert_container(draft.network, spec),
        };
        let server = self.server(spec.server_ip, spec.server_mac);
        let public_ip = spec.public.map(|public| self.public_ip(public.ip));
        let mut flags = Flags::default();
        for (set, flag) in [
            (spec.is_block(), Flags::BLOCK),
            (spec.native, Flags::NATIVE),
            (spec.standby, Flags::STANDBY),
            (spec.drain, Flags::DRAIN),
            (spec.public.is_some(), Flags::PUBLIC),
        ] {
            flags.0 |= if set { flag } else { 0 };
        }
        let flags = flags.with_health(draft.health);
        let mut binding = Binding {
            ip: spec.ip,
            server,
            container,
            public_ip: public_ip.unwrap_or(Handle(u32::MAX)),
            wire_hash: wire_hash(spec.server_ip, wire_base, log2),
            network: draft.network,
            wire_base,
            inside_base,
            public_port: spec.public.and_then(|public| public.port).unwrap_or(inside_base),
            weight: spec.weight,
            proto: spec.proto,
            log2,
            flags,
        };
        if !self.keeps_the_rules(put, &binding) {
            return;
        }
        self.share_names(&mut binding);
        let handle = self.add(binding);
        self.place(handle, put);
    }

    /// Stages a binding with everything that counts or indexes it.
    pub(super) fn add(&mut self, binding: Binding) -> Handle {
        let (wire, inside) = (&self.names.wire_sizes, &self.names.inside_sizes);
        let size = 1u32 << binding.log2;
        wire.add(binding.wire_base, binding.log2, if binding.is_block() { size } else { Sizes::SERVICE });
        let kind = match (binding.is_block(), binding.flags.has(Flags::SHARED)) {
            (true, _) => size,
            (false, true) => Sizes::GROUP,
            (false, false) => Sizes::SERVICE,
        };
        inside.add(binding.inside_base, binding.log2, kind);
        self.account(&binding, 1);
        let (shared, public_shared) = (binding.flags.has(Flags::SHARED), binding.flags.has(Flags::PUBLIC_SHARED));
        let (inside_name, public_name) = (self.inside_name(&binding), self.public_name(&binding));
        let handle = self.names.bindings.insert(self.writer, binding);
        for (shared, name) in [(shared, Some(inside_name)), (public_shared, public_name)] {
            if let Some(name) = name.filter(|_| shared) {
                self.regroup.insert(name);
                self.newcomers.entry(name).or_default().push(handle);
            }
        }
        handle
    }

    /// Stages the end of a binding.
    pub(super) fn retire(&mut self, handle: Handle) {
        let Some(binding) = self.names.bindings.get_staged(handle, self.writer).cloned() else { return };
        self.names.bindings.retire(self.writer, handle);
        if binding.flags.has(Flags::SHARED) {
            self.regroup.insert(self.inside_name(&binding));
        }
        if binding.flags.has(Flags::PUBLIC_SHARED)
            && let Some(name) = self.public_name(&binding)
        {
            self.regroup.insert(name);
        }
        self.account(&binding, -1);
    }

    fn account(&mut self, binding: &Binding, by: i32) {
        let Staged { referred, active, unhealthy, local, eligible, published, touched, portless, .. } =
            &mut self.staged;
        let (names, writer) = (self.names, &*self.writer);
        if let Some(container) = names.containers.get_staged(binding.container, writer) {
            referred.containers.count(&container.bindings, binding.container, by);
        }
        let server = names.servers.get_staged(binding.server, writer);
        if let Some(server) = server {
            referred.servers.count(&server.bindings, binding.server, by);
        }
        if binding.is_public()
            && let Some(public) = names.public_ips.get_staged(binding.public_ip, writer)
        {
            referred.public_ips.count(&public.bindings, binding.public_ip, by);
            if binding.is_eligible() {
                eligible.add(binding.public_ip, by);
            }
            published.push((public.ip, binding.public_port, binding.proto));
        }
        if binding.is_active() {
            active.add(binding.container, by);
        }
        if binding.is_unhealthy() {
            unhealthy.add(binding.container, by);
        }
        if let (Some(server), Protocol::One(proto)) = (server, binding.proto)
            && !proto.has_ports()
            && (server.local || binding.is_public())
        {
            portless.push(Endpoint { proto, ip: server.ip, port: 0 });
        }
        if let Some(server) = server.filter(|server| server.local) {
            local.add(binding.container, by);
            touched.push((server.ip, binding.proto, binding.wire_ports()));
        }
    }

    fn place(&mut self, handle: Handle, put: usize) {
        self.placed.place(handle, put);
    }

    /// The put that a binding stands for.
    pub(super) fn put_of(&self, handle: Handle) -> Option<usize> {
        self.placed.put_of(handle)
    }

    /// Hands the put of one record over to another.
    pub(super) fn re_place(&mut self, from: Handle, to: Handle) {
        if let Some(put) = self.put_of(from) {
            self.place(to, put);
        }
    }

    pub(super) fn clash(&mut self, put: usize, rule: Rule, other: Option<Handle>, message: String) {
        self.clash_at(put, rule, rule.part(), other, message);
    }

    fn clash_at(&mut self, put: usize, rule: Rule, part: Part, other: Option<Handle>, message: String) {
        let Located { line, value } = &self.puts[put];
        let binding = Located { line: *line, value: Wanted::Put(value.clone()) };
        let other = other.and_then(|handle| match self.put_of(handle) {
            Some(put) => Some(self.puts[put].clone()),
            None => self.describe(handle).map(|value| Located { line: 0, value }),
        });
        self.clashes.push(Clash { rule, part, binding, other, message });
    }

    fn describe(&self, handle: Handle) -> Option<BindingSpec> {
        let names = self.names;
        let binding = names.bindings.get_staged(handle, self.writer)?;
        let container = names.containers.get_staged(binding.container, self.writer)?;
        let server = names.servers.get_staged(binding.server, self.writer)?;
        let public = names.public_ips.get_staged(binding.public_ip, self.writer).filter(|_| binding.is_public());
        Some(super::describe::spec_of(names, binding, server, container, public.map(|public| public.ip)))
    }

    /// Whether a binding of this identity is what `spec` says.
    fn is_unchanged(&self, handle: Handle, spec: &BindingSpec) -> bool {
        let (names, writer) = (self.names, &*self.writer);
        let Some(binding) = names.bindings.get_staged(handle, writer) else { return false };
        let Some(container) = names.containers.get_staged(binding.container, writer) else { return false };
        let Some(server) = names.servers.get_staged(binding.server, writer) else { return false };
        let is_public = || match spec.public {
            None => !binding.is_public(),
            Some(public) => {
                let there = names.public_ips.get_staged(binding.public_ip, writer).map(|there| there.ip);
                binding.is_public()
                    && there == Some(public.ip)
                    // Not said is the inside port.
                    && binding.public_port == public.port.unwrap_or(binding.inside_base)
            }
        };
        binding.wire_base == spec.wire.base_and_log2().0
            && (binding.inside_base, binding.log2) == spec.inside.base_and_log2()
            && (server.ip, server.mac) == (spec.server_ip, spec.server_mac)
            && container.mac() == spec.mac
            && binding.weight == spec.weight
            && binding.is_standby() == spec.standby
            && binding.is_draining() == spec.drain
            && binding.is_native() == spec.native
            && is_public()
    }

    pub(super) fn network(&mut self, name: &Arc<str>) -> Option<NetworkId> {
        if let Some((last, id)) = &self.last_network
            && (Arc::ptr_eq(last, name) || last == name)
        {
            return Some(*id);
        }
        let id = self.names.networks().id(name)?;
        self.last_network = Some((Arc::clone(name), id));
        Some(id)
    }

    fn insert_container(&mut self, network: NetworkId, spec: &BindingSpec) -> Handle {
        let id: Option<ContainerId> = spec.id.as_deref().map(|text| self.names.container_id(text));
        let who = match (&spec.id, spec.mac) {
            (Some(text), _) => text_hash(text),
            (None, mac) => mac.map_or(0, |Mac([a, b, c, d, e, f])| u64::from_be_bytes([0, 1, a, b, c, d, e, f])),
        };
        let (high, low) = ((spec.ip.bits() >> 64) as u64, spec.ip.bits() as u64);
        let owner = mix(mix(self.names.networks().name_hash(network), who), mix(high, low)) | 1;
        let container = Container::new(network, spec.mac, spec.ip, id, owner);
        self.names.containers.insert(self.writer, container)
    }

    fn server(&mut self, ip: Ip, mac: Option<Mac>) -> Handle {
        if let Some((last_ip, last_mac, handle)) = self.last_server
            && (last_ip, last_mac) == (ip, mac)
        {
            return handle;
        }
        let servers = &self.names.servers;
        let mut local = false;
        let found = servers.find_staged(0, ip_hash(ip), self.writer, |server| {
            local |= server.ip == ip && server.local;
            server.ip == ip && server.mac == mac
        });
        let handle = match found {
            Some((handle, _)) => handle,
            None => servers.insert(self.writer, Server { ip, mac, local, bindings: AtomicU32::new(0) }),
        };
        self.last_server = Some((ip, mac, handle));
        handle
    }

    fn public_ip(&mut self, ip: Ip) -> Handle {
        let found = self.names.public_ips.find_staged(0, ip_hash(ip), self.writer, |public| public.ip == ip);
        match found {
            Some((handle, _)) => handle,
            None => {
                let counts = (AtomicU32::new(0), AtomicU32::new(0));
                self.names.public_ips.insert(self.writer, PublicIp { ip, bindings: counts.0, eligible: counts.1 })
            }
        }
    }
}
