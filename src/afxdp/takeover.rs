//! Taking over the memory and sockets of a process that is gone.
//!
//! While any process holds their descriptors, the UMEM and its sockets live on, and the kernel goes on receiving into
//! them. The successor has to find out which frames the kernel holds; all others are free. It can be exact even after
//! SIGKILL, because of the order in which the worker writes:
//!
//! - Before it publishes a fill or tx entry, it marks the frame with the entry's position. A mark whose position was never
//!   published is void: the frame is free.
//! - It marks received frames as held, and completed ones as free, before it moves the consumer position. A frame that
//!   still lies in the rx or completion ring has not been anywhere else yet, whatever its mark says: it will be received,
//!   or completed, again.
//! - Everything else that is marked as posted or sent is with the kernel, whether or not a ring shows it: drivers hold
//!   frames between the rings. What the kernel does in the meantime (fill to rx, tx to completion) changes no class.
//!
//! In the end, the number of frames of each class must equal the difference of ring positions that both belong to the
//! worker's side. If not, the takeover is refused.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::{fmt, io};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::sockopt::socket_cookie;
use rustix::net::{SendFlags, send};

use super::bind::Kind;
use super::ledger::{MAX_SOCKETS, Place, Slot, SocketRecord};
use super::socket::Rings;
use super::{Retired, Socket, Umem};
use crate::units::QueueId;

/// The descriptors of one worker: its memory and its sockets, in any order.
#[derive(Debug)]
pub struct Parts {
    memory: Memory,
    sockets: Vec<OwnedFd>,
}

/// Packet memory that was left.
enum Memory {
    Descriptor(OwnedFd),
    Mapped(Box<Umem>),
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Memory::Descriptor(_) => "Descriptor",
            Memory::Mapped(_) => "Mapped",
        })
    }
}

/// What was left, as its ledger has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// Frames of the memory.
    pub frames: u32,
    pub sockets: Vec<Surveyed>,
}

/// A socket that was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Surveyed {
    pub ifindex: u32,
    pub queue: QueueId,
    pub multi_buffer: bool,
}

/// What a takeover yields.
pub struct TakenOver {
    pub umem: Umem,
    pub sockets: Vec<Socket>,
    /// Frames of sockets that were not handed over: reclaim them when those sockets are gone for good.
    pub lost: Vec<Retired>,
    /// Frames that the former owner held or had staged without publishing: the packets in its hands when it ended.
    pub abandoned: u32,
}

/// Why a takeover was refused. A fresh start is the way out.
#[derive(Debug)]
pub enum TakeoverError {
    /// Not exactly one of the descriptors is a UMEM.
    NotOneUmem,
    /// A socket that the memory's ledger does not know.
    UnknownSocket,
    /// A socket is not bound any more: its interface is gone.
    Unbound { ifindex: u32, queue: u32 },
    /// Ledger and rings disagree about the frames of a queue.
    Inconsistent { ifindex: u32, queue: u32 },
    /// Mapping failed. Rings of bound sockets can be mapped from Linux 6.4 on.
    Io(io::Error),
}

impl fmt::Display for TakeoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TakeoverError::NotOneUmem => f.write_str("expected the descriptor of one UMEM"),
            TakeoverError::UnknownSocket => f.write_str("a socket does not belong to the UMEM"),
            TakeoverError::Unbound { ifindex, queue } => {
                write!(f, "the socket of interface {ifindex} queue {queue} is not bound any more")
            }
            TakeoverError::Inconsistent { ifindex, queue } => {
                write!(f, "ledger and rings disagree about the frames of interface {ifindex} queue {queue}")
            }
            TakeoverError::Io(error) => write!(f, "mapping what was handed over: {error}"),
        }
    }
}

impl std::error::Error for TakeoverError {}

impl From<io::Error> for TakeoverError {
    fn from(error: io::Error) -> TakeoverError {
        TakeoverError::Io(error)
    }
}

