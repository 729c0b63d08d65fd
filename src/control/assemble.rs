//! From configuration and mapping to what the engine runs on: the same for `run`, `replay`, `explain` and the tests.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{self, Config, Mistake, Position};
use super::journal::{FileMark, Start};
use crate::flow::{Geometry, Holding, State, Timers};
use crate::naming::{
    self, BindingKey, BindingSpec, Health, HealthReport, Located, Names, NamesWriter, Prepared, ReplicaId, View,
};
use crate::neighbour::{Fib, Station};
use crate::path::{Access, OwnAddresses, Port, Probed, Role, Surroundings};
use crate::table;
use crate::units::{Endpoint, Ip, Mac, NetworkId, PortId, Tick, VlanTags};

/// MTU of a port that neither the configuration nor an interface tells of (IEEE 802.3).
const DEFAULT_MTU: u32 = 1500;

/// An interface's own MAC, and its MTU in bytes of IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface {
    pub mac: Mac,
    pub mtu: u32,
}

/// Tables and surroundings of one engine.
pub struct Assembly {
    pub around: Surroundings,
    pub names: Arc<Names>,
    pub writer: NamesWriter,
    pub timers: Timers,
}

impl Assembly {
    /// Reads the mapping and puts everything together. `interface` tells of an interface by its name; replay has none.
    ///
    /// # Errors
    /// Every mistake of the mapping, in its own lines and between them.
    pub fn new(config: &Config, interface: impl Fn(&str) -> Option<Interface>) -> Result<Assembly, Vec<Mistake>> {
        Assembly::of(config, &Mapping::File(MappingFile::read(config)?), interface)
    }

    /// As [`Assembly::new`], with the mapping at hand.
    ///
    /// # Errors
    /// Every mistake between its bindings, and between them and the configuration.
    pub fn of(
        config: &Config,
        mapping: &Mapping<'_>,
        interface: impl Fn(&str) -> Option<Interface>,
    ) -> Result<Assembly, Vec<Mistake>> {
        let networks = config.build_networks().map_err(|err| vec![Mistake::in_file(&config.file, err.to_string())])?;
        let networks = Arc::new(networks);
        let (names, mut writer) = Names::new(Arc::clone(&networks), &config.server.ips, config.server.ports);
        mapping.prepare(&mut writer)?.commit();
        let port = |port: &config::Port| port_of(port, &names, port.interface.as_deref().and_then(&interface));
        let ports: Vec<Port> = config.ports.iter().map(port).collect();
        let is_uplink = |(id, port): (usize, &Port)| {
            matches!(port.role, Role::Uplink { .. }).then(|| u16::try_from(id).ok().map(PortId)).flatten()
        };
        let uplinks: Vec<PortId> = ports.iter().enumerate().filter_map(is_uplink).collect();
        let around = Surroundings {
            has_tags: ports.iter().any(|port| !port.tags.is_none()),
            is_gateway: ports.iter().any(|port| port.role.is_external()),
            ports: ports.into_iter().map(Some).collect(),
            networks,
            servers: config.server.ips.clone(),
            kernels: Arc::default(),
            owned: config.server.ports,
            gateways: config.server.gateways.clone(),
            only_uplink: if let [only] = uplinks[..] { Some(only) } else { None },
            uplinks,
            probed: Arc::new(probed(config, &names)),
        };
        let around = with_configured_addresses(around, config, |name| interface(name).is_some());
        Ok(Assembly { around, names, writer, timers: config.timers })
    }
}

/// What the walk knows of a port, with its interface where it has one.
#[must_use]
pub fn port_of(port: &config::Port, names: &Names, found: Option<Interface>) -> Port {
    Port {
        name: port.name.clone(),
        role: role(&port.role, names),
        mac: found.map(|found| found.mac).or(port.address).unwrap_or(Mac::ZERO),
        mtu: found.map(|found| mtu_within(found.mtu, port.tags)).or(port.mtu.map(u32::from)).unwrap_or(DEFAULT_MTU),
        tags: port.tags,
        own: OwnAddresses::default(),
    }
}

/// Gives ports without an interface the addresses that the configuration says; others have what the kernel tells of them.
fn with_configured_addresses(around: Surroundings, config: &Config, is_there: impl Fn(&str) -> bool) -> Surroundings {
    let ports = (0..).map(PortId).zip(&config.ports);
    let ports = ports.filter(|(_, port)| !port.interface.as_deref().is_some_and(&is_there));
    let by_port: Vec<(PortId, Ip)> = ports.flat_map(|(id, port)| port.ips.iter().map(move |&ip| (id, ip))).collect();
    if by_port.is_empty() {
        return around;
    }
    let all: BTreeSet<Ip> = by_port.iter().map(|&(_, ip)| ip).collect();
    around.with_addresses(all.into_iter().collect(), &by_port)
}

