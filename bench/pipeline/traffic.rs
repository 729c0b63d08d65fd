//! Frames of 64 bytes, made once.

use std::fmt;

use sixway::frame::checksum::{self, Sum};
use sixway::naming::Protocol;
use sixway::units::{self, Endpoint, Ip, PortId, PortRange, Proto};

use super::world::{
    EXTERNAL, NATIVE, NATIVE_BLOCK, Place, REPLICAS, REPLICATED, SERVICES, Shared, TRANSLATED, TRANSLATED_BLOCK,
    UPLINK, World, port_mac,
};

/// Length of a frame, without its check sequence.
pub const LEN: usize = 64;
/// Frames that a round goes through: with random destinations they touch more memory than the caches hold.
pub const FRAMES: usize = 1 << 18;
/// Flows of a row to services with several replicas: all rows together take half of the room.
const KEPT_FLOWS: usize = 1 << 14;

/// Where packets come from and go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From a container whose block is native to services on all other servers.
    Egress,
    /// The same, with the checksum left partial, as a container's stack does.
    EgressPartial,
    /// From client blocks and services on all other servers to services and client blocks here.
    Ingress,
    /// From a container whose connections are translated, to services on all other servers.
    Translated,
    /// From a container whose block is native to services with several replicas (a place in [`REPLICAS`]); every flow has
    /// its entry.
    Replicated(usize),
    /// The same where there is no room for entries, so that every packet asks the hash.
    Crowded(usize),
    /// From clients outside to public names of all other servers, every packet of a new flow.
    Public,
    /// From clients outside to public names with several replicas; every packet begins a flow, more than are remembered.
    Storm(usize),
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    pub way: Way,
    pub proto: Proto,
}

impl Case {
    pub const ALL: [Case; 18] = [
        Case { way: Way::Egress, proto: Proto::UDP },
        Case { way: Way::Egress, proto: Proto::TCP },
        Case { way: Way::EgressPartial, proto: Proto::UDP },
        Case { way: Way::Ingress, proto: Proto::UDP },
        Case { way: Way::Ingress, proto: Proto::TCP },
        Case { way: Way::Translated, proto: Proto::UDP },
        Case { way: Way::Translated, proto: Proto::TCP },
        Case { way: Way::Replicated(0), proto: Proto::UDP },
        Case { way: Way::Replicated(0), proto: Proto::TCP },
        Case { way: Way::Replicated(2), proto: Proto::UDP },
        Case { way: Way::Replicated(2), proto: Proto::TCP },
        Case { way: Way::Crowded(0), proto: Proto::UDP },
        Case { way: Way::Crowded(1), proto: Proto::UDP },
        Case { way: Way::Crowded(2), proto: Proto::UDP },
        Case { way: Way::Public, proto: Proto::UDP },
        Case { way: Way::Public, proto: Proto::TCP },
        Case { way: Way::Storm(1), proto: Proto::TCP },
        Case { way: Way::Storm(2), proto: Proto::TCP },
    ];

    /// The port that its packets come in by.
    pub fn port(self) -> PortId {
        match self.way {
            Way::Egress | Way::EgressPartial | Way::Replicated(_) | Way::Crowded(_) => NATIVE,
            Way::Ingress => UPLINK,
            Way::Translated => TRANSLATED,
            Way::Public | Way::Storm(_) => EXTERNAL,
        }
    }

    /// True if there is no room for entries of its flows.
    pub fn is_crowded(self) -> bool {
        matches!(self.way, Way::Crowded(_))
    }

    /// `count` packets, each drawn anew; of flows that have entries as many as there may be.
    pub fn frames(self, world: &World, count: usize) -> Vec<[u8; LEN]> {
        let mut random = Random(units::Random::new(0x6_1e57));
        let flows = match self.way {
            Way::Translated => Some(usize::from(TRANSLATED_BLOCK.last - TRANSLATED_BLOCK.first) * 7 / 8),
            Way::Replicated(_) | Way::Crowded(_) => Some(KEPT_FLOWS),
            Way::Egress | Way::EgressPartial | Way::Ingress | Way::Public | Way::Storm(_) => None,
        };
        if let Some(flows) = flows {
            let flows: Vec<_> = (0..flows).map(|nth| self.frame(world, &mut random, nth)).collect();
            return (0..count).map(|_| flows[random.below(flows.len())]).collect();
        }
        (0..count).map(|_| self.frame(world, &mut random, 0)).collect()
    }