impl Umem {
    /// The descriptors to hand over: the memory's and those of its sockets. Whoever holds them keeps both alive.
    pub fn descriptors<'a>(&'a self, sockets: impl IntoIterator<Item = &'a Socket>) -> Vec<BorrowedFd<'a>> {
        [self.memfd()].into_iter().chain(sockets.into_iter().map(AsFd::as_fd)).collect()
    }

    /// Lets go of all frames and keeps the descriptors, and the memory mapped. Frames that the application still holds are
    /// abandoned. Errors if descriptors can't be duplicated.
    pub fn into_parts(self, sockets: Vec<Socket>) -> io::Result<Parts> {
        let sockets = sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect::<io::Result<_>>()?;
        Ok(Parts { memory: Memory::Mapped(Box::new(self.emptied()?)), sockets })
    }
}

impl Parts {
    /// Tells the memory from the sockets among `fds`.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Result<Parts, TakeoverError> {
        let (mut memory, mut sockets) = (Vec::new(), Vec::new());
        for fd in fds {
            let status = fstat(&fd).map_err(io::Error::from)?;
            match FileType::from_raw_mode(status.st_mode) {
                FileType::Socket => sockets.push(fd),
                _ => memory.push(fd),
            }
        }
        match <[OwnedFd; 1]>::try_from(memory) {
            Ok([memfd]) => Ok(Parts { memory: Memory::Descriptor(memfd), sockets }),
            Err(_) => Err(TakeoverError::NotOneUmem),
        }
    }

    /// Maps the memory, which takes the longest, and says what it is for. Changes nothing: its owner may be at work.
    pub fn survey(&mut self) -> Result<Survey, TakeoverError> {
        if let Memory::Descriptor(memfd) = &self.memory {
            self.memory = Memory::Mapped(Box::new(Umem::open(memfd.try_clone()?)?));
        }
        let Memory::Mapped(umem) = &self.memory else { return Err(TakeoverError::NotOneUmem) };
        let found = |fd: &OwnedFd| {
            let (_, record) = record_of(umem, fd)?;
            let SocketRecord { ifindex, queue, multi_buffer, .. } = record;
            Ok(Surveyed { ifindex, queue: QueueId(queue), multi_buffer })
        };
        let sockets = self.sockets.iter().map(found).collect::<Result<_, TakeoverError>>()?;
        Ok(Survey { frames: umem.frames(), sockets })
    }

    /// Closes the sockets for which `wanted`, which is asked in their order, says no. In a takeover their frames are `lost`.
    pub fn keep_sockets(&mut self, mut wanted: impl FnMut() -> bool) {
        self.sockets.retain(|_| wanted());
    }

    /// Becomes the owner. The former one must have ended or have let go with `into_parts`: two workers on the same rings
    /// would corrupt each other's packets.
    pub fn take_over(self) -> Result<TakenOver, TakeoverError> {
        let mut umem = match self.memory {
            Memory::Descriptor(memfd) => Umem::open(memfd)?,
            Memory::Mapped(umem) => *umem,
        };
        let mut sockets =
            self.sockets.into_iter().map(|fd| adopt(&umem, fd)).collect::<Result<Vec<Socket>, TakeoverError>>()?;
        mark_what_rings_show(&umem, &mut sockets)?;
        let abandoned = umem.sort_frames(&sockets);
        check(&umem, &sockets)?;
        let gone: Vec<Slot> = umem.ledger.slots().map(|(slot, _)| slot).collect();
        let gone = gone.into_iter().filter(|slot| sockets.iter().all(|socket| socket.slot() != *slot));
        let lost = gone.map(|slot| umem.retire(slot)).collect();
        Ok(TakenOver { umem, sockets, lost, abandoned })
    }
}

fn adopt(umem: &Umem, fd: OwnedFd) -> Result<Socket, TakeoverError> {
    let (slot, record) = record_of(umem, &fd)?;
    // Transmits what may be waiting, which is due anyway. The kernel says ENXIO to a socket without a device.
    if let Err(Errno::NXIO) = send(&fd, &[], SendFlags::DONTWAIT) {
        return Err(TakeoverError::Unbound { ifindex: record.ifindex, queue: record.queue });
    }
    let rings = Rings::map(fd.as_fd(), record.rx_size, record.tx_size)?;
    let fd = Arc::new(fd);
    umem.registrar().adopt(&fd, Kind { zero_copy: record.zero_copy, multi_buffer: record.multi_buffer });
    Ok(Socket::new(fd, slot, &record, rings))
}