/// The largest IP packet that one buffer of 4 KiB holds, beside 256 bytes of headroom, the kernel's own tail
/// (`skb_shared_info`, 320 bytes), the Ethernet header and two VLAN tags. Larger ones come in several.
pub const SINGLE_BUFFER_MTU: u32 = 4096 - 256 - 320 - 14 - 8;

/// The MTU of a port whose packets come in one buffer, or in several.
#[must_use]
pub fn mtu_in_buffers(mtu: u32, several: bool) -> u32 {
    if several { mtu } else { mtu.min(SINGLE_BUFFER_MTU) }
}

/// What an interface's MTU leaves for IP. One tag is no part of it: all Ethernet hardware takes four bytes more (IEEE
/// 802.3 clause 3.2.7; `is_skb_forwardable` of Linux), and no more than four.
#[must_use]
pub fn mtu_within(interface: u32, tags: VlanTags) -> u32 {
    interface.saturating_sub(tags.byte_len().saturating_sub(4) as u32)
}

/// A whole mapping, and where it comes from.
pub enum Mapping<'c> {
    File(MappingFile<'c>),
    /// From the journal at this path.
    Journal(PathBuf, Vec<Located<BindingSpec>>),
}

impl Mapping<'_> {
    /// The mapping that an engine starts with, of the journal or of the mapping file, whose content is `text`.
    ///
    /// # Errors
    /// Every mistake in the mapping file, if it is needed.
    pub fn at_start<'c>(config: &'c Config, start: &mut Start, text: Vec<u8>) -> Result<Mapping<'c>, Vec<Mistake>> {
        let path = start.path().to_owned();
        let Some(recovered) = start.recovered() else { return MappingFile::parse(config, text).map(Mapping::File) };
        let base = if recovered.complete { Vec::new() } else { MappingFile::parse(config, text)?.bindings };
        Ok(Mapping::Journal(path, recovered.take_mapping(base)))
    }

    /// Its bindings, in no particular order.
    #[must_use]
    pub fn bindings(&self) -> &[Located<BindingSpec>] {
        match self {
            Mapping::File(file) => &file.bindings,
            Mapping::Journal(_, bindings) => bindings,
        }
    }

    /// Stages it as the whole mapping.
    ///
    /// # Errors
    /// Every mistake between its bindings, and between them and the configuration.
    pub fn prepare<'w>(&'w self, writer: &'w mut NamesWriter) -> Result<Prepared<'w>, Vec<Mistake>> {
        match self {
            Mapping::File(file) => file.prepare(writer),
            Mapping::Journal(path, bindings) => writer
                .prepare_replacement(bindings)
                .map_err(|clashes| clashes.iter().map(|clash| Mistake::in_file(path, in_words(clash))).collect()),
        }
    }
}

/// Makes this all that is known of the health of bindings in force.
pub fn recall(writer: &mut NamesWriter, mut health: Vec<Located<HealthReport>>) {
    let names = Arc::clone(writer.names());
    let known: HashSet<&BindingKey> = health.iter().map(|report| &report.value.binding).collect();
    let others: Vec<_> = names
        .view(&table::pin())
        .known_health()
        .filter(|note| !known.contains(&note.binding))
        .map(|note| HealthReport::new(note.binding, Health::Unknown))
        .collect();
    health.extend(others.into_iter().map(|value| Located { line: 0, value }));
    match writer.prepare_with_health(&[], &[], &health) {
        Ok(prepared) => _ = prepared.commit(),
        Err(clashes) => clashes.iter().for_each(|clash| tracing::error!("{}", in_words(clash))),
    }
}

/// A clash of a binding that is not on a line.
fn in_words(clash: &naming::Clash) -> String {
    match &clash.binding.value {
        naming::Wanted::Put(binding) => format!("`{binding}`: {clash}"),
        naming::Wanted::Delete(key) => format!("`{key}`: {clash}"),
        naming::Wanted::Health(report) => format!("`{}`: {clash}", report.binding),
    }
}

/// The mapping file that the configuration names, as it was read.
pub struct MappingFile<'c> {
    config: &'c Config,
    text: Vec<u8>,
    bindings: Vec<Located<BindingSpec>>,
}

