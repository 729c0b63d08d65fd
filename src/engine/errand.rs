//! What the control side has a worker do between two bursts: serve the queues of another port, or let go of one's.
//!
//! An errand goes to its worker over a ring, with all the memory that carrying it out takes, and comes back over another
//! when it is done: the worker neither allocates nor frees. A round without errands costs it one load.

use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use super::counters::QueueCells;
use super::crossing::DEPTH;
use super::wake::Wake;
use super::worker::{LAST_KICKS, Queue, Route, Worker};
use crate::afxdp::{ClosingSocket, Retired};
use crate::path::Reason;
use crate::units::PortId;

/// How long a worker may take: it looks at every round. Longer than any time that a core is taken away from it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the control side looks whether an errand is done.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// Something to be done by one worker, about one port.
pub(super) struct Errand {
    pub what: What,
    pub port: PortId,
    /// What the worker is to serve: its part of the port's queues.
    pub queues: Vec<Queue>,
    /// What it has let go of. There is room for all of its part.
    pub left: Vec<Left>,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// Serve `queues`, and send the port's packets by this route, where `Here` counts from the first of them.
    Serve(Route),
    /// Send the port nothing more, and let go of its queues: staged packets are sent, all others are dropped.
    LetGo,
    /// Take in what other workers had put on its way before.
    Settle,
    /// Take the frames of closed sockets back.
    Reclaim,
}

/// A queue that was let go of.
pub(super) struct Left {
    /// None once it is closed.
    pub socket: Option<ClosingSocket>,
    /// None once its frames are taken back.
    pub retired: Option<Retired>,
    /// Closing the socket is enough for the kernel to be done with its frames.
    pub is_clean: bool,
    _cells: Arc<QueueCells>,
}

impl Errand {
    /// To serve these queues, and to send by `route`.
    pub fn to_serve(port: PortId, route: Route, queues: Vec<Queue>) -> Errand {
        Errand { what: What::Serve(route), port, queues, left: Vec::new() }
    }

    /// An errand that takes nothing along, with room for `queues` queues.
    pub fn new(what: What, port: PortId, queues: usize) -> Errand {
        Errand { what, port, queues: Vec::new(), left: Vec::with_capacity(queues) }
    }
}

/// The control side's ends.
pub(super) struct Desk {
    errands: Producer<Errand>,
    done: Consumer<Errand>,
    wake: Arc<Wake>,
    /// It has not answered once: what comes back from it now may be to another errand.
    is_broken: bool,
}

/// The worker's ends.
pub(super) struct Tray {
    errands: Consumer<Errand>,
    done: Producer<Errand>,
}

/// Both ends of one worker. One errand at a time is under way.
pub(super) fn desk(wake: &Arc<Wake>) -> (Desk, Tray) {
    let ((near, far), (back, returned)) = (RingBuffer::new(1), RingBuffer::new(1));
    (
        Desk { errands: near, done: returned, wake: Arc::clone(wake), is_broken: false },
        Tray { errands: far, done: back },
    )
}

impl Desk {
    /// Sends an errand on its way.
    pub fn send(&mut self, errand: Errand) -> Result<(), Silent> {
        if self.is_broken {
            return Err(Silent);
        }
        self.errands.push(errand).map_err(|_| Silent)?;
        self.wake.up();
        Ok(())
    }

    /// Waits until it is done.
    pub fn wait(&mut self) -> Result<Errand, Silent> {
        let began = Instant::now();
        loop {
            if let Ok(done) = self.done.pop() {
                return Ok(done);
            }
            if began.elapsed() > PATIENCE {
                self.is_broken = true;
                return Err(Silent);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// The worker does not answer, and is asked for nothing more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Silent;

impl Tray {
    pub fn is_empty(&self) -> bool {
        self.errands.is_empty()
    }
}

impl Worker {
    /// Does what the control side has asked for since the last round.
    pub(super) fn do_errands(&mut self) {
        while let Ok(mut errand) = self.tray.errands.pop() {
            match errand.what {
                What::Serve(route) => self.begin_to_serve(&mut errand, route),
                What::LetGo => self.let_go(&mut errand),
                What::Settle => self.settle_arrivals(),
                What::Reclaim => {
                    let retired = errand.left.iter_mut().filter_map(|left| left.retired.take());
                    retired.for_each(|retired| self.umem.reclaim(retired));
                }
            }
            self.show_frames();
            if self.tray.done.push(errand).is_err() {
                debug_assert!(false, "the rings are of one size");
            }
        }
    }

    fn begin_to_serve(&mut self, errand: &mut Errand, route: Route) {
        let (port, first) = (usize::from(errand.port.0), self.queues.len());
        debug_assert!(self.queues.capacity() - first >= errand.queues.len(), "room was made at the start");
        self.queues.append(&mut errand.queues);
        // Whoever had the id before has left nothing behind.
        if let Some(cells) = self.cells.ports.get(port) {
            cells.clear();
        }
        if let Some(place) = self.routes.get_mut(port) {
            *place = match route {
                Route::Here(nth) => Route::Here(first + nth),
                elsewhere => elsewhere,
            };
        }
    }

    fn let_go(&mut self, errand: &mut Errand) {
        let port = errand.port;
        if let Some(route) = self.routes.get_mut(usize::from(port.0)) {
            *route = Route::Nowhere;
        }
        self.drop_held_if(Reason::NoPort, |held| held.from == port || held.to == port);
        self.drop_early_if(|from| from == port);
        for _ in 0..LAST_KICKS {
            self.flush();
            if !self.queues.iter().any(|queue| queue.port == port && queue.dirty) {
                break;
            }
        }
        while let Some(at) = self.queues.iter().position(|queue| queue.port == port) {
            let Queue { mut socket, cells, .. } = self.queues.swap_remove(at);
            let moved = self.queues.len();
            self.routes
                .iter_mut()
                .filter(|route| **route == Route::Here(moved))
                .for_each(|route| *route = Route::Here(at));
            socket.complete(&mut self.umem);
            // A socket that copies is done with its frames once it is closed; what is being sent may be looked at longer.
            let is_clean = !socket.bound().zero_copy && socket.outstanding() == 0;
            let (retired, socket) = socket.retire(&mut self.umem);
            errand.left.push(Left { socket: Some(socket), retired: Some(retired), is_clean, _cells: cells });
        }
    }

    /// Sends, or drops, all that has crossed until now. A ring holds no more than is taken from it here.
    fn settle_arrivals(&mut self) {
        for worker in 0..self.incoming.len() {
            for _ in 0..DEPTH {
                if !self.take_arrival(worker) {
                    break;
                }
            }
        }
        self.flush();
    }
}

/// Takes the sockets out of what was let go of, to be closed where there is time.
pub(super) fn close(left: &mut [Left]) {
    left.iter_mut().for_each(|left| drop(mem::take(&mut left.socket)));
}
