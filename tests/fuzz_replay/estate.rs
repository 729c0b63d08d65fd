//! A random server, with what it is configured to know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::parcels::{End, Random, mac_text, name};

pub const NETWORKS: [&str; 2] = ["blue", "red"];
pub const OWN: u8 = 1;
/// The other servers.
const OTHERS: [u8; 2] = [2, 3];
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// A container and what is bound to it.
#[derive(Clone, Debug)]
pub struct Container {
    pub network: usize,
    pub server: u8,
    pub mac: [u8; 6],
    pub ip: IpAddr,
    /// Its access port, if it is on this server.
    pub port: Option<usize>,
    /// First wire port, first inside port and size of its client block.
    pub block: Option<(u16, u16, u16)>,
}

/// A service binding.
#[derive(Clone, Debug)]
pub struct Service {
    pub container: usize,
    pub proto: u8,
    pub name: End,
    pub wire: End,
    pub public: Option<End>,
}

/// A port of the server: its name, its own MAC and the network behind it.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub mac: [u8; 6],
    pub network: Option<usize>,
}

/// A configuration and its mapping, and what is in them.
pub struct Estate {
    pub ports: Vec<Port>,
    pub containers: Vec<Container>,
    pub services: Vec<Service>,
    /// No packet may pass from one network to the other, by any name.
    pub is_apart: bool,
    pub config: String,
    pub mapping: String,
}

pub fn server_ip(server: u8, v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(192, 168, 50, server).into()
    } else {
        Ipv6Addr::new(0xfd50, 0, 0, 0, 0, 0, 0, server.into()).into()
    }
}

pub fn server_mac(server: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, server]
}

impl Estate {
    pub fn random(random: &mut Random) -> Estate {
        let (ports, containers, services) = (Vec::new(), Vec::new(), Vec::new());
        let mut estate = Estate {
            ports,
            containers,
            services,
            is_apart: true,
            config: String::new(),
            mapping: "# net proto server-mac server-ip:port mac ip:port options\n".to_owned(),
        };
        estate.server(random);
        estate.populate(random);
        estate
    }

    fn server(&mut self, random: &mut Random) {
        let external = random.below(3);
        let (v4, v6) = (server_ip(OWN, true), server_ip(OWN, false));
        self.config = format!(
            "[server]\nips = [\"{v4}\", \"{v6}\"]\nports = \"20480-59903\"\nmapping = \"mapping.sixway\"\n\
             router = \"192.168.50.254\"\n[[neighbour]]\nip = \"192.168.50.254\"\nmac = \"{}\"\n",
            mac_text(ROUTER)
        );
        for (server, v4) in OTHERS.iter().flat_map(|&server| [(server, true), (server, false)]) {
            let (ip, mac) = (server_ip(server, v4), mac_text(server_mac(server)));
            self.config += &format!("[[neighbour]]\nip = \"{ip}\"\nmac = \"{mac}\"\n");
        }
        let outside = [random.below(3) > 0, random.below(3) > 0];
        // Blue may reach red, red blue, both each other, or, mostly, none the other.
        let (peers, group) = (random.below(8), random.once_in(8));
        for (nth, network) in NETWORKS.iter().enumerate() {
            let other = NETWORKS[1 - nth];
            let is_peer = peers == nth || peers == 2;
            self.config += &format!(
                "[[network]]\nname = \"{network}\"\nprefixes = [\"10.0.0.0/8\", \"fd00::/16\"]\n\
                 gateway = [\"169.254.1.1\", \"fe80::1\"]\noutside = {}\nservices = {}\npeers = [{}]\ngroups = [{}]\n\
                 midstream = \"{}\"\n",
                outside[nth],
                random.once_in(4),
                if is_peer { format!("\"{other}\"") } else { String::new() },
                if group { "\"both\"" } else { "" },
                if random.once_in(2) { "reset" } else { "drop" },
            );
        }
        // Two networks that are open to the outside may meet by public names.
        self.is_apart = peers > 2 && !group && !(outside[0] && outside[1]);
        let mtu = if random.once_in(4) { random.within(600, 1500) } else { 1500 };
        self.port(
            "uplink",
            server_mac(OWN),
            None,
            &format!("role = \"uplink\"\nexternal = {}\nmtu = {mtu}\n", external == 0),
        );
        if external == 1 {
            self.port("wan", [2, 0, 0, 0, 1, OWN], None, "role = \"external\"\narp = true\nmtu = 1500\n");
        }
    }

    fn port(&mut self, name: &str, mac: [u8; 6], network: Option<usize>, rest: &str) -> usize {
        self.config += &format!("[[port]]\nname = \"{name}\"\naddress = \"{}\"\n{rest}", mac_text(mac));
        self.ports.push(Port { name: name.to_owned(), mac, network });
        self.ports.len() - 1
    }

