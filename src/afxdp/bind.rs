//! Getting a socket bound to a queue: zero-copy or copy, over a registration of the memory that is shared where it can be.
//!
//! Sockets that share a registration (XDP_SHARED_UMEM) share its mode too: they may pass no flag of their own, and the
//! kernel binds them as it bound the first. A worker's ports differ (a NIC in zero-copy, veths in copy, some with
//! packets in several buffers), so the same memory is registered once for each [`Kind`]; a frame means the same in all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_send_buffer_size_force, set_xdp_rx_ring_size, set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size,
    set_xdp_umem_fill_ring_size, set_xdp_umem_reg, socket_cookie, xdp_options,
};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XdpOptionsFlags, XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::ledger::{Ledger, SocketRecord};
use super::mapping::Mapping;
use super::socket::{Rings, Socket};
use super::umem::CHUNK_SIZE;
use crate::units::QueueId;

/// Which way of passing frames to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copying {
    /// Zero-copy where the driver has it, else copy.
    AvoidIfPossible,
    /// Copy, whatever the driver has.
    Always,
}

/// How often a busy queue is tried again: an attempt costs microseconds, and packets are waiting.
const RETRY_EVERY: Duration = Duration::from_millis(1);

/// What to bind and how.
#[derive(Clone, Copy, Debug)]
pub struct BindConfig {
    /// Interface index in the network namespace of the calling thread.
    pub ifindex: u32,
    pub queue: QueueId,
    /// Entries of the rx and the fill ring, a power of two: receive frames that the kernel may hold.
    pub rx_size: u32,
    /// Entries of the tx and the completion ring, a power of two.
    pub tx_size: u32,
    /// Packets may span several chunks: for an MTU above about 3500. Needs a program with `xdp.frags`.
    pub multi_buffer: bool,
    pub copying: Copying,
    /// How long to retry while the queue is busy. After a crash the kernel takes 5 to 50 ms to let go of it.
    pub patience: Duration,
}

impl BindConfig {
    /// Rings of 2048, zero-copy if possible, single buffers, two seconds of patience.
    #[must_use]
    pub fn new(ifindex: u32, queue: QueueId) -> BindConfig {
        BindConfig {
            ifindex,
            queue,
            rx_size: 2048,
            tx_size: 2048,
            multi_buffer: false,
            copying: Copying::AvoidIfPossible,
            patience: Duration::from_secs(2),
        }
    }
}

/// What was got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// The driver moves frames by DMA to and from our memory.
    pub zero_copy: bool,
    /// The kernel says when it wants a kick.
    pub need_wakeup: bool,
    /// Packets may span several chunks.
    pub multi_buffer: bool,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.zero_copy { "zero-copy" } else { "copy" })?;
        f.write_str(if self.need_wakeup { ", need-wakeup" } else { "" })?;
        f.write_str(if self.multi_buffer { ", multi-buffer" } else { "" })
    }
}

/// Registrations of one kind share one kernel object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub zero_copy: bool,
    pub multi_buffer: bool,
}

/// Binds sockets to the memory of one UMEM. Used by the control side while the UMEM's worker runs; a lock orders the
/// binds among themselves.
#[derive(Clone)]
pub struct Registrar(Arc<Shared>);

struct Shared {
    memfd: OwnedFd,
    mapping: Arc<Mapping>,
    ledger: Ledger,
    /// Bound sockets, any of which lends its registration to the next of its kind. A registration lives as long as one
    /// of its sockets.
    bound: Mutex<Vec<(Weak<OwnedFd>, Kind)>>,
}

impl Registrar {
    pub(super) fn new(memfd: OwnedFd, mapping: Arc<Mapping>, ledger: Ledger) -> Registrar {
        Registrar(Arc::new(Shared { memfd, mapping, ledger, bound: Mutex::default() }))
    }

