//! Descriptors passed between processes over a Unix socket (SCM_RIGHTS, `unix(7)`).
//!
//! A message is a name and some descriptors. The socket must keep message boundaries: SOCK_SEQPACKET or SOCK_DGRAM. A
//! name with more descriptors than fit one message comes in several.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Descriptors of one message; the kernel's limit is 253 (SCM_MAX_FD).
const BATCH: usize = 64;

/// Longest name, in bytes.
const NAME_MAX: usize = 255;

/// Sends `fds` under `name`. Errors as `sendmsg` does, and for a name that is empty or longer than 255 bytes.
pub fn send(socket: impl AsFd, name: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name has 1 to 255 bytes"));
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
        drop(here);

        let (name, fds) = receive(&there).unwrap().unwrap();
        assert_eq!((name.as_str(), fds.len()), ("worker 0", 1));
        assert_eq!(fstat(&fds[0]).unwrap().st_ino, fstat(umem.memfd()).unwrap().st_ino);
        let counts = [receive(&there), receive(&there)].map(|message| message.unwrap().unwrap().1.len());
        assert_eq!(counts, [BATCH, 1]);
        assert!(receive(&there).unwrap().is_none());
    }
}
