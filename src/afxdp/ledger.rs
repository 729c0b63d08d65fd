//! The place of each frame and the shape of each socket, written down in the UMEM's memfd behind the chunks.
//!
//! The rings alone do not tell where every frame is: a driver holds frames that it took from the fill ring and has not
//! received into, and frames that it transmits and has not completed. The ledger does. Its one writer is the worker
//! that owns the UMEM, which marks a frame *before* it publishes the ring entry that moves it; its readers are the
//! audit and, after a crash, the process that takes over. A mark holds the ring position, so that a mark whose entry was
//! never published is told from one that was (see [`super::takeover`]).
//!
//! Layout, in u64 words: 4 of header, [`MAX_SOCKETS`] records of 4, one mark a frame.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mapping::Mapping;
use super::umem::CHUNK_SIZE;

/// Sockets that one UMEM can serve.
pub(super) const MAX_SOCKETS: u16 = 1024;

const MAGIC: u64 = u64::from_le_bytes(*b"sixway\0\x01");
const HEADER_WORDS: usize = 4;
const RECORD_WORDS: usize = 4;
const MARKS_AT: usize = HEADER_WORDS + MAX_SOCKETS as usize * RECORD_WORDS;

/// Index of a socket's record in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot(pub u16);

/// Where a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// On the worker's free list.
    Free,
    /// In a `Buffer` that the application holds.
    Held,
    /// Given to the kernel for receive by the fill ring entry at `position`, and not taken from the rx ring yet.
    Posted { slot: Slot, position: u32 },
    /// Given to the kernel for transmit by the tx ring entry at `position`, and not taken from the completion ring yet.
    Sent { slot: Slot, position: u32 },
    /// Was with a socket that is being torn down.
    Retired { slot: Slot },
}

impl Place {
    fn to_word(self) -> u64 {
        let word = |tag: u64, slot: Slot, position: u32| tag << 56 | u64::from(slot.0) << 32 | u64::from(position);
        match self {
            Place::Free => 0,
            Place::Held => 1 << 56,
            Place::Posted { slot, position } => word(2, slot, position),
            Place::Sent { slot, position } => word(3, slot, position),
            Place::Retired { slot } => word(4, slot, 0),
        }
    }

    fn from_word(word: u64) -> Option<Place> {
        let (slot, position) = (Slot((word >> 32) as u16), word as u32);
        match word >> 56 {
            0 => Some(Place::Free),
            1 => Some(Place::Held),
            2 => Some(Place::Posted { slot, position }),
            3 => Some(Place::Sent { slot, position }),
            4 => Some(Place::Retired { slot }),
            _ => None,
        }
    }
}

/// What a process that takes over must know about a socket that it was handed. AF_XDP sockets do not tell their
/// address (`getsockname` fails), but every socket tells its cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SocketRecord {
    /// SO_COOKIE of the socket, never 0.
    pub cookie: u64,
    pub ifindex: u32,
    pub queue: u32,
    /// Entries of the rx and of the fill ring.
    pub rx_size: u32,
    /// Entries of the tx and of the completion ring.
    pub tx_size: u32,
    pub zero_copy: bool,
    pub need_wakeup: bool,
    pub multi_buffer: bool,
}

/// The words behind the chunks.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    words: NonNull<AtomicU64>,
    frames: u32,
    /// Keeps `words` good.
    _mapping: Arc<Mapping>,
}

// SAFETY: the words are atomics in a shared mapping, usable from any thread.
unsafe impl Send for Ledger {}
// SAFETY: as above.
unsafe impl Sync for Ledger {}

impl Ledger {
    /// Bytes that a ledger of `frames` frames takes.
    pub fn bytes(frames: u32) -> usize {
        (MARKS_AT + frames as usize) * size_of::<u64>()
    }

    /// Starts a ledger behind the chunks of new memory: every frame free, no sockets.
    pub fn create(mapping: Arc<Mapping>, frames: u32) -> io::Result<Ledger> {
        let ledger = Ledger::over(mapping, frames)?;
        ledger.word(1).store(u64::from(frames), Ordering::Relaxed);
        ledger.word(2).store(CHUNK_SIZE as u64, Ordering::Relaxed);
        ledger.word(0).store(MAGIC, Ordering::Release);
        Ok(ledger)
    }

    /// Finds the ledger in memory that another process laid out: the frame count is the one whose header stands where
    /// it says. Errors if there is none.
    pub fn open(mapping: Arc<Mapping>) -> io::Result<Ledger> {
        let not_ours =
            || io::Error::new(io::ErrorKind::InvalidData, "the memory holds no frame ledger of this version");
        // Everything behind the chunks is less than a huge page and a bit, so the candidates are few.
        let most = mapping.len() / CHUNK_SIZE;
        for frames in (1..=most).rev() {
            let Ok(ledger) = Ledger::over(mapping.clone(), frames as u32) else { continue };
            let header = [0, 1, 2].map(|n| ledger.word(n).load(Ordering::Acquire));
            if header == [MAGIC, frames as u64, CHUNK_SIZE as u64] {
                return Ok(ledger);
            }
        }
        Err(not_ours())
    }

    fn over(mapping: Arc<Mapping>, frames: u32) -> io::Result<Ledger> {
        let words = mapping.pointer(frames as usize * CHUNK_SIZE, MARKS_AT + frames as usize);
        let words = words.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the memory is too short"))?;
        Ok(Ledger { words, frames, _mapping: mapping })
    }

