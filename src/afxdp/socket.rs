//! One (interface, queue) pair: four rings over the worker's UMEM.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::sockopt::{xdp_mmap_offsets, xdp_statistics};
use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpDesc,
    XdpDescOptions, XdpRingOffset,
};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::bind::Bound;
use super::ledger::{Place, Slot, SocketRecord};
use super::mapping::Mapping;
use super::ring::{Consumer, Entry, Producer};
use super::umem::{Buffer, CHUNK_SIZE, Retired, Umem};
use crate::units::QueueId;

/// Most buffers of one packet: `CONFIG_MAX_SKB_FRAGS` + 1 in its default. The kernel drops longer ones without
/// completing their frames (`net/xdp/xsk.c`, `xsk_build_skb`), so they are refused here.
pub const MAX_SEGMENTS: usize = 18;

/// Shortest first buffer that may be transmitted: an Ethernet header.
const SHORTEST: u16 = 14;

/// One buffer's part of a packet: bytes `offset..offset + len` of its chunk. What is received is what is transmitted.
#[derive(Debug)]
pub struct Segment {
    pub buffer: Buffer,
    pub offset: u16,
    pub len: u16,
    /// The packet goes on in the next segment.
    pub more: bool,
}

/// Why a packet was not staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The tx ring has no room for all of it.
    Full,
    /// Shorter than an Ethernet header, beyond its chunk, of another UMEM, or in more buffers than the socket takes.
    Invalid,
}

/// How a kick went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kick {
    /// The kernel had nothing to do or looks by itself.
    NotNeeded,
    /// The kernel has taken every frame.
    Done,
    /// Some frames are still in the tx ring: kick again next round, and do not sleep.
    Again,
    /// The interface is down or gone: the frames wait.
    Down,
}

/// Packets that the kernel could not pass, since the socket was bound (XDP_STATISTICS).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Not received for other reasons: too large for one chunk, for instance.
    pub rx_dropped: u64,
    /// Bad addresses in the fill ring.
    pub rx_invalid: u64,
    /// Bad descriptors in the tx ring.
    pub tx_invalid: u64,
    /// The rx ring was full.
    pub rx_ring_full: u64,
    /// The fill ring was empty.
    pub fill_ring_empty: u64,
    /// The kernel looked at the tx ring and found it empty: no loss.
    pub tx_ring_empty: u64,
}

impl Statistics {
    /// What the kernel counted on the AF_XDP socket of this descriptor. A system call, from any thread.
    pub fn of(socket: impl AsFd) -> io::Result<Statistics> {
        let counted = xdp_statistics(socket)?;
        Ok(Statistics {
            rx_dropped: counted.rx_dropped,
            rx_invalid: counted.rx_invalid_descs,
            tx_invalid: counted.tx_invalid_descs,
            rx_ring_full: counted.rx_ring_full.unwrap_or(0),
            fill_ring_empty: counted.rx_fill_ring_empty_descs.unwrap_or(0),
            tx_ring_empty: counted.tx_ring_empty_descs.unwrap_or(0),
        })
    }
}

/// The four rings of a socket.
pub(super) struct Rings {
    rx: Consumer<XdpDesc>,
    tx: Producer<XdpDesc>,
    fill: Producer<u64>,
    completion: Consumer<u64>,
}

impl Rings {
    /// Maps the rings of a socket whose ring sizes are set.
    pub fn map(fd: BorrowedFd<'_>, rx_size: u32, tx_size: u32) -> io::Result<Rings> {
        let at = xdp_mmap_offsets(fd)?;
        Ok(Rings {
            rx: Consumer::new(map_ring::<XdpDesc>(fd, XDP_PGOFF_RX_RING, &at.rx, rx_size)?, &at.rx, rx_size)?,
            tx: Producer::new(map_ring::<XdpDesc>(fd, XDP_PGOFF_TX_RING, &at.tx, tx_size)?, &at.tx, tx_size)?,
            fill: Producer::new(map_ring::<u64>(fd, XDP_UMEM_PGOFF_FILL_RING, &at.fr, rx_size)?, &at.fr, rx_size)?,
            completion: Consumer::new(
                map_ring::<u64>(fd, XDP_UMEM_PGOFF_COMPLETION_RING, &at.cr, tx_size)?,
                &at.cr,
                tx_size,
            )?,
        })
    }
}

