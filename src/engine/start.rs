//! Bringing workers up and down.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{io, panic};

use arc_swap::ArcSwap;
use rtrb::{Producer, RingBuffer};
use rustix::thread::sched_setaffinity;

use super::affinity::{can_pin, only};
use super::assignment::worker_of;
use super::config::{EngineConfig, StartError};
use super::counters::{Counters, PortCounters, QueueCells, QueueCounters, WorkerCells, WorkerCounters};
use super::draft::{Crossings, Draft, Sketch, routes};
use super::errand::{Desk, desk};
use super::heard::Heard;
use super::live::Leaving;
use super::memory::Memory;
use super::share::{Share, most_ports};
use super::tables::Tables;
use super::wake::Wake;
use super::worker::{INJECTED_MAX, Injected, Queue, Scratch, Worker};
use crate::afxdp::{Bound, FrameAudit, Registrar, Socket, Statistics, Umem};
use crate::path::WorkerState;
use crate::table;
use crate::units::{PortId, QueueId};

/// Frames that the control side may have injected and a worker not sent yet.
const INJECTIONS: usize = 256;

/// A queue and its socket.
pub struct BoundQueue {
    pub port: PortId,
    pub queue: QueueId,
    /// Index of the worker that serves it.
    pub worker: usize,
    pub bound: Bound,
    /// True if the socket was taken over, with all that waited in it.
    pub inherited: bool,
    /// The socket's descriptor: for the XSKMAP and for a holder.
    pub fd: OwnedFd,
    /// Of a live port.
    pub live: bool,
    cells: Arc<QueueCells>,
}

impl BoundQueue {
    pub(super) fn of(queue: &Queue, worker: usize, inherited: bool, live: bool) -> io::Result<BoundQueue> {
        Ok(BoundQueue {
            port: queue.port,
            queue: queue.socket.queue(),
            worker,
            bound: queue.socket.bound(),
            inherited,
            fd: queue.socket.as_fd().try_clone_to_owned()?,
            live,
            cells: Arc::clone(&queue.cells),
        })
    }

    /// What the kernel counted on the socket.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn statistics(&self) -> io::Result<Statistics> {
        Statistics::of(&self.fd)
    }
}

/// Workers under way.
pub struct Engine {
    pub(super) workers: Vec<Handle>,
    /// Those of all ports that are attached.
    pub(super) queues: ArcSwap<Vec<Arc<BoundQueue>>>,
    /// None without workers.
    heard: Option<Arc<Heard>>,
    /// Places for ports: ids are below that.
    pub(super) places: usize,
    /// Queues whose frames the kernel may still look at.
    pub(super) leaving: Mutex<Vec<Leaving>>,
    stop: Arc<AtomicBool>,
}

pub(super) struct Handle {
    /// None once it has ended.
    thread: Mutex<Option<JoinHandle<Ended>>>,
    core: Option<usize>,
    cells: Arc<WorkerCells>,
    injector: Mutex<Producer<Injected>>,
    wake: Arc<Wake>,
    memfd: OwnedFd,
    frames: u32,
    pub(super) desk: Mutex<Desk>,
    pub(super) memory: Registrar,
    pub(super) share: Share,
}

type Ended = (Umem, Vec<Socket>);

/// What one worker leaves behind.
pub struct Stopped {
    /// Where its frames are.
    pub audit: FrameAudit,
    /// Its memory and sockets, for a successor in the same process; dropped, they are gone.
    pub umem: Umem,
    pub sockets: Vec<Socket>,
}

