//! What workers count. Every cell has one writer, its worker, which adds by a plain load and store; the control thread
//! reads. Nothing here is a read-modify-write on shared memory.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::path::{Answer, Reason};

/// A counter with one writer.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    pub fn sub(&self, count: u64) {
        self.set(self.get().wrapping_sub(count));
    }

    /// Begins anew.
    pub fn clear(&self) {
        self.set(0);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What became of the frames that one worker received by one port.
#[derive(Debug, Default)]
pub(super) struct PortCells {
    pub received: Cell,
    pub forwarded: Cell,
    pub answered: [Cell; Answer::ALL.len()],
    pub dropped: Drops,
    pub consumed: Cell,
    pub host: Cell,
    pub held: Cell,
}

impl PortCells {
    /// Begins anew: another port has the place.
    pub fn clear(&self) {
        for cell in [&self.received, &self.forwarded, &self.consumed, &self.host, &self.held] {
            cell.clear();
        }
        self.answered.iter().chain(&self.dropped.0).for_each(Cell::clear);
    }
}

#[derive(Debug)]
pub(super) struct Drops([Cell; Reason::ALL.len()]);

impl Default for Drops {
    fn default() -> Drops {
        Drops(std::array::from_fn(|_| Cell::default()))
    }
}

impl Drops {
    pub fn add(&self, reason: Reason) {
        if let Some(cell) = self.0.get(reason.index()) {
            cell.add(1);
        }
    }
}

/// The traffic of one queue.
#[derive(Debug, Default)]
pub(super) struct QueueCells {
    pub rx_packets: Cell,
    pub rx_bytes: Cell,
    pub tx_packets: Cell,
    pub tx_bytes: Cell,
}

/// All cells of one worker.
#[derive(Debug)]
pub(super) struct WorkerCells {
    /// By `PortId`, whether or not the worker serves the port: room for all that may come.
    pub ports: Box<[PortCells]>,
    /// Packets that it received.
    pub packets: Cell,
    pub polls: Cell,
    pub busy_polls: Cell,
    pub sleeps: Cell,
    pub frames_free: Cell,
    pub frames_held: Cell,
    pub unkept: Cell,
}

impl WorkerCells {
    pub fn new(ports: usize) -> WorkerCells {
        WorkerCells {
            ports: (0..ports).map(|_| PortCells::default()).collect(),
            packets: Cell::default(),
            polls: Cell::default(),
            busy_polls: Cell::default(),
            sleeps: Cell::default(),
            frames_free: Cell::default(),
            frames_held: Cell::default(),
            unkept: Cell::default(),
        }
    }
}

/// What became of the frames that a port received: each is counted once, or is on its way between two workers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortCounters {
    pub received: u64,
    pub forwarded: u64,
    /// By [`Answer::index`].
    pub answered: [u64; Answer::ALL.len()],
    /// By [`Reason::index`].
    pub dropped: [u64; Reason::ALL.len()],
    pub consumed: u64,
    /// The kernel's.
    pub host: u64,
    /// Waiting now for their next hop; each ends as forwarded or dropped.
    pub held: u64,
}

impl Default for PortCounters {
    fn default() -> PortCounters {
        PortCounters {
            received: 0,
            forwarded: 0,
            answered: [0; Answer::ALL.len()],
            dropped: [0; Reason::ALL.len()],
            consumed: 0,
            host: 0,
            held: 0,
        }
    }
}

impl PortCounters {
    /// Frames with a verdict.
    #[must_use]
    pub fn decided(&self) -> u64 {
        let answered: u64 = self.answered.iter().sum();
        self.forwarded + answered + self.drops() + self.consumed + self.host + self.held
    }

    /// Frames that were dropped, for whatever reason.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// True if every frame received has its one verdict. While frames cross between workers it may be early.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.received == self.decided()
    }

    /// The drops for one reason.
    #[must_use]
    pub fn dropped_for(&self, reason: Reason) -> u64 {
        self.dropped.get(reason.index()).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, cells: &PortCells) {
        self.received += cells.received.get();
        self.forwarded += cells.forwarded.get();
        self.answered.iter_mut().zip(&cells.answered).for_each(|(sum, cell)| *sum += cell.get());
        self.dropped.iter_mut().zip(&cells.dropped.0).for_each(|(sum, cell)| *sum += cell.get());
        self.consumed += cells.consumed.get();
        self.host += cells.host.get();
        // A frame that is held by one worker may be counted out by no other, so each sum is at least zero.
        self.held += cells.held.get();
    }
}

/// The traffic of one queue, Ethernet headers included.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct QueueCounters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
}

impl QueueCounters {
    pub(super) fn read(cells: &QueueCells) -> QueueCounters {
        QueueCounters {
            rx_packets: cells.rx_packets.get(),
            rx_bytes: cells.rx_bytes.get(),
            tx_packets: cells.tx_packets.get(),
            tx_bytes: cells.tx_bytes.get(),
        }
    }
}

/// How one worker fares.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WorkerCounters {
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// Rounds of its loop, and those of them that moved something.
    pub polls: u64,
    pub busy_polls: u64,
    /// Times that it slept.
    pub sleeps: u64,
    /// Packets that it received.
    pub packets: u64,
    /// Frames of its UMEM: all, free now, and in its own hands now.
    pub frames: u32,
    pub frames_free: u32,
    pub frames_held: u32,
    /// Packets whose flow there was no room to keep on its replica.
    pub unkept: u64,
    /// Queues of live ports that it still has memory for.
    pub spare_queues: u32,
}

/// A reading of all counters.
#[derive(Clone, Debug)]
pub struct Counters {
    /// By `PortId`, those that no port has included.
    pub ports: Vec<PortCounters>,
    /// In the order of [`Engine::queues`](super::Engine::queues).
    pub queues: Vec<QueueCounters>,
    pub workers: Vec<WorkerCounters>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_is_counted_under_one_verdict() {
        let cells = PortCells::default();
        cells.received.add(6);
        cells.forwarded.add(1);
        cells.answered[Answer::Echo.index()].add(1);
        cells.dropped.add(Reason::NoBinding);
        cells.consumed.add(1);
        cells.host.add(1);
        cells.held.add(1);
        let mut sum = PortCounters::default();
        sum.add(&cells);
        assert!(sum.adds_up() && sum.dropped_for(Reason::NoBinding) == 1 && sum.drops() == 1);
        cells.held.sub(1);
        cells.dropped.add(Reason::Unresolved);
        let mut later = PortCounters::default();
        later.add(&cells);
        assert!(later.adds_up() && later.held == 0);
        cells.received.add(1);
        let mut unfinished = PortCounters::default();
        unfinished.add(&cells);
        assert!(!unfinished.adds_up());
    }
}