fn map_ring<T: Entry>(fd: BorrowedFd<'_>, page: u64, at: &XdpRingOffset, size: u32) -> io::Result<Arc<Mapping>> {
    let len = at.desc as usize + size as usize * size_of::<T>();
    Ok(Arc::new(Mapping::shared(fd, page, len)?))
}

/// A socket bound to one queue of one interface. One worker uses it, together with its UMEM.
///
/// The order of a round: `complete`, `receive`, `stage` to any socket of the UMEM, `publish` and `kick_if_needed` on
/// those, `refill`. Getting packets to it is the XDP program's part: its descriptor goes into an XSKMAP.
pub struct Socket {
    fd: Arc<OwnedFd>,
    slot: Slot,
    ifindex: u32,
    queue: QueueId,
    bound: Bound,
    rings: Rings,
    /// Ring entries that named a frame that was not there. Never seen; a kernel bug or memory corruption.
    faults: u64,
}

impl Socket {
    pub(super) fn new(fd: Arc<OwnedFd>, slot: Slot, record: &SocketRecord, rings: Rings) -> Socket {
        let &SocketRecord { ifindex, queue, zero_copy, need_wakeup, multi_buffer, .. } = record;
        let bound = Bound { zero_copy, need_wakeup, multi_buffer };
        Socket { fd, slot, ifindex, queue: QueueId(queue), bound, rings, faults: 0 }
    }

    /// Moves received packets to the end of `into`, up to its capacity: a burst allocates nothing. Packets come whole,
    /// so keep room for [`MAX_SEGMENTS`]. Returns how many segments came.
    pub fn receive(&mut self, umem: &mut Umem, into: &mut Vec<Segment>) -> usize {
        let room = (into.capacity() - into.len()).min(u32::MAX as usize) as u32;
        let waiting = self.rings.rx.waiting(room).min(room);
        let taken = if self.bound.multi_buffer { self.whole_packets(waiting) } else { waiting };
        let before = into.len();
        for n in 0..taken {
            let Some(descriptor) = self.rings.rx.peek(n) else { break };
            match self.received(umem, &descriptor) {
                Some(segment) => into.push(segment),
                None => self.faults += 1,
            }
        }
        if taken > 0 {
            // Only now may the frames go elsewhere: a successor that finds one in the rx ring finds it nowhere else.
            self.rings.rx.release(taken);
        }
        into.len() - before
    }

    fn received(&self, umem: &mut Umem, descriptor: &XdpDesc) -> Option<Segment> {
        let (frame, offset) = split(descriptor.addr);
        match umem.ledger.place(frame) {
            Some(Place::Posted { slot, .. }) if slot == self.slot => {}
            _ => return None,
        }
        let len = descriptor.len.min(CHUNK_SIZE as u32 - u32::from(offset)) as u16;
        let more = descriptor.options.contains(XdpDescOptions::XDP_PKT_CONTD);
        Some(Segment { buffer: umem.hold(frame), offset, len, more })
    }

    /// How many of the next `waiting` entries belong to packets that are there to their end.
    fn whole_packets(&self, waiting: u32) -> u32 {
        let ends = |n: &u32| {
            self.rings.rx.peek(*n).is_some_and(|entry| !entry.options.contains(XdpDescOptions::XDP_PKT_CONTD))
        };
        (0..waiting).rev().find(ends).map_or(0, |last| last + 1)
    }

    /// Puts a packet of one segment into the tx ring; `publish` lets the kernel see it. Gives it back if it is refused.
    pub fn stage(&mut self, umem: &mut Umem, segment: Segment) -> Result<(), (Refused, Segment)> {
        if segment.more || !sendable(umem, &segment, SHORTEST) {
            return Err((Refused::Invalid, segment));
        }
        if self.rings.tx.room(1) == 0 {
            return Err((Refused::Full, segment));
        }
        self.stage_segment(umem, segment, false);
        Ok(())
    }

