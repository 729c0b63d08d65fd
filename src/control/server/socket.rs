//! The control socket's file: one engine owns it, and what a dead one left is cleared.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, Gid};

use super::Groups;
use crate::control::config::Control;

/// Connections that may wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// The bound control socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
    groups: Groups,
}

/// Keeps the socket's path for this process.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Locked (flock(2)) for as long as the process has the socket, however it ends; it holds the process's id.
    lock: File,
    /// Another process has it now.
    is_bequeathed: Arc<AtomicBool>,
}

/// The right to give the socket to another process while it is served.
#[derive(Debug)]
pub struct Bequest {
    listener: UnixListener,
    lock: File,
    is_bequeathed: Arc<AtomicBool>,
}

impl ControlSocket {
    /// Binds `path`, open to the owner and the groups that may read or write (0660; the second of two groups is named in
    /// the file's access control list). Makes its directory if need be, and replaces a socket that no process has any
    /// more.
    ///
    /// # Errors
    /// `AddrInUse` if another engine has the socket; `AlreadyExists` if something else than a socket is at `path`;
    /// `NotFound` for a group that does not exist; or what the file system says.
    pub fn bind(path: &Path, config: &Control) -> io::Result<ControlSocket> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        let groups = Groups::of(config)?;
        let (read, write) = (groups.read.map(Gid::from_raw), groups.write.map(Gid::from_raw));
        let lock_path = path.with_added_extension("lock");
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock_path)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| taken_by(&mut lock))?;
        write_pid(&mut lock)?;
        match fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Under another name first: nobody may connect before the permissions are right.
        let unfinished = path.with_added_extension("new");
        remove_if_there(&unfinished)?;
        let listener = UnixListener::bind(&unfinished)?;
        let named = (|| {
            if let Some(group) = write.or(read) {
                rustix::fs::chown(&unfinished, None, Some(group))?;
            }
            fs::set_permissions(&unfinished, Permissions::from_mode(0o660))?;
            if let (Some(read), Some(write)) = (read, write)
                && read != write
            {
                admit_too(&unfinished, read)?;
            }
            fs::rename(&unfinished, path)
        })();
        if let Err(error) = named {
            remove_if_there(&unfinished)?;
            return Err(error);
        }
        listener.set_nonblocking(true)?;
        Ok(ControlSocket::over(listener, lock, path, groups))
    }

    fn over(listener: UnixListener, lock: File, path: &Path, groups: Groups) -> ControlSocket {
        let is_bequeathed = Arc::new(AtomicBool::new(false));
        ControlSocket { listener, file: SocketFile { path: path.to_owned(), lock, is_bequeathed }, groups }
    }

    /// The socket at `path`, from the engine that had it: connections that wait are this process's to answer.
    ///
    /// # Errors
    /// The descriptors are something else. A group that does not exist is no reason to stop here: it may do nothing.
    pub fn inherit(path: &Path, config: &Control, (listener, lock): (OwnedFd, OwnedFd)) -> io::Result<ControlSocket> {
        let groups = Groups::of(config).unwrap_or_else(|error| {
            tracing::error!("only root and this user may use the control socket: {error}");
            Groups::default()
        });
        // Who connects learns by this whose socket it is (SO_PEERCRED).
        rustix::net::listen(&listener, BACKLOG)?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let mut lock = File::from(lock);
        write_pid(&mut lock)?;
        Ok(ControlSocket::over(listener, lock, path, groups))
    }

    /// What it takes to give it away later.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn bequest(&self) -> io::Result<Bequest> {
        let is_bequeathed = Arc::clone(&self.file.is_bequeathed);
        Ok(Bequest { listener: self.listener.try_clone()?, lock: self.file.lock.try_clone()?, is_bequeathed })
    }

    /// The groups that may use it.
    pub(super) fn groups(&self) -> Groups {
        self.groups
    }

    /// The listener for this thread's runtime, and what must live as long as it.
    pub(super) fn into_listener(self) -> io::Result<(tokio::net::UnixListener, SocketFile)> {
        Ok((tokio::net::UnixListener::from_std(self.listener)?, self.file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The lock's file stays: whoever opened it before us would hold a lock on a file without a name.
        if !self.is_bequeathed.load(Ordering::Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Bequest {
    /// The listener and the lock.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.listener.as_fd(), self.lock.as_fd()]
    }

    /// They are another's now: this process leaves the socket's file alone.
    pub fn done(&self) {
        self.is_bequeathed.store(true, Ordering::Relaxed);
    }
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// Who has the lock.
fn taken_by(lock: &mut File) -> io::Error {
    let mut pid = String::new();
    let said = match lock.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("another engine (process {}) has it", pid.trim()),
        _ => "another engine has it".to_owned(),
    };
    io::Error::new(io::ErrorKind::AddrInUse, said)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Groups {
    /// Those of the configuration.
    fn of(config: &Control) -> io::Result<Groups> {
        let id = |group: &Option<String>| group.as_deref().map(group_id).transpose();
        Ok(Groups { read: id(&config.read_group)?.map(Gid::as_raw), write: id(&config.write_group)?.map(Gid::as_raw) })
    }
}

/// Names one more group in the access control list of a file of mode 0660 (acl(5); the layout is that of
/// linux/posix_acl_xattr.h).
fn admit_too(path: &Path, group: Gid) -> io::Result<()> {
    const VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    const READ_WRITE: u16 = 6;
    // Owner, owning group, named group, mask, others.
    let entries: [(u16, u16, u32); 5] = [
        (0x01, READ_WRITE, NOBODY),
        (0x04, READ_WRITE, NOBODY),
        (0x08, READ_WRITE, group.as_raw()),
        (0x10, READ_WRITE, NOBODY),
        (0x20, 0, NOBODY),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &list, flags).map_err(io::Error::from)
}

/// The id of a group by its name or number (group(5)).
fn group_id(name: &str) -> io::Result<Gid> {
    if let Ok(id) = name.parse() {
        return Ok(Gid::from_raw(id));
    }
    let groups = fs::read_to_string("/etc/group")?;
    let id = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("there is no group `{name}`"));
    id.map(Gid::from_raw).ok_or_else(unknown)
}
