//! The kernel's own addresses: what it answers for, and as whom it would speak on each interface.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use crate::units::{Ip, PortId};

/// The kernel's own addresses, as of one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Addresses {
    /// Those of all interfaces, in order and each once, but loopback and link-local ones: whatever the interface, the
    /// kernel answers for them.
    pub all: Arc<[Ip]>,
    /// Those that the kernel would send from by a port's interface, in its order.
    pub by_port: Vec<(PortId, Ip)>,
}

/// All addresses in the order in which the kernel lists them.
#[derive(Debug, Default)]
pub(super) struct AddressTable(Vec<Address>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Address {
    interface: u32,
    ip: Ip,
    /// Of global scope, and neither secondary, temporary nor deprecated: good as a source.
    is_source: bool,
}

impl AddressTable {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes in an address that is new or has changed.
    pub fn set(&mut self, message: &AddressMessage) {
        let Some((address, is_valid)) = read(message) else { return };
        let place = self.0.iter_mut().find(|known| known.is_same(&address));
        match place {
            _ if !is_valid => self.0.retain(|known| !known.is_same(&address)),
            Some(known) => *known = address,
            None => self.0.push(address),
        }
    }

    pub fn remove(&mut self, message: &AddressMessage) {
        if let Some((address, _)) = read(message) {
            self.0.retain(|known| !known.is_same(&address));
        }
    }

    /// Forgets the addresses of an interface that is gone.
    pub fn forget(&mut self, interface: u32) {
        self.0.retain(|known| known.interface != interface);
    }

    /// What there is now; `ports` by interface.
    pub fn shown(&self, ports: &BTreeMap<u32, PortId>) -> Addresses {
        let mut all: Vec<Ip> = self.0.iter().map(|known| known.ip).filter(|&ip| is_known_elsewhere(ip)).collect();
        all.sort_unstable();
        all.dedup();
        let sources = self.0.iter().filter(|known| known.is_source);
        let by_port = sources.filter_map(|known| Some((*ports.get(&known.interface)?, known.ip))).collect();
        Addresses { all: all.into(), by_port }
    }
}

impl Address {
    fn is_same(&self, other: &Address) -> bool {
        (self.interface, self.ip) == (other.interface, other.ip)
    }
}

/// The address, and whether it is one already: not while it is being checked for duplicates, or when it has turned out to be
/// one (RFC 4862 section 5.4).
fn read(message: &AddressMessage) -> Option<(Address, bool)> {
    let (mut own, mut peer) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => own = Some(*ip),
            // On a link between two, it is the other end's (linux/if_addr.h).
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let is_checked = !flags.contains(AddressFlags::Tentative) || flags.contains(AddressFlags::Optimistic);
    let is_valid = is_checked && !flags.contains(AddressFlags::Dadfailed);
    // For IPv6 the first of these means temporary (RFC 8981).
    let others = AddressFlags::Secondary | AddressFlags::Deprecated | AddressFlags::Tentative;
    let is_source = message.header.scope == AddressScope::Universe && !flags.intersects(others);
    let ip = Ip::from(own.or(peer)?);
    Some((Address { interface: message.header.index, ip, is_source }, is_valid))
}

fn is_known_elsewhere(ip: Ip) -> bool {
    match ip.to_std() {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ip {
        text.parse().unwrap()
    }

    fn message(interface: u32, text: &str, flags: AddressFlags) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = interface;
        message.attributes = vec![
            AddressAttribute::Address(text.parse().unwrap()),
            AddressAttribute::Flags(AddressFlags::Permanent | flags),
        ];
        message
    }

    const PLAIN: AddressFlags = AddressFlags::empty();

    fn shown(table: &AddressTable) -> (Vec<String>, Vec<String>) {
        let Addresses { all, by_port } = table.shown(&BTreeMap::from([(7, PortId(1))]));
        assert!(by_port.iter().all(|(port, _)| *port == PortId(1)));
        let text = |ip: &Ip| ip.to_string();
        (all.iter().map(text).collect(), by_port.iter().map(|(_, ip)| text(ip)).collect())
    }

    #[test]
    fn all_are_answered_for_and_a_port_has_those_of_its_interface() {
        let mut table = AddressTable::default();
        for (interface, text) in [
            (1, "127.0.0.1"),
            (1, "203.0.113.80"),
            (7, "198.18.6.1"),
            (7, "198.18.0.1"),
            (7, "fe80::7"),
            (8, "10.0.0.1"),
        ] {
            let mut message = message(interface, text, PLAIN);
            message.header.scope = if text == "fe80::7" { AddressScope::Link } else { AddressScope::Universe };
            table.set(&message);
        }
        let (all, own) = shown(&table);
        assert_eq!(all, ["10.0.0.1", "198.18.0.1", "198.18.6.1", "203.0.113.80"]);
        assert_eq!(own, ["198.18.6.1", "198.18.0.1"], "in the kernel's order");
        table.remove(&message(7, "198.18.6.1", PLAIN));
        table.forget(8);
        assert_eq!(shown(&table).0, ["198.18.0.1", "203.0.113.80"]);
        assert_eq!(shown(&table).1, ["198.18.0.1"]);
    }

    #[test]
    fn an_address_is_none_until_it_is_checked() {
        let mut table = AddressTable::default();
        table.set(&message(7, "2001:db8::1", AddressFlags::Tentative));
        assert_eq!(shown(&table), (vec![], vec![]));
        table.set(&message(7, "2001:db8::1", PLAIN));
        assert_eq!(shown(&table).1, ["2001:db8::1"]);
        table.set(&message(7, "2001:db8::1", AddressFlags::Deprecated));
        assert_eq!(shown(&table), (vec!["2001:db8::1".to_owned()], vec![]), "answered for, and no source");
        table.set(&message(7, "2001:db8::1", AddressFlags::Tentative | AddressFlags::Dadfailed));
        assert_eq!(shown(&table), (vec![], vec![]));
    }

    #[test]
    fn secondary_addresses_are_no_sources() {
        let mut table = AddressTable::default();
        table.set(&message(7, "198.18.6.1", PLAIN));
        table.set(&message(7, "198.18.6.2", AddressFlags::Secondary));
        assert_eq!(shown(&table).1, ["198.18.6.1"]);
        assert_eq!(shown(&table).0.len(), 2);
    }

    #[test]
    fn between_two_the_own_end_counts() {
        let mut tunnel = message(7, "198.18.6.2", PLAIN);
        tunnel.attributes.push(AddressAttribute::Local("198.18.6.1".parse().unwrap()));
        let mut table = AddressTable::default();
        table.set(&tunnel);
        assert_eq!(table.shown(&BTreeMap::new()).all[..], [ip("198.18.6.1")]);
    }
}
