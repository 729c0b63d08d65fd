//! Descriptors passed between processes over a Unix socket (SCM_RIGHTS, `unix(7)`).
//!
//! A message is a name and some descriptors. The socket must keep message boundaries: SOCK_SEQPACKET or SOCK_DGRAM. A
//! name with more descriptors than fit one message comes in several. A service manager passes what it kept another way:
//! as the descriptors from 3 on (`sd_listen_fds(3)`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Descriptors of one message; the kernel's limit is 253 (SCM_MAX_FD).
const BATCH: usize = 64;

/// Longest name, in bytes.
const NAME_MAX: usize = 255;

/// First descriptor that a service manager passes (SD_LISTEN_FDS_START).
const FIRST_PASSED: RawFd = 3;

/// Sends `fds` under `name`; without any, the name alone. Errors as `sendmsg` does, and for a name that is empty or longer than 255 bytes.
pub fn send(socket: impl AsFd, name: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name has 1 to 255 bytes"));
    }
    if fds.is_empty() {
        let mut nothing = SendAncillaryBuffer::default();
        sendmsg(&socket, &[IoSlice::new(name.as_bytes())], &mut nothing, SendFlags::NOSIGNAL)?;
    }
    for batch in fds.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(batch)) {
            return Err(io::Error::other("the descriptors do not fit their message"));
        }
        sendmsg(&socket, &[IoSlice::new(name.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives the next message. None when the other side has closed. Errors as `recvmsg` does, and for a message that
/// lost descriptors on the way or has no readable name.
pub fn receive(socket: impl AsFd) -> io::Result<Option<(String, Vec<OwnedFd>)>> {
    let mut name = [0; NAME_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    if message.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message lost descriptors on the way"));
    }
    match std::str::from_utf8(&name[..message.bytes]) {
        Ok(name) => Ok(Some((name.to_owned(), fds))),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a message without a readable name")),
    }
}

/// Takes the descriptors whose name begins with `prefix` out of those that the service manager passed to this process,
/// in order. The environment tells them: `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`. Others stay as they are. Only
/// the first call finds any.
#[must_use]
pub fn take_passed(prefix: &str) -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !ours || TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let count = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<u16>().ok()).unwrap_or(0);
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let passed = (FIRST_PASSED..).take(usize::from(count)).zip(names.split(':'));
    let named = passed.filter(|(_, name)| name.starts_with(prefix));
    named.filter_map(|(fd, name)| Some((name.to_owned(), take(fd)?))).collect()
}

/// A descriptor that the service manager passed, closed on exec from now on. None if it is not open.
fn take(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl with F_SETFD has no effect on memory, whatever the number.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open, as fcntl has just found. The service manager gave it to this process and no other
    // part of it knows the number; `take_passed` runs once and takes each number once, so this is its only owner.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Keeps every descriptor that this process inherited, beside its standard ones, from the programs that it starts: one
/// that outlives it must not hold on to a stranger's lock or pipe. What this process opens itself is closed on exec
/// anyway.
pub fn keep_from_programs() {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing now and has no effect on memory. Linux 5.11; before
    // that it fails, and inherited descriptors are passed on.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST_PASSED, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

#[cfg(all(test, not(miri)))]
mod tests {
    use rustix::fs::fstat;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::afxdp::Umem;

    #[test]
    fn descriptors_arrive_under_their_name() {
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let umem = Umem::new(1).unwrap();
        send(&here, "worker 0", &[umem.memfd()]).unwrap();
        send(&here, "many", &vec![umem.memfd(); BATCH + 1]).unwrap();
        assert!(send(&here, "", &[umem.memfd()]).is_err());
        send(&here, "none", &[]).unwrap();
        drop(here);

        let (name, fds) = receive(&there).unwrap().unwrap();
        assert_eq!((name.as_str(), fds.len()), ("worker 0", 1));
        assert_eq!(fstat(&fds[0]).unwrap().st_ino, fstat(umem.memfd()).unwrap().st_ino);
        let counts = [receive(&there), receive(&there)].map(|message| message.unwrap().unwrap().1.len());
        assert_eq!(counts, [BATCH, 1]);
        let (name, fds) = receive(&there).unwrap().unwrap();
        assert_eq!((name.as_str(), fds.len()), ("none", 0));
        assert!(receive(&there).unwrap().is_none());
    }
}
