//! The live tables: the mapping as packets see it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use crate::table::{Guard, Table, Timeline, Writer};
use crate::units::{Ip, NetworkId, PortRange};

use super::network::Networks;
use super::record::{Binding, Container, ContainerId, Group, Illness, PublicIp, Server};
use super::sizes::Sizes;
use super::view::View;
use super::writer::NamesWriter;

/// All bindings, under every name that packets and changes look them up by.
///
/// Written by: the one [`NamesWriter`]. Read by: every worker, through a [`View`] that it takes once a burst.
pub struct Names {
    pub(super) timeline: Arc<Timeline>,
    pub(super) bindings: Arc<Table<Binding, 4>>,
    pub(super) containers: Arc<Table<Container, 3>>,
    pub(super) servers: Arc<Table<Server, 1>>,
    pub(super) public_ips: Arc<Table<PublicIp, 1>>,
    pub(super) groups: Arc<Table<Group, 1>>,
    pub(super) illnesses: Arc<Table<Illness, 1>>,
    pub(super) wire_sizes: Sizes,
    pub(super) inside_sizes: Sizes,
    networks: Arc<Networks>,
    network_names: Vec<Arc<str>>,
    owned: PortRange,
    ids: Mutex<Ids>,
}

/// The texts of `id=` options. One that was used once is kept until the process ends.
#[derive(Default)]
struct Ids {
    by_text: HashMap<Arc<str>, ContainerId>,
    texts: Vec<Arc<str>>,
}

impl Names {
    /// Empty tables of a server that is `local` under its own addresses, and the right to write them. `owned` is the
    /// range of server ports, equal on all servers.
    #[must_use]
    pub fn new(networks: Arc<Networks>, local: &[Ip], owned: PortRange) -> (Arc<Names>, NamesWriter) {
        let mut writer = Writer::new();
        let names = Arc::new(Names {
            timeline: writer.timeline().clone(),
            bindings: writer.table(),
            containers: writer.table(),
            servers: writer.table(),
            public_ips: writer.table(),
            groups: writer.table(),
            illnesses: writer.table(),
            wire_sizes: Sizes::new(),
            inside_sizes: Sizes::new(),
            network_names: networks.iter().map(|(_, network)| network.name.as_str().into()).collect(),
            networks,
            owned,
            ids: Mutex::default(),
        });
        let writer = NamesWriter::new(Arc::clone(&names), writer, local);
        (names, writer)
    }

    /// The mapping as of now, whole, for as long as the guard is held. Taken once a burst.
    #[inline]
    #[must_use]
    pub fn view<'g>(&'g self, guard: &'g Guard) -> View<'g> {
        View::new(self, self.timeline.snapshot(guard))
    }

    /// The networks whose names these are. What they may do is in force elsewhere: policy changes, names and ids do not.
    #[must_use]
    pub fn networks(&self) -> &Arc<Networks> {
        &self.networks
    }

    /// The server ports that belong to the engine, on every server.
    #[must_use]
    pub fn owned(&self) -> PortRange {
        self.owned
    }

    /// What an `id=` text stands for, in bindings now and to come. For configuration: it takes a lock.
    pub fn container_id(&self, text: &str) -> ContainerId {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = ids.by_text.get(text) {
            return id;
        }
        let text: Arc<str> = text.into();
        ids.texts.push(Arc::clone(&text));
        let id = ContainerId(NonZeroU32::new(ids.texts.len() as u32).unwrap_or(NonZeroU32::MAX));
        ids.by_text.insert(text, id);
        id
    }

    /// The name of a network, as bindings carry it.
    pub(super) fn network_name(&self, id: NetworkId) -> Arc<str> {
        self.network_names.get(usize::from(id.0)).cloned().unwrap_or_default()
    }

    /// The text that an id stands for.
    #[must_use]
    pub fn id_text(&self, id: ContainerId) -> Option<Arc<str>> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.texts.get(id.0.get() as usize - 1).cloned()
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Live records of all tables: bindings and what they refer to.
    #[must_use]
    pub fn records(&self) -> usize {
        self.bindings.len()
            + self.containers.len()
            + self.servers.len()
            + self.public_ips.len()
            + self.groups.len()
            + self.illnesses.len()
    }

    /// Records that change sets have ended and that are not yet freed, since a worker may still hold them.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.timeline.retired()
    }

    /// How often all workers were waited for, to free what was retired before.
    #[must_use]
    pub fn grace_periods(&self) -> u64 {
        self.timeline.grace_periods()
    }

    /// Places of all tables that ever held a record. What is neither live nor retired of them is vacant.
    #[must_use]
    pub fn places(&self) -> usize {
        self.bindings.places()
            + self.containers.places()
            + self.servers.places()
            + self.public_ips.places()
            + self.groups.places()
            + self.illnesses.places()
    }

    /// What the tables cost, but for the choice tables of services with several replicas: see
    /// [`View::slots_bytes`].
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bindings.memory_bytes()
            + self.containers.memory_bytes()
            + self.servers.memory_bytes()
            + self.public_ips.memory_bytes()
            + self.groups.memory_bytes()
            + self.illnesses.memory_bytes()
    }
}
