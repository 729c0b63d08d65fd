//! The loop of one worker.

use std::mem;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rtrb::Consumer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use super::burst::{Fates, Shape};
use super::config::{Poll, Resolve};
use super::counters::{QueueCells, WorkerCells};
use super::crossing::{Incoming, Outgoing};
use super::early::EarlyChains;
use super::errand::Tray;
use super::heard::Mouth;
use super::held::Waiting;
use super::pieces;
use super::tables::Tables;
use super::wake::Wake;
use crate::afxdp::{Kick, MAX_SEGMENTS, Retired, Segment, Socket, Umem};
use crate::path::{BURST, Context, Reason, WorkerState};
use crate::table;
use crate::units::{PortId, Tick};

/// An adaptive worker spins this long without work before it sleeps.
const SPIN_NS: u64 = 50_000;
/// How often queues are looked at that had nothing to do: their interface may have come up.
const HOUSEKEEPING_NS: u64 = 10_000_000;
/// How long an idle worker sleeps at most.
const SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How long a worker sleeps at most while packets wait for their next hop or their first fragment.
const HOLDING_SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// When the frames of a socket that was not handed over are taken back: the kernel has let go of them by then.
const RECLAIM_AFTER_NS: u64 = 2_000_000_000;
/// Kicks that a worker that stops tries to get rid of what it has staged with.
pub(super) const LAST_KICKS: usize = 64;

/// Longest frame that the control side sends or hears: ARP, and probes of its own, which need no larger packets than any
/// host takes (576 bytes, RFC 1122 section 3.3.3).
pub(super) const INJECTED_MAX: usize = 590;

/// A frame that the control side sends. It has its bytes in itself, so that the worker frees nothing.
pub(super) struct Injected {
    pub port: PortId,
    pub bytes: [u8; INJECTED_MAX],
    pub len: usize,
}

/// A (port, queue) pair of this worker's.
pub(super) struct Queue {
    pub port: PortId,
    pub socket: Socket,
    /// Receive frames that the kernel shall have.
    pub posted: u32,
    /// Something was staged or is left to be kicked.
    pub dirty: bool,
    pub cells: Arc<QueueCells>,
}

/// Where a port's packets go out, seen from this worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// By one of its own queues.
    Here(usize),
    /// By another worker.
    There(usize),
    Nowhere,
}

/// One worker. Only its thread touches it; what others see are `cells`, and the far ends of rings.
pub(super) struct Worker {
    pub tables: Arc<Tables>,
    pub poll: Poll,
    pub umem: Umem,
    /// With room for those that may come.
    pub queues: Vec<Queue>,
    /// By `PortId`, for all that may come.
    pub routes: Vec<Route>,
    /// By worker; none to itself.
    pub outgoing: Vec<Option<Outgoing>>,
    pub incoming: Vec<Incoming>,
    pub injected: Consumer<Injected>,
    pub tray: Tray,
    pub mouth: Mouth,
    pub resolve: Resolve,
    pub local: WorkerState,
    pub cells: Arc<WorkerCells>,
    pub wake: Arc<Wake>,
    pub stop: Arc<AtomicBool>,
    /// Frames of sockets that a takeover did not find.
    pub lost: Vec<Retired>,
    pub scratch: Scratch,
}

/// Memory that is used again and again.
pub(super) struct Scratch {
    burst: Vec<Segment>,
    pub fates: Box<Fates>,
    /// The packet that is being dealt with.
    pub chain: Vec<Segment>,
    /// A packet that is arriving from another worker, by worker.
    pub arriving: Vec<Vec<Segment>>,
    pub waiting: Waiting,
    pub early: EarlyChains,
    /// The pieces of a packet that is being cut.
    pub pieces: Vec<Segment>,
}

impl Scratch {
    /// Scratch memory for a worker that `others` may send packets to.
    pub fn new(others: usize) -> Scratch {
        Scratch {
            burst: Vec::with_capacity(BURST),
            fates: Box::new(Fates::new()),
            chain: Vec::with_capacity(BURST),
            arriving: (0..others).map(|_| Vec::with_capacity(MAX_SEGMENTS)).collect(),
            waiting: Waiting::new(MAX_SEGMENTS),
            early: EarlyChains::new(),
            pieces: Vec::with_capacity(pieces::MOST),
        }
    }
}

impl Worker {
    /// Works until told to stop.
    pub fn run(&mut self) {
        let tables = Arc::clone(&self.tables);
        let started = now_ns();
        let (mut last_work, mut last_housekeeping) = (started, started);
        while !self.stop.load(Ordering::Relaxed) {
            let ns = now_ns();
            self.do_errands();
            let worked = {
                let guard = table::pin();
                self.round(&tables.context(&guard, Tick(ns / 1_000_000)))
            };
            self.cells.polls.add(1);
            if worked {
                self.cells.busy_polls.add(1);
                last_work = ns;
            }
            if ns.saturating_sub(last_housekeeping) >= HOUSEKEEPING_NS {
                last_housekeeping = ns;
                self.keep_house(ns.saturating_sub(started));
            }
            if !worked && self.poll == Poll::Adaptive && ns.saturating_sub(last_work) >= SPIN_NS {
                self.sleep();
            }
        }
    }

