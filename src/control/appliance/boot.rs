//! From a configuration to packets.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex as Turn, Notify};

use super::back::open_ways;
use super::claims::Wanted;
use super::preparation::Preparation;
use super::programs::{attach_all, connect, frags_at_work, narrow_all};
use super::state_file;
use super::succession::Succession;
use super::{Appliance, Host};
use crate::afxdp::program::AttachError;
use crate::control::advertiser::Advertiser;
use crate::control::assemble::{fixed_hops, forget_lost_replicas, holdings, mtu_in_buffers, mtu_within};
use crate::control::changes::History;
use crate::control::config::Mistake;
use crate::control::health::Prober;
use crate::control::kernel::Link;
use crate::engine::{Engine, StartError, Tables, WaysBack};
use crate::flow::ECHO_CLAIM_WORDS;
use crate::neighbour::NextHops;
use crate::path::{Port, Surroundings, hold_pinned};
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
    /// The journal could not be read, or what is wrong with it could not be set aside.
    Journal(PathBuf, io::Error),
    /// The state file could not be opened.
    State(PathBuf, io::Error),
    /// The XDP program of a port could not be attached.
    Attach(String, AttachError),
    /// The claims or sockets of a port could not be told to its XDP program.
    Program(String, io::Error),
    Engine(StartError),
    Kernel(io::Error),
    /// While this one prepared to take over, ports were attached or detached: from the beginning, then.
    PortsChanged,
    /// The engine that runs did not hand over.
    Predecessor(io::Error),
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
            BootError::Journal(path, err) => write!(f, "the journal {}: {err}", path.display()),
            BootError::State(path, err) => write!(f, "the state file {}: {err}", path.display()),
            BootError::Attach(port, err) => write!(f, "port {port}: {err}"),
            BootError::Program(port, err) => write!(f, "port {port}: its XDP program: {err}"),
            BootError::Engine(err) => err.fmt(f),
            BootError::Kernel(err) => write!(f, "netlink: {err}"),
            BootError::PortsChanged => {
                f.write_str("ports come and go too quickly to take over from the engine that runs")
            }
            BootError::Predecessor(err) => write!(f, "taking over from the engine that runs: {err}"),
        }
    }
}

impl std::error::Error for BootError {}

/// Puts everything up that another engine must not have at the same time, in the order in which packets need it: the
/// state, programs with their claims, workers, and last the sockets in the programs' maps. Where a former engine has
/// left sockets, workers come before programs. `hops` is what the kernel says of next hops: without it, the first packets
/// would have no route. `holder` is where a holder is to listen that keeps the sockets for the
/// next engine.
///
/// # Errors
/// See [`BootError`].
pub(super) fn boot(
    mut prepared: Preparation,
    hops: Option<NextHops>,
    holder: Option<&Path>,
) -> Result<Appliance, BootError> {
    let stages = prepared.stages;
    let (tables, state_file) = tables_of(&mut prepared)?;
    if let Some(hops) = hops {
        tables.hops.store(hops);
    }
    // As late as can be: until here, a failure leaves what is kept to the next attempt.
    let (mut succession, inherited) = Succession::ask(holder);
    let left = inherited.iter().any(Option::is_some);
    prepared.engine.inherited = inherited;
    let (engine, mut ports) = match frags_at_work(&prepared.ports).filter(|_| left) {
        // The former engine's programs feed its sockets as ever: packets first.
        Some(frags) => {
            let engine = start(&mut prepared, &frags, &tables)?;
            succession.provide(&engine);
            (engine, attach(&prepared, &tables)?)
        }
        None => {
            let ports = attach(&prepared, &tables)?;
            stages.done("programs attached");
            let frags: Vec<bool> = ports.values().map(|port| port.program.frags()).collect();
            let engine = start(&mut prepared, &frags, &tables)?;
            succession.provide(&engine);
            (engine, ports)
        }
    };
    connect(&engine, &mut ports)?;
    stages.done("packets come");
    open_ways(&prepared.assembly.around, &mut ports, &tables);
    stages.done("ways back to the kernel open");
    report_inherited(&engine, left);
    Ok(appliance(prepared, tables, state_file, engine, succession, ports))
}

pub(super) fn appliance(
    prepared: Preparation,
    tables: Arc<Tables>,
    state_file: PathBuf,
    engine: Engine,
    succession: Succession,
    ports: Host,
) -> Appliance {
    let Preparation { config, assembly, journal, engine: workers, stages, ports_file, .. } = prepared;
    let history = History::new(tables.names.view(&table::pin()).generation());
    let known = || tables.names.view(&table::pin()).known_health().collect();
    let journal = journal.map(|start| start.open(known));
    // What containers should not guess.
    let seeds = RandomState::new();
    let prober = Prober::new(config.health.clone(), seeds.hash_one(0));
    let advertiser = Advertiser::new(seeds.hash_one(1));
    Appliance {
        config,
        tables,
        engine: ArcSwap::from_pointee(engine),
        workers: Mutex::new(workers),
        stages,
        state_file,
        ports_file,
        succession: Mutex::new(succession),
        history,
        look_again: Notify::new(),
        prober: Mutex::new(prober),
        advertiser: Mutex::new(advertiser),
        writer: Arc::new(Turn::new(assembly.writer)),
        on_host: Mutex::new(ports),
        told: Mutex::new(assembly.around.kernels),
        journal: Mutex::new(journal),
    }
}