impl MappingFile<'_> {
    /// Reads the file.
    ///
    /// # Errors
    /// It can't be read, or every mistake in it: those of single lines and those between them.
    pub fn read(config: &Config) -> Result<MappingFile<'_>, Vec<Mistake>> {
        MappingFile::parse(config, MappingFile::text(config)?)
    }

    /// What is in the file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn text(config: &Config) -> Result<Vec<u8>, Vec<Mistake>> {
        fs::read(&config.server.mapping).map_err(|err| {
            let at = Some(config.server.mapping_at);
            let message = format!("the mapping {} can't be read: {err}", config.server.mapping.display());
            vec![Mistake { file: config.file.clone(), at, message }]
        })
    }

    /// As [`MappingFile::read`], with the text at hand.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(config: &Config, text: Vec<u8>) -> Result<MappingFile<'_>, Vec<Mistake>> {
        let (bindings, mistakes) = naming::read_mapping(&text);
        let file = MappingFile { config, text, bindings };
        if mistakes.is_empty() {
            return Ok(file);
        }
        // All is told at once.
        let clashes = clashes(config, &file.bindings);
        Err(file.mistakes(mistakes, &clashes))
    }

    /// Its content, as a journal remembers it.
    #[must_use]
    pub fn mark(&self) -> FileMark {
        FileMark::of(&self.text)
    }

    /// Stages the file as the whole mapping.
    ///
    /// # Errors
    /// Every mistake between its lines, and between them and the configuration.
    pub fn prepare<'w>(&'w self, writer: &'w mut NamesWriter) -> Result<Prepared<'w>, Vec<Mistake>> {
        writer.prepare_replacement(&self.bindings).map_err(|clashes| self.mistakes(Vec::new(), &clashes))
    }

    fn mistakes(&self, mut mistakes: Vec<naming::Mistake>, clashes: &[naming::Clash]) -> Vec<Mistake> {
        mistakes.extend(clashes.iter().map(|clash| naming::locate(&self.text, clash)));
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        mistakes.into_iter().map(|mistake| in_mapping(&self.config.server.mapping, mistake)).collect()
    }
}

/// What is wrong between bindings, found with tables that nobody reads.
fn clashes(config: &Config, bindings: &[Located<BindingSpec>]) -> Vec<naming::Clash> {
    let Ok(networks) = config.build_networks() else { return Vec::new() };
    let (_, mut writer) = Names::new(Arc::new(networks), &config.server.ips, config.server.ports);
    writer.replace(bindings).err().unwrap_or_default()
}

fn in_mapping(file: &Path, mistake: naming::Mistake) -> Mistake {
    let at = Position { line: mistake.line as usize, column: mistake.column as usize };
    Mistake { file: file.to_owned(), at: Some(at), message: mistake.message }
}

/// The names that `[[health]]` is about.
fn probed(config: &Config, names: &Names) -> Probed {
    Probed::new(config.health.iter().map(|check| {
        let end = Endpoint { proto: check.proto, ip: check.ip, port: check.port };
        Some((names.networks().id(&check.network)?, end))
    }))
}

fn role(role: &config::Role, names: &Names) -> Role {
    match role {
        config::Role::Uplink { external, .. } => Role::Uplink { external: *external },
        config::Role::External { .. } => Role::External,
        config::Role::Access { network, mac, id } => Role::Access(Access {
            network: names.networks().id(network).unwrap_or(NetworkId(u16::MAX)),
            pinned: *mac,
            id: id.as_deref().map(|id| names.container_id(id)),
        }),
    }
}

/// What the configuration alone says of next hops; the kernel's own are added while the engine runs.
#[must_use]
pub fn fixed_hops(config: &Config) -> Fib {
    let station = |neighbour: &config::Neighbour| {
        let port = neighbour.port.as_deref().and_then(|name| config.port_id(name));
        (neighbour.ip, Station { mac: neighbour.mac, port })
    };
    Fib::new(config.neighbours.iter().map(station), config.server.router)
}

/// Who holds which wire names of our own ServerIPs, for the state to settle.
#[must_use]
pub fn holdings(names: &View<'_>) -> Vec<Holding> {
    let mut holdings = Vec::new();
    for binding in names.local_bindings() {
        let Some(server) = names.server_of(binding) else { continue };
        let owner = names.owner(binding);
        for proto in binding.proto().each(server.ip) {
            holdings.push(Holding { server: server.ip, proto, ports: binding.wire_ports(), owner });
        }
    }
    holdings
}

/// Forgets the flows of replicas that the mapping no longer has: those that were removed while no engine ran.
pub fn forget_lost_replicas(state: &State, names: &View<'_>, now: Tick) {
    let mut lost: HashSet<ReplicaId> = state.affinity().flows(now).collect();
    if lost.is_empty() {
        return;
    }
    for binding in names.bindings() {
        lost.remove(&ReplicaId::of(names.identity(binding)));
    }
    state.affinity().forget_replicas(|id| !lost.contains(&id));
}

/// State that no file keeps and nothing rests in, settled for the mapping: for replay and questions.
///
/// # Errors
/// No memory for it.
pub fn state_in_memory(assembly: &Assembly, now: Tick) -> io::Result<State> {
    let geometry = Geometry { servers: assembly.around.servers.clone(), ports: assembly.around.owned };
    let state = State::memory(&geometry)?.with_timers(assembly.timers);
    state.set_quarantine(0);
    let guard = table::pin();
    state.settle(&holdings(&assembly.names.view(&guard)), now);
    Ok(state)
}
