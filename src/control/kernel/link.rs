//! Links: the kernel's interfaces.

use std::io;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use crate::units::Mac;

use super::dump::dump;

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub name: String,
    pub index: u32,
    pub mac: Option<Mac>,
    /// In bytes, without the Ethernet header.
    pub mtu: u32,
    /// Set up by the administrator (IFF_UP).
    pub up: bool,
    /// It has a carrier (IFF_RUNNING): its peer or cable is there too.
    pub running: bool,
    /// What kind of virtual interface it is, like `veth`; `None` for hardware.
    pub kind: Option<String>,
    /// The device behind it, as (bus, address), like `pci`, `0000:00:03.0`.
    pub device: Option<(String, String)>,
    /// Receive and transmit queues that exist, used or not.
    pub queues: (u32, u32),
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Link {
        let flags = message.header.flags;
        let mut link = Link {
            name: String::new(),
            index: message.header.index,
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Running),
            kind: None,
            device: None,
            queues: (0, 0),
        };
        let (mut bus, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(octets) => link.mac = octets.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::NumRxQueues(n) => link.queues.0 = *n,
                LinkAttribute::NumTxQueues(n) => link.queues.1 = *n,
                LinkAttribute::ParentDevBusName(name) => bus = Some(name.clone()),
                LinkAttribute::ParentDevName(name) => address = Some(name.clone()),
                LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind),
                _ => {}
            }
        }
        link.device = bus.zip(address);
        link
    }
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

/// All interfaces of this network namespace. Blocks the calling thread.
///
/// # Errors
/// Netlink's.
pub fn links() -> io::Result<Vec<Link>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (mut connection, handle, _) = rtnetlink::new_connection()?;
        connection.set_forward_done(true);
        tokio::spawn(connection);
        let answers = dump(&handle, RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
        let link = |answer: &RouteNetlinkMessage| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(message)),
            _ => None,
        };
        Ok(answers.iter().filter_map(link).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_a_loopback() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((lo.index, lo.mtu > 0, lo.mac, &lo.kind), (1, true, Some(Mac::ZERO), &None));
    }
}
