//! Ports that come and go while workers run.
//!
//! A port is known to all workers before anybody sends to it, and known to none before its sockets are closed. Whoever
//! calls this tells packets: first attach, then let the walk and the XDP program know; the other way round to detach.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::config::{AttachError, PortConfig};
use super::draft::{bind, route};
use super::errand::{Errand, Silent, What, close};
use super::share::own_queues;
use super::start::{BoundQueue, Engine, Handle};
use super::worker::{Queue, Route};
use crate::units::PortId;

/// How long to wait for a queue that was let go of a moment ago: the kernel takes 5 to 50 ms.
const PATIENCE: Duration = Duration::from_millis(500);
/// When the kernel has surely let go of frames that a closed socket was still sending.
const RECLAIM_AFTER: Duration = Duration::from_secs(2);

/// Queues of one worker that are closed, and whose frames the kernel may still look at.
pub(super) struct Leaving {
    worker: usize,
    errand: Errand,
    until: Instant,
}

/// A port's queues that are no longer among the engine's, and still served: to be detached.
#[must_use]
pub struct Withdrawn {
    port: PortId,
    queues: Vec<Arc<BoundQueue>>,
}

impl Engine {
    /// Gives a live port the lowest id that no port of `taken` has and whose workers have memory for its queues.
    ///
    /// # Errors
    /// All places are taken, or all that memory.
    pub fn place(&self, port: PortConfig, taken: impl Fn(PortId) -> bool) -> Result<PortConfig, AttachError> {
        self.tidy_up();
        let mut why = AttachError::NoPlace(self.places);
        // Ids beyond the first few are for the same workers again.
        let vacant = (0..self.places).filter_map(|id| u16::try_from(id).ok()).map(PortId).filter(|id| !taken(*id));
        for id in vacant.take(self.workers.len().max(1) * 2) {
            let placed = PortConfig { id, ..port };
            match self.has_memory_for(&placed) {
                Ok(()) => return Ok(placed),
                Err(refused) => why = refused,
            }
        }
        Err(why)
    }

    /// Queues of live ports that worker `index` still has memory for.
    pub(super) fn spare_queues(&self, index: usize) -> usize {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let left: usize = leaving.iter().filter(|left| left.worker == index).map(|left| left.errand.left.len()).sum();
        let attached = self.queues.load().iter().filter(|queue| queue.live && queue.worker == index).count();
        let reserved = self.workers.get(index).map_or(0, |worker| worker.share.live);
        reserved.saturating_sub(attached + left)
    }

    fn has_memory_for(&self, port: &PortConfig) -> Result<(), AttachError> {
        let workers = self.workers.iter().enumerate();
        let full = workers
            .filter(|(index, _)| own_queues(port, *index, self.workers.len()).count() > self.spare_queues(*index));
        match full.map(|(worker, handle)| (worker, handle.share.live)).next() {
            Some((worker, queues)) => Err(AttachError::NoMemory { worker, queues }),
            None => Ok(()),
        }
    }

    /// Binds a socket to each queue of a live port and has the workers serve them. Packets come once the sockets are in the
    /// port's XSKMAP. Blocks for milliseconds; other ports lose nothing.
    ///
    /// # Errors
    /// See [`AttachError`]; all is then as before, but with `Silent`.
    pub fn attach(&self, port: &PortConfig) -> Result<(), AttachError> {
        self.has_memory_for(port)?;
        if usize::from(port.id.0) >= self.places {
            return Err(AttachError::NoPlace(self.places));
        }
        let workers = self.workers.len();
        let (mut errands, mut bound) = (Vec::with_capacity(workers), Vec::new());
        for (index, worker) in self.workers.iter().enumerate() {
            let mut queues = Vec::new();
            for queue in own_queues(port, index, workers) {
                let served = bind(&worker.memory, &worker.share, port, queue, PATIENCE)
                    .map(|socket| Queue::new(&worker.share, port, socket))
                    .and_then(|served| Ok((BoundQueue::of(&served, index, false, true)?, served)));
                match served {
                    Ok((shown, served)) => {
                        bound.push(Arc::new(shown));
                        queues.push(served);
                    }
                    Err(error) => {
                        errands.push(Errand::to_serve(port.id, Route::Nowhere, queues));
                        self.unbind(errands);
                        return Err(AttachError::Bind { queue, error });
                    }
                }
            }
            errands.push(Errand::to_serve(port.id, route(port, index, workers, &queues), queues));
        }
        self.send_all(errands)?;
        self.queues.store(Arc::new(self.queues.load().iter().cloned().chain(bound).collect()));
        Ok(())
    }

