//! The control thread: signals, the kernel's news, questions over the socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::boot::{boot, with_link};
use super::news::News;
use super::preparation::Preparation;
use super::reload::Reloaded;
use super::stages::Stages;
use super::takeover::take_over;
use super::{Appliance, BootError, probe, state_file};
use crate::control::config::{Config, Mistake};
use crate::control::handover::{self, Door};
use crate::control::holder::{self, ServiceManager};
use crate::control::kernel::{Change, Link, Resolver};
use crate::control::server::{ControlSocket, serve};
use crate::engine::Resolve;
use crate::table::{self, Handle};
use crate::units::PortId;

/// How often containers are asked for that no port holds yet, and looked whether a router is to advertise itself.
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// How often expired translation entries are freed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How often a takeover begins anew since ports were attached or detached meanwhile.
const TAKEOVER_ATTEMPTS: usize = 10;

/// Why a server stopped other than by being told to.
#[derive(Debug)]
pub enum RunError {
    Boot(BootError),
    Socket(std::path::PathBuf, io::Error),
    Control(io::Error),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Boot(err) => err.fmt(f),
            RunError::Socket(path, err) => {
                write!(f, "the control socket {}: {err}", path.display())?;
                match err.kind() {
                    io::ErrorKind::AddrInUse => {
                        f.write_str("; stop it, or take its place with `sixway run --takeover`")
                    }
                    _ => Ok(()),
                }
            }
            RunError::Control(err) => write!(f, "the control thread: {err}"),
        }
    }
}

impl std::error::Error for RunError {}

/// How a server is to begin, and to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// A holder beside the control socket keeps packet memory and sockets for the next engine, and gives this one what
    /// the former one left.
    pub holder: bool,
    /// If an engine runs that has the control socket, this one takes its place.
    pub takeover: bool,
}

/// Runs a server until SIGTERM or SIGINT, or until another has taken over. SIGHUP reloads mapping and policy.
///
/// # Errors
/// It could not come up, or its control thread failed.
pub fn run(config: Config, manner: Manner) -> Result<(), RunError> {
    let stages = Stages::begin();
    let path = config.control.socket.clone();
    // First of all, so that a second engine is refused before it touches anything.
    let socket = match bind(&config) {
        Err(error) if manner.takeover && error.kind() == io::ErrorKind::AddrInUse => None,
        bound => Some(bound.map_err(|error| RunError::Socket(path.clone(), error))?),
    };
    let holder = manner.holder.then(|| holder::socket_beside(&path));
    let (resolver, questions) = Resolver::new();
    // With somebody who may have kept it, packet memory is made only when it is known that nobody has.
    let with_memory = socket.is_some() && holder.is_none() && !ServiceManager::has_passed_any();
    let resolve: Resolve = Arc::new(move |port, hop| resolver.resolve(port, hop));
    let prepared = Preparation::new(config, with_memory, Arc::clone(&resolve), stages).map_err(RunError::Boot)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Control)?;
    let mut news = News::follow(&runtime, &prepared.config, questions);
    let (hops, addresses) = runtime.block_on(news.beginning());
    let prepared = prepared.with_addresses(&addresses);
    let begins = [NotifyState::MainPid(std::process::id()), NotifyState::Ready];
    // A service manager knows the process that it has started.
    let begins = if socket.is_some() { &begins[1..] } else { &begins };
    let (appliance, socket) = match socket {
        Some(socket) => (boot(prepared, hops, holder.as_deref()).map_err(RunError::Boot)?, socket),
        None => {
            let again = |config| {
                let prepared = Preparation::new(config, false, Arc::clone(&resolve), stages)?;
                Ok(prepared.with_addresses(&addresses))
            };
            let take_over = |prepared| take_over(prepared, hops.clone(), holder.as_deref());
            take_over_once_ports_stay(prepared, again, take_over).map_err(RunError::Boot)?
        }
    };
    let appliance = Arc::new(appliance);
    if let Err(error) = appliance.remember() {
        tracing::error!(file = %appliance.ports_file.display(), "live ports can't be remembered: {error}");
    }
    appliance.probe();
    runtime.block_on(serve_until_told(&appliance, socket, news, begins))?;
    // Where another engine has taken over, no worker is left.
    appliance.report_lost(&appliance.engine.load().halt());
    Ok(())
}

