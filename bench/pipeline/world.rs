//! One server out of a thousand, with everything that its engine runs on.

use std::sync::Arc;

use sixway::control::assemble::{Assembly, state_in_memory};
use sixway::flow::{AFFINITY_ENTRIES, Purpose, Signal, State, Timers};
use sixway::naming::{
    BindingSpec, Located, Names, NamesWriter, Network, Networks, Ports, Protocol, Published, ReplicaId,
};
use sixway::neighbour::{Fib, NextHops};
use sixway::path::{Access, OwnAddresses, Port, Role, Surroundings};
use sixway::table;
use sixway::units::{Endpoint, Ip, Mac, NetworkId, PortId, PortRange, Proto, Tick, VlanTags};

/// Boot was an hour ago.
pub const NOW: Tick = Tick(3_600_000);
/// The port towards the other servers.
pub const UPLINK: PortId = PortId(0);
/// The port of the client whose block is native.
pub const NATIVE: PortId = PortId(1);
/// The port of the client whose connections are translated.
pub const TRANSLATED: PortId = PortId(2);
/// The port (a bridge) of all other containers of this server.
const BRIDGE: PortId = PortId(3);
/// The port towards clients outside.
pub const EXTERNAL: PortId = PortId(4);

/// Equal on all servers.
pub const OWNED: PortRange = PortRange { first: 20480, last: 59903 };
/// Ports that a container serves, by what protocol.
pub const SERVICES: [(u16, Protocol); 3] =
    [(80, Protocol::One(Proto::TCP)), (53, Protocol::One(Proto::UDP)), (7000, Protocol::Any)];
/// Bindings of a container: its services and its client block.
const BINDINGS: usize = SERVICES.len() + 1;
/// Ports of an ordinary client block, all of them native.
const BLOCK: u16 = 32;
const FIRST_BLOCK: u16 = 0xc000;
/// The native client's own block, and the translated client's.
pub const NATIVE_BLOCK: PortRange = PortRange { first: 0x7000, last: 0x7fff };
pub const TRANSLATED_BLOCK: PortRange = PortRange { first: 0x8000, last: 0xbfff };

/// How many replicas services have that have several: to be asked, and more than may be asked.
pub const REPLICAS: [usize; 3] = [2, 8, 32];
/// The port that such a service has inside, and the first of its server ports.
pub const REPLICATED: u16 = 9000;
const FIRST_REPLICA: u16 = 0x6000;

/// A service that several containers hold, all on other servers.
#[derive(Clone, Copy)]
pub struct Shared {
    /// A place in [`REPLICAS`].
    pub kind: usize,
    pub nth: usize,
}

impl Shared {
    /// How many services there are of that kind: an eighth of the bindings for each.
    pub fn count(kind: usize, bindings: usize) -> usize {
        (bindings / 8 / REPLICAS[kind]).clamp(1, 1000)
    }

    pub fn ip(self) -> Ip {
        Ip::from_v4_bits(0x0af0_0000 + ((self.kind as u32) << 16) + self.nth as u32) // 10.240.0.0 and on
    }

    /// What clients outside call, at port [`REPLICATED`].
    pub fn public_ip(self) -> Ip {
        Ip::from_v4_bits(0x2c01_0000 + ((self.kind as u32) << 16) + self.nth as u32) // 44.1.0.0 and on
    }

    fn bindings(self, servers: usize) -> impl Iterator<Item = Located<BindingSpec>> {
        let Shared { kind, nth } = self;
        (0..REPLICAS[kind]).map(move |replica| {
            let place = nth * REPLICAS[kind] + replica;
            let server = Place { server: 1 + place % (servers - 1), container: 0 };
            // Of each kind 32 bindings a server, or all of them where there are few servers.
            let wire = FIRST_REPLICA + (kind * 1024 + place / (servers - 1)) as u16;
            let mac = Mac([2, 0x43, kind as u8, replica as u8, (nth >> 8) as u8, nth as u8]);
            let inside = (Some(mac), self.ip(), Ports::One(REPLICATED));
            let wire = (server.server_ip(), Ports::One(wire));
            let spec = BindingSpec::new("blue", Protocol::Any, wire, inside);
            let public = Some(Published { ip: self.public_ip(), port: Some(REPLICATED) });
            Located { line: 0, value: BindingSpec { server_mac: Some(server.server_mac()), public, ..spec } }
        })
    }
}