    fn frame(self, world: &World, random: &mut Random, flow: usize) -> [u8; LEN] {
        let far = random.far(world);
        let end = |ip: Ip, port: u16| Endpoint { proto: self.proto, ip, port };
        let native = |block: PortRange, random: &mut Random| {
            block.first + random.below(usize::from(block.last - block.first) * 7 / 8) as u16
        };
        let service = self.service(random);
        let (src, dst) = match self.way {
            Way::Egress | Way::EgressPartial => {
                let client = Place::NATIVE_CLIENT;
                (end(client.ip(), native(NATIVE_BLOCK, random)), end(far.ip(), SERVICES[service].0))
            }
            Way::Translated => {
                let client = Place::TRANSLATED_CLIENT;
                // Linux's own local port range, which knows nothing of the block.
                (end(client.ip(), 32768 + flow as u16), end(far.ip(), SERVICES[service].0))
            }
            Way::Replicated(kind) | Way::Crowded(kind) => {
                let nth = random.below(Shared::count(kind, world.bindings));
                let client = end(Place::NATIVE_CLIENT.ip(), native(NATIVE_BLOCK, random));
                (client, end(Shared { kind, nth }.ip(), REPLICATED))
            }
            Way::Public => (random.outside(self.proto), end(far.public_ip(), far.service_port(service))),
            Way::Storm(kind) => {
                let nth = random.below(Shared::count(kind, world.bindings));
                (random.outside(self.proto), end(Shared { kind, nth }.public_ip(), REPLICATED))
            }
            Way::Ingress => {
                let own = Place { server: 0, container: random.below(world.containers) };
                let is_call = random.below(2) == 0 || own.container == Place::TRANSLATED_CLIENT.container;
                let (from, to) = if is_call { (far, own) } else { (own, far) };
                let client = end(from.server_ip(), native(from.block(), random));
                let server = end(to.server_ip(), to.service_port(service));
                if is_call { (client, server) } else { (server, client) }
            }
        };
        let opens = matches!(self.way, Way::Public | Way::Storm(_));
        let mut frame = frame(self.port(), src, dst, opens, random);
        if self.way == Way::EgressPartial {
            let pseudo = checksum::pseudo_header(src.ip, dst.ip, self.proto, (LEN - 34) as u32);
            let at = checksum_at(self.proto);
            frame[at..at + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        }
        frame
    }

    /// One of the services that take the protocol.
    fn service(self, random: &mut Random) -> usize {
        loop {
            let nth = random.below(SERVICES.len());
            if matches!(SERVICES[nth].1, Protocol::Any) || SERVICES[nth].1 == Protocol::One(self.proto) {
                return nth;
            }
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::Egress => "egress, native block".to_owned(),
            Way::EgressPartial => "egress, partial checksum".to_owned(),
            Way::Ingress => "ingress".to_owned(),
            Way::Translated => "egress, translated".to_owned(),
            Way::Replicated(kind) => format!("egress, {} replicas", REPLICAS[kind]),
            Way::Crowded(kind) => format!("egress, {} replicas, no room", REPLICAS[kind]),
            Way::Public => "gateway, new flows".to_owned(),
            Way::Storm(kind) => format!("gateway, new, {} replicas", REPLICAS[kind]),
        };
        f.pad(&format!("{way}, {}", self.proto))
    }
}

fn checksum_at(proto: Proto) -> usize {
    if proto == Proto::TCP { 50 } else { 40 }
}

fn frame(port: PortId, src: Endpoint, dst: Endpoint, opens: bool, random: &mut Random) -> [u8; LEN] {
    let mut frame = [0; LEN];
    frame[..6].copy_from_slice(&port_mac(port).0);
    // A container's packet says who it is; what comes by the uplink, nothing of interest.
    frame[6..8].copy_from_slice(&[2, 0x42]);
    frame[8..12].copy_from_slice(&src.ip.v4_octets());
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, (LEN - 14) as u8, 0, 0, 0x40, 0, 64, src.proto.0]);
    frame[26..30].copy_from_slice(&src.ip.v4_octets());
    frame[30..34].copy_from_slice(&dst.ip.v4_octets());
    let ip = checksum::of(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&ip.to_be_bytes());
    frame[34..36].copy_from_slice(&src.port.to_be_bytes());
    frame[36..38].copy_from_slice(&dst.port.to_be_bytes());
    if src.proto == Proto::TCP {
        // Five words of header; SYN, or an acknowledgement in mid-connection.
        frame[46..48].copy_from_slice(&[0x50, if opens { 0x02 } else { 0x10 }]);
    } else {
        frame[38..40].copy_from_slice(&((LEN - 34) as u16).to_be_bytes());
    }
    frame[56..64].copy_from_slice(&random.next().to_be_bytes());
    let pseudo: Sum = checksum::pseudo_header(src.ip, dst.ip, src.proto, (LEN - 34) as u32);
    let l4 = pseudo.plus(checksum::of(&frame[34..])).checksum();
    let at = checksum_at(src.proto);
    frame[at..at + 2].copy_from_slice(&if l4 == 0 { 0xffff } else { l4 }.to_be_bytes());
    frame
}

/// The same packets in every run.
struct Random(units::Random);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.word()
    }

    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// A client outside.
    fn outside(&mut self, proto: Proto) -> Endpoint {
        let ip = Ip::from_v4_bits(0x0800_0000 + self.below(1 << 24) as u32); // 8.0.0.0/8
        Endpoint { proto, ip, port: 1024 + self.below(60_000) as u16 }
    }

    /// A container on another server.
    fn far(&mut self, world: &World) -> Place {
        Place { server: 1 + self.below(world.servers - 1), container: self.below(world.containers) }
    }
}
