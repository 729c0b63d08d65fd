//! What each worker will begin with: its memory, its sockets, and the ways to the others.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::assignment::{sending_queue, worker_of};
use super::config::{EngineConfig, PortConfig, StartError};
use super::crossing::{Incoming, Outgoing, crossing};
use super::memory::Making;
use super::share::{Share, queues_of};
use super::wake::Wake;
use super::worker::{Queue, Route};
use crate::afxdp::{BindConfig, Parts, Registrar, Retired, Socket, Survey, Surveyed, TakenOver, TakeoverError, Umem};
use crate::units::QueueId;

/// Most entries of a tx ring. In copy mode a kick empties it before the next burst comes; more would be memory that is
/// never used.
const LONGEST_TX_RING: u32 = 512;
/// How long to wait for a queue that a former engine has not quite let go of.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// A worker to be.
pub(super) struct Draft {
    pub umem: Umem,
    pub queues: Vec<Queue>,
    /// By queue: its socket was taken over.
    pub inherited: Vec<bool>,
    pub lost: Vec<Retired>,
    pub wake: Arc<Wake>,
    pub share: Share,
}

/// What a worker shall have, and what a former engine has left it of that.
pub(super) struct Sketch {
    wanted: Vec<(PortConfig, QueueId)>,
    pub share: Share,
    taken: Option<TakenOver>,
    /// Memory that is being made, in case nothing is taken over.
    making: Option<Making>,
}

impl Sketch {
    /// The queues of worker `index` of `workers`. Of what was `left`, all that fits is taken over; what does not is
    /// closed.
    pub fn new(
        index: usize,
        workers: usize,
        ports: &[PortConfig],
        (spare, ring_size): (usize, Option<u32>),
        left: Option<Parts>,
        making: Option<Making>,
    ) -> Sketch {
        let wanted: Vec<(PortConfig, QueueId)> = queues_of(index, workers, ports).collect();
        let share = Share::of(index, workers, ports, spare, ring_size);
        let mut sketch = Sketch { wanted, share, taken: None, making };
        sketch.taken = left.and_then(|left| sketch.take_over(index, left));
        sketch
    }

    /// What was left to this worker and it has a use for: sockets of ports that are no more are closed, and their frames
    /// come home later. Nothing of it if the memory is too small. Why not is logged.
    fn take_over(&self, index: usize, mut left: Parts) -> Option<TakenOver> {
        match left.survey() {
            Ok(survey) if !self.has_use_for(&survey) => {
                tracing::warn!(worker = index, "what a former engine left is for other queues: they are bound anew");
                return None;
            }
            Ok(survey) => {
                let mut sockets = survey.sockets.iter();
                left.keep_sockets(|| sockets.next().is_some_and(|found| self.wants(found)));
            }
            Err(error) => {
                tracing::warn!(
                    worker = index,
                    "what a former engine left can't be used, queues are bound anew: {error}"
                );
                return None;
            }
        }
        let refused = |error: &TakeoverError| {
            tracing::warn!(
                worker = index,
                "what a former engine left was not taken over, queues are bound anew and packets in them are lost: {error}"
            );
        };
        left.take_over().inspect_err(refused).ok()
    }

    fn wants(&self, found: &Surveyed) -> bool {
        self.wanted.iter().any(|(port, queue)| is_of(found.ifindex, found.queue, found.multi_buffer, port, *queue))
    }

    /// True if any socket belongs to this worker and the memory is enough for all that it serves.
    fn has_use_for(&self, survey: &Survey) -> bool {
        survey.sockets.iter().any(|found| self.wants(found)) && survey.frames >= self.share.frames()
    }

    /// True if all sockets do.
    fn fits(&self, survey: &Survey) -> bool {
        survey.sockets.iter().all(|found| self.wants(found)) && survey.frames >= self.share.frames()
    }
}

/// True if workers of these ports would take over all that was left, by worker. Changes nothing: whoever leaves it may
/// be at work still.
pub fn fits(config: &EngineConfig, left: &mut [Option<Parts>]) -> bool {
    let (ports, workers) = (&config.ports, config.cores.len());
    left.iter_mut().enumerate().all(|(index, left)| {
        let Some(left) = left else { return true };
        let sketch = Sketch::new(index, workers, ports, (config.spare, config.ring_size), None, None);
        index < workers && left.survey().is_ok_and(|survey| sketch.fits(&survey))
    })
}

