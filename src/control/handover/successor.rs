//! The running engine's side.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use tokio::net::UnixListener;

use super::{CONTROL, HELD, HOLDER, LET_GO, LOOK, SHOWN, STOP, STOPPED, TAKEN};
use crate::afxdp::handover::{receive, send};
use crate::control::peer::{is_ours, listen_at, set_patience};

/// How long a successor may take for a message while the engine works.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where successors knock. Its file is removed when it is dropped, unless it was left to another: so drop it while nobody
/// else may listen there, which is as long as this process has the control socket.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    is_left: bool,
}

/// A process that wants to take over.
#[derive(Debug)]
pub struct Successor {
    connection: OwnedFd,
    pid: i32,
}

/// What a successor wants of the workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// That they stop and leave everything as it is.
    Stop,
    /// That their sockets are closed, too.
    LetGo,
}

impl Door {
    /// Listens at `path`, in place of whoever did.
    ///
    /// # Errors
    /// What the file system says, or the runtime, in which this must be called.
    pub fn open(path: &Path) -> io::Result<Door> {
        let listener = std::os::unix::net::UnixListener::from(listen_at(path)?);
        listener.set_nonblocking(true)?;
        Ok(Door { listener: UnixListener::from_std(listener)?, path: path.to_owned(), is_left: false })
    }

    /// Leaves the path to a successor, which listens there in its own time: nothing that this process does from now on
    /// may remove the file, whose ever it is by then.
    pub fn leave(mut self) {
        self.is_left = true;
    }

    /// Waits for the next successor of the own user; others are turned away.
    ///
    /// # Errors
    /// The socket's.
    pub async fn next(&self) -> io::Result<Successor> {
        loop {
            let (accepted, _) = self.listener.accept().await?;
            let accepted = accepted.into_std()?;
            accepted.set_nonblocking(false)?;
            let connection = OwnedFd::from(accepted);
            if is_ours(connection.as_fd()).unwrap_or(false) {
                set_patience(connection.as_fd(), PATIENCE)?;
                let pid = socket_peercred(&connection)?.pid.as_raw_pid();
                return Ok(Successor { connection, pid });
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if !self.is_left {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Successor {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Shows it the workers' memory and sockets, and waits for what it wants. None if it has left.
    ///
    /// # Errors
    /// It does not keep to the protocol, or takes too long.
    pub fn show(&self, sets: &[(String, Vec<BorrowedFd<'_>>)]) -> io::Result<Option<Wish>> {
        let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "it does not keep to the protocol");
        match receive(&self.connection)? {
            Some((word, _)) if word == LOOK => {}
            Some(_) => return Err(nonsense()),
            None => return Ok(None),
        }
        for (name, fds) in sets {
            send(&self.connection, name, fds)?;
        }
        send(&self.connection, SHOWN, &[])?;
        match receive(&self.connection)? {
            Some((word, _)) if word == STOP => Ok(Some(Wish::Stop)),
            Some((word, _)) if word == LET_GO => Ok(Some(Wish::LetGo)),
            Some(_) => Err(nonsense()),
            None => Ok(None),
        }
    }

    /// Gives it the rest, now that no worker runs any more.
    ///
    /// # Errors
    /// It is gone.
    pub fn give(
        &self,
        control: [BorrowedFd<'_>; 2],
        holder: Option<BorrowedFd<'_>>,
        held: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        send(&self.connection, CONTROL, &control)?;
        for (name, fd) in [(HOLDER, holder), (HELD, held)] {
            if let Some(fd) = fd {
                send(&self.connection, name, &[fd])?;
            }
        }
        send(&self.connection, STOPPED, &[])
    }

    /// Waits until it forwards packets, or is gone: then false. It uses the rings for as long as it is there, so there is
    /// no limit; that it takes long is logged.
    #[must_use]
    pub fn has_taken(&self) -> bool {
        loop {
            match receive(&self.connection) {
                Ok(Some((word, _))) => return word == TAKEN,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tracing::error!(
                    process = self.pid,
                    "the successor has been given everything and does not say that it forwards: end it, and this \
                     engine goes on"
                ),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }
}