/// A container's place in the mapping. Server 0 is ours; its containers 0 and 1 are the two clients.
#[derive(Clone, Copy)]
pub struct Place {
    pub server: usize,
    pub container: usize,
}

impl Place {
    pub const NATIVE_CLIENT: Place = Place { server: 0, container: 0 };
    pub const TRANSLATED_CLIENT: Place = Place { server: 0, container: 1 };

    pub fn server_ip(self) -> Ip {
        Ip::from_v4_bits(0xac10_0001 + self.server as u32) // 172.16.0.1 and on
    }

    pub fn server_mac(self) -> Mac {
        let [_, b, c, d] = self.server_ip().v4_octets();
        Mac([2, 0, 0, b, c, d])
    }

    pub fn ip(self) -> Ip {
        Ip::from_v4_bits(0x0a00_0002 + (self.server as u32) * 0x400 + self.container as u32) // 10.0.0.2 and on
    }

    pub fn mac(self) -> Mac {
        let [a, b, c, d] = self.ip().v4_octets();
        Mac([2, 0x42, a, b, c, d])
    }

    /// What clients outside call, at the server port of each service: an address for all containers of a server.
    pub fn public_ip(self) -> Ip {
        Ip::from_v4_bits(0x2c00_0001 + self.server as u32) // 44.0.0.1 and on
    }

    /// The client block, with the same numbers inside.
    pub fn block(self) -> PortRange {
        match (self.server, self.container) {
            (0, 0) => NATIVE_BLOCK,
            (0, 1) => TRANSLATED_BLOCK,
            (_, container) => {
                let first = FIRST_BLOCK + BLOCK * container as u16;
                PortRange { first, last: first + BLOCK - 1 }
            }
        }
    }

    /// The server port of the container's service at that place in [`SERVICES`].
    pub fn service_port(self, nth: usize) -> u16 {
        OWNED.first + (self.container * SERVICES.len() + nth) as u16
    }
}

/// One engine's tables.
pub struct World {
    pub bindings: usize,
    pub servers: usize,
    /// Containers of each server.
    pub containers: usize,
    pub assembly: Assembly,
    pub state: State,
    pub hops: NextHops,
}

impl World {
    /// About so many bindings: see [`specs`].
    pub fn of(bindings: usize) -> World {
        let (servers, containers) = shape(bindings);
        let mut specs = specs(bindings);
        let (size, kinds) = (specs.len(), 0..REPLICAS.len());
        for shared in kinds.flat_map(|kind| (0..Shared::count(kind, bindings)).map(move |nth| Shared { kind, nth })) {
            specs.extend(shared.bindings(servers));
        }
        let (names, mut writer) = tables();
        writer.replace(&specs).expect("bindings that do not clash");
        let us = Place { server: 0, container: 0 }.server_ip();
        let networks = Arc::clone(names.networks());
        let access = || Role::Access(Access { network: NetworkId(0), pinned: None, id: None });
        let ports = [Role::Uplink { external: false }, access(), access(), access(), Role::External];
        let ports = ports.into_iter().enumerate().map(|(index, role)| Port {
            name: format!("port{index}"),
            role,
            mac: port_mac(PortId(index as u16)),
            mtu: 1500,
            tags: VlanTags::NONE,
            own: OwnAddresses::default(),
        });
        let around = Surroundings {
            ports: ports.map(Some).collect(),
            networks,
            servers: vec![us],
            kernels: Arc::default(),
            owned: OWNED,
            gateways: Vec::new(),
            uplinks: vec![UPLINK],
            only_uplink: Some(UPLINK),
            has_tags: false,
            is_gateway: true,
            probed: Arc::default(),
        };
        hold_containers(&names);
        let assembly = Assembly { around, names, writer, timers: Timers::DEFAULT };
        let state = state_in_memory(&assembly, NOW).expect("memory for the state");
        World { bindings: size, servers, containers, assembly, state, hops: Fib::new([], None).next_hops() }
    }

