//! Workers, polling, counters, ports: the only place where frames meet drivers.
//!
//! A worker is a pinned thread with one UMEM and the sockets of its (port, queue) pairs. It takes a burst off a queue,
//! walks it, and sends each packet by the descriptor it came with; what has to leave by another worker's port crosses
//! to it over a single-producer ring. It runs to completion: no lock, no allocation, no system call but kicks, one
//! clock reading a round.

/// Which cores threads may be pinned to.
mod affinity;
/// Which worker serves which queue.
mod assignment;
/// What is the kernel's after all.
mod back;
/// A burst of segments through the walk.
mod burst;
/// How an engine is to run, and why it does not.
mod config;
/// What workers count.
mod counters;
/// Frames that leave by another worker's port.
mod crossing;
/// What each worker will begin with.
mod draft;
/// Fragments that wait for the first of their packet.
mod early;
/// What workers are asked to do between bursts.
mod errand;
/// What would happen to a packet, step by step.
pub mod explain;
/// Frames that workers hand to the control side.
mod heard;
/// Packets that wait for their next hop's MAC.
mod held;
/// Ports that come and go while workers run.
mod live;
/// Packet memory that is made meanwhile.
mod memory;
/// Packets that leave in pieces.
mod pieces;
/// The engine over captures.
pub mod replay;
/// Carrying verdicts out.
mod settle;
/// What workers have memory for.
mod share;
/// Bringing workers up and down.
mod start;
/// What workers read.
mod tables;
/// Getting a worker out of its sleep.
mod wake;
/// The loop of one worker.
mod worker;

pub use back::{WayBack, WaysBack};
pub use config::{AttachError, EngineConfig, Poll, PortConfig, Resolve, StartError};
pub use counters::{Counters, PortCounters, QueueCounters, WorkerCounters};
pub use draft::fits;
pub use heard::{Heard, Word};
pub use live::Withdrawn;
pub use memory::Memory;
pub use start::{BoundQueue, Engine, Stopped};
pub use tables::Tables;
