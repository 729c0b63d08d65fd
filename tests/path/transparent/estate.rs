//! Who there is: three servers, two gateways, and on each server two containers of each of four networks.
//!
//! ```text
//! blue, red      10.S.0.1, 10.S.0.2      the same addresses in both
//! green, teal    172.20.S.1 ...          blue may reach green, one way; green and teal are of one group
//! ```
//!
//! `S` is the server's number, 1 to 3. The first container of a network there has a native block, the second one in the
//! default mode, for either family. Each has a web server, a name server and, published, two more. The network blue has a
//! service at an address of its own with a replica on each server, published as well, and a container that holds a public
//! address as its own. What fits one protocol of a server once, ESP to SCTP, goes to the first containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sixway::units::PortRange;

use super::parcels::{End, mac_text, name};
use crate::world::World;

pub const SERVERS: u8 = 3;
pub const NETWORKS: [&str; 4] = ["blue", "red", "green", "teal"];
pub const BLUE: usize = 0;
pub const GREEN: usize = 2;
pub const TEAL: usize = 3;
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// The router of the gateways towards clients.
pub const ISP: [u8; 6] = [2, 0, 0, 0, 0, 0xe1];
/// The MTU of every link but those to second containers.
const MTU: u16 = 1500;
const LESS: u16 = 1400;
/// Networks whose services are published.
const PUBLISHING: [usize; 2] = [BLUE, GREEN];
const PORTLESS: [(&str, u8, usize); 4] = [("esp", 50, BLUE), ("sctp", 132, BLUE), ("gre", 47, 1), ("ah", 51, GREEN)];

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    pub server: u8,
    pub network: usize,
    /// Its first or its second of the network there.
    nth: u8,
    pub native: bool,
    /// The ports of its block on the wire and inside.
    pub wire: PortRange,
    pub inside: PortRange,
    pub port: String,
}

impl Container {
    pub fn mac(&self) -> [u8; 6] {
        [2, 0x42, self.network as u8, self.server, 0, self.nth]
    }

    pub fn port_mac(&self) -> [u8; 6] {
        [2, 0x0a, self.network as u8, self.server, 0, self.nth]
    }

    pub fn ip(&self, v4: bool) -> IpAddr {
        let (network, server, nth) = (self.network as u8, self.server, self.nth);
        match (v4, network) {
            (true, 0 | 1) => Ipv4Addr::new(10, server, 0, nth).into(),
            (true, _) => Ipv4Addr::new(172, 18 + network, server, nth).into(),
            (false, 0 | 1) => v6(0xfd00, server.into(), nth.into()).into(),
            (false, _) => v6(0xfd20 + u16::from(network), server.into(), nth.into()).into(),
        }
    }

    pub fn mtu(&self) -> u16 {
        if self.nth == 1 { MTU } else { LESS }
    }

    /// The inside ports that pass as they are.
    pub fn passing(&self) -> Option<PortRange> {
        let last = self.inside.last - (self.inside.count() / 8) as u16;
        self.native.then_some(PortRange { first: self.inside.first, last })
    }

    /// The wire ports that translation uses.
    pub fn pool(&self) -> PortRange {
        let used = if self.native { self.wire.count() / 8 } else { self.wire.count() };
        PortRange { first: self.wire.last - (used - 1) as u16, last: self.wire.last }
    }

    /// The inside port that goes with a wire port of the block.
    pub fn inside_of(&self, wire: u16) -> u16 {
        wire - self.wire.first + self.inside.first
    }

    /// The public address of what it publishes.
    pub fn public(&self, v4: bool) -> Option<IpAddr> {
        let (network, server, nth) = (self.network as u8, self.server, self.nth);
        let is_public = PUBLISHING.contains(&self.network);
        is_public.then(|| match v4 {
            true => Ipv4Addr::new(203, 0, 113, 16 * network + 4 * server + nth).into(),
            false => v6(0x2001, 100 * u16::from(server) + u16::from(network), nth.into()).into(),
        })
    }
}

fn v6(first: u16, server: u16, nth: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, 0xdb8, 0, 0, 0, 0, server, nth)
}

pub fn server_ip(server: u8, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::new(192, 168, 50, server).into() } else { v6(0xfd50, 0, server.into()).into() }
}

pub fn server_mac(server: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, server]
}

/// Of the port towards clients.
pub fn wan_mac(server: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, server]
}

/// A service that somebody can call.
#[derive(Clone, Debug)]
pub struct Service {
    pub network: usize,
    /// The containers that hold it.
    pub replicas: Vec<usize>,
    pub proto: u8,
    pub name: End,
    pub public: Option<End>,
}