    /// A state whose room for flows to services with several replicas is taken by others.
    pub fn crowded(&self) -> State {
        let state = state_in_memory(&self.assembly, NOW).expect("memory for the state");
        let end = Endpoint { proto: Proto::UDP, ip: Ip::from_v4_bits(1), port: 1 };
        for holder in 0..4 * AFFINITY_ENTRIES as u64 {
            let affinity = state.affinity();
            let flow = affinity.key(Purpose::Destination, holder, &end, &end);
            affinity.sent(flow, ReplicaId::of(1), Signal::Datagram, NOW);
        }
        state
    }

    /// What walks need beside the names.
    pub fn stage(&self) -> Stage<'_> {
        Stage { around: &self.assembly.around, state: &self.state, hops: &self.hops }
    }
}

/// What a walk needs beside the names.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    pub around: &'a Surroundings,
    pub state: &'a State,
    pub hops: &'a NextHops,
}

/// Empty tables of server 0, with one network.
pub fn tables() -> (Arc<Names>, NamesWriter) {
    let network = Network {
        name: "blue".to_owned(),
        prefixes: vec!["10.0.0.0/8".parse().expect("a prefix")],
        gateways: vec!["169.254.1.1".parse().expect("an address")],
        outside: true,
        ..Network::default()
    };
    let networks = Arc::new(Networks::new(vec![network], &[]).expect("one network"));
    Names::new(networks, &[Place { server: 0, container: 0 }.server_ip()], OWNED)
}

/// About so many bindings, spread evenly over a thousand servers, or fewer where each would have less than 16.
pub fn specs(bindings: usize) -> Vec<Located<BindingSpec>> {
    let (servers, containers) = shape(bindings);
    let places = (0..servers).flat_map(|server| (0..containers).map(move |container| Place { server, container }));
    places.flat_map(bindings_of).collect()
}

/// Servers, and containers of each.
fn shape(bindings: usize) -> (usize, usize) {
    let servers = (bindings / 16).clamp(2, 1000);
    (servers, bindings / servers / BINDINGS)
}

/// The MAC of a port of ours.
pub fn port_mac(port: PortId) -> Mac {
    Mac([2, 0, 0, 0xff, 0, port.0 as u8])
}

/// Every container of ours has shown itself.
fn hold_containers(names: &Names) {
    let guard = table::pin();
    for (_, container) in names.view(&guard).all_containers().filter(|(_, container)| container.is_bound_here()) {
        let port = match container.ip() {
            ip if ip == Place::NATIVE_CLIENT.ip() => NATIVE,
            ip if ip == Place::TRANSLATED_CLIENT.ip() => TRANSLATED,
            _ => BRIDGE,
        };
        container.hold(port, container.mac().expect("every container has a MAC"));
    }
}

fn bindings_of(place: Place) -> impl Iterator<Item = Located<BindingSpec>> {
    let network: Arc<str> = "blue".into();
    let block = Ports::Block(place.block());
    let is_native = (place.server, place.container) != (0, 1);
    let services = SERVICES
        .into_iter()
        .enumerate()
        .map(move |(nth, (port, proto))| (proto, Ports::One(place.service_port(nth)), Ports::One(port), false));
    services.chain([(Protocol::Any, block, block, is_native)]).map(move |(proto, wire, inside, native)| {
        // Every service of another server is called by clients outside as well, through this one.
        let public = match wire {
            Ports::One(port) if place.server > 0 => Some(Published { ip: place.public_ip(), port: Some(port) }),
            _ => None,
        };
        let spec = BindingSpec {
            network: Arc::clone(&network),
            proto,
            server_mac: Some(place.server_mac()),
            server_ip: place.server_ip(),
            wire,
            mac: Some(place.mac()),
            ip: place.ip(),
            inside,
            weight: 1,
            standby: false,
            drain: false,
            native,
            id: None,
            public,
        };
        Located { line: 0, value: spec }
    })
}
