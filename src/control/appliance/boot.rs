//! From a configuration to packets.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::claims::put_in_force;
use super::state_file;
use super::succession::Succession;
use super::{Appliance, Control, PortOnHost};
use crate::afxdp::program::{self, AttachError, Kind, Mode, Want};
use crate::afxdp::{Copying, Parts};
use crate::control::assemble::{Assembly, Interface, fixed_hops, holdings};
use crate::control::config::{self, Config, Mistake};
use crate::control::kernel::{Link, capability, links};
use crate::engine::{Engine, EngineConfig, Poll, PortConfig, Resolve, StartError, Tables};
use crate::flow::ECHO_CLAIM_WORDS;
use crate::path::{Role, Surroundings, hold_pinned};
use crate::table::mapped::Words;
use crate::table::{self, Swap};
use crate::units::PortId;

/// Why a server did not come up. Everything that was already put up is taken down again, but for pinned programs.
#[derive(Debug)]
pub enum BootError {
    /// What is wrong with the mapping.
    Mapping(Vec<Mistake>),
    /// A configured interface is not there.
    NoInterface {
        port: String,
        interface: Option<String>,
    },
    /// The state file could not be opened.
    State(PathBuf, io::Error),
    /// The XDP program of a port could not be attached.
    Attach(String, AttachError),
    /// The claims or sockets of a port could not be told to its XDP program.
    Program(String, io::Error),
    Engine(StartError),
    Kernel(io::Error),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Mapping(mistakes) => {
                let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            BootError::NoInterface { port, interface: Some(interface) } => {
                write!(f, "port {port}: there is no interface {interface} in this network namespace")
            }
            BootError::NoInterface { port, interface: None } => {
                write!(f, "port {port} has no `interface`: it can only be replayed")
            }
            BootError::State(path, err) => write!(f, "the state file {}: {err}", path.display()),
            BootError::Attach(port, err) => write!(f, "port {port}: {err}"),
            BootError::Program(port, err) => write!(f, "port {port}: its XDP program: {err}"),
            BootError::Engine(err) => err.fmt(f),
            BootError::Kernel(err) => write!(f, "netlink: {err}"),
        }
    }
}

impl std::error::Error for BootError {}

/// Puts everything up, in the order in which packets need it: tables, programs with their claims, workers, and last the
/// sockets in the programs' maps. Where a former engine has left sockets, workers come before programs. `resolve` asks the kernel for a next hop; `holder` is where a holder is to listen that
/// keeps the sockets for the next engine.
///
/// # Errors
/// See [`BootError`].
pub fn boot(config: Config, holder: Option<&Path>, resolve: Resolve) -> Result<Appliance, BootError> {
    let started = Instant::now();
    let links = links().map_err(BootError::Kernel)?;
    let interface = |name: &str| {
        let link = links.iter().find(|link| link.name == name)?;
        Some(Interface { mac: link.mac?, mtu: link.mtu })
    };
    let Assembly { around, names, writer } = Assembly::new(&config, interface).map_err(BootError::Mapping)?;
    let found = config.ports.iter().map(|port| link_of(port, &links)).collect::<Result<Vec<Link>, BootError>>()?;

    let (state, fresh, state_file) = state_file::open(&config).map_err(|(path, err)| BootError::State(path, err))?;
    if let Some(why) = fresh {
        tracing::info!(file = %state_file.display(), "no connections are remembered: {}", why.as_str());
    }
    {
        let guard = table::pin();
        let view = names.view(&guard);
        state.settle(&holdings(&view), state_file::now());
        hold_pinned(&view, &around);
    }
    let hops = fixed_hops(&config).next_hops();
    let tables = Arc::new(Tables { names, around: Swap::new(around), state, hops: Swap::new(hops) });

    let start = |frags: &[bool], inherited| -> Result<Engine, BootError> {
        let config = engine_config(&config, &found, frags, inherited, Arc::clone(&resolve))?;
        Engine::start(config, Arc::clone(&tables)).map_err(BootError::Engine)
    };
    // As late as can be: until here, a failure leaves what is kept to the next attempt.
    let (mut succession, inherited) = Succession::ask(holder);
    let left = inherited.iter().any(Option::is_some);
    let (engine, mut ports) = match frags_at_work(&found).filter(|_| left) {
        // The former engine's programs feed its sockets as ever: packets first.
        Some(frags) => {
            let engine = start(&frags, inherited)?;
            succession.provide(&engine);
            (engine, attach_all(&config, &tables, &found)?)
        }
        None => {
            let ports = attach_all(&config, &tables, &found)?;
            let frags: Vec<bool> = ports.iter().map(|port| port.program.frags()).collect();
            let engine = start(&frags, inherited)?;
            succession.provide(&engine);
            (engine, ports)
        }
    };
    for queue in engine.queues() {
        let Some(port) = ports.get_mut(usize::from(queue.port.0)) else { continue };
        let set = port.program.set_socket(queue.queue, queue.fd.as_fd());
        set.map_err(|err| BootError::Program(port.link.name.clone(), err))?;
    }
    report_inherited(&engine, left);
    let control = Mutex::new(Control { writer, ports: ports.into_iter().map(Some).collect() });
    Ok(Appliance { config, tables, engine, started, state_file, succession, control })
}

