//! Unix sockets between processes of one user, with message boundaries: descriptors go over them.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::geteuid;

const BACKLOG: i32 = 8;

/// A connection to the process that listens at `path`, which then waits `patience` for each message. None if nobody
/// listens.
///
/// # Errors
/// `PermissionDenied` if it is another user's; or what the kernel says.
pub(super) fn reach(path: &Path, patience: Duration) -> io::Result<Option<OwnedFd>> {
    let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_patience(connection.as_fd(), patience)?;
    if let Err(error) = connect(&connection, &SocketAddrUnix::new(path)?).map_err(io::Error::from) {
        return match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(error),
        };
    }
    if is_ours(connection.as_fd())? {
        Ok(Some(connection))
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"))
    }
}

/// How long a message over the connection may take, either way; then it is `WouldBlock`.
pub(super) fn set_patience(connection: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    for direction in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(connection, direction, Some(patience))?;
    }
    Ok(())
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
