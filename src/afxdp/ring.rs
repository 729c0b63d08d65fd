//! Single-producer, single-consumer rings shared with the kernel (`net/xdp/xsk_queue.h`).
//!
//! Two free-running u32 positions, one written by each side, over a power-of-two array of entries. The side that writes
//! a position publishes with `Release` what it did to the entries before; the other side reads it with `Acquire`. Both
//! ends here keep a private cursor and a remembered position of the other side, so that shared cache lines are
//! touched once a batch.

use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::xdp::{XdpDesc, XdpRingFlags, XdpRingOffset};

use super::mapping::Mapping;

/// What rings carry: u64 chunk addresses (fill, completion) or descriptors (rx, tx).
pub(super) trait Entry: Copy + sealed::PlainData {}
impl Entry for u64 {}
impl Entry for XdpDesc {}

mod sealed {
    /// Any bit pattern is a value, so an entry may be read whatever the other side wrote.
    pub trait PlainData {}
    impl PlainData for u64 {}
    impl PlainData for rustix::net::xdp::XdpDesc {}
}

/// The memory of one ring: pointers into a mapping that lives as long as the ring.
struct Memory<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: Option<NonNull<AtomicU32>>,
    entries: NonNull<T>,
    size: u32,
    /// Keeps the pointers good.
    _mapping: Arc<Mapping>,
    _entries: PhantomData<T>,
}

// SAFETY: the pointers lead into a shared mapping that any thread may use; a ring end is used through `&mut` only.
unsafe impl<T: Entry> Send for Memory<T> {}

impl<T: Entry> Memory<T> {
    fn new(mapping: Arc<Mapping>, at: &XdpRingOffset, size: u32) -> io::Result<Memory<T>> {
        let misfit = || io::Error::new(io::ErrorKind::InvalidData, "ring offsets do not fit the mapping");
        if !size.is_power_of_two() {
            return Err(misfit());
        }
        Ok(Memory {
            producer: mapping.pointer(at.producer as usize, 1).ok_or_else(misfit)?,
            consumer: mapping.pointer(at.consumer as usize, 1).ok_or_else(misfit)?,
            flags: at.flags.map(|at| mapping.pointer(at as usize, 1).ok_or_else(misfit)).transpose()?,
            entries: mapping.pointer(at.desc as usize, size as usize).ok_or_else(misfit)?,
            size,
            _mapping: mapping,
            _entries: PhantomData,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: checked by `new` to lie, aligned, inside the mapping that `self` keeps alive; shared memory is only
        // ever accessed atomically there.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        self.flags.is_some_and(|flags| {
            // SAFETY: as for `producer`.
            let flags = unsafe { flags.as_ref() }.load(Ordering::Relaxed);
            flags & XdpRingFlags::XDP_RING_NEED_WAKEUP.bits() != 0
        })
    }

    fn entry(&self, position: u32) -> NonNull<T> {
        // SAFETY: the masked position is below `size`, and `new` checked that `size` entries lie inside the mapping.
        unsafe { self.entries.add((position & (self.size - 1)) as usize) }
    }
}

/// The end that puts entries in: ours on the fill and tx rings.
pub(super) struct Producer<T> {
    memory: Memory<T>,
    /// Where the next entry goes: at or ahead of the published position.
    cursor: u32,
    /// The consumer's position as last seen: at or behind the true one.
    consumed: u32,
}

impl<T: Entry> Producer<T> {
    /// Opens the producing end over `size` entries of `mapping`, where its published position stands.
    pub fn new(mapping: Arc<Mapping>, at: &XdpRingOffset, size: u32) -> io::Result<Producer<T>> {
        let memory = Memory::new(mapping, at, size)?;
        let cursor = memory.producer().load(Ordering::Relaxed);
        let consumed = memory.consumer().load(Ordering::Acquire);
        Ok(Producer { memory, cursor, consumed })
    }

    /// How many entries fit now. Looks at the shared position only if fewer than `wanted` are known to.
    pub fn room(&mut self, wanted: u32) -> u32 {
        let known = self.known_room();
        if known >= wanted {
            return known;
        }
        self.consumed = self.memory.consumer().load(Ordering::Acquire);
        self.known_room()
    }

    /// Writes an entry behind the ones before it; the consumer sees it after `publish`. False if the ring is full.
    #[must_use]
    pub fn push(&mut self, entry: T) -> bool {
        if self.room(1) == 0 {
            return false;
        }
        // SAFETY: the consumer is done with this slot: its position, read with `Acquire`, is less than `size` behind
        // the cursor. Nothing is published yet, so only we access it.
        unsafe { self.memory.entry(self.cursor).write(entry) };
        self.cursor = self.cursor.wrapping_add(1);
        true
    }