fn link_of(port: &config::Port, links: &[Link]) -> Result<Link, BootError> {
    let found = port.interface.as_deref().and_then(|name| links.iter().find(|link| link.name == name));
    found.cloned().ok_or_else(|| BootError::NoInterface { port: port.name.clone(), interface: port.interface.clone() })
}

/// Attaches every port's program and tells it what to claim.
fn attach_all(config: &Config, tables: &Tables, links: &[Link]) -> Result<Vec<PortOnHost>, BootError> {
    let guard = table::pin();
    let (around, names) = (tables.around.load(&guard), tables.names.view(&guard));
    let mut ports = Vec::with_capacity(links.len());
    for ((link, port), configured) in links.iter().zip(&around.ports).zip(&config.ports) {
        let kind = kind_of(&port.role);
        let mut program = program::attach(&link.name, kind, &config.engine.pin_dir, Want { frags: needs_frags(link) })
            .map_err(|err| BootError::Attach(port.name.clone(), err))?;
        report_attached(&port.name, &program);
        let at_program = |err| BootError::Program(port.name.clone(), err);
        if let Some(claims) = program.claims() {
            put_in_force(claims, &port.role, answers_arp(&configured.role), around, &names).map_err(at_program)?;
            if matches!(port.role, Role::Uplink { .. }) {
                let echo = Words::from_fd(claims.echo(), ECHO_CLAIM_WORDS).map_err(at_program)?;
                tables.state.attach_echo_claims(echo, state_file::now());
            }
        }
        ports.push(PortOnHost { link: link.clone(), program });
    }
    Ok(ports)
}

fn report_attached(port: &str, program: &program::Attached) {
    if let Some(why) = program.fallback() {
        tracing::warn!(port, "the XDP program runs in generic mode, which is slower: {why}");
    }
    if let Err(why) = program.pinned() {
        tracing::warn!(port, "the XDP program is NOT pinned and will not outlive this process: {why}");
    }
    for stale in program.cleared() {
        tracing::info!(pin = %stale.path.display(), "a stale pin was cleared");
    }
}

pub(super) fn kind_of(role: &Role) -> Kind {
    match role {
        Role::Uplink { external } => Kind::Uplink { external: *external },
        Role::External => Kind::External,
        Role::Access(_) => Kind::Access,
    }
}

pub(super) fn answers_arp(role: &config::Role) -> bool {
    match role {
        config::Role::Uplink { arp, .. } | config::Role::External { arp } => *arp,
        config::Role::Access { .. } => false,
    }
}

/// A chunk of 4 KiB holds packets of up to 3520 bytes of IP beside headroom and Ethernet header; larger ones come in
/// several.
fn needs_frags(link: &Link) -> bool {
    const LARGEST_SINGLE: u32 = 3500;
    link.mtu > LARGEST_SINGLE
}

/// `left`: a former engine left something.
fn report_inherited(engine: &Engine, left: bool) {
    let inherited = engine.queues().iter().filter(|queue| queue.inherited).count();
    let queues = engine.queues().len();
    match inherited {
        0 if left => tracing::warn!(queues, "what a former engine left does not fit: all sockets were bound anew"),
        0 => {}
        _ => tracing::info!(inherited, queues, "sockets were taken over from a former engine"),
    }
}

/// Whether packets of several buffers arrive at each port by the programs that are there already. None unless every port
/// has one.
fn frags_at_work(links: &[Link]) -> Option<Vec<bool>> {
    let frags = |link: &Link| Some(program::mode(&link.name).ok()?? == Mode::Native && needs_frags(link));
    links.iter().map(frags).collect()
}

fn engine_config(
    config: &Config,
    links: &[Link],
    frags: &[bool],
    inherited: Vec<Option<Parts>>,
    resolve: Resolve,
) -> Result<EngineConfig, BootError> {
    let cores = match config.engine.cores.as_slice() {
        [] => vec![None],
        cores => cores.iter().map(|&core| usize::try_from(core).ok()).collect(),
    };
    let mut configured = Vec::with_capacity(links.len());
    for (index, (link, frags)) in links.iter().zip(frags).enumerate() {
        let capability = capability(link.index).map_err(BootError::Kernel)?;
        let queues = capability.queues;
        // Each attempt at zero-copy pins all packet memory once more, in vain with most virtual devices.
        let copies = capability.has_zero_copy() == Some(false);
        configured.push(PortConfig {
            id: PortId(index as u16),
            ifindex: link.index,
            queues: queues.map_or(link.queues.0, |queues| queues.rx).max(1),
            multi_buffer: *frags,
            copying: if copies { Copying::Always } else { Copying::AvoidIfPossible },
        });
    }
    let poll = match config.engine.poll {
        config::Poll::Busy => Poll::Busy,
        config::Poll::Adaptive => Poll::Adaptive,
    };
    Ok(EngineConfig { cores, poll, ports: configured, ring_size: None, inherited, resolve })
}

/// The surroundings after a link changed: its MAC or MTU.
pub(super) fn with_link(around: &Surroundings, index: usize, link: &Link) -> Option<Surroundings> {
    let port = around.ports.get(index)?;
    let mac = link.mac?;
    if port.mac == mac && port.mtu == link.mtu {
        return None;
    }
    let mut ports = around.ports.clone();
    let port = ports.get_mut(index)?;
    (port.mac, port.mtu) = (mac, link.mtu);
    Some(Surroundings {
        ports,
        networks: Arc::clone(&around.networks),
        servers: around.servers.clone(),
        owned: around.owned,
        uplink: around.uplink,
    })
}