/// What the ledger says of a socket.
fn record_of(umem: &Umem, socket: &OwnedFd) -> Result<(Slot, SocketRecord), TakeoverError> {
    let cookie = socket_cookie(socket).map_err(io::Error::from)?;
    let known = umem.ledger.slots().find(|(_, record)| record.cookie == cookie);
    known.ok_or(TakeoverError::UnknownSocket)
}

/// Puts the marks right of frames that the former owner was taking out of a ring when it ended.
fn mark_what_rings_show(umem: &Umem, sockets: &mut [Socket]) -> Result<(), TakeoverError> {
    for socket in sockets {
        let (slot, ifindex, queue) = (socket.slot(), socket.ifindex(), socket.queue().0);
        let (unread, uncompleted) = (socket.unread(), socket.uncompleted());
        let (posted_at, sent_at) = socket.last_published();
        for frame in unread.iter().chain(&uncompleted) {
            if *frame >= umem.frames() {
                return Err(TakeoverError::Inconsistent { ifindex, queue });
            }
        }
        unread.into_iter().for_each(|frame| umem.ledger.set(frame, Place::Posted { slot, position: posted_at }));
        uncompleted.into_iter().for_each(|frame| umem.ledger.set(frame, Place::Sent { slot, position: sent_at }));
    }
    Ok(())
}

/// The two counts of each socket's frames must agree.
fn check(umem: &Umem, sockets: &[Socket]) -> Result<(), TakeoverError> {
    let mut counts = [(0, 0); MAX_SOCKETS as usize];
    for frame in 0..umem.frames() {
        match umem.ledger.place(frame) {
            Some(Place::Posted { slot, .. }) => counts.get_mut(usize::from(slot.0)).map(|(posted, _)| *posted += 1),
            Some(Place::Sent { slot, .. }) => counts.get_mut(usize::from(slot.0)).map(|(_, sent)| *sent += 1),
            _ => None,
        };
    }
    let agrees =
        |socket: &&Socket| counts.get(usize::from(socket.slot().0)) == Some(&(socket.posted(), socket.outstanding()));
    match sockets.iter().find(|socket| !agrees(socket)) {
        None => Ok(()),
        Some(socket) => Err(TakeoverError::Inconsistent { ifindex: socket.ifindex(), queue: socket.queue().0 }),
    }
}

impl Umem {
    /// Puts every frame on the free list that the kernel does not hold. Returns how many of them held packets.
    fn sort_frames(&mut self, sockets: &[Socket]) -> u32 {
        let mut abandoned = 0;
        let mut by_slot: Vec<Option<&Socket>> = vec![None; usize::from(MAX_SOCKETS)];
        for socket in sockets {
            if let Some(place) = by_slot.get_mut(usize::from(socket.slot().0)) {
                *place = Some(socket);
            }
        }
        let socket_in = |slot: Slot| by_slot.get(usize::from(slot.0)).copied().flatten();
        for frame in (0..self.frames()).rev() {
            let place = self.ledger.place(frame);
            let with_kernel = match place {
                // Frames of sockets that were not handed over stay with those until they are gone.
                Some(Place::Posted { slot, position }) => match socket_in(slot) {
                    Some(socket) => socket.was_posted(position),
                    None => self.ledger.record(slot).is_some(),
                },
                Some(Place::Sent { slot, position }) => match socket_in(slot) {
                    Some(socket) => socket.was_sent(position),
                    None => self.ledger.record(slot).is_some(),
                },
                Some(Place::Free | Place::Held | Place::Retired { .. }) | None => false,
            };
            if !with_kernel {
                abandoned += u32::from(matches!(place, Some(Place::Held | Place::Sent { .. })));
                self.put_free(frame);
            }
        }
        abandoned
    }
}