    /// Lets the consumer see all that was pushed.
    pub fn publish(&mut self) {
        self.memory.producer().store(self.cursor, Ordering::Release);
    }

    /// Where the next entry goes.
    pub fn position(&self) -> u32 {
        self.cursor
    }

    /// The position up to which the consumer may read.
    pub fn published(&self) -> u32 {
        self.memory.producer().load(Ordering::Relaxed)
    }

    /// How many published entries the consumer has not taken yet.
    pub fn unconsumed(&self) -> u32 {
        self.published().wrapping_sub(self.memory.consumer().load(Ordering::Relaxed))
    }

    /// True if the kernel asks for a system call before it looks at the ring again.
    pub fn needs_wakeup(&self) -> bool {
        self.memory.needs_wakeup()
    }

    fn known_room(&self) -> u32 {
        // A hostile or broken consumer position must not yield more room than there are entries.
        self.memory.size.saturating_sub(self.cursor.wrapping_sub(self.consumed))
    }
}

/// The end that takes entries out: ours on the rx and completion rings.
pub(super) struct Consumer<T> {
    memory: Memory<T>,
    /// The next entry to take: the published position.
    cursor: u32,
    /// The producer's position as last seen: at or behind the true one.
    produced: u32,
}

impl<T: Entry> Consumer<T> {
    /// Opens the consuming end over `size` entries of `mapping`, where its published position stands.
    pub fn new(mapping: Arc<Mapping>, at: &XdpRingOffset, size: u32) -> io::Result<Consumer<T>> {
        let memory = Memory::new(mapping, at, size)?;
        let cursor = memory.consumer().load(Ordering::Relaxed);
        let produced = memory.producer().load(Ordering::Acquire);
        Ok(Consumer { memory, cursor, produced })
    }

    /// How many entries wait. Looks at the shared position only if fewer than `wanted` are known to.
    pub fn waiting(&mut self, wanted: u32) -> u32 {
        if self.known() < wanted {
            self.produced = self.memory.producer().load(Ordering::Acquire);
        }
        self.known()
    }

    /// The entry `ahead` of the next one, if it is known to wait.
    pub fn peek(&self, ahead: u32) -> Option<T> {
        (ahead < self.known()).then(|| {
            // SAFETY: the entry lies before the producer's position, read with `Acquire`, so its write happened before,
            // and the producer leaves it alone until `release`. Any bits are a valid `T`.
            unsafe { self.memory.entry(self.cursor.wrapping_add(ahead)).read() }
        })
    }

    /// Gives the slots of the next `count` entries back to the producer.
    pub fn release(&mut self, count: u32) {
        self.cursor = self.cursor.wrapping_add(count.min(self.known()));
        self.memory.consumer().store(self.cursor, Ordering::Release);
    }

    /// The published position.
    pub fn position(&self) -> u32 {
        self.cursor
    }

    /// Capacity in entries.
    pub fn size(&self) -> u32 {
        self.memory.size
    }

