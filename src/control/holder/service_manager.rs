//! The service manager as holder: systemd's descriptor store (sd_notify(3), FDSTORE).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{Sets, add};
use crate::afxdp::handover::{send, take_passed};

/// The service manager that started this process.
#[derive(Debug)]
pub struct ServiceManager {
    notify: OwnedFd,
    /// It is known to have a store for this service.
    has_store: bool,
}

impl ServiceManager {
    /// The service manager and what it kept under names that begin with `prefix`, which is ours from now on: it keeps
    /// none of it any more. None if no service manager started this process.
    ///
    /// # Errors
    /// Its socket (`NOTIFY_SOCKET`) can't be reached.
    pub fn ask(prefix: &str) -> io::Result<Option<(ServiceManager, Sets)>> {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let notify = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        connect(&notify, &socket_address(&address)?)?;
        let mut sets = Sets::new();
        for (name, fd) in take_passed(prefix) {
            add(&mut sets, &name, vec![fd]);
        }
        // Since version 254 systemd says so. Before that, what it gives tells.
        let has_store = std::env::var_os("FDSTORE").is_some() || !sets.is_empty();
        let manager = ServiceManager { notify, has_store };
        manager.forget(sets.iter().map(|(name, _)| name.as_str()))?;
        Ok(Some((manager, sets)))
    }

    /// True if it has passed descriptors to this process.
    #[must_use]
    pub fn has_passed_any() -> bool {
        std::env::var_os("LISTEN_FDS").is_some()
    }

    /// Has it keep these until the service is stopped for good. Without `FileDescriptorStoreMax=` it ignores them.
    ///
    /// # Errors
    /// Its socket can't be reached.
    pub fn keep(&self, sets: &[(String, Vec<BorrowedFd<'_>>)]) -> io::Result<()> {
        for (name, fds) in sets {
            // A socket whose interface went down is kept no less.
            send(&self.notify, &format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), fds)?;
        }
        Ok(())
    }

    /// Has it keep these sets no longer.
    ///
    /// # Errors
    /// Its socket can't be reached.
    pub fn forget<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        for name in names {
            send(&self.notify, &format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])?;
        }
        Ok(())
    }

    /// True if it is known to keep descriptors for this service.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.has_store
    }
}

/// A path, or after `@` a name in the abstract namespace (unix(7)).
fn socket_address(address: &OsStr) -> io::Result<SocketAddrUnix> {
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => Ok(SocketAddrUnix::new_abstract_name(name)?),
        None => Ok(SocketAddrUnix::new(address)?),
    }
}