    /// Takes a port's queues out of those that the engine has: whoever keeps descriptors for the next engine is to keep
    /// the rest.
    pub fn withdraw(&self, port: PortId) -> Withdrawn {
        let (queues, others) = self.queues.load().iter().cloned().partition(|queue| queue.port == port);
        self.queues.store(Arc::new(others));
        Withdrawn { port, queues }
    }

    /// Has the workers let go of a port: when this returns, no packet that came by it or was to leave by it is with any of
    /// them, and its sockets are closed. Their frames are home, or will be after [`Engine::tidy_up`] where the kernel may
    /// still look at some, as it may if somebody else (`is_shared`) has not closed the sockets yet. Nobody may send to the
    /// port any more.
    ///
    /// # Errors
    /// A worker does not answer.
    pub fn detach(&self, withdrawn: Withdrawn, is_shared: bool) -> Result<(), AttachError> {
        let Withdrawn { port, queues } = withdrawn;
        let room = queues.len();
        let done = self.send_all((0..self.workers.len()).map(|_| Errand::new(What::LetGo, port, room)).collect())?;
        // From now on no worker passes packets of the port to another.
        self.send_all((0..self.workers.len()).map(|_| Errand::new(What::Settle, port, 0)).collect())?;
        drop(queues);
        for (worker, mut errand) in done.into_iter().enumerate() {
            close(&mut errand.left);
            if errand.left.is_empty() {
                continue;
            }
            let is_clean = !is_shared && errand.left.iter().all(|left| left.is_clean);
            let until = Instant::now() + if is_clean { Duration::ZERO } else { RECLAIM_AFTER };
            let leaving = Leaving { worker, errand, until };
            self.leaving.lock().unwrap_or_else(PoisonError::into_inner).push(leaving);
        }
        self.tidy_up();
        Ok(())
    }

    /// Takes back frames that the kernel has let go of. To be called now and then.
    pub fn tidy_up(&self) {
        let now = Instant::now();
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, rest) = leaving.drain(..).partition(|left| left.until <= now);
        *leaving = rest;
        for Leaving { worker, mut errand, .. } in due {
            errand.what = What::Reclaim;
            if let Some(handle) = self.workers.get(worker)
                && handle.do_one(errand).is_err()
            {
                tracing::error!(
                    worker,
                    "it does not answer: the frames of a port that was detached are not taken back"
                );
            }
        }
    }

    /// Gives up sockets that no worker has seen.
    fn unbind(&self, errands: Vec<Errand>) {
        for (worker, errand) in self.workers.iter().zip(errands) {
            errand.queues.into_iter().for_each(|queue| worker.memory.unbind(queue.socket));
        }
    }

    /// Has each worker do its errand, all at once, and waits for all.
    fn send_all(&self, errands: Vec<Errand>) -> Result<Vec<Errand>, AttachError> {
        let workers = || self.workers.iter().enumerate();
        for ((index, worker), errand) in workers().zip(errands) {
            worker.desk().send(errand).map_err(|Silent| AttachError::Silent(index))?;
        }
        workers().map(|(index, worker)| worker.desk().wait().map_err(|Silent| AttachError::Silent(index))).collect()
    }
}

impl Handle {
    fn desk(&self) -> std::sync::MutexGuard<'_, super::errand::Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn do_one(&self, errand: Errand) -> Result<Errand, Silent> {
        let mut desk = self.desk();
        desk.send(errand)?;
        desk.wait()
    }
}
