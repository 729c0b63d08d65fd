//! What the walk knows of a port, a server and its surroundings: fixed between two reloads.

use std::sync::Arc;

use super::hint::Probed;
use crate::naming::{ContainerId, Networks};
use crate::units::{Ip, Mac, NetworkId, PortId, PortRange, VlanTags};

/// An interface under the engine.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub role: Role,
    /// The port's own MAC: the source of all that leaves by it. Zero where replay was not told: then frames to
    /// any MAC are taken.
    pub mac: Mac,
    /// The largest IP packet that leaves by it, in bytes.
    pub mtu: u32,
    /// The VLAN tags that all frames of the engine bear there.
    pub tags: VlanTags,
    /// As whom errors leave by it, where it leads out.
    pub own: OwnAddresses,
}

/// An address of each family that an interface has itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnAddresses {
    pub v4: Option<Ip>,
    pub v6: Option<Ip>,
}

impl OwnAddresses {
    /// Of all that an interface has, a ServerIP, or else the first.
    fn of(all: impl Iterator<Item = Ip> + Clone, servers: &[Ip]) -> OwnAddresses {
        let of_family = |v4: bool| {
            let mut own = all.clone().filter(move |ip| ip.is_v4() == v4);
            own.clone().find(|ip| servers.contains(ip)).or_else(|| own.next())
        };
        OwnAddresses { v4: of_family(true), v6: of_family(false) }
    }

    /// The one of the family of `ip`.
    #[must_use]
    pub fn beside(self, ip: Ip) -> Option<Ip> {
        if ip.is_v4() { self.v4 } else { self.v6 }
    }
}

/// What a port leads to.
#[derive(Clone, Debug)]
pub enum Role {
    /// The underlay; with `external`, the clients outside as well.
    Uplink { external: bool },
    /// Clients outside.
    External,
    /// One container, or several behind a bridge.
    Access(Access),
}

impl Role {
    /// True for ports that lead out of the server: to the underlay, to clients outside, or both.
    #[must_use]
    pub fn leads_out(&self) -> bool {
        !matches!(self, Role::Access(_))
    }

    /// True if clients outside arrive here.
    #[must_use]
    pub fn is_external(&self) -> bool {
        matches!(self, Role::Uplink { external: true } | Role::External)
    }
}

/// Whose container is behind an access port.
#[derive(Clone, Debug)]
pub struct Access {
    pub network: NetworkId,
    /// The container's MAC, where the configuration pins it.
    pub pinned: Option<Mac>,
    /// The binding id of the container, where several share MAC and IP.
    pub id: Option<ContainerId>,
}

/// This server, its ports and its networks.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Indexed by `PortId`; none where a port has gone, or none has come yet.
    pub ports: Vec<Option<Port>>,
    /// With the policy that is in force.
    pub networks: Arc<Networks>,
    /// Our own ServerIPs, the first one first.
    pub servers: Vec<Ip>,
    /// The addresses that the kernel answers for, in order. ServerIPs may be among them.
    pub kernels: Arc<[Ip]>,
    /// The ports that belong to the engine, on every server alike.
    pub owned: PortRange,
    /// The next hops of what leaves under public names, one of them for each flow; empty: it goes by the routes.
    pub gateways: Vec<Ip>,
    /// The ports towards the underlay, in the order of the configuration. Where neither routes nor configuration say
    /// which of them, packets leave by the first.
    pub uplinks: Vec<PortId>,
    /// The one of them, if there are no others: no route has to be asked for it.
    pub only_uplink: Option<PortId>,
    /// Some port has VLAN tags.
    pub has_tags: bool,
    /// Clients outside arrive by some port.
    pub is_gateway: bool,
    /// What is probed on this server.
    pub probed: Arc<Probed>,
}

impl Surroundings {
    /// The port of this id, if there is one.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    /// All ports.
    pub fn all_ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        // Ids are 16 bits wide.
        self.ports.iter().enumerate().filter_map(|(id, port)| Some((PortId(id as u16), port.as_ref()?)))
    }

    /// The port of this name.
    #[must_use]
    pub fn port_called(&self, name: &str) -> Option<PortId> {
        self.all_ports().find(|(_, port)| port.name == name).map(|(id, _)| id)
    }

    /// True for an address of this host, which answers for it itself: a ServerIP, or another that its kernel has.
    #[must_use]
    pub fn is_of_host(&self, ip: Ip) -> bool {
        self.servers.contains(&ip) || self.kernels.binary_search(&ip).is_ok()
    }

    /// The same when the kernel has these addresses, in order, and its interfaces under the ports that lead out these.
    #[must_use]
    pub fn with_addresses(&self, kernels: Arc<[Ip]>, by_port: &[(PortId, Ip)]) -> Surroundings {
        let mut changed = Surroundings { kernels, ..self.clone() };
        for (id, port) in changed.ports.iter_mut().enumerate() {
            let Some(port) = port.as_mut().filter(|port| port.role.leads_out()) else { continue };
            let its = by_port.iter().filter(|(of, _)| usize::from(of.0) == id).map(|&(_, ip)| ip);
            port.own = OwnAddresses::of(its, &self.servers);
        }
        changed
    }

    /// The same with another port in that place, or none.
    #[must_use]
    pub fn with_port(&self, id: PortId, port: Option<Port>) -> Surroundings {
        let mut changed = self.clone();
        let at = usize::from(id.0);
        if changed.ports.len() <= at {
            changed.ports.resize(at + 1, None);
        }
        changed.ports[at] = port;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_speaks_as_a_server_ip_or_else_as_its_first_address() {
        let ip = |text: &str| text.parse::<Ip>().unwrap();
        let all = ["198.18.6.1", "192.168.50.6", "fd18::1", "fd18::2"].map(ip);
        let own = |servers: &[Ip]| OwnAddresses::of(all.iter().copied(), servers);
        let first = own(&[]);
        assert_eq!((first.beside(ip("10.0.0.1")), first.beside(ip("::1"))), (Some(all[0]), Some(all[2])));
        let as_server = own(&[ip("10.9.9.9"), all[1], all[3]]);
        assert_eq!((as_server.v4, as_server.v6), (Some(all[1]), Some(all[3])));
        assert_eq!(OwnAddresses::of(std::iter::empty(), &all), OwnAddresses::default());
    }
}
