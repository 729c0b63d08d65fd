//! Who keeps packet memory and sockets while no engine runs, so that packets go on arriving in them.
//!
//! A holder is a process that does nothing else. It listens on a Unix socket beside the control socket, gives what it
//! keeps to the engine that asks, and takes what that engine will leave. The service manager can keep the same
//! descriptors (`FileDescriptorStoreMax=` in systemd.service(5)). Messages between engine and holder (SOCK_SEQPACKET):
//!
//! ```text
//! engine                          holder
//!   take              ─────▶                     or `end`: the holder ends
//!                     ◀─────   NAME + descriptors, ...
//!                     ◀─────   all               or `busy`: another engine has them
//!   keep NAME + descriptors, ...
//!   kept              ─────▶
//!                     ◀─────   kept              from now on they outlive the engine
//! ```
//! One engine at a time: who has asked has the right to what is kept until its connection closes.

mod client;
mod keeper;
mod service_manager;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use client::{Holder, end};
pub use keeper::keep;
pub use service_manager::ServiceManager;

/// Descriptors by name, one set for each worker.
pub type Sets = Vec<(String, Vec<OwnedFd>)>;

/// Where the holder listens that belongs to a control socket.
#[must_use]
pub fn socket_beside(control: &Path) -> PathBuf {
    control.with_added_extension("holder")
}

const TAKE: &str = "take";
const END: &str = "end";
const ALL: &str = "all";
const BUSY: &str = "busy";
const KEEP: &str = "keep ";
const KEPT: &str = "kept";

/// Adds to the set of that name.
pub(super) fn add(sets: &mut Sets, name: &str, fds: Vec<OwnedFd>) {
    match sets.iter_mut().find(|(known, _)| known == name) {
        Some((_, set)) => set.extend(fds),
        None => sets.push((name.to_owned(), fds)),
    }
}

#[cfg(test)]
mod tests;
