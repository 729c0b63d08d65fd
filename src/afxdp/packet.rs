//! A packet socket (packet(7)) that sends: for the few frames that go to the kernel by another interface than they came.

use std::io::{self, IoSlice};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

/// A socket whose frames leave by one interface. It receives nothing.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket on the interface of this index. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn open(ifindex: u32) -> io::Result<PacketSocket> {
        // Protocol 0: no frame is ever queued on it.
        // SAFETY: a plain system call; its result is checked before use.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh, and nobody else has it.
        let socket = PacketSocket(unsafe { OwnedFd::from_raw_fd(fd) });
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a whole sockaddr_ll of length `len`, and outlives the call.
        if unsafe { libc::bind(socket.0.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }

    /// Sends a frame that lies in these pieces.
    ///
    /// # Errors
    /// Those of sendmsg(2); `WouldBlock` if the interface takes no more for now.
    pub fn send(&self, frame: &[IoSlice<'_>]) -> io::Result<()> {
        sendmsg(&self.0, frame, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT)?;
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