/// Everybody, as the mapping has it.
pub struct Estate {
    pub containers: Vec<Container>,
    pub services: Vec<Service>,
    mapping: String,
    /// Servers 1 to 3, then the gateways.
    pub worlds: Vec<World>,
    pub by_gateway: bool,
    /// The mapping knows the servers' MACs, so that no neighbour has to be asked for.
    has_macs: bool,
}

/// The gateways' numbers.
pub const GATEWAYS: [u8; 2] = [6, 7];

impl Estate {
    pub fn new(by_gateway: bool, has_macs: bool) -> Estate {
        let (containers, services) = (Vec::new(), Vec::new());
        let mut estate =
            Estate { containers, services, mapping: String::new(), worlds: Vec::new(), by_gateway, has_macs };
        for server in 1..=SERVERS {
            let mut next_block = 21504;
            for network in 0..NETWORKS.len() {
                for nth in [1, 2] {
                    estate.container(server, network, nth, next_block);
                    next_block += 256;
                }
            }
        }
        for v4 in [true, false] {
            estate.single_services(v4);
            estate.replicated_services(v4);
        }
        let numbers = (1..=SERVERS).chain(GATEWAYS);
        estate.worlds = numbers.map(|server| World::new(&estate.config(server), &estate.mapping)).collect();
        estate
    }

    fn container(&mut self, server: u8, network: usize, nth: u8, block: u16) {
        let range = |first| PortRange { first, last: first + 255 };
        // One in two has other numbers inside than on the wire.
        let inside = if (server + nth).is_multiple_of(2) { block } else { 40960 + 256 * (block / 256 % 64) };
        let port = format!("{}-{server}-{nth}", NETWORKS[network]);
        let native = nth == 1;
        let container = Container { server, network, nth, native, wire: range(block), inside: range(inside), port };
        for v4 in [true, false] {
            let inside = format!("{}-{}", container.inside.first, container.inside.last);
            let wire = format!("{}-{}", container.wire.first, container.wire.last);
            self.line("any", &container, (v4, &wire), (container.ip(v4), &inside), if native { "native" } else { "" });
        }
        self.containers.push(container);
    }

    fn line(&mut self, proto: &str, of: &Container, (v4, wire): (bool, &str), inside: (IpAddr, &str), options: &str) {
        let mac = if self.has_macs { mac_text(server_mac(of.server)) } else { "-".to_owned() };
        let (server, container) = (name(server_ip(of.server, v4), wire), mac_and_name(of, inside));
        self.mapping += &format!("{} {proto} {mac} {server} {container} {options}\n", NETWORKS[of.network]);
    }

    fn single_services(&mut self, v4: bool) {
        for at in 0..self.containers.len() {
            let container = self.containers[at].clone();
            let own = container.ip(v4);
            let place = at as u16 % (2 * NETWORKS.len() as u16);
            let known =
                [("tcp", 6, 80, None), ("udp", 17, 53, None), ("tcp", 6, 443, Some(8443)), ("udp", 17, 500, Some(500))];
            for (nth, (proto, number, port, public_port)) in (0u16..).zip(known) {
                let public = container.public(v4).zip(public_port);
                let wire = (20480 + 16 * place + nth).to_string();
                let options =
                    public.map_or(String::new(), |(ip, port)| format!("public={}", name(ip, &port.to_string())));
                self.line(proto, &container, (v4, &wire), (own, &port.to_string()), &options);
                self.serve(&[at], number, (own, port), public);
            }
            for (proto, number, network) in PORTLESS {
                if container.nth == 1 && container.network == network {
                    let public = container.public(v4);
                    let options = public.map_or(String::new(), |ip| format!("public={}", name(ip, "")));
                    self.line(proto, &container, (v4, ""), (own, ""), &options);
                    self.serve(&[at], number, (own, 0), public.map(|ip| (ip, 0)));
                }
            }
            // This one holds a public address as its own.
            if container.nth == 1 && container.network == BLUE {
                let own: IpAddr = match v4 {
                    true => Ipv4Addr::new(203, 0, 113, 240 + container.server).into(),
                    false => v6(0x2001, 99, container.server.into()).into(),
                };
                let options = format!("public={}", name(own, "4500"));
                self.line("udp", &container, (v4, "21000"), (own, "4500"), &options);
                self.serve(&[at], 17, (own, 4500), Some((own, 4500)));
            }
        }
    }