/// Takes over, and prepares for it `again` where ports have come or gone meanwhile.
fn take_over_once_ports_stay(
    mut prepared: Preparation,
    again: impl Fn(Config) -> Result<Preparation, BootError>,
    take_over: impl Fn(Preparation) -> Result<(Appliance, ControlSocket), BootError>,
) -> Result<(Appliance, ControlSocket), BootError> {
    for _ in 0..TAKEOVER_ATTEMPTS {
        let config = prepared.config.clone();
        match take_over(prepared) {
            Err(BootError::PortsChanged) => prepared = again(config)?,
            outcome => return outcome,
        }
    }
    take_over(prepared)
}

fn bind(config: &Config) -> io::Result<ControlSocket> {
    ControlSocket::bind(&config.control.socket, &config.control)
}

/// Does what a server does beside forwarding packets. `begins` is for the service manager.
async fn serve_until_told(
    appliance: &Arc<Appliance>,
    socket: ControlSocket,
    news: News,
    begins: &[NotifyState<'_>],
) -> Result<(), RunError> {
    let at_socket = |error| RunError::Socket(appliance.config.control.socket.clone(), error);
    let bequest = socket.bequest().map_err(at_socket)?;
    let door = Door::open(&handover::socket_beside(&appliance.config.control.socket)).map_err(at_socket)?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served: Arc<Appliance> = Arc::clone(appliance);
    let server = tokio::spawn(serve(socket, served, async move {
        // Whether told or dropped, it is time to stop.
        let _ = stopped.await;
    }));
    let keeping = tokio::spawn(Arc::clone(appliance).keep_journal());
    tracing::info!(state = %appliance.state_file.display(), "forwarding");
    // Not under systemd: nobody to tell.
    let _ = sd_notify::notify(begins);
    let outcome = tokio::select! {
        outcome = appliance.heed_signals() => outcome.map_err(RunError::Control),
        outcome = news.heed(|change| appliance.note(change)) => outcome.map_err(RunError::Control),
        () = appliance.keep_house() => Ok(()),
        outcome = appliance.keep_checking() => outcome.map_err(RunError::Control),
        outcome = appliance.heed_successors(&door, &bequest) => {
            // The state and the socket are another's: nothing may be changed here any more, and answers come from there.
            server.abort();
            keeping.abort();
            door.leave();
            return outcome.map_err(RunError::Boot);
        }
    };
    // As long as the control socket is ours: the next engine may listen there as soon as it is not.
    drop(door);
    drop(stop);
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let served = server.await.map_err(|error| RunError::Control(io::Error::other(error)))?;
    keeping.abort();
    let _ = keeping.await;
    outcome.and(served.map_err(RunError::Control))
}

async fn wait_for<T: Future>(what: Option<T>) -> Option<T::Output> {
    match what {
        Some(what) => Some(what.await),
        None => None,
    }
}

impl Appliance {
    async fn heed_signals(self: &Arc<Self>) -> io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => self.heed_hangup().await,
            }
        }
    }

    async fn heed_hangup(self: &Arc<Self>) {
        let (appliance, mut writer) = (Arc::clone(self), Arc::clone(&self.writer).lock_owned().await);
        let reloaded = spawn_blocking(move || appliance.reload(&mut writer)).await;
        match reloaded.unwrap_or_else(|error| Err(vec![Mistake::in_file(&self.config.file, error.to_string())])) {
            Ok(Reloaded { change, kept, policy, waiting }) => {
                if let Some(Ok(Err(why))) = wait_for(kept).await {
                    tracing::error!("the former journal is still there, and would be loaded: {why}");
                }
                for what in waiting {
                    tracing::warn!("{what} has changed in the configuration: this takes effect at the next start");
                }
                tracing::info!(
                    generation = change.generation,
                    added = change.added,
                    replaced = change.replaced,
                    removed = change.removed,
                    policy = if policy { "changed" } else { "as before" },
                    "mapping and policy were reloaded"
                );
                self.probe();
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    tracing::error!("mapping and policy stay as they were: {mistake}");
                }
            }
        }
    }

    /// Asks for containers, has routers advertise themselves, and clears away what nobody needs any more.
    async fn keep_house(&self) {
        let every = |time| {
            let mut every = tokio::time::interval(time);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            every
        };
        let (mut probing, mut sweeping) = (every(PROBE_EVERY), every(SWEEP_EVERY));
        loop {
            tokio::select! {
                _ = probing.tick() => {
                    self.probe();
                    self.advertise();
                    self.tell_of_addresses();
                    // What the last change retired; every change clears up after those before it.
                    if let Ok(mut writer) = self.writer.try_lock() {
                        writer.reclaim();
                    }
                    self.engine.load().tidy_up();
                }
                _ = sweeping.tick() => self.tables.state.sweep(state_file::now()),
            }
        }
    }

    /// Asks for every container that no port holds. While a large change set has its turn, the next one will.
    pub(super) fn probe(&self) {
        let Ok(writer) = self.writer.try_lock() else { return };
        let guard = table::pin();
        let (around, names) = (self.tables.around.load(&guard), self.tables.names.view(&guard));
        for (port, frame) in probe::probes(&names, around, writer.containers_here()) {
            // Asked again at the next turn if too many were waiting.
            self.engine.load().inject(port, &frame);
        }
    }

    /// Takes note of the kernel's news.
    fn note(&self, change: Change) {
        match change {
            Change::NextHops(hops) => {
                self.tables.hops.store(hops);
                self.tables.hops.reclaim();
            }
            Change::Addresses(addresses) => self.note_addresses(&addresses),
            Change::Link(link) => self.note_link(link),
            Change::LinkGone { index, .. } => {
                if let Some(id) = self.port_on(index) {
                    self.lose(id);
                }
            }
        }
    }

    /// The port on the interface of this index.
    fn port_on(&self, index: u32) -> Option<PortId> {
        self.on_host().iter().find(|(_, port)| port.link.index == index).map(|(&id, _)| id)
    }

    fn note_link(&self, link: Link) {
        let Some(id) = self.port_on(link.index) else { return };
        if !link.up || !link.running {
            self.release(id);
        }
        let mut ports = self.on_host();
        let frags = ports.get(&id).is_some_and(|port| port.program.frags());
        let changed = with_link(self.tables.around.load(&table::pin()), id, &link, frags);
        if let Some(changed) = changed {
            self.tables.around.store(changed);
            self.tables.around.reclaim();
        }
        if let Some(on_host) = ports.get_mut(&id) {
            on_host.link = link;
        }
    }

    /// The port went down, or is gone: what it held is free again.
    pub(super) fn release(&self, id: PortId) {
        let guard = table::pin();
        let names = self.tables.names.view(&guard);
        let around = self.tables.around.load(&guard);
        let here: Vec<Handle> = match self.writer.try_lock() {
            Ok(writer) => writer.containers_here().collect(),
            // A port that is down does not wait for a large change set: all are looked at.
            Err(_) => {
                let here = names.all_containers().filter(|(_, container)| container.is_bound_here());
                here.map(|(handle, _)| handle).collect()
            }
        };
        for container in here.iter().filter_map(|&handle| names.container(handle)) {
            container.release(id);
        }
        crate::path::hold_pinned_among(&names, around, here.into_iter());
        self.look_again.notify_one();
    }
}
