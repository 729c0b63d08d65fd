//! Handing over to the next engine while this one runs.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::boot::BootError;
use super::programs::connect;
use super::{Appliance, held};
use crate::afxdp::Parts;
use crate::control::handover::{Door, Successor, Wish};
use crate::control::server::Bequest;
use crate::engine::{Engine, Stopped};
use crate::table;

impl Appliance {
    /// Waits until a successor has taken over: from then on nothing here may touch the state, the rings or the control
    /// socket. One that fails half-way costs the time that it took, for this engine goes on.
    ///
    /// # Errors
    /// This engine could not go on after a successor had failed.
    pub(super) async fn heed_successors(&self, door: &Door, control: &Bequest) -> Result<(), BootError> {
        loop {
            let successor = match door.next().await {
                Ok(successor) => successor,
                Err(error) => {
                    tracing::error!("no successor can take over any more: {error}");
                    return std::future::pending().await;
                }
            };
            // Everything else waits: whatever it might change is being handed over. What has begun comes to its end.
            let _turn = self.writer.lock().await;
            let journal = self.close_journal();
            let taken = self.receive(&successor, control);
            if !matches!(taken, Ok(true)) {
                self.reopen_journal(journal);
            }
            if taken? {
                tracing::info!(process = successor.pid(), "another engine has taken over");
                return Ok(());
            }
        }
    }

    /// True if the successor has taken over.
    fn receive(&self, successor: &Successor, control: &Bequest) -> Result<bool, BootError> {
        let engine = self.engine.load_full();
        let process = successor.pid();
        let wish = match successor.show(&self.succession().sets(&engine, &engine.queues())) {
            Ok(Some(wish)) => wish,
            Ok(None) => {
                tracing::warn!(process, "a successor came and left again");
                return Ok(false);
            }
            Err(error) => {
                tracing::warn!(process, "a successor was turned away: {error}");
                return Ok(false);
            }
        };
        let stopped = engine.halt();
        let left = match wish {
            Wish::Stop => stopped,
            Wish::LetGo => {
                drop(stopped);
                self.succession().forget(&engine);
                self.engine.store(Arc::new(Engine::none()));
                Vec::new()
            }
        };
        drop(engine);
        match self.give(successor, control) {
            Ok(()) if successor.has_taken() => {
                control.done();
                self.report_lost(&left);
                return Ok(true);
            }
            Ok(()) => tracing::error!(process, "the successor failed: this engine goes on"),
            Err(error) => tracing::error!(process, "the successor is gone, this engine goes on: {error}"),
        }
        self.go_on(left)?;
        Ok(false)
    }

    fn give(&self, successor: &Successor, control: &Bequest) -> io::Result<()> {
        let guard = table::pin();
        let (around, names) = (self.tables.around.load(&guard), self.tables.names.view(&guard));
        let held = held::write(&names, around)?;
        successor.give(control.descriptors(), self.succession().holder(), Some(held.as_fd()))
    }

    /// New workers take over from those that were stopped, whatever a successor has done to their rings since.
    fn go_on(&self, left: Vec<Stopped>) -> Result<(), BootError> {
        let was_let_go = left.is_empty();
        let left: Vec<Option<Parts>> =
            left.into_iter().map(|Stopped { umem, sockets, .. }| umem.into_parts(sockets).ok()).collect();
        let mut config = self.workers().take();
        config.inherited = left;
        let engine = Engine::start(config, Arc::clone(&self.tables)).map_err(BootError::Engine)?;
        connect(&engine, &mut self.on_host())?;
        if was_let_go {
            self.succession().provide(&engine);
        }
        self.engine.store(Arc::new(engine));
        Ok(())
    }

    /// Says so if frames of workers that have stopped are nowhere.
    pub(super) fn report_lost(&self, stopped: &[Stopped]) {
        let lost = stopped.iter().filter(|stopped| !stopped.audit.adds_up()).count();
        if lost > 0 {
            tracing::error!("{lost} workers have lost frames: please report this");
        }
    }
}