    /// Puts a packet of several segments into the tx ring, whole or not at all, and empties `chain` if it did.
    pub fn stage_chain(&mut self, umem: &mut Umem, chain: &mut Vec<Segment>) -> Result<(), Refused> {
        let most = if self.bound.multi_buffer { MAX_SEGMENTS } else { 1 };
        let shortest = |n| if n == 0 { SHORTEST } else { 1 };
        if chain.is_empty()
            || chain.len() > most
            || !chain.iter().enumerate().all(|(n, segment)| sendable(umem, segment, shortest(n)))
        {
            return Err(Refused::Invalid);
        }
        let count = chain.len() as u32;
        if self.rings.tx.room(count) < count {
            return Err(Refused::Full);
        }
        let last = chain.len() - 1;
        for (n, segment) in chain.drain(..).enumerate() {
            self.stage_segment(umem, segment, n < last);
        }
        Ok(())
    }

    fn stage_segment(&mut self, umem: &mut Umem, segment: Segment, more: bool) {
        let Segment { buffer, offset, len, .. } = segment;
        let Some(frame) = umem.let_go(buffer) else { return };
        let position = self.rings.tx.position();
        umem.ledger.set(frame, Place::Sent { slot: self.slot, position });
        let options = if more { XdpDescOptions::XDP_PKT_CONTD } else { XdpDescOptions::empty() };
        let addr = u64::from(frame) * CHUNK_SIZE as u64 + u64::from(offset);
        if !self.rings.tx.push(XdpDesc { addr, len: u32::from(len), options }) {
            debug_assert!(false, "callers made sure of room");
            umem.put_free(frame);
        }
    }

    /// Lets the kernel see what was staged.
    pub fn publish(&mut self) {
        if self.rings.tx.published() != self.rings.tx.position() {
            self.rings.tx.publish();
        }
    }

    /// Takes back the frames that the kernel has transmitted. Returns how many.
    pub fn complete(&mut self, umem: &mut Umem) -> u32 {
        let done = self.rings.completion.waiting(self.rings.completion.size());
        for n in 0..done {
            let Some(address) = self.rings.completion.peek(n) else { break };
            let (frame, _) = split(address);
            match umem.ledger.place(frame) {
                Some(Place::Sent { slot, .. }) if slot == self.slot => umem.put_free(frame),
                _ => self.faults += 1,
            }
        }
        if done > 0 {
            self.rings.completion.release(done);
        }
        done
    }

    /// Posts free frames for receive until the kernel has `limit` of them, or as many as the rx ring holds: with never
    /// more than that, the rx ring can't overflow. Returns how many were posted.
    pub fn refill(&mut self, umem: &mut Umem, limit: u32) -> u32 {
        let missing = limit.min(self.rings.rx.size()).saturating_sub(self.posted());
        let count = missing.min(self.rings.fill.room(missing)).min(umem.free());
        for _ in 0..count {
            let Some(frame) = umem.pop_free() else { break };
            let position = self.rings.fill.position();
            umem.ledger.set(frame, Place::Posted { slot: self.slot, position });
            if !self.rings.fill.push(u64::from(frame) * CHUNK_SIZE as u64) {
                debug_assert!(false, "room was checked");
                umem.put_free(frame);
            }
        }
        if count > 0 {
            self.rings.fill.publish();
        }
        count
    }

    /// Makes the system calls that the kernel is waiting for: to transmit what it has not taken from the tx ring, and to
    /// look at a fill ring that it had found empty. In copy mode one call moves at most 32 frames, so calls are repeated
    /// as long as they move any. What is left is not forgotten: the next call looks at the ring again.
    pub fn kick_if_needed(&mut self) -> Kick {
        if self.rings.fill.needs_wakeup() && self.rings.fill.unconsumed() > 0 {
            let nothing: &mut [u8] = &mut [];
            // The call is the message; whatever it returns, the fill ring tells whether another is needed.
            let _ = recv(&self.fd, nothing, RecvFlags::DONTWAIT);
        }
        let mut left = self.rings.tx.unconsumed();
        let waiting = left > 0 || self.bound.zero_copy && self.outstanding() > 0;
        if !waiting || self.bound.need_wakeup && !self.rings.tx.needs_wakeup() {
            return Kick::NotNeeded;
        }
        loop {
            match send(&self.fd, &[], SendFlags::DONTWAIT) {
                // EAGAIN: more than one call's share was waiting, or the completion ring is full. EBUSY: the device
                // dropped a frame. ENOBUFS: no memory for a copy.
                Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => {}
                Err(_) => return Kick::Down,
            }
            let now = self.rings.tx.unconsumed();
            if now == 0 {
                return Kick::Done;
            }
            if now >= left || self.bound.zero_copy {
                return Kick::Again;
            }
            left = now;
        }
    }

