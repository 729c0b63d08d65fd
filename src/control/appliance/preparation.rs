//! What can be done before anything is taken: reading, and making memory. An engine that runs is not disturbed.

use std::io;
use std::path::PathBuf;

use super::boot::BootError;
use super::keeping;
use super::own::surrounded;
use super::remembered::{self, Remembered};
use super::stages::Stages;
use super::state_file::network_namespace;
use crate::afxdp::Copying;
use crate::control::assemble::{Assembly, Interface, port_of};
use crate::control::config::{self, Config, Port, Role};
use crate::control::journal::Start;
use crate::control::kernel::{Addresses, Link, capability, links};
use crate::engine::{EngineConfig, Memory, Poll, PortConfig, Resolve};
use crate::units::PortId;

/// A server that is ready to come up.
pub(super) struct Preparation {
    pub config: Config,
    /// By id: those of the configuration, then live ones of a former engine that are still there.
    pub ports: Vec<Planned>,
    /// Where live ports are remembered, and what was there.
    pub ports_file: PathBuf,
    pub remembered: Vec<u8>,
    pub assembly: Assembly,
    /// None if change sets are not to be kept.
    pub journal: Option<Start>,
    /// The workers to be; nothing is known yet of packets in several buffers.
    pub engine: EngineConfig,
    pub stages: Stages,
}

/// A port to be, and its interface.
pub(super) struct Planned {
    pub id: PortId,
    pub port: Port,
    /// It is not of the configuration.
    pub live: bool,
    pub link: Link,
}

impl Preparation {
    /// Reads the kernel's links and the mapping. `with_memory`: packet memory is made meanwhile, since none will be
    /// taken over. `resolve` asks the kernel for a next hop.
    ///
    /// # Errors
    /// An interface that is not there, mistakes in the mapping, netlink's.
    pub fn new(config: Config, with_memory: bool, resolve: Resolve, stages: Stages) -> Result<Preparation, BootError> {
        let all = links().map_err(BootError::Kernel)?;
        let ports_file = config.engine.ports_file(network_namespace(), config.server.ips[0]);
        let (known, remembered) = remembered::read(&ports_file);
        let planned = plan(&config, &all, known)?;
        let ports = planned.iter().map(|planned| port_config(planned.id, &planned.link, planned.live));
        let ports = ports.collect::<io::Result<Vec<PortConfig>>>().map_err(BootError::Kernel)?;
        stages.done("interfaces looked at");
        let cores = match config.engine.cores.as_slice() {
            [] => vec![None],
            cores => cores.iter().map(|&core| usize::try_from(core).ok()).collect(),
        };
        // Where it can't be begun now, it is made when it is needed.
        let spare = config.engine.spare_queues as usize;
        let memory = with_memory.then(|| Memory::begin(&ports, cores.len(), spare).ok()).flatten();
        let poll = match config.engine.poll {
            config::Poll::Busy => Poll::Busy,
            config::Poll::Adaptive => Poll::Adaptive,
        };
        let (ring_size, inherited) = (None, Vec::new());
        let engine = EngineConfig { cores, poll, ports, spare, ring_size, inherited, memory, resolve };
        let interface = |name: &str| {
            let link = all.iter().find(|link| link.name == name)?;
            Some(Interface { mac: link.mac?, mtu: link.mtu })
        };
        let (mut assembly, journal) = keeping::assemble(&config, interface)?;
        for Planned { id, port, link, .. } in planned.iter().filter(|planned| planned.live) {
            let port = port_of(port, &assembly.names, interface(&link.name));
            assembly.around = assembly.around.with_port(*id, Some(port));
        }
        stages.done("mapping read");
        Ok(Preparation { config, ports: planned, ports_file, remembered, assembly, journal, engine, stages })
    }

    /// Takes note of the kernel's addresses, which the programs have to know of from the beginning.
    pub fn with_addresses(mut self, addresses: &Addresses) -> Preparation {
        self.assembly.around = surrounded(&self.assembly.around, addresses);
        self
    }

    /// The workers' configuration, now that it is known where packets arrive in several buffers.
    pub fn set_frags(&mut self, frags: &[bool]) {
        for (port, &frags) in self.engine.ports.iter_mut().zip(frags) {
            port.multi_buffer = frags;
        }
    }
}

fn link_of(port: &config::Port, links: &[Link]) -> Result<Link, BootError> {
    let found = port.interface.as_deref().and_then(|name| links.iter().find(|link| link.name == name));
    found.cloned().ok_or_else(|| BootError::NoInterface { port: port.name.clone(), interface: port.interface.clone() })
}

/// The ports of the configuration, and live ones of a former engine that are still there, by id.
fn plan(config: &Config, links: &[Link], known: Vec<Remembered>) -> Result<Vec<Planned>, BootError> {
    let mut planned = Vec::with_capacity(config.ports.len() + known.len());
    for (index, port) in config.ports.iter().enumerate() {
        let link = link_of(port, links)?;
        planned.push(Planned { id: PortId(index as u16), port: port.clone(), live: false, link });
    }
    for Remembered { id, ifindex, port } in known {
        let name = port.name.clone();
        let found = links.iter().find(|link| link.index == ifindex && Some(&link.name) == port.interface.as_ref());
        let is_known = |network: &str| config.network(network).is_some();
        let is_same = |other: &Port| other.name == port.name || other.interface == port.interface;
        let why_not = match (&port.role, found) {
            (_, None) => "its interface is gone",
            _ if config.ports.iter().any(is_same) => "the configuration has its name or its interface",
            (Role::Access { network, .. }, _) if !is_known(network) => "its network is not in the configuration",
            (_, Some(link)) => {
                // The place that it had decides which worker has its sockets.
                let is_taken = |id: PortId| planned.iter().any(|other: &Planned| other.id == id);
                let free = || (0..=u16::MAX).map(PortId).find(|&id| !is_taken(id)).unwrap_or(id);
                let id = if is_taken(id) { free() } else { id };
                planned.push(Planned { id, port, live: true, link: link.clone() });
                tracing::info!(port = name, "a port that was attached live is attached again");
                continue;
            }
        };
        tracing::warn!(port = name, "a port that was attached live is not attached again: {why_not}");
    }
    planned.sort_by_key(|planned| planned.id);
    Ok(planned)
}

/// How the engine is to serve a port with this interface; nothing is known yet of packets in several buffers.
pub(super) fn port_config(id: PortId, link: &Link, live: bool) -> io::Result<PortConfig> {
    let capability = capability(link.index)?;
    // Each attempt at zero-copy pins all packet memory once more, in vain with most virtual devices.
    let copies = capability.has_zero_copy() == Some(false);
    Ok(PortConfig {
        id,
        ifindex: link.index,
        queues: capability.queues.map_or(link.queues.0, |queues| queues.rx).max(1),
        multi_buffer: false,
        copying: if copies { Copying::Always } else { Copying::AvoidIfPossible },
        live,
    })
}
