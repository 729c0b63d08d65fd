//! How an engine is to run, and why it does not.

use std::sync::Arc;
use std::{fmt, io};

use super::memory::Memory;
use crate::afxdp::{Copying, Parts};
use crate::units::{Ip, PortId, QueueId};

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poll {
    /// Look again.
    Busy,
    /// Look again for a while, then sleep in poll(2).
    Adaptive,
}

/// Asks for the MAC of a next hop behind a port. Called by workers, so it must not block; the answer comes as a change of
/// [`Tables::hops`]. False if the question was lost.
pub type Resolve = Arc<dyn Fn(PortId, Ip) -> bool + Send + Sync>;

/// An interface for the engine. Its program and claims are the caller's business.
#[derive(Clone, Copy, Debug)]
pub struct PortConfig {
    pub id: PortId,
    /// In the network namespace of the thread that starts the engine.
    pub ifindex: u32,
    /// How many receive queues it has: each gets a socket.
    pub queues: u32,
    /// Packets may be larger than a chunk: see [`BindConfig::multi_buffer`].
    pub multi_buffer: bool,
    pub copying: Copying,
    /// Attached while an engine ran, not configured: its rings are of the size that `spare` memory is for.
    pub live: bool,
}

/// How to run.
pub struct EngineConfig {
    /// One worker each. `None` is not pinned, for tests.
    pub cores: Vec<Option<usize>>,
    pub poll: Poll,
    pub ports: Vec<PortConfig>,
    /// Queues of live ports that each worker has memory for.
    pub spare: usize,
    /// Entries of each rx ring of a configured port, a power of two; tx rings have as many, 512 at most. By default 2048,
    /// less where a worker has many queues. Live ports have 512, or less.
    pub ring_size: Option<u32>,
    /// What a former engine has left, by worker. Taken over where the same worker has the same queues; what does not fit
    /// is let go of, and bound anew.
    pub inherited: Vec<Option<Parts>>,
    /// Memory for the workers that nothing is left to, where it was begun beforehand.
    pub memory: Option<Memory>,
    pub resolve: Resolve,
}

impl EngineConfig {
    /// The configuration with what it has in it for one start alone; what stays is for another start, with nothing left.
    #[must_use]
    pub fn take(&mut self) -> EngineConfig {
        EngineConfig {
            cores: self.cores.clone(),
            poll: self.poll,
            ports: self.ports.clone(),
            spare: self.spare,
            ring_size: self.ring_size,
            inherited: std::mem::take(&mut self.inherited),
            memory: self.memory.take(),
            resolve: Arc::clone(&self.resolve),
        }
    }
}

/// Why the engine did not start.
#[derive(Debug)]
pub enum StartError {
    /// No worker, or no core for it.
    Core(usize, io::Error),
    Memory(io::Error),
    Bind {
        port: PortId,
        queue: QueueId,
        error: io::Error,
    },
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Core(core, error) => write!(f, "core {core}: {error}"),
            StartError::Memory(error) => write!(f, "packet memory: {error}"),
            StartError::Bind { port, queue, error } => write!(f, "port {} queue {}: {error}", port.0, queue.0),
            StartError::Thread(error) => write!(f, "a worker's thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a port was not attached to a running engine.
#[derive(Debug)]
pub enum AttachError {
    /// There is memory for so many queues of live ports on a worker, and all are taken.
    NoMemory {
        worker: usize,
        queues: usize,
    },
    /// All so many places for ports are taken.
    NoPlace(usize),
    Bind {
        queue: QueueId,
        error: io::Error,
    },
    /// A worker does not answer. From now on nothing is attached or detached.
    Silent(usize),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::NoMemory { worker, queues } => {
                write!(f, "worker {worker} has memory for {queues} queues of live ports, and they are taken")
            }
            AttachError::NoPlace(places) => write!(f, "all {places} places for ports are taken"),
            AttachError::Bind { queue, error } => write!(f, "queue {}: {error}", queue.0),
            AttachError::Silent(worker) => write!(f, "worker {worker} does not answer"),
        }
    }
}

impl std::error::Error for AttachError {}