    /// Gives up the socket's frames before it is dropped: see [`Umem::reclaim`] for when they come back.
    pub fn retire(self, umem: &mut Umem) -> (Retired, ClosingSocket) {
        (umem.retire(self.slot), ClosingSocket { _fd: self.fd, _rings: self.rings })
    }

    /// Frames that the kernel has for receive, unread packets included.
    #[must_use]
    pub fn posted(&self) -> u32 {
        self.rings.fill.position().wrapping_sub(self.rings.rx.position())
    }

    /// Frames that are staged or with the kernel for transmit, completions not yet taken included.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.rings.tx.position().wrapping_sub(self.rings.completion.position())
    }

    /// True if the kernel has not taken all published frames yet: the worker must not sleep.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.rings.tx.unconsumed() > 0
    }

    /// How many more packets can be staged without looking for room.
    pub fn tx_room(&mut self) -> u32 {
        self.rings.tx.room(u32::MAX)
    }

    /// What was got when the socket was bound.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Interface index at the time of the bind.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    #[must_use]
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// Ring entries that named frames which were not there: 0, or something is broken.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// What the kernel counted on this socket. A system call.
    pub fn statistics(&self) -> io::Result<Statistics> {
        Statistics::of(&self.fd)
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }
}

/// What a takeover reads of the rings that another process left.
impl Socket {
    /// Frames in the rx ring that the former owner had not taken, or had not finished taking.
    pub(super) fn unread(&mut self) -> Vec<u32> {
        let rx = &mut self.rings.rx;
        (0..rx.waiting(rx.size())).filter_map(|n| rx.peek(n)).map(|entry| split(entry.addr).0).collect()
    }

    /// Frames in the completion ring that the former owner had not taken, or had not finished taking.
    pub(super) fn uncompleted(&mut self) -> Vec<u32> {
        let completion = &mut self.rings.completion;
        let waiting = completion.waiting(completion.size());
        (0..waiting).filter_map(|n| completion.peek(n)).map(|address| split(address).0).collect()
    }

    /// Positions of the last fill and tx entries that were published.
    pub(super) fn last_published(&self) -> (u32, u32) {
        (self.rings.fill.published().wrapping_sub(1), self.rings.tx.published().wrapping_sub(1))
    }

    /// True if the fill ring entry at `position` was published.
    pub(super) fn was_posted(&self, position: u32) -> bool {
        is_before(position, self.rings.fill.published())
    }

    /// True if the tx ring entry at `position` was published.
    pub(super) fn was_sent(&self, position: u32) -> bool {
        is_before(position, self.rings.tx.published())
    }
}

impl AsFd for Socket {
    /// For an XSKMAP, poll(2) and a handover.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// What is left of a retired socket. Dropping it closes the descriptor, which waits for the kernel's packet path to
/// leave the socket alone: milliseconds that a worker does not have, so it is dropped elsewhere.
pub struct ClosingSocket {
    _fd: Arc<OwnedFd>,
    _rings: Rings,
}

/// True if free-running `position` lies before `end`: within half the circle.
fn is_before(position: u32, end: u32) -> bool {
    end.wrapping_sub(position).wrapping_sub(1) < 1 << 31
}

fn sendable(umem: &Umem, segment: &Segment, shortest: u16) -> bool {
    umem.owns(&segment.buffer)
        && segment.len >= shortest
        && usize::from(segment.offset) + usize::from(segment.len) <= CHUNK_SIZE
}

/// A UMEM address as (frame, offset in its chunk).
fn split(address: u64) -> (u32, u16) {
    let frame = u32::try_from(address / CHUNK_SIZE as u64).unwrap_or(u32::MAX);
    (frame, (address % CHUNK_SIZE as u64) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_frame_and_an_offset() {
        assert_eq!(split(0), (0, 0));
        assert_eq!(split(4096 * 7 + 256), (7, 256));
        assert_eq!(split(u64::MAX), (u32::MAX, 4095));
    }

    #[test]
    fn before_is_told_across_the_wrap() {
        assert!(is_before(0, 1) && is_before(u32::MAX, 0) && is_before(5, 2005));
        assert!(!is_before(1, 1) && !is_before(2, 1) && !is_before(0, u32::MAX));
    }
}
