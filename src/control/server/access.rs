//! Who may do what over the control socket: by the credentials that the kernel vouches for (SO_PEERCRED, unix(7)).

use std::fs;
use std::io;
use std::os::fd::AsFd;

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustix::process::geteuid;

use super::Problem;

/// What a peer may do. Whoever may write may read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rights {
    Nothing,
    Read,
    Write,
}

/// The groups of `[control]`, by number.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Groups {
    pub read: Option<u32>,
    pub write: Option<u32>,
}

impl Groups {
    /// The rights of whoever is at the other end: root and the engine's own user may do everything, others what one of
    /// their groups may.
    ///
    /// # Errors
    /// The kernel does not say who it is.
    pub fn rights_of(self, peer: impl AsFd) -> io::Result<Rights> {
        let peer = rustix::net::sockopt::socket_peercred(peer)?;
        if peer.uid.is_root() || peer.uid == geteuid() {
            return Ok(Rights::Write);
        }
        let groups = groups_of(peer.pid.as_raw_nonzero().get(), peer.uid.as_raw());
        let is_in = |group: Option<u32>| group.is_some_and(|id| id == peer.gid.as_raw() || groups.contains(&id));
        Ok(match (is_in(self.write), is_in(self.read)) {
            (true, _) => Rights::Write,
            (false, true) => Rights::Read,
            (false, false) => Rights::Nothing,
        })
    }
}

/// The supplementary groups of a process, if it still is that user's (proc_pid_status(5)): what a user's own process may
/// do, the user may.
fn groups_of(pid: i32, uid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
    };
    // Real, effective, saved and file system's: the socket knows the effective one.
    if numbers("Uid:").get(1) == Some(&uid) { numbers("Groups:") } else { Vec::new() }
}

/// Refuses what the peer may not do. The connection has left its [`Rights`] with the request.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let rights = request.extensions().get::<Rights>().copied().unwrap_or(Rights::Nothing);
    let asks = matches!(*request.method(), Method::GET | Method::HEAD) || request.uri().path() == "/v1/explain";
    let needed = if asks { Rights::Read } else { Rights::Write };
    if rights >= needed {
        return next.run(request).await;
    }
    let group = if asks { "read_group or write_group" } else { "write_group" };
    let method = request.method();
    Problem::forbidden(format!("{method} needs root, the engine's own user or a member of [control] {group}"))
        .into_response()
}