impl Engine {
    /// Makes packet memory, binds a socket to each queue and starts the workers. Packets come once the sockets of
    /// [`Engine::queues`] are in their XSKMAPs; inherited ones may be there already.
    ///
    /// # Errors
    /// What the kernel refuses: see [`StartError`].
    pub fn start(config: EngineConfig, tables: Arc<Tables>) -> Result<Engine, StartError> {
        let count = config.cores.len();
        if count == 0 {
            return Err(StartError::Core(0, io::Error::new(io::ErrorKind::InvalidInput, "no core is given")));
        }
        can_pin(&config.cores)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut inherited = config.inherited.into_iter();
        let mut memory = config.memory.map(Memory::into_workers).into_iter().flatten();
        // What does not fit is let go of before anything is bound: another worker may want the same queue.
        let sketches: Vec<Sketch> = (0..count)
            .map(|index| {
                let (left, making) = (inherited.next().flatten(), memory.next());
                Sketch::new(index, count, &config.ports, (config.spare, config.ring_size), left, making)
            })
            .collect();
        drop(inherited);
        let shares: Vec<Share> = sketches.iter().map(|sketch| sketch.share).collect();
        let places = most_ports(&config.ports, &shares).max(tables.around.load(&table::pin()).ports.len());
        let drafts = sketches.into_iter().map(Draft::new).collect::<Result<Vec<Draft>, StartError>>()?;
        let mut crossings = Crossings::between(&drafts);

        let heard = Heard::new().map_err(StartError::Memory)?;
        let barrier = Arc::new(Barrier::new(count));
        let (mut workers, mut queues) = (Vec::with_capacity(count), Vec::new());
        for ((index, draft), core) in drafts.into_iter().enumerate().zip(config.cores) {
            let (injector, injected) = RingBuffer::new(INJECTIONS);
            let cells = Arc::new(WorkerCells::new(places));
            let (desk, tray) = desk(&draft.wake);
            let memory = draft.umem.registrar().clone();
            let memfd = draft.umem.memfd().try_clone_to_owned().map_err(StartError::Memory)?;
            let frames = draft.umem.frames();
            for (queue, inherited) in draft.queues.iter().zip(&draft.inherited) {
                let live = config.ports.iter().any(|port| port.id == queue.port && port.live);
                let bound = BoundQueue::of(queue, index, *inherited, live).map_err(StartError::Memory)?;
                queues.push(Arc::new(bound));
            }
            let (outgoing, incoming) = crossings.of(index);
            let worker = Worker {
                tables: Arc::clone(&tables),
                poll: config.poll,
                routes: routes(&config.ports, places, index, count, &draft.queues),
                umem: draft.umem,
                queues: draft.queues,
                outgoing,
                scratch: Scratch::new(incoming.len()),
                incoming,
                injected,
                tray,
                mouth: heard.mouth(),
                resolve: Arc::clone(&config.resolve),
                local: WorkerState::new(index as u16, count as u16, places)
                    .with_secret(RandomState::new().hash_one(index)),
                cells: Arc::clone(&cells),
                wake: Arc::clone(&draft.wake),
                stop: Arc::clone(&stop),
                lost: draft.lost,
            };
            let barrier = Arc::clone(&barrier);
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || work(worker, core, &barrier))
                .map_err(StartError::Thread)?;
            workers.push(Handle {
                thread: Mutex::new(Some(thread)),
                core,
                cells,
                injector: Mutex::new(injector),
                wake: draft.wake,
                memfd,
                frames,
                desk: Mutex::new(desk),
                memory,
                share: draft.share,
            });
        }
        let (queues, leaving) = (ArcSwap::from_pointee(queues), Mutex::default());
        Ok(Engine { workers, queues, heard: Some(Arc::new(heard)), places, leaving, stop })
    }

    /// An engine without workers.
    #[must_use]
    pub fn none() -> Engine {
        let stop = Arc::new(AtomicBool::new(true));
        let (queues, leaving) = (ArcSwap::default(), Mutex::default());
        Engine { workers: Vec::new(), queues, heard: None, places: 0, leaving, stop }
    }

    /// All queues as of now, in the order of [`Counters::queues`].
    #[must_use]
    pub fn queues(&self) -> Arc<Vec<Arc<BoundQueue>>> {
        self.queues.load_full()
    }

    /// What a holder keeps for worker `index`: its memory and its sockets among `queues`.
    #[must_use]
    pub fn descriptors<'a>(&'a self, index: usize, queues: &'a [Arc<BoundQueue>]) -> Vec<BorrowedFd<'a>> {
        let memfd = self.workers.get(index).map(|worker| worker.memfd.as_fd());
        let sockets = queues.iter().filter(|queue| queue.worker == index).map(|queue| queue.fd.as_fd());
        memfd.into_iter().chain(sockets).collect()
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Reads all counters. They go on while they are read.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut ports = vec![PortCounters::default(); self.places];
        for worker in &self.workers {
            ports.iter_mut().zip(&worker.cells.ports).for_each(|(sum, cells)| sum.add(cells));
        }
        let counters = |(index, worker): (usize, &Handle)| worker.counters(self.spare_queues(index));
        let workers = self.workers.iter().enumerate().map(counters);
        let queues = self.queues.load().iter().map(|queue| QueueCounters::read(&queue.cells)).collect();
        Counters { ports, queues, workers: workers.collect() }
    }

    /// What workers have heard in answer to what was injected; `None` if there are none.
    #[must_use]
    pub fn heard(&self) -> Option<&Arc<Heard>> {
        self.heard.as_ref()
    }

    /// Has a frame of at most 590 bytes sent out of a port. False if it is longer, the port has no queue, or too many
    /// are waiting. Not for workers: it takes a lock.
    pub fn inject(&self, port: PortId, frame: &[u8]) -> bool {
        let sender = worker_of(port, QueueId(0), self.workers.len());
        let has_queues = self.queues.load().iter().any(|queue| queue.port == port);
        let Some(worker) = self.workers.get(sender).filter(|_| has_queues) else { return false };
        let mut bytes = [0; INJECTED_MAX];
        let Some(place) = bytes.get_mut(..frame.len()) else { return false };
        place.copy_from_slice(frame);
        let mut injector = worker.injector.lock().unwrap_or_else(PoisonError::into_inner);
        let pushed = injector.push(Injected { port, bytes, len: frame.len() }).is_ok();
        worker.wake.up();
        pushed
    }

    /// Stops all workers. Packets under way are sent, those that wait for a next hop are dropped, and what every worker
    /// leaves behind is returned, by worker.
    #[must_use]
    pub fn stop(self) -> Vec<Stopped> {
        self.halt()
    }

    /// The same, of which the second call finds nothing. Counters stay as they are, and descriptors stay open: queues are
    /// free only when the engine is dropped, too.
    #[must_use]
    pub fn halt(&self) -> Vec<Stopped> {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.iter().for_each(|worker| worker.wake.up());
        let threads = self.workers.iter().filter_map(|worker| {
            let mut thread = worker.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.take()
        });
        let ended = threads.map(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(cause) => panic::resume_unwind(cause),
        });
        ended.map(|(umem, sockets)| Stopped { audit: FrameAudit::of(&umem, &sockets), umem, sockets }).collect()
    }
}

impl Handle {
    fn counters(&self, spare_queues: usize) -> WorkerCounters {
        let cells = &self.cells;
        WorkerCounters {
            core: self.core,
            polls: cells.polls.get(),
            busy_polls: cells.busy_polls.get(),
            sleeps: cells.sleeps.get(),
            packets: cells.packets.get(),
            frames: self.frames,
            frames_free: cells.frames_free.get() as u32,
            frames_held: cells.frames_held.get() as u32,
            unkept: cells.unkept.get(),
            spare_queues: spare_queues as u32,
        }
    }
}

/// The life of a worker's thread.
fn work(mut worker: Worker, core: Option<usize>, everyone: &Barrier) -> Ended {
    if let Some(core) = core {
        // `can_pin` has tried; a core that was taken away since then leaves the worker where it is.
        let _ = sched_setaffinity(None, &only(core));
    }
    worker.run();
    worker.wind_up(|| {
        everyone.wait();
    });
    (worker.umem, worker.queues.into_iter().map(|queue| queue.socket).collect())
}
