//! The control thread: signals, the kernel's news, questions over the socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::boot::with_link;
use super::{Appliance, BootError, boot, probe};
use crate::control::assemble::fixed_hops;
use crate::control::config::{self, Config};
use crate::control::holder;
use crate::control::kernel::{Change, Link, Resolver, watch};
use crate::control::server::{ControlSocket, serve};
use crate::table;

/// How often containers are asked for that no port holds yet.
const PROBE_EVERY: Duration = Duration::from_millis(250);

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
            RunError::Socket(path, err) => write!(f, "the control socket {}: {err}", path.display()),
            RunError::Control(err) => write!(f, "the control thread: {err}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs a server until SIGTERM or SIGINT. SIGHUP reloads the mapping. With `holder`, a holder beside the control socket
/// keeps its packet memory and sockets for the next engine, and gives it what the former one left.
///
/// # Errors
/// It could not come up, or its control thread failed.
pub fn run(config: Config, holder: bool) -> Result<(), RunError> {
    // First of all, so that a second engine is refused before it touches anything.
    let path = config.control.socket.clone();
    let group = config.control.write_group.clone().or_else(|| config.control.read_group.clone());
    let socket = ControlSocket::bind(&path, group.as_deref()).map_err(|err| RunError::Socket(path, err))?;
    let holder = holder.then(|| holder::socket_beside(&config.control.socket));
    let (resolver, questions) = Resolver::new();
    let asker = resolver.clone();
    let appliance = boot(config, holder.as_deref(), Arc::new(move |hop| asker.resolve(hop)));
    let appliance = appliance.map_err(RunError::Boot)?;
    let appliance = Arc::new(appliance);
    appliance.probe();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Control)?;
    runtime
        .block_on(async {
            let served = Arc::clone(&appliance);
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let server = tokio::spawn(serve(socket, served, async move {
                // Whether told or dropped, it is time to stop.
                let _ = stopped.await;
            }));
            let watched = Arc::clone(&appliance);
            let interfaces = appliance.interfaces();
            let uplinks = appliance.uplinks();
            let fib = fixed_hops(&appliance.config);
            let watching = watch(fib, uplinks, interfaces, questions, move |change| watched.note(change));
            tracing::info!(state = %appliance.state_file.display(), "forwarding");
            // Not under systemd: nobody to tell.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            let outcome = tokio::select! {
                outcome = appliance.heed_signals() => outcome,
                outcome = watching => outcome,
                () = appliance.keep_probing() => Ok(()),
            };
            drop(stop);
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            let served = server.await.map_err(io::Error::other)?;
            outcome.and(served)
        })
        .map_err(RunError::Control)?;
    if let Some(appliance) = Arc::into_inner(appliance) {
        let stopped = appliance.engine.stop();
        let lost = stopped.iter().filter(|stopped| !stopped.audit.adds_up()).count();
        if lost > 0 {
            tracing::error!("{lost} workers have lost frames: please report this");
        }
    }
    Ok(())
}

impl Appliance {
    async fn heed_signals(&self) -> io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => match self.reload_mapping() {
                    Ok(change) => {
                        tracing::info!(
                            generation = change.generation,
                            added = change.added,
                            replaced = change.replaced,
                            removed = change.removed,
                            "the mapping was reloaded"
                        );
                        self.probe();
                    }
                    Err(mistakes) => {
                        for mistake in mistakes {
                            tracing::error!("the mapping stays as it was: {mistake}");
                        }
                    }
                },
            }
        }
    }

    async fn keep_probing(&self) {
        let mut every = tokio::time::interval(PROBE_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.probe();
        }
    }

    /// Asks for every container that no port holds.
    fn probe(&self) {
        let guard = table::pin();
        let (around, names) = (self.tables.around.load(&guard), self.tables.names.view(&guard));
        for (port, frame) in probe::probes(&names, around) {
            // Asked again at the next turn if too many were waiting.
            self.engine.inject(port, &frame);
        }
    }

    /// Takes note of the kernel's news.
    fn note(&self, change: Change) {
        match change {
            Change::NextHops(hops) => {
                self.tables.hops.store(hops);
                self.tables.hops.reclaim();
            }
            Change::Link(link) => self.note_link(link),
            Change::LinkGone { name } => {
                tracing::warn!(interface = name, "the interface is gone");
                self.release(&name);
            }
        }
    }

    fn note_link(&self, link: Link) {
        if !link.up || !link.running {
            self.release(&link.name);
        }
        let Some(index) = self.config.ports.iter().position(|port| port.interface.as_deref() == Some(&link.name))
        else {
            return;
        };
        let changed = with_link(self.tables.around.load(&table::pin()), index, &link);
        if let Some(changed) = changed {
            self.tables.around.store(changed);
            self.tables.around.reclaim();
        }
        if let Some(on_host) = self.control().ports.get_mut(index).and_then(Option::as_mut) {
            on_host.link = link;
        }
    }

    /// The port of this interface went down: what it held is free again.
    fn release(&self, interface: &str) {
        let guard = table::pin();
        let names = self.tables.names.view(&guard);
        let around = self.tables.around.load(&guard);
        let ports = self.config.ports.iter().enumerate();
        for (index, _) in ports.filter(|(_, port)| port.interface.as_deref() == Some(interface)) {
            for (_, container) in names.all_containers() {
                container.release(crate::units::PortId(index as u16));
            }
        }
        crate::path::hold_pinned(&names, around);
    }

    fn interfaces(&self) -> Vec<String> {
        self.config.ports.iter().filter_map(|port| port.interface.clone()).collect()
    }

    fn uplinks(&self) -> Vec<String> {
        let ports = self.config.ports.iter();
        let uplinks = ports.filter(|port| matches!(port.role, config::Role::Uplink { .. }));
        uplinks.filter_map(|port| port.interface.clone()).collect()
    }
}
