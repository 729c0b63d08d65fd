//! The engine's side.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::geteuid;

use super::{ALL, BUSY, END, KEEP, KEPT, Sets, TAKE, add};
use crate::afxdp::handover::{keep_from_programs, receive, send};

/// How long the holder may take to answer: it has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(2);
const BACKLOG: i32 = 8;

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
        let Some(connection) = reach(path)? else { return Ok(None) };
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
    let Some(connection) = reach(path)? else { return Ok(false) };
    send(&connection, END, &[])?;
    // It closes when it ends.
    match receive(&connection) {
        Ok(None) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
        Ok(Some(_)) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) => Err(error),
    }
}

/// A connection to the holder. None if nobody listens.
fn reach(path: &Path) -> io::Result<Option<OwnedFd>> {
    let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for direction in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&connection, direction, Some(PATIENCE))?;
    }
    if let Err(error) = connect(&connection, &SocketAddrUnix::new(path)?).map_err(io::Error::from) {
        return match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(error),
        };
    }
    if is_ours(connection.as_fd())? {
        Ok(Some(connection))
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the holder belongs to another user"))
    }
}

/// True if the other side runs as the same user, or as root.
pub(super) fn is_ours(connection: BorrowedFd<'_>) -> io::Result<bool> {
    let peer = socket_peercred(connection)?.uid;
    Ok(peer == geteuid() || peer.is_root())
}

/// Listens at `path`, for the own user alone. Replaces a socket that nobody listens on any more.
pub(super) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before it listens.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}