    /// How many frames it tells of.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Marks `frame`. Frames that do not exist are nobody's.
    pub fn set(&self, frame: u32, place: Place) {
        debug_assert!(frame < self.frames);
        if frame < self.frames {
            self.word(MARKS_AT + frame as usize).store(place.to_word(), Ordering::Relaxed);
        }
    }

    /// The mark of `frame`. None if there is no such frame or the mark is damaged.
    pub fn place(&self, frame: u32) -> Option<Place> {
        if frame >= self.frames {
            return None;
        }
        Place::from_word(self.word(MARKS_AT + frame as usize).load(Ordering::Relaxed))
    }

    /// Writes a socket down in a free slot. None if all are taken. Callers hold the registrar's lock.
    pub fn enter(&self, record: &SocketRecord) -> Option<Slot> {
        let slot = (0..MAX_SOCKETS).map(Slot).find(|&slot| self.record_word(slot, 0).load(Ordering::Relaxed) == 0)?;
        let flags =
            u64::from(record.zero_copy) | u64::from(record.need_wakeup) << 1 | u64::from(record.multi_buffer) << 2;
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        self.record_word(slot, 1).store(pair(record.ifindex, record.queue), Ordering::Relaxed);
        self.record_word(slot, 2).store(pair(record.rx_size, record.tx_size), Ordering::Relaxed);
        self.record_word(slot, 3).store(flags, Ordering::Relaxed);
        self.record_word(slot, 0).store(record.cookie, Ordering::Release);
        Some(slot)
    }

    /// Frees a slot whose socket is gone.
    pub fn strike(&self, slot: Slot) {
        if slot.0 < MAX_SOCKETS {
            self.record_word(slot, 0).store(0, Ordering::Release);
        }
    }

    /// The socket in `slot`, if there is one.
    pub fn record(&self, slot: Slot) -> Option<SocketRecord> {
        if slot.0 >= MAX_SOCKETS {
            return None;
        }
        let [cookie, address, sizes, flags] = [0, 1, 2, 3].map(|n| self.record_word(slot, n).load(Ordering::Acquire));
        (cookie != 0).then_some(SocketRecord {
            cookie,
            ifindex: (address >> 32) as u32,
            queue: address as u32,
            rx_size: (sizes >> 32) as u32,
            tx_size: sizes as u32,
            zero_copy: flags & 1 != 0,
            need_wakeup: flags & 2 != 0,
            multi_buffer: flags & 4 != 0,
        })
    }

    /// All slots that hold a socket.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, SocketRecord)> + '_ {
        (0..MAX_SOCKETS).map(Slot).filter_map(|slot| Some((slot, self.record(slot)?)))
    }

    fn record_word(&self, slot: Slot, word: usize) -> &AtomicU64 {
        self.word(HEADER_WORDS + slot.0 as usize * RECORD_WORDS + word)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < MARKS_AT + self.frames as usize);
        // SAFETY: callers pass header words, words of slots below MAX_SOCKETS and marks of frames below `frames`, all
        // of which `over` checked to lie, aligned, inside the mapping that `self` keeps alive.
        unsafe { self.words.add(index).as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(frames: u32) -> Arc<Mapping> {
        Arc::new(Mapping::allocated(frames as usize * CHUNK_SIZE + Ledger::bytes(frames).next_multiple_of(4096)))
    }

    const RECORD: SocketRecord = SocketRecord {
        cookie: 77,
        ifindex: 3,
        queue: 1,
        rx_size: 512,
        tx_size: 256,
        zero_copy: false,
        need_wakeup: true,
        multi_buffer: true,
    };

    #[test]
    fn every_place_survives_its_word() {
        let (slot, position) = (Slot(1023), u32::MAX);
        let places = [
            Place::Free,
            Place::Held,
            Place::Posted { slot, position },
            Place::Sent { slot, position: 0 },
            Place::Retired { slot },
        ];
        for place in places {
            assert_eq!(Place::from_word(place.to_word()), Some(place));
        }
        assert_eq!(Place::from_word(u64::MAX), None);
    }

    #[test]
    fn another_process_finds_the_ledger_and_reads_the_same() {
        let memory = memory(8);
        let written = Ledger::create(memory.clone(), 8).unwrap();
        let slot = written.enter(&RECORD).unwrap();
        written.set(7, Place::Posted { slot, position: 9 });
        let read = Ledger::open(memory).unwrap();
        assert_eq!(read.frames(), 8);
        assert_eq!(read.place(7), Some(Place::Posted { slot, position: 9 }));
        assert_eq!((read.place(0), read.place(8)), (Some(Place::Free), None));
        assert_eq!(read.slots().collect::<Vec<_>>(), [(slot, RECORD)]);
    }

    #[test]
    fn memory_without_a_ledger_is_refused() {
        assert!(Ledger::open(memory(8)).is_err());
        assert!(Ledger::open(Arc::new(Mapping::allocated(64))).is_err());
    }

    #[test]
    fn slots_are_used_again_once_struck() {
        let ledger = Ledger::create(memory(1), 1).unwrap();
        for n in 0..MAX_SOCKETS {
            assert_eq!(ledger.enter(&RECORD), Some(Slot(n)));
        }
        assert_eq!(ledger.enter(&RECORD), None);
        ledger.strike(Slot(5));
        assert_eq!(ledger.record(Slot(5)), None);
        assert_eq!(ledger.enter(&RECORD), Some(Slot(5)));
    }
}
