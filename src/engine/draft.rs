//! What each worker will begin with: its memory, its sockets, and the ways to the others.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::assignment::{sending_queue, worker_of};
use super::config::{PortConfig, StartError};
use super::crossing::{Incoming, Outgoing, crossing};
use super::memory::Making;
use super::wake::Wake;
use super::worker::{Queue, Route};
use crate::afxdp::{BindConfig, Parts, Retired, Socket, Survey, Surveyed, TakenOver, TakeoverError, Umem};
use crate::units::{PortId, QueueId};

/// Most entries of a tx ring. In copy mode a kick empties it before the next burst comes; more would be memory that is
/// never used.
const LONGEST_TX_RING: u32 = 512;
/// Frames of a worker beside those that wait in its receive rings: bursts, packets that wait or cross, and all that is
/// being sent. If every transmit ring is full at once, receive rings are refilled a moment later. More would be more
/// memory to zero before the first packet.
const SPARE_FRAMES: u32 = 1024;
/// How long to wait for a queue that a former engine has not quite let go of.
const PATIENCE: Duration = Duration::from_secs(3);

/// A worker to be.
pub(super) struct Draft {
    pub umem: Umem,
    pub queues: Vec<Queue>,
    /// By queue: its socket was taken over.
    pub inherited: Vec<bool>,
    pub lost: Vec<Retired>,
    pub wake: Arc<Wake>,
}

/// What a worker shall have, and what a former engine has left it of that.
pub(super) struct Sketch {
    wanted: Vec<(PortConfig, QueueId)>,
    ring_size: u32,
    taken: Option<TakenOver>,
    /// Memory that is being made, in case nothing is taken over.
    making: Option<Making>,
}

impl Sketch {
    /// The queues of worker `index` of `workers`. Of what was `left`, either all fits and is taken over, or the
    /// descriptors are closed.
    pub fn new(
        index: usize,
        workers: usize,
        ports: &[PortConfig],
        ring_size: Option<u32>,
        left: Option<Parts>,
        making: Option<Making>,
    ) -> Sketch {
        let wanted: Vec<(PortConfig, QueueId)> = queues_of(index, workers, ports).collect();
        let ring_size = ring_size.unwrap_or_else(|| ring_size_for(wanted.len()));
        let mut sketch = Sketch { wanted, ring_size, taken: None, making };
        sketch.taken = left.and_then(|left| sketch.take_over(index, left));
        sketch
    }

    /// All that was left to this worker, or nothing of it. Why not is logged.
    fn take_over(&self, index: usize, mut left: Parts) -> Option<TakenOver> {
        match left.survey() {
            Ok(survey) if !self.fits(&survey) => {
                tracing::warn!(worker = index, "what a former engine left is for other queues: they are bound anew");
                return None;
            }
            Ok(_) => {}
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

    /// True if every socket belongs to this worker and the memory is enough for all that it serves.
    fn fits(&self, survey: &Survey) -> bool {
        let is_wanted = |found: &Surveyed| {
            self.wanted.iter().any(|(port, queue)| is_of(found.ifindex, found.queue, found.multi_buffer, port, *queue))
        };
        survey.sockets.iter().all(is_wanted) && survey.frames >= frames(self.wanted.len(), self.ring_size)
    }
}

/// True if workers of these ports would take over all that was left, by worker. Changes nothing: whoever leaves it may
/// be at work still.
pub fn fits(ports: &[PortConfig], workers: usize, left: &mut [Option<Parts>]) -> bool {
    left.iter_mut().enumerate().all(|(index, left)| {
        let Some(left) = left else { return true };
        let sketch = Sketch::new(index, workers, ports, None, None, None);
        index < workers && left.survey().is_ok_and(|survey| sketch.fits(&survey))
    })
}

/// The queues that worker `index` of `workers` serves.
pub(super) fn queues_of(
    index: usize,
    workers: usize,
    ports: &[PortConfig],
) -> impl Iterator<Item = (PortConfig, QueueId)> {
    let all = ports.iter().flat_map(|port| (0..port.queues).map(move |queue| (*port, QueueId(queue))));
    all.filter(move |(port, queue)| worker_of(port.id, *queue, workers) == index)
}

/// Frames for the receive rings of so many queues, and some to hold and to send.
pub(super) fn frames(queues: usize, ring_size: u32) -> u32 {
    queues as u32 * ring_size + SPARE_FRAMES
}

impl Draft {
    /// Binds the queues that were not taken over.
    pub fn new(sketch: Sketch) -> Result<Draft, StartError> {
        let Sketch { wanted, ring_size, taken, making } = sketch;
        let (umem, mut taken, lost) = match taken {
            Some(TakenOver { umem, sockets, lost, .. }) => (umem, sockets, lost),
            None => {
                let umem = made(making, frames(wanted.len(), ring_size)).map_err(StartError::Memory)?;
                (umem, Vec::new(), Vec::new())
            }
        };
        let mut draft = Draft {
            umem,
            queues: Vec::with_capacity(wanted.len()),
            inherited: Vec::with_capacity(wanted.len()),
            lost,
            wake: Arc::new(Wake::new().map_err(StartError::Memory)?),
        };
        for (port, queue) in wanted {
            let is_its = |at: &Socket| is_of(at.ifindex(), at.queue(), at.bound().multi_buffer, &port, queue);
            let at = taken.iter().position(is_its);
            let socket = match at {
                Some(at) => taken.swap_remove(at),
                None => draft.bind(&port, queue, ring_size)?,
            };
            // A port that is only sent on needs frames for receive no less: nobody knows beforehand.
            draft.queues.push(Queue { port: port.id, socket, posted: ring_size, dirty: true });
            draft.inherited.push(at.is_some());
        }
        Ok(draft)
    }

    fn bind(&self, port: &PortConfig, queue: QueueId, ring_size: u32) -> Result<Socket, StartError> {
        let config = BindConfig {
            rx_size: ring_size,
            tx_size: tx_size_for(ring_size),
            multi_buffer: port.multi_buffer,
            copying: port.copying,
            patience: PATIENCE,
            ..BindConfig::new(port.ifindex, queue)
        };
        self.umem.registrar().bind(&config).map_err(|error| StartError::Bind { port: port.id, queue, error })
    }
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

/// Entries of the rx and fill rings of each of a worker's queues: deep where they are few, so that memory stays within
/// bounds. 2048 hold the window of a TCP connection; 1024 do not, and the sender's bursts run over.
pub(super) fn ring_size_for(queues: usize) -> u32 {
    match queues {
        0..=8 => 2048,
        9..=16 => 1024,
        17..=64 => 512,
        _ => 256,
    }
}

fn tx_size_for(ring_size: u32) -> u32 {
    ring_size.min(LONGEST_TX_RING)
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

/// How worker `index` of `workers` sends on each of `count` ports.
pub(super) fn routes(ports: &[PortConfig], count: usize, index: usize, workers: usize, own: &[Queue]) -> Vec<Route> {
    let route = |id: PortId| {
        let Some(port) = ports.iter().find(|port| port.id == id).filter(|port| port.queues > 0) else {
            return Route::Nowhere;
        };
        let queue = sending_queue(id, port.queues, index, workers);
        let here = own.iter().position(|own| own.port == id && own.socket.queue() == queue);
        here.map_or_else(|| Route::There(worker_of(id, queue, workers)), Route::Here)
    };
    (0..count).map(|id| route(PortId(id as u16))).collect()
}
