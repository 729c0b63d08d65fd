//! The control socket's file: one engine owns it, and what a dead one left is cleared.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid};

/// The bound control socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Keeps the socket's path for this process.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Locked (flock(2)) for as long as the process has the socket, however it ends.
    _lock: File,
}

impl ControlSocket {
    /// Binds `path`, readable and writable for the owner and `group` (0660). Makes its directory if need be, and
    /// replaces a socket that no process has any more.
    ///
    /// # Errors
    /// `AddrInUse` if another engine has the socket; `AlreadyExists` if something else than a socket is at `path`;
    /// `NotFound` for a group that does not exist; or what the file system says.
    pub fn bind(path: &Path, group: Option<&str>) -> io::Result<ControlSocket> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        let group = group.map(group_id).transpose()?;
        let lock_path = path.with_added_extension("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(lock_path)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::new(io::ErrorKind::AddrInUse, "another engine has the control socket"))?;
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
            if let Some(group) = group {
                rustix::fs::chown(&unfinished, None, Some(group))?;
            }
            fs::set_permissions(&unfinished, Permissions::from_mode(0o660))?;
            fs::rename(&unfinished, path)
        })();
        if let Err(error) = named {
            remove_if_there(&unfinished)?;
            return Err(error);
        }
        listener.set_nonblocking(true)?;
        Ok(ControlSocket { listener, file: SocketFile { path: path.to_owned(), _lock: lock } })
    }

    /// The listener for this thread's runtime, and what must live as long as it.
    pub(super) fn into_listener(self) -> io::Result<(tokio::net::UnixListener, SocketFile)> {
        Ok((tokio::net::UnixListener::from_std(self.listener)?, self.file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The lock's file stays: whoever opened it before us would hold a lock on a file without a name.
        let _ = fs::remove_file(&self.path);
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