    fn populate(&mut self, random: &mut Random) {
        let mut next = [[20480u16; 4], [20480; 4]];
        let mut has_esp = [[false; 4]; 2];
        for nth in 0..random.within(4, 10) {
            let network = usize::from(nth) % 2;
            let server = random.pick(&[OWN, OWN, OWN, 2, 3]);
            // Both networks have the same addresses, and some containers of one share theirs.
            let number = random.within(1, 5);
            let mac = [2, 0x42, network as u8, server, 0, nth as u8];
            let port = (server == OWN).then(|| {
                let pin = if random.once_in(3) { String::new() } else { format!("mac = \"{}\"\n", mac_text(mac)) };
                let rest = format!("role = \"access\"\nnetwork = \"{}\"\nmtu = 1500\n{pin}", NETWORKS[network]);
                self.port(&format!("access-{nth}"), [2, 0x0a, 0, 0, 0, nth as u8], Some(network), &rest)
            });
            for v4 in [true, false] {
                if random.once_in(4) {
                    continue;
                }
                let ip: IpAddr = match v4 {
                    true => Ipv4Addr::new(10, 1, 0, number as u8).into(),
                    false => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number).into(),
                };
                let mut container = Container { network, server, mac, ip, port, block: None };
                let free = &mut next[usize::from(v4)][usize::from(server)];
                let size = random.pick(&[8u16, 32, 256]);
                // Blocks of those who share an address must not overlap inside: the wire's numbers serve there, too.
                let first = (*free).next_multiple_of(size);
                if !random.once_in(5) && self.containers.iter().all(|other| (other.network, other.ip) != (network, ip))
                {
                    *free = first + size;
                    container.block = Some((first, first, size));
                    let native = if random.once_in(2) { "native" } else { "" };
                    let wire = format!("{first}-{}", first + size - 1);
                    self.line("any", &container, &wire, "*", native);
                }
                let at = self.containers.len();
                self.containers.push(container);
                self.serve(random, at, &mut next[usize::from(v4)][usize::from(server)], nth);
                if !std::mem::replace(&mut has_esp[usize::from(v4)][usize::from(server == OWN)], true) {
                    let public = public(random, network, nth, v4).map(|ip| (ip, 0));
                    self.bind(at, ("esp", 50), (0, 0), public);
                }
            }
        }
    }

    /// Gives a container some services.
    fn serve(&mut self, random: &mut Random, at: usize, free: &mut u16, nth: u16) {
        let v4 = self.containers[at].ip.is_ipv4();
        let network = self.containers[at].network;
        for (proto, number, port) in [("tcp", 6, 80), ("udp", 17, 53), ("tcp", 6, 443), ("udp", 17, 500)] {
            if random.once_in(3) {
                continue;
            }
            let public = public(random, network, nth, v4).map(|ip| (ip, port));
            self.bind(at, (proto, number), (*free, port), public);
            *free += 1;
        }
    }

    fn bind(&mut self, at: usize, (proto, number): (&str, u8), (wire, inside): (u16, u16), public: Option<End>) {
        let container = self.containers[at].clone();
        let text = |port: u16| if port == 0 { String::new() } else { port.to_string() };
        let options = public.map_or(String::new(), |(ip, port)| format!("public={}", name(ip, &text(port))));
        self.line(proto, &container, &text(wire), &text(inside), &options);
        let wire = (server_ip(container.server, container.ip.is_ipv4()), wire);
        self.services.push(Service { container: at, proto: number, name: (container.ip, inside), wire, public });
    }

    fn line(&mut self, proto: &str, of: &Container, wire: &str, inside: &str, options: &str) {
        let server = name(server_ip(of.server, of.ip.is_ipv4()), wire);
        let (mac, inside) = (mac_text(of.mac), name(of.ip, inside));
        let network = NETWORKS[of.network];
        self.mapping +=
            &format!("{network} {proto} {} {server} {mac} {inside} {options}\n", mac_text(server_mac(of.server)));
    }

    /// The network that a wire name belongs to.
    pub fn network_of_wire(&self, proto: u8, (ip, port): End) -> Option<usize> {
        let service = self.services.iter().find(|service| service.proto == proto && service.wire == (ip, port));
        let in_block = |container: &&Container| {
            let is_server = server_ip(container.server, ip.is_ipv4()) == ip && container.ip.is_ipv4() == ip.is_ipv4();
            is_server && container.block.is_some_and(|(first, _, size)| (first..first + size).contains(&port))
        };
        let block = || self.containers.iter().find(in_block).filter(|_| matches!(proto, 1 | 6 | 17 | 58));
        service.map(|service| &self.containers[service.container]).or_else(block).map(|container| container.network)
    }
}

/// Of each network its own; not every service is published.
fn public(random: &mut Random, network: usize, nth: u16, v4: bool) -> Option<IpAddr> {
    let last = 16 * network as u8 + nth as u8;
    random.once_in(3).then(|| match v4 {
        true => Ipv4Addr::new(203, 0, 113, last).into(),
        false => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
    })
}