    fn known(&self) -> u32 {
        // A broken producer position must not make us read an entry twice.
        self.produced.wrapping_sub(self.cursor).min(self.memory.size)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// The layout that tests use in place of the kernel's.
    pub const AT: XdpRingOffset = XdpRingOffset { producer: 0, consumer: 64, flags: Some(128), desc: 192 };

    /// Memory for a ring of at most 256 entries, with both positions at `start`.
    pub fn memory_at(start: u32) -> Arc<Mapping> {
        let mapping = Arc::new(Mapping::allocated(8192));
        let ring = Memory::<u64>::new(mapping.clone(), &AT, 8).unwrap();
        ring.producer().store(start, Ordering::Relaxed);
        ring.consumer().store(start, Ordering::Relaxed);
        mapping
    }

    fn both_ends(start: u32, size: u32) -> (Producer<u64>, Consumer<u64>) {
        let mapping = memory_at(start);
        (Producer::new(mapping.clone(), &AT, size).unwrap(), Consumer::new(mapping, &AT, size).unwrap())
    }

    #[test]
    fn entries_are_seen_only_after_they_are_published() {
        let (mut producer, mut consumer) = both_ends(0, 8);
        assert!(producer.push(11) && producer.push(22));
        assert_eq!(consumer.waiting(1), 0);
        producer.publish();
        assert_eq!(producer.unconsumed(), 2);
        assert_eq!(consumer.waiting(1), 2);
        assert_eq!((consumer.peek(0), consumer.peek(1), consumer.peek(2)), (Some(11), Some(22), None));
        consumer.release(2);
        assert_eq!((consumer.waiting(1), producer.unconsumed()), (0, 0));
    }

    #[test]
    fn a_full_ring_takes_nothing_until_a_slot_is_released() {
        let (mut producer, mut consumer) = both_ends(u32::MAX - 2, 4);
        assert!((0..4).all(|n| producer.push(n)));
        assert!(!producer.push(99));
        producer.publish();
        assert_eq!(consumer.waiting(4), 4);
        assert!(!producer.push(99), "looked at is not released");
        consumer.release(1);
        assert!(producer.push(4) && !producer.push(99));
    }

    /// Random batches on both ends, compared with a queue; the positions start just before they wrap.
    #[test]
    fn a_ring_is_a_queue_across_the_wrap_of_its_positions() {
        for start in [0, u32::MAX - 37, 1 << 31] {
            let (mut producer, mut consumer) = both_ends(start, 16);
            let (mut pushed, mut visible) = (VecDeque::new(), VecDeque::new());
            let mut random = 0x9E37_79B9_u32;
            for step in 0..if cfg!(miri) { 200_u64 } else { 20_000 } {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                match random % 4 {
                    0 | 1 => {
                        for n in 0..u64::from(random >> 8 & 7) {
                            let fits = pushed.len() + visible.len() < 16;
                            assert_eq!(producer.push(step << 8 | n), fits);
                            if fits {
                                pushed.push_back(step << 8 | n);
                            }
                        }
                    }
                    2 => {
                        producer.publish();
                        visible.append(&mut pushed);
                    }
                    _ => {
                        let wanted = random >> 8 & 7;
                        let waiting = consumer.waiting(wanted);
                        assert!(
                            waiting as usize <= visible.len() && waiting as usize >= visible.len().min(wanted as usize)
                        );
                        for n in 0..waiting.min(wanted) {
                            assert_eq!(consumer.peek(n), visible.pop_front());
                        }
                        consumer.release(waiting.min(wanted));
                    }
                }
                assert_eq!(producer.unconsumed() as usize, visible.len());
            }
        }
    }

    #[test]
    fn an_end_that_is_opened_again_stands_where_the_last_one_published() {
        let mapping = memory_at(u32::MAX);
        let mut producer = Producer::<u64>::new(mapping.clone(), &AT, 8).unwrap();
        assert!(producer.push(1) && producer.push(2));
        producer.publish();
        assert!(producer.push(3), "never published: its process died");
        let mut consumer = Consumer::<u64>::new(mapping.clone(), &AT, 8).unwrap();
        assert_eq!(consumer.waiting(1), 2);
        consumer.release(1);
        drop((producer, consumer));
        let mut producer = Producer::<u64>::new(mapping.clone(), &AT, 8).unwrap();
        let mut consumer = Consumer::<u64>::new(mapping, &AT, 8).unwrap();
        assert_eq!((producer.position(), consumer.position()), (1, 0));
        assert_eq!((consumer.waiting(8), consumer.peek(0)), (1, Some(2)));
        assert_eq!(producer.room(8), 7);
    }

    #[test]
    fn positions_that_make_no_sense_never_lead_beyond_the_ring() {
        let mapping = memory_at(5);
        let ring = Memory::<u64>::new(mapping.clone(), &AT, 8).unwrap();
        ring.producer().store(5 + 1000, Ordering::Relaxed);
        let mut consumer = Consumer::<u64>::new(mapping.clone(), &AT, 8).unwrap();
        assert_eq!(consumer.waiting(u32::MAX), 8);
        let mut producer = Producer::<u64>::new(mapping.clone(), &AT, 8).unwrap();
        assert!(!producer.push(1));
        assert!(Memory::<u64>::new(mapping.clone(), &AT, 7).is_err(), "not a power of two");
        assert!(Memory::<u64>::new(mapping, &AT, 4096).is_err(), "beyond the mapping");
    }

    #[test]
    fn two_threads_pass_every_entry_once_and_in_order() {
        let (mut producer, mut consumer) = both_ends(u32::MAX - 100, 16);
        let total = if cfg!(miri) { 300 } else { 100_000 };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                while next < total {
                    if producer.push(next) {
                        next += 1;
                    } else {
                        std::thread::yield_now();
                    }
                    producer.publish();
                }
            });
            let mut expected = 0;
            while expected < total {
                if consumer.waiting(1) == 0 {
                    std::thread::yield_now();
                    continue;
                }
                assert_eq!(consumer.peek(0), Some(expected));
                consumer.release(1);
                expected += 1;
            }
        });
    }
}
