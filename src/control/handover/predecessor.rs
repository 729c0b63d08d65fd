//! The successor's side.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{CONTROL, HELD, HOLDER, LET_GO, LOOK, SHOWN, STOP, STOPPED, TAKEN};
use crate::afxdp::handover::{receive, send};
use crate::control::holder::{Sets, add};
use crate::control::peer::reach;

/// How long the engine may take for a message: its workers end within a burst.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an engine that does not listen yet is tried again.
const KNOCK_EVERY: Duration = Duration::from_millis(5);

/// The engine that runs.
#[derive(Debug)]
pub struct Predecessor {
    connection: OwnedFd,
}

/// What an engine leaves beside its workers' memory and sockets.
#[derive(Debug)]
pub struct Estate {
    /// The control socket's listener and its lock.
    pub control: (OwnedFd, OwnedFd),
    /// The connection to its holder, if it had one.
    pub holder: Option<OwnedFd>,
    /// Which container each port held: text in a memfd.
    pub held: Option<OwnedFd>,
}

impl Predecessor {
    /// Reaches the engine that listens at `path`, and is shown what its workers have, by name. None if nobody has come to
    /// listen within `limit`: one that has only just taken over or come up does so last of all.
    ///
    /// # Errors
    /// `PermissionDenied` if it is another user's; or the connection broke.
    pub fn look(path: &Path, limit: Duration) -> io::Result<Option<(Predecessor, Sets)>> {
        let began = Instant::now();
        let connection = loop {
            match reach(path, PATIENCE)? {
                Some(connection) => break connection,
                None if began.elapsed() >= limit => return Ok(None),
                None => thread::sleep(KNOCK_EVERY),
            }
        };
        send(&connection, LOOK, &[])?;
        let predecessor = Predecessor { connection };
        let sets = predecessor.receive_until(SHOWN)?;
        Ok(Some((predecessor, sets)))
    }

    /// Has it stop its workers, which is done when this returns. It goes on with them if this value is dropped.
    ///
    /// # Errors
    /// The connection broke, or it left no control socket.
    pub fn stop(&self) -> io::Result<Estate> {
        self.end_with(STOP)
    }

    /// Has it stop its workers and close their sockets.
    ///
    /// # Errors
    /// As [`Predecessor::stop`].
    pub fn let_go(&self) -> io::Result<Estate> {
        self.end_with(LET_GO)
    }

    fn end_with(&self, word: &str) -> io::Result<Estate> {
        send(&self.connection, word, &[])?;
        let mut sets = self.receive_until(STOPPED)?;
        let mut named = |name: &str| {
            let at = sets.iter().position(|(known, _)| known == name)?;
            Some(sets.swap_remove(at).1)
        };
        let no_control = || io::Error::new(io::ErrorKind::InvalidData, "it left no control socket");
        let [listener, lock] = named(CONTROL).and_then(|fds| fds.try_into().ok()).ok_or_else(no_control)?;
        let holder = named(HOLDER).and_then(|mut fds| fds.pop());
        let held = named(HELD).and_then(|mut fds| fds.pop());
        Ok(Estate { control: (listener, lock), holder, held })
    }

    /// Tells it that its packets are forwarded: it ends.
    ///
    /// # Errors
    /// It has ended already, otherwise.
    pub fn taken(self) -> io::Result<()> {
        send(&self.connection, TAKEN, &[])
    }

    fn receive_until(&self, word: &str) -> io::Result<Sets> {
        let mut sets = Sets::new();
        loop {
            match receive(&self.connection)? {
                Some((name, _)) if name == word => return Ok(sets),
                Some((name, fds)) => add(&mut sets, &name, fds),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
