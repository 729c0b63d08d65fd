//! Frames to and from the kernel over AF_XDP. Knows no protocols.
//!
//! A worker has one [`Umem`]: memory in a memfd, cut into 4096-byte chunks. Every (interface, queue) pair that it
//! serves has a [`Socket`] with four rings over that memory, so a packet goes from one port to another by passing a
//! descriptor. Each chunk is in exactly one place at any time; the [`Ledger`](ledger) writes that place down in the
//! memfd, so that the account survives the process:
//!
//! ```text
//!            refill                       receive
//!   free ─────────────▶ posted (fill ring ─▶ kernel ─▶ rx ring) ─────────────┐
//!    ▲ ▲                                                                     ▼
//!    │ └──────────────────────────── release ─────────────────────────────  held by the application
//!    │      complete                                           transmit      │
//!    └───────────────── sent (completion ring ◀─ kernel ◀─ tx ring) ◀────────┘
//! ```
//!
//! Kernel documentation: `Documentation/networking/af_xdp.rst`; ABI: `include/uapi/linux/if_xdp.h`. Linux 5.10 for
//! shared UMEMs over several queues, 6.4 for mapping the rings of a bound socket again (handover), 6.6 for packets in
//! several buffers.

/// Where every frame is: the proof that none is lost.
mod audit;
/// Getting a socket bound: zero-copy or copy, shared registrations, EBUSY.
mod bind;
/// Descriptors passed between processes over a Unix socket.
pub mod handover;
/// The place of each frame, written down in shared memory.
mod ledger;
/// Memory that the kernel or another process shares.
mod mapping;
/// Sending by a packet socket.
mod packet;
/// The XDP programs and their loader.
pub mod program;
/// Single-producer, single-consumer rings shared with the kernel.
mod ring;
/// One (interface, queue) pair: receive, transmit, complete, refill, kick.
mod socket;
/// Taking over the memory and sockets of a process that is gone.
mod takeover;
/// Packet memory in a memfd.
mod umem;

pub use audit::{FrameAudit, SocketAudit};
pub use bind::{BindConfig, Bound, Copying, Registrar};
pub use packet::PacketSocket;
pub use socket::{ClosingSocket, Kick, MAX_SEGMENTS, Refused, Segment, Socket, Statistics};
pub use takeover::{Parts, Survey, Surveyed, TakenOver, TakeoverError};
pub use umem::{Buffer, CHUNK_SIZE, Pages, Retired, Umem, Window};