/// Opens the state and puts the tables together.
pub(super) fn tables_of(prepared: &mut Preparation) -> Result<(Arc<Tables>, PathBuf), BootError> {
    let Preparation { config, assembly, stages, .. } = prepared;
    let (state, fresh, state_file) = state_file::open(config).map_err(|(path, err)| BootError::State(path, err))?;
    if let Some(why) = fresh {
        tracing::info!(file = %state_file.display(), "no connections are remembered: {}", why.as_str());
    }
    let guard = table::pin();
    let view = assembly.names.view(&guard);
    state.settle(&holdings(&view), state_file::now());
    forget_lost_replicas(&state, &view, state_file::now());
    hold_pinned(&view, &assembly.around);
    let hops = fixed_hops(config).next_hops();
    let (names, around) = (Arc::clone(&assembly.names), Swap::new(assembly.around.clone()));
    stages.done("state opened");
    Ok((Arc::new(Tables { names, around, state, hops: Swap::new(hops), back: WaysBack::default() }), state_file))
}

pub(super) fn start(prepared: &mut Preparation, frags: &[bool], tables: &Arc<Tables>) -> Result<Engine, BootError> {
    prepared.set_frags(frags);
    hold_to_one_buffer(prepared, tables);
    let engine = Engine::start(prepared.engine.take(), Arc::clone(tables)).map_err(BootError::Engine)?;
    prepared.stages.done("workers started");
    Ok(engine)
}

/// Lowers the MTUs of ports whose packets can't come or go in several buffers to what one holds: senders are told.
fn hold_to_one_buffer(prepared: &mut Preparation, tables: &Tables) {
    for config in prepared.engine.ports.iter().filter(|config| !config.multi_buffer) {
        let Some(port) = prepared.assembly.around.port(config.id) else { continue };
        let mtu = mtu_in_buffers(port.mtu, false);
        if mtu < port.mtu {
            tracing::warn!(
                port = port.name,
                "of its MTU of {}, only {mtu} bytes fit its one buffer a packet",
                port.mtu
            );
            let narrower = Some(Port { mtu, ..port.clone() });
            prepared.assembly.around = prepared.assembly.around.with_port(config.id, narrower);
            tables.around.store(prepared.assembly.around.clone());
        }
    }
}

/// Attaches the programs and has them claim what the mapping says.
fn attach(prepared: &Preparation, tables: &Tables) -> Result<Host, BootError> {
    let Preparation { config, ports: planned, assembly, .. } = prepared;
    let guard = table::pin();
    let wanted = Wanted::gather(&assembly.around, &assembly.names.view(&guard));
    let mut ports = attach_all(&config.engine.pin_dir, &assembly.around, planned, &wanted)?;
    narrow_all(&assembly.around, &mut ports, &wanted)?;
    share_echo_claims(&assembly.around, &mut ports, tables)?;
    Ok(ports)
}

/// Lets workers claim echo replies on all ports that lead out.
pub(super) fn share_echo_claims(around: &Surroundings, ports: &mut Host, tables: &Tables) -> Result<(), BootError> {
    let mut all = Vec::new();
    for (&id, on_host) in ports {
        let Some(port) = around.port(id) else { continue };
        if let (true, Some(claims)) = (port.role.leads_out(), on_host.program.claims()) {
            let echo = Words::from_fd(claims.echo(), ECHO_CLAIM_WORDS);
            all.push(echo.map_err(|err| BootError::Program(port.name.clone(), err))?);
        }
    }
    tables.state.attach_echo_claims(all, state_file::now());
    Ok(())
}

/// `left`: a former engine left something.
pub(super) fn report_inherited(engine: &Engine, left: bool) {
    let inherited = engine.queues().iter().filter(|queue| queue.inherited).count();
    let queues = engine.queues().len();
    match inherited {
        0 if left => tracing::warn!(queues, "what a former engine left does not fit: all sockets were bound anew"),
        0 => {}
        _ => tracing::info!(inherited, queues, "sockets were taken over from a former engine"),
    }
}

/// The surroundings after a link changed: its MAC or MTU. `frags`: its packets may come in several buffers.
pub(super) fn with_link(around: &Surroundings, id: PortId, link: &Link, frags: bool) -> Option<Surroundings> {
    let port = around.port(id)?;
    let mac = link.mac?;
    let mtu = mtu_in_buffers(mtu_within(link.mtu, port.tags), frags);
    if port.mac == mac && port.mtu == mtu {
        return None;
    }
    Some(around.with_port(id, Some(Port { mac, mtu, ..port.clone() })))
}
