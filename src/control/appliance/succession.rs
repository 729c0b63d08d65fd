//! What a former engine has left to this one, and who keeps what this one will leave.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::afxdp::Parts;
use crate::control::holder::{Holder, ServiceManager, Sets};
use crate::engine::{BoundQueue, Engine};

/// Those who keep descriptors for the next engine.
pub(super) struct Succession {
    /// What names of sets begin with: sockets of another network namespace are of no use here.
    prefix: String,
    /// Where a holder is to listen, if one is wanted.
    socket: Option<PathBuf>,
    holder: Option<Holder>,
    service_manager: Option<ServiceManager>,
    /// The service manager has this engine's descriptors already.
    is_stored: bool,
}

impl Succession {
    /// Succeeds an engine that has shown its workers' `sets`: whoever kept for it is taken over later, by
    /// [`Succession::take_holder`]. Returns what the workers have.
    pub fn after(socket: Option<&Path>, sets: Sets) -> (Succession, Vec<Option<Parts>>) {
        let prefix = prefix();
        let (service_manager, _) = found("the service manager", ServiceManager::ask("sixway-"));
        let parts = by_worker(&prefix, Sets::new(), sets);
        (
            Succession { prefix, socket: socket.map(Path::to_owned), holder: None, service_manager, is_stored: false },
            parts,
        )
    }

    /// Goes on with the former engine's holder.
    pub fn take_holder(&mut self, connection: OwnedFd) {
        self.holder = Some(Holder::from_connection(connection));
    }

    /// Asks whoever keeps something; a holder only at `socket`. Returns what a former engine has left, by worker. That
    /// is nobody else's from then on, so all else that may fail should be done by now. Who can't be asked is logged.
    pub fn ask(socket: Option<&Path>) -> (Succession, Vec<Option<Parts>>) {
        let prefix = prefix();
        let (service_manager, stored) = found("the service manager", ServiceManager::ask("sixway-"));
        let asked = socket.map_or(Ok(None), Holder::ask);
        let (holder, held) = found("the holder", asked);
        let parts = by_worker(&prefix, stored, held);
        (Succession { prefix, socket: socket.map(Path::to_owned), holder, service_manager, is_stored: false }, parts)
    }

    /// Gives the engine's memory and sockets to those who keep, and starts a holder if one is wanted and there is none.
    /// Who can't is logged: the engine runs no worse.
    pub fn provide(&mut self, engine: &Engine) {
        let queues = engine.queues();
        let sets = self.sets(engine, &queues);
        if let Some(socket) = &self.socket
            && self.holder.is_none()
        {
            self.holder = heeded("the holder", Holder::start(socket));
        }
        if let Some(holder) = self.holder.take() {
            self.holder = heeded("the holder", holder.keep(&sets)).map(|()| holder);
        }
        if let Some(manager) = self.service_manager.take() {
            // It adds to what it has: what is no more is closed there, too.
            let names = sets.iter().map(|(name, _)| name.as_str());
            let kept = if self.is_stored { manager.forget(names) } else { Ok(()) }.and_then(|()| manager.keep(&sets));
            self.service_manager = heeded("the service manager", kept).map(|()| manager);
            self.is_stored = true;
        }
    }

    /// The engine's memory and sockets, by worker.
    pub fn sets<'a>(&self, engine: &'a Engine, queues: &'a [Arc<BoundQueue>]) -> Vec<(String, Vec<BorrowedFd<'a>>)> {
        let name = |index| format!("{}{index}", self.prefix);
        (0..engine.workers()).map(|index| (name(index), engine.descriptors(index, queues))).collect()
    }

    /// Has those who keep close what they have of these workers, so that queues can be bound anew.
    pub fn forget(&mut self, engine: &Engine) {
        let names: Vec<String> = self.sets(engine, &[]).into_iter().map(|(name, _)| name).collect();
        if let Some(holder) = &self.holder {
            let _ = heeded("the holder", holder.keep(&[]));
        }
        if let Some(manager) = &self.service_manager {
            let _ = heeded("the service manager", manager.forget(names.iter().map(String::as_str)));
        }
    }

    /// True if what it was told to close may be open for some time yet.
    pub fn is_slow(&self) -> bool {
        self.service_manager.is_some()
    }

    /// The connection to the holder.
    pub fn holder(&self) -> Option<BorrowedFd<'_>> {
        self.holder.as_ref().map(Holder::connection)
    }

    /// True if someone keeps the descriptors for the next engine.
    pub fn is_provided(&self) -> bool {
        self.holder.as_ref().is_some_and(Holder::is_there)
            || self.service_manager.as_ref().is_some_and(ServiceManager::has_store)
    }
}

/// Of this network namespace.
fn prefix() -> String {
    let netns = fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino());
    format!("sixway-{netns}-")
}

fn found<T>(who: &str, asked: io::Result<Option<(T, Sets)>>) -> (Option<T>, Sets) {
    match heeded(who, asked).flatten() {
        Some((keeper, sets)) => (Some(keeper), sets),
        None => (None, Sets::new()),
    }
}

fn heeded<T>(who: &str, outcome: io::Result<T>) -> Option<T> {
    outcome.inspect_err(|error| tracing::warn!("{who}, who should keep sockets for the next engine: {error}")).ok()
}

/// The sets of this network namespace, by worker. If both had something, it is the same; the rest is closed.
fn by_worker(prefix: &str, stored: Sets, held: Sets) -> Vec<Option<Parts>> {
    let mut workers: Vec<Option<Parts>> = Vec::new();
    for (name, fds) in held.into_iter().chain(stored) {
        let Some(index) = name.strip_prefix(prefix).and_then(|index| index.parse::<u16>().ok()) else { continue };
        let index = usize::from(index);
        if workers.len() <= index {
            workers.resize_with(index + 1, || None);
        }
        let parts = Parts::from_fds(fds).inspect_err(|error| tracing::warn!("{name} was left, but: {error}"));
        if workers[index].is_none() {
            workers[index] = parts.ok();
        }
    }
    workers
}