    /// With a replica on each server, in the hands of the first and the second container in turn.
    fn replicated_services(&mut self, v4: bool) {
        let shared: IpAddr = if v4 { Ipv4Addr::new(10, 200, 0, 1).into() } else { v6(0xfd00, 200, 1).into() };
        let public: IpAddr = if v4 { Ipv4Addr::new(203, 0, 113, 200).into() } else { v6(0x2001, 200, 1).into() };
        for (proto, number, port, wire) in [("tcp", 6, 80, "21010"), ("udp", 17, 53, "21011")] {
            let is_replica =
                |container: &Container| container.network == BLUE && container.nth == 1 + container.server % 2;
            let replicas: Vec<usize> =
                (0..self.containers.len()).filter(|&at| is_replica(&self.containers[at])).collect();
            for &at in &replicas {
                let options = format!("public={}", name(public, &port.to_string()));
                let container = self.containers[at].clone();
                self.line(proto, &container, (v4, wire), (shared, &port.to_string()), &options);
            }
            self.serve(&replicas, number, (shared, port), Some((public, port)));
        }
    }

    fn serve(&mut self, replicas: &[usize], proto: u8, name: End, public: Option<End>) {
        let network = self.containers[replicas[0]].network;
        self.services.push(Service { network, replicas: replicas.to_vec(), proto, name, public });
    }

    fn config(&self, server: u8) -> String {
        let back = match self.by_gateway {
            true => "return = \"gateway\"\ngateways = [\"192.168.50.6\", \"192.168.50.7\"]\n",
            false => "",
        };
        let mut text = format!(
            "[server]\nips = [\"{}\", \"{}\"]\nports = \"20480-59903\"\nmapping = \"mapping.sixway\"\n{}",
            server_ip(server, true),
            server_ip(server, false),
            if GATEWAYS.contains(&server) { "" } else { back }
        );
        let others = (1..=SERVERS).chain(GATEWAYS).filter(|&other| other != server);
        let servers = others.flat_map(|other| [true, false].map(|v4| (server_ip(other, v4), server_mac(other))));
        let outside = (0..HOSTS).flat_map(|nth| [true, false].map(|v4| (host(nth, v4), ROUTER)));
        for (ip, station) in servers.chain(outside) {
            text += &format!("[[neighbour]]\nip = \"{ip}\"\nmac = \"{}\"\n", mac_text(station));
        }
        let inside =
            ["\"10.0.0.0/8\", \"fd00::/16\"", "\"172.20.0.0/16\", \"fd22::/16\"", "\"172.21.0.0/16\", \"fd23::/16\""];
        let rules = [(0, "peers = [\"green\"]"), (0, ""), (1, "groups = [\"both\"]"), (2, "groups = [\"both\"]")];
        for (network, (prefixes, peers)) in NETWORKS.iter().zip(rules) {
            text += &format!(
                "[[network]]\nname = \"{network}\"\nprefixes = [{}]\n\
                 gateway = [\"169.254.1.1\", \"fe80::1\"]\noutside = true\n{peers}\n",
                inside[prefixes]
            );
        }
        let port = |name: &str, role: &str, own: [u8; 6], mtu: u16| {
            let own = mac_text(own);
            format!("[[port]]\nname = \"{name}\"\nrole = \"{role}\"\naddress = \"{own}\"\nmtu = {mtu}\n")
        };
        text += &port("uplink", "uplink", server_mac(server), MTU);
        if GATEWAYS.contains(&server) {
            text += &port("wan", "external", wan_mac(server), MTU);
        }
        for container in self.containers.iter().filter(|container| container.server == server) {
            text += &port(&container.port, "access", container.port_mac(), container.mtu());
            text +=
                &format!("network = \"{}\"\nmac = \"{}\"\n", NETWORKS[container.network], mac_text(container.mac()));
        }
        text
    }
}

/// How many hosts there are outside.
pub const HOSTS: usize = 16;

/// A host outside.
pub fn host(nth: usize, v4: bool) -> IpAddr {
    match v4 {
        true => Ipv4Addr::new(198, 51, 100, 7 + nth as u8).into(),
        false => Ipv6Addr::new(0x2620, 0, 0, 0, 0, 0, 0, 7 + nth as u16).into(),
    }
}

/// A router somewhere on the way.
pub fn way_station(v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::new(198, 18, 0, 1).into() } else { Ipv6Addr::new(0x2620, 1, 0, 0, 0, 0, 0, 1).into() }
}

/// The station that a MAC on the wire belongs to: a server's or gateway's place among the worlds.
pub fn station(mac: &[u8]) -> Option<usize> {
    (1..=SERVERS).chain(GATEWAYS).position(|server| mac == server_mac(server))
}

fn mac_and_name(of: &Container, (ip, port): (IpAddr, &str)) -> String {
    format!("{} {}", mac_text(of.mac()), name(ip, port))
}
