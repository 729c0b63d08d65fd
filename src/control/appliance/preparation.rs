//! What can be done before anything is taken: reading, and making memory. An engine that runs is not disturbed.

use super::boot::BootError;
use super::keeping;
use super::stages::Stages;
use crate::afxdp::Copying;
use crate::control::assemble::{Assembly, Interface};
use crate::control::config::{self, Config};
use crate::control::journal::Start;
use crate::control::kernel::{Link, capability, links};
use crate::engine::{EngineConfig, Memory, Poll, PortConfig, Resolve};
use crate::units::PortId;

/// A server that is ready to come up.
pub(super) struct Preparation {
    pub config: Config,
    /// By port.
    pub links: Vec<Link>,
    pub assembly: Assembly,
    /// None if change sets are not to be kept.
    pub journal: Option<Start>,
    /// The workers to be; nothing is known yet of packets in several buffers.
    pub engine: EngineConfig,
    pub stages: Stages,
}

impl Preparation {
    /// Reads the kernel's links and the mapping. `with_memory`: packet memory is made meanwhile, since none will be
    /// taken over. `resolve` asks the kernel for a next hop.
    ///
    /// # Errors
    /// An interface that is not there, mistakes in the mapping, netlink's.
    pub fn new(config: Config, with_memory: bool, resolve: Resolve, stages: Stages) -> Result<Preparation, BootError> {
        let all = links().map_err(BootError::Kernel)?;
        let links = config.ports.iter().map(|port| link_of(port, &all)).collect::<Result<Vec<Link>, BootError>>()?;
        let ports = links.iter().enumerate().map(|(index, link)| port_config(index, link));
        let ports = ports.collect::<Result<Vec<PortConfig>, BootError>>()?;
        stages.done("interfaces looked at");
        let cores = match config.engine.cores.as_slice() {
            [] => vec![None],
            cores => cores.iter().map(|&core| usize::try_from(core).ok()).collect(),
        };
        // Where it can't be begun now, it is made when it is needed.
        let memory = with_memory.then(|| Memory::begin(&ports, cores.len()).ok()).flatten();
        let poll = match config.engine.poll {
            config::Poll::Busy => Poll::Busy,
            config::Poll::Adaptive => Poll::Adaptive,
        };
        let engine = EngineConfig { cores, poll, ports, ring_size: None, inherited: Vec::new(), memory, resolve };
        let interface = |name: &str| {
            let link = all.iter().find(|link| link.name == name)?;
            Some(Interface { mac: link.mac?, mtu: link.mtu })
        };
        let (assembly, journal) = keeping::assemble(&config, interface)?;
        stages.done("mapping read");
        Ok(Preparation { config, links, assembly, journal, engine, stages })
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

fn port_config(index: usize, link: &Link) -> Result<PortConfig, BootError> {
    let capability = capability(link.index).map_err(BootError::Kernel)?;
    // Each attempt at zero-copy pins all packet memory once more, in vain with most virtual devices.
    let copies = capability.has_zero_copy() == Some(false);
    Ok(PortConfig {
        id: PortId(index as u16),
        ifindex: link.index,
        queues: capability.queues.map_or(link.queues.0, |queues| queues.rx).max(1),
        multi_buffer: false,
        copying: if copies { Copying::Always } else { Copying::AvoidIfPossible },
    })
}
