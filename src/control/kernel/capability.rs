//! What an interface's driver can do, over generic netlink: the families `netdev`
//! (Documentation/netlink/specs/netdev.yaml) and `ethtool` (Documentation/networking/ethtool-netlink.rst).

use std::io;
use std::os::fd::OwnedFd;

use rtnetlink::packet_core::NlasIterator;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// What the driver of an interface can do. What it does not say is `None` or empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capability {
    /// Bits of `netdev`'s xdp-act, of kernels from 6.3 on.
    pub xdp: Option<u64>,
    /// Names of the features that are on, as `ethtool -k` knows them to the kernel: `rx-lro`, `rx-gro-hw`.
    pub features: Vec<String>,
    pub queues: Option<Queues>,
}

/// Queues in use and most that can be, as `ethtool -l` shows them; combined ones count as both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queues {
    pub rx: u32,
    pub tx: u32,
    pub rx_max: u32,
    pub tx_max: u32,
}

impl Capability {
    /// xdp-act "basic": native XDP with the plain verdicts.
    #[must_use]
    pub fn has_native_xdp(&self) -> Option<bool> {
        self.xdp.map(|bits| bits & 1 != 0)
    }

    /// xdp-act "xsk-zerocopy".
    #[must_use]
    pub fn has_zero_copy(&self) -> Option<bool> {
        self.xdp.map(|bits| bits & 8 != 0)
    }

    /// xdp-act "rx-sg": native XDP over several buffers.
    #[must_use]
    pub fn has_multi_buffer(&self) -> Option<bool> {
        self.xdp.map(|bits| bits & 32 != 0)
    }
}

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
// linux/ethtool_netlink.h
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_A_HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const CHANNELS_RX_MAX: u16 = 2;
const CHANNELS_TX_MAX: u16 = 3;
const CHANNELS_COMBINED_MAX: u16 = 5;
const CHANNELS_RX: u16 = 6;
const CHANNELS_TX: u16 = 7;
const CHANNELS_COMBINED: u16 = 9;
// linux/netlink.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// nlmsghdr and genlmsghdr.
const HEADERS: usize = 20;

/// Asks what the driver of interface `index` can do. A family or a driver that does not answer leaves gaps.
///
/// # Errors
/// No netlink socket.
pub fn capability(index: u32) -> io::Result<Capability> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(GENERIC))?;
    let mut capability = Capability::default();
    if let Some(netdev) = family(&socket, "netdev") {
        let request = attribute(NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
        if let Ok(answer) = ask(&socket, netdev, NETDEV_CMD_DEV_GET, &request) {
            let bits = find(&answer, NETDEV_A_DEV_XDP_FEATURES);
            capability.xdp = bits.and_then(|bits| bits.as_slice().try_into().ok()).map(u64::from_ne_bytes);
        }
    }
    if let Some(ethtool) = family(&socket, "ethtool") {
        let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &index.to_ne_bytes());
        let request = attribute(ETHTOOL_A_HEADER | NLA_F_NESTED, &device);
        if let Ok(answer) = ask(&socket, ethtool, ETHTOOL_MSG_FEATURES_GET, &request) {
            capability.features = active_features(&answer).unwrap_or_default();
        }
        if let Ok(answer) = ask(&socket, ethtool, ETHTOOL_MSG_CHANNELS_GET, &request) {
            capability.queues = Some(queues(&answer));
        }
    }
    Ok(capability)
}

fn family(socket: &OwnedFd, name: &str) -> Option<u16> {
    let name = attribute(CTRL_ATTR_FAMILY_NAME, &[name.as_bytes(), &[0]].concat());
    let answer = ask(socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name).ok()?;
    find(&answer, CTRL_ATTR_FAMILY_ID)?.as_slice().try_into().ok().map(u16::from_ne_bytes)
}

fn active_features(answer: &[u8]) -> Option<Vec<String>> {
    let bits = find(&find(answer, ETHTOOL_A_FEATURES_ACTIVE)?, ETHTOOL_A_BITSET_BITS)?;
    let name = |bit: Vec<u8>| find(&bit, ETHTOOL_A_BITSET_BIT_NAME).and_then(|name| text(&name));
    Some(attributes(&bits).into_iter().filter_map(|(_, bit)| name(bit)).collect())
}

fn queues(answer: &[u8]) -> Queues {
    let count = |kind| find(answer, kind).and_then(|n| n.as_slice().try_into().ok()).map_or(0, u32::from_ne_bytes);
    Queues {
        rx: count(CHANNELS_RX) + count(CHANNELS_COMBINED),
        tx: count(CHANNELS_TX) + count(CHANNELS_COMBINED),
        rx_max: count(CHANNELS_RX_MAX) + count(CHANNELS_COMBINED_MAX),
        tx_max: count(CHANNELS_TX_MAX) + count(CHANNELS_COMBINED_MAX),
    }
}

/// Sends one request and returns the attributes of its answer.
fn ask(socket: &OwnedFd, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(HEADERS + attributes.len());
    request.extend_from_slice(&u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX).to_ne_bytes());
    request.extend_from_slice(&family.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]); // sequence number and port: one request at a time, from this socket
    request.extend_from_slice(&[command, 1, 0, 0]); // version 1
    request.extend_from_slice(attributes);
    sendto(socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = vec![0; 65536];
    let (_, length) = recv(socket, answer.as_mut_slice(), RecvFlags::empty())?;
    answer.truncate(length);
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    if kind == Some(NLMSG_ERROR) {
        let code = answer.get(16..20).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    answer.get(HEADERS..).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attributes(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let whole = NlasIterator::new(bytes).map_while(Result::ok);
    whole.map(|nla| (nla.kind() & NLA_TYPE_MASK, nla.value().to_vec())).collect()
}

fn find(bytes: &[u8], kind: u16) -> Option<Vec<u8>> {
    attributes(bytes).into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_features_and_no_zero_copy() {
        let lo = capability(1).unwrap();
        assert!(lo.features.iter().any(|feature| feature == "tx-scatter-gather"), "{lo:?}");
        assert_ne!(lo.has_zero_copy(), Some(true));
    }

    #[test]
    fn combined_queues_count_as_both() {
        let answer: Vec<u8> = [(CHANNELS_COMBINED, 4u32), (CHANNELS_COMBINED_MAX, 8), (CHANNELS_TX_MAX, 2)]
            .iter()
            .flat_map(|(kind, n)| attribute(*kind, &n.to_ne_bytes()))
            .collect();
        assert_eq!(queues(&answer), Queues { rx: 4, tx: 4, rx_max: 8, tx_max: 10 });
    }
}
