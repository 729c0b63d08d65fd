//! What the kernel says about an interface: its name, its index and the XDP program on it (rtnetlink, RTM_GETLINK).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::Mode;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const XDP_ATTACHED_NONE: u8 = 0;
const XDP_ATTACHED_SKB: u8 = 2;

/// An interface of the caller's network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    pub name: String,
    pub index: u32,
    pub xdp: Option<Installed>,
}

/// The XDP program on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Installed {
    pub mode: Mode,
    pub program_id: u32,
}

impl Interface {
    /// The interface of that name.
    pub(super) fn by_name(name: &str) -> io::Result<Interface> {
        let index = rustix::net::netdevice::name_to_index(socket()?, name)?;
        Interface::by_index(index)
    }

    /// The interface of that index.
    pub(super) fn by_index(index: u32) -> io::Result<Interface> {
        let socket = socket()?;
        let mut request = [0; MESSAGE_HEADER + LINK_HEADER];
        request[..4].copy_from_slice(&((MESSAGE_HEADER + LINK_HEADER) as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
        request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        request[MESSAGE_HEADER + 4..MESSAGE_HEADER + 8].copy_from_slice(&index.to_ne_bytes());
        rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = vec![0; 64 * 1024];
        let (length, _) = rustix::net::recv(&socket, &mut *answer, RecvFlags::empty())?;
        parse_answer(&answer[..length.min(answer.len())], index)
    }
}

fn socket() -> io::Result<OwnedFd> {
    // No protocol is protocol 0: NETLINK_ROUTE.
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

fn parse_answer(answer: &[u8], index: u32) -> io::Result<Interface> {
    let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "unexpected answer to RTM_GETLINK");
    match read_u16(answer, 4) {
        Some(RTM_NEWLINK) => {}
        Some(NLMSG_ERROR) => {
            let errno = read_u32(answer, MESSAGE_HEADER).ok_or_else(unexpected)?.cast_signed();
            return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
        }
        _ => return Err(unexpected()),
    }
    let body = answer.get(MESSAGE_HEADER + LINK_HEADER..).ok_or_else(unexpected)?;
    let mut interface = Interface { name: String::new(), index, xdp: None };
    for (kind, value) in attributes(body) {
        match kind {
            IFLA_IFNAME => {
                let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
                interface.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_XDP => interface.xdp = installed(value),
            _ => {}
        }
    }
    Ok(interface)
}

fn installed(nested: &[u8]) -> Option<Installed> {
    let find = |wanted: u16| attributes(nested).find(|&(kind, _)| kind == wanted).map(|(_, value)| value);
    let attached = *find(IFLA_XDP_ATTACHED)?.first()?;
    if attached == XDP_ATTACHED_NONE {
        return None;
    }
    // With programs in several modes at once there is no single id: the driver's sees packets first.
    let program_id = find(IFLA_XDP_PROG_ID).or_else(|| find(IFLA_XDP_DRV_PROG_ID)).and_then(|id| read_u32(id, 0))?;
    let mode = if attached == XDP_ATTACHED_SKB { Mode::Generic } else { Mode::Native };
    Some(Installed { mode, program_id })
}

/// The netlink attributes in `bytes`: type (without its flag bits) and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(bytes, 0)?);
        let kind = read_u16(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_by_name_and_index() {
        let loopback = Interface::by_name("lo").unwrap();
        assert_eq!(loopback, Interface::by_index(loopback.index).unwrap());
        assert_eq!(loopback.name, "lo");
    }

    #[test]
    fn an_interface_that_does_not_exist_is_an_error() {
        assert_eq!(Interface::by_name("nowhere").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(Interface::by_index(0x7fff_ffff).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn broken_attributes_end_the_walk() {
        assert_eq!(attributes(&[]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!(attributes(&[9, 0, 1, 0, 7]).count(), 0, "longer than what is left");
        assert_eq!(attributes(&[5, 0, 1, 0, 7]).collect::<Vec<_>>(), [(1, &[7][..])]);
    }
}