    pub(super) fn memfd(&self) -> BorrowedFd<'_> {
        self.0.memfd.as_fd()
    }

    pub(super) fn mapping(&self) -> Arc<Mapping> {
        self.0.mapping.clone()
    }

    /// Binds a socket. Tries zero-copy first unless told otherwise, and retries while the queue is busy. Blocks for up
    /// to `patience` a mode: not for a packet worker. Errors as `bind` does; `EBUSY` when another socket has the queue.
    pub fn bind(&self, config: &BindConfig) -> io::Result<Socket> {
        let multi_buffer = config.multi_buffer;
        match config.copying {
            Copying::Always => self.bind_as(config, Kind { zero_copy: false, multi_buffer }),
            Copying::AvoidIfPossible => match self.bind_as(config, Kind { zero_copy: true, multi_buffer }) {
                Err(refused) if refused.raw_os_error() != Some(Errno::BUSY.raw_os_error()) => {
                    self.bind_as(config, Kind { zero_copy: false, multi_buffer })
                }
                bound_or_busy => bound_or_busy,
            },
        }
    }

    fn bind_as(&self, config: &BindConfig, kind: Kind) -> io::Result<Socket> {
        let fd = Arc::new(socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)?);
        set_xdp_rx_ring_size(&fd, config.rx_size)?;
        set_xdp_tx_ring_size(&fd, config.tx_size)?;
        set_xdp_umem_fill_ring_size(&fd, config.rx_size)?;
        set_xdp_umem_completion_ring_size(&fd, config.tx_size)?;
        // In copy mode each frame in flight is charged to the send buffer. Without the privilege the default stands.
        let _ = set_socket_send_buffer_size_force(&fd, config.tx_size as usize * CHUNK_SIZE);

        let mut bound = self.0.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.retain(|(socket, _)| socket.strong_count() > 0);
        let lender = bound.iter().filter(|(_, other)| *other == kind).find_map(|(socket, _)| socket.upgrade());
        if lender.is_none() {
            self.register(&fd)?;
        }
        // Before Linux 6.4 the rings of a socket can be mapped only before it is bound.
        let rings = Rings::map(fd.as_fd(), config.rx_size, config.tx_size)?;
        let need_wakeup = bind_patiently(config, kind, &fd, lender.as_deref())?;

        let options = xdp_options(&fd)?;
        let got = Bound {
            zero_copy: options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY),
            need_wakeup,
            multi_buffer: kind.multi_buffer,
        };
        let record = SocketRecord {
            cookie: socket_cookie(&fd)?,
            ifindex: config.ifindex,
            queue: config.queue.0,
            rx_size: config.rx_size,
            tx_size: config.tx_size,
            zero_copy: got.zero_copy,
            need_wakeup,
            multi_buffer: kind.multi_buffer,
        };
        let slot = self.0.ledger.enter(&record).ok_or_else(|| io::Error::other("the UMEM has no slot for a socket"))?;
        bound.push((Arc::downgrade(&fd), kind));
        Ok(Socket::new(fd, slot, &record, rings))
    }

    /// Closes a socket of this memory that no worker has used: no frame was ever in its rings.
    pub fn unbind(&self, socket: Socket) {
        let slot = socket.slot();
        drop(socket);
        self.0.ledger.strike(slot);
    }

    /// Lends the registration of a socket that was taken over.
    pub(super) fn adopt(&self, socket: &Arc<OwnedFd>, kind: Kind) {
        let mut bound = self.0.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.push((Arc::downgrade(socket), kind));
    }

    fn register(&self, fd: &OwnedFd) -> io::Result<()> {
        let frames = self.0.ledger.frames() as usize;
        let chunks = self.0.mapping.pointer::<[u8; CHUNK_SIZE]>(0, frames).ok_or(io::ErrorKind::InvalidData)?;
        let registration = XdpUmemReg {
            addr: chunks.as_ptr().expose_provenance() as u64,
            len: (frames * CHUNK_SIZE) as u64,
            chunk_size: CHUNK_SIZE as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        Ok(set_xdp_umem_reg(fd, registration)?)
    }
}

/// Binds, retrying while the queue is busy: when a process dies, the kernel lets go of its queues asynchronously.
/// Returns whether the kernel tells when it needs a kick.
fn bind_patiently(config: &BindConfig, kind: Kind, fd: &OwnedFd, lender: Option<&OwnedFd>) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        let address = |flags| SocketAddrXdp::new(flags, config.ifindex, config.queue.0);
        let result = match lender {
            Some(lender) => {
                let addr = address(SocketAddrXdpFlags::XDP_SHARED_UMEM);
                bind(fd, &SocketAddrXdpWithSharedUmem { addr, shared_umem_fd: lender.as_fd() })
            }
            None => {
                let mode = if kind.zero_copy { SocketAddrXdpFlags::XDP_ZEROCOPY } else { SocketAddrXdpFlags::XDP_COPY };
                let buffers =
                    if kind.multi_buffer { SocketAddrXdpFlags::XDP_USE_SG } else { SocketAddrXdpFlags::empty() };
                bind(fd, &address(mode | buffers | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP))
            }
        };
        match result {
            // Asked for by the first socket of each registration, and inherited by the rest.
            Ok(()) => return Ok(true),
            Err(Errno::BUSY) if started.elapsed() < config.patience => {
                thread::sleep(RETRY_EVERY);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