impl Draft {
    /// Binds the queues that were not taken over.
    pub fn new(sketch: Sketch) -> Result<Draft, StartError> {
        let Sketch { wanted, share, taken, making } = sketch;
        let (umem, mut taken, lost) = match taken {
            Some(TakenOver { umem, sockets, lost, .. }) => (umem, sockets, lost),
            None => {
                let umem = made(making, share.frames()).map_err(StartError::Memory)?;
                (umem, Vec::new(), Vec::new())
            }
        };
        let mut draft = Draft {
            umem,
            queues: Vec::with_capacity(share.most_queues()),
            inherited: Vec::with_capacity(wanted.len()),
            lost,
            wake: Arc::new(Wake::new().map_err(StartError::Memory)?),
            share,
        };
        for (port, queue) in wanted {
            let is_its = |at: &Socket| is_of(at.ifindex(), at.queue(), at.bound().multi_buffer, &port, queue);
            let at = taken.iter().position(is_its);
            let socket = match at {
                Some(at) => taken.swap_remove(at),
                None => {
                    let bound = bind(draft.umem.registrar(), &share, &port, queue, PATIENCE);
                    bound.map_err(|error| StartError::Bind { port: port.id, queue, error })?
                }
            };
            draft.queues.push(Queue::new(&share, &port, socket));
            draft.inherited.push(at.is_some());
        }
        Ok(draft)
    }
}

impl Queue {
    /// A port that is only sent on needs frames for receive no less: nobody knows beforehand.
    pub(super) fn new(share: &Share, port: &PortConfig, socket: Socket) -> Queue {
        Queue { port: port.id, socket, posted: share.ring_of(port), dirty: true, cells: Arc::default() }
    }
}

/// Binds a socket to a port's queue, over the memory of the worker with this share.
pub(super) fn bind(
    memory: &Registrar,
    share: &Share,
    port: &PortConfig,
    queue: QueueId,
    patience: Duration,
) -> io::Result<Socket> {
    let ring_size = share.ring_of(port);
    memory.bind(&BindConfig {
        rx_size: ring_size,
        tx_size: ring_size.min(LONGEST_TX_RING),
        multi_buffer: port.multi_buffer,
        copying: port.copying,
        patience,
        ..BindConfig::new(port.ifindex, queue)
    })
}

/// Whether a socket is what is wanted for that queue.
fn is_of(ifindex: u32, found: QueueId, multi_buffer: bool, port: &PortConfig, queue: QueueId) -> bool {
    ifindex == port.ifindex && found == queue && (multi_buffer || !port.multi_buffer)
}

/// The memory that was begun, if it is enough, or new memory.
fn made(making: Option<Making>, frames: u32) -> io::Result<Umem> {
    let begun = making.and_then(|making| making.join().ok()).transpose()?;
    match begun {
        Some(umem) if umem.frames() >= frames => Ok(umem),
        _ => Umem::new(frames),
    }
}

/// The ways of packets between all workers.
pub(super) struct Crossings {
    /// By worker, then by destination.
    outgoing: Vec<Vec<Option<Outgoing>>>,
    incoming: Vec<Vec<Incoming>>,
}

impl Crossings {
    pub fn between(drafts: &[Draft]) -> Crossings {
        let mut outgoing: Vec<Vec<Option<Outgoing>>> = Vec::with_capacity(drafts.len());
        let mut incoming: Vec<Vec<Incoming>> = drafts.iter().map(|_| Vec::new()).collect();
        for (from, draft) in drafts.iter().enumerate() {
            let ways = drafts.iter().zip(&mut incoming).enumerate().map(|(to, (other, arrivals))| {
                if to == from {
                    return None;
                }
                let (near, far) = crossing(&draft.umem, &other.wake);
                arrivals.push(far);
                Some(near)
            });
            outgoing.push(ways.collect());
        }
        Crossings { outgoing, incoming }
    }

    /// The ends of worker `index`, once.
    pub fn of(&mut self, index: usize) -> (Vec<Option<Outgoing>>, Vec<Incoming>) {
        let outgoing = self.outgoing.get_mut(index).map(std::mem::take);
        let incoming = self.incoming.get_mut(index).map(std::mem::take);
        (outgoing.unwrap_or_default(), incoming.unwrap_or_default())
    }
}

/// How worker `index` of `workers` sends on each port, with room for `count`.
pub(super) fn routes(ports: &[PortConfig], count: usize, index: usize, workers: usize, own: &[Queue]) -> Vec<Route> {
    let mut routes = vec![Route::Nowhere; count];
    for port in ports {
        if let Some(place) = routes.get_mut(usize::from(port.id.0)) {
            *place = route(port, index, workers, own);
        }
    }
    routes
}

/// How worker `index` of `workers`, which serves `own`, sends on a port.
pub(super) fn route(port: &PortConfig, index: usize, workers: usize, own: &[Queue]) -> Route {
    if port.queues == 0 {
        return Route::Nowhere;
    }
    let queue = sending_queue(port.id, port.queues, index, workers);
    let here = own.iter().position(|own| own.port == port.id && own.socket.queue() == queue);
    here.map_or_else(|| Route::There(worker_of(port.id, queue, workers)), Route::Here)
}
