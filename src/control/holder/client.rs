//! The engine's side.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{ALL, BUSY, END, KEEP, KEPT, Sets, TAKE, add};
use crate::afxdp::handover::{keep_from_programs, receive, send};
use crate::control::peer::{listen_at, reach};

/// How long the holder may take to answer: it has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// A holder that keeps for this engine.
#[derive(Debug)]
pub struct Holder {
    pub(super) connection: OwnedFd,
}

impl Holder {
    /// Asks the holder that listens at `path` for what it keeps; it keeps nothing from then on. None if there is no
    /// holder.
    ///
    /// # Errors
    /// `ResourceBusy` if it serves another engine, `PermissionDenied` if it is another user's; or the connection broke.
    pub fn ask(path: &Path) -> io::Result<Option<(Holder, Sets)>> {
        let Some(connection) = reach(path, PATIENCE)? else { return Ok(None) };
        send(&connection, TAKE, &[])?;
        let mut sets = Sets::new();
        loop {
            match receive(&connection)? {
                Some((word, _)) if word == ALL => return Ok(Some((Holder { connection }, sets))),
                Some((word, _)) if word == BUSY => {
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the holder serves another engine"));
                }
                Some((name, fds)) => add(&mut sets, &name, fds),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// The holder at the other end of a connection that another engine asked over: its right to what is kept goes with it.
    #[must_use]
    pub fn from_connection(connection: OwnedFd) -> Holder {
        Holder { connection }
    }

    /// The connection, to be handed to another engine.
    #[must_use]
    pub fn connection(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// Starts a holder that listens at `path` and outlives this process.
    ///
    /// # Errors
    /// The socket could not be made, or the process not be started.
    pub fn start(path: &Path) -> io::Result<Holder> {
        let listener = listen_at(path)?;
        keep_from_programs();
        let mut command = Command::new("/proc/self/exe");
        command.arg("holder").arg("--socket").arg(std::path::absolute(path)?);
        // Its own directory and standard streams, or it would keep a mount or a pipe of ours busy.
        command.current_dir("/").env_clear().stdin(Stdio::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn()?;
        // Should it end before this process, somebody has to hear of it.
        thread::Builder::new().name("holder".to_owned()).spawn(move || process.wait())?;
        // It need not have come up yet: what it is told waits in the socket.
        match Holder::ask(path)? {
            Some((holder, _)) => Ok(holder),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Has it keep these in place of all that it was told to keep before.
    ///
    /// # Errors
    /// The connection broke: it keeps nothing.
    pub fn keep(&self, sets: &[(String, Vec<BorrowedFd<'_>>)]) -> io::Result<()> {
        for (name, fds) in sets {
            send(&self.connection, &format!("{KEEP}{name}"), fds)?;
        }
        send(&self.connection, KEPT, &[])?;
        match receive(&self.connection)? {
            Some((word, _)) if word == KEPT => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// True as long as its process lives.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let mut fds = [PollFd::new(&self.connection, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(0))
    }
}

/// Ends the holder that listens at `path`; the kernel then lets go of what no engine has. False if there is none.
///
/// # Errors
/// It is another user's, or it does not answer.
pub fn end(path: &Path) -> io::Result<bool> {
    let Some(connection) = reach(path, PATIENCE)? else { return Ok(false) };
    send(&connection, END, &[])?;
    // It closes when it ends.
    match receive(&connection) {
        Ok(None) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
        Ok(Some(_)) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) => Err(error),
    }
}