    /// One turn over everything that may have something to do. True if anything had.
    fn round(&mut self, cx: &Context<'_>) -> bool {
        let mut worked = false;
        for at in 0..self.queues.len() {
            worked |= self.serve(cx, at);
        }
        worked |= self.take_arrivals();
        worked |= self.take_injected();
        if self.scratch.waiting.is_due(cx.now) {
            self.look_after_held(cx);
        }
        if self.scratch.early.waiting.is_due(cx.now) {
            self.look_after_early(cx);
        }
        self.flush();
        worked
    }

    /// A burst off one queue.
    fn serve(&mut self, cx: &Context<'_>, at: usize) -> bool {
        let queue = &mut self.queues[at];
        if queue.socket.outstanding() > 0 {
            queue.socket.complete(&mut self.umem);
        }
        queue.socket.receive(&mut self.umem, &mut self.scratch.burst);
        queue.socket.refill(&mut self.umem, queue.posted);
        if self.scratch.burst.is_empty() {
            return false;
        }
        let port = queue.port;
        let mut segments = mem::take(&mut self.scratch.burst);
        let bytes = segments.iter().map(|segment| u64::from(segment.len)).sum();
        let packets = self.scratch.fates.walk(cx, &mut self.local, &self.umem, port, &mut segments);
        self.mouth.hint(self.local.hints.take());

        self.queues[at].cells.rx_packets.add(packets as u64);
        self.queues[at].cells.rx_bytes.add(bytes);
        self.cells.packets.add(packets as u64);
        self.cells.ports[usize::from(port.0)].received.add(packets as u64);

        let mut chain = mem::take(&mut self.scratch.chain);
        let mut arrived = segments.drain(..);
        for nth in 0..packets {
            let (verdict, shape) = self.scratch.fates.of(nth);
            chain.extend(arrived.by_ref().take(shape.segments));
            self.put_into_shape(&mut chain, shape);
            self.settle(cx, port, verdict, &mut chain);
        }
        drop(arrived);
        (self.scratch.burst, self.scratch.chain) = (segments, chain);
        self.flush();
        true
    }

    /// Puts into the packet's descriptors what the walk made of it.
    pub(super) fn put_into_shape(&mut self, chain: &mut Vec<Segment>, shape: Shape) {
        if !shape.keeps_rest && chain.len() > 1 {
            for segment in chain.drain(1..) {
                self.umem.release(segment.buffer);
            }
        }
        if let Some(first) = chain.first_mut() {
            (first.offset, first.len, first.more) = (shape.start, shape.len, shape.keeps_rest);
        }
    }

    /// Lets the kernel and other workers see what was sent.
    pub fn flush(&mut self) {
        for queue in self.queues.iter_mut().filter(|queue| queue.dirty) {
            queue.socket.publish();
            // An interface that is down is tried again by the housekeeping.
            queue.dirty = queue.socket.kick_if_needed() == Kick::Again;
        }
        for outgoing in self.outgoing.iter_mut().flatten() {
            outgoing.announce();
            outgoing.take_returned(&mut self.umem);
        }
    }

    /// What need not be done every round.
    fn keep_house(&mut self, running_ns: u64) {
        for queue in &mut self.queues {
            queue.dirty |= queue.socket.has_unsent();
            // A driver may wait for a kick to look at a fill ring that it found empty.
            queue.dirty |= queue.socket.kick_if_needed() == Kick::Again;
        }
        if running_ns >= RECLAIM_AFTER_NS {
            for lost in self.lost.drain(..) {
                self.umem.reclaim(lost);
            }
        }
        self.show_frames();
    }

    /// Lets the control side see where frames are.
    pub(super) fn show_frames(&self) {
        self.cells.frames_free.set(u64::from(self.umem.free()));
        self.cells.frames_held.set(u64::from(self.umem.held()));
        self.cells.unkept.set(self.local.unkept());
    }

    /// Sleeps until a packet comes, another thread has something, or a while has passed.
    fn sleep(&mut self) {
        if self.queues.iter().any(|queue| queue.dirty) {
            return;
        }
        self.wake.going_to_sleep();
        let nothing_came = self.incoming.iter().all(Incoming::is_empty)
            && self.injected.is_empty()
            && self.tray.is_empty()
            && !self.stop.load(Ordering::Relaxed);
        if nothing_came {
            self.cells.sleeps.add(1);
            let mut fds: Vec<PollFd<'_>> =
                self.queues.iter().map(|queue| PollFd::from_borrowed_fd(queue.socket.as_fd(), PollFlags::IN)).collect();
            fds.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
            let nothing_waits = self.scratch.waiting.is_empty() && self.scratch.early.waiting.is_empty();
            let timeout = if nothing_waits { &SLEEP } else { &HOLDING_SLEEP };
            // Interrupted or not, the next round looks at everything.
            let _ = poll(&mut fds, Some(timeout));
        }
        self.wake.awake();
    }

    /// Ends what is under way, so that every frame is on the free list or with the kernel. `meet` waits for all workers:
    /// what has crossed has to come home.
    pub fn wind_up(&mut self, meet: impl Fn()) {
        self.drop_held_if(Reason::Unresolved, |_| true);
        self.drop_early_if(|_| true);
        self.flush();
        meet();
        self.take_arrivals_to_the_end();
        self.flush();
        meet();
        for _ in 0..LAST_KICKS {
            self.flush();
            if !self.queues.iter().any(|queue| queue.dirty) {
                break;
            }
        }
        for queue in &mut self.queues {
            queue.socket.complete(&mut self.umem);
        }
        self.keep_house(u64::MAX);
    }
}

/// Nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine is suspended, as translation entries do.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
