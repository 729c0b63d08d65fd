//! What is said in a conversation, by whom and to whom.

use super::estate::{BLUE, Estate, GATEWAYS, GREEN, HOSTS, Service, TEAL};
use super::parcels::{Random, Shape, later_flags};

/// How two ends meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// A container calls a service of its network, on any server, its own included.
    Service,
    /// One of several replicas.
    Replicated,
    /// One of a network that it may reach.
    Peer,
    /// A service by its public name.
    Published,
    /// From the port of a service of its own.
    FromService,
    /// A protocol without ports.
    Portless,
    /// Somebody outside.
    Outside,
    /// Somebody outside calls a public name, through a gateway.
    Inwards,
}

pub const WAYS: [Way; 8] = [
    Way::Service,
    Way::Replicated,
    Way::Peer,
    Way::Published,
    Way::FromService,
    Way::Portless,
    Way::Outside,
    Way::Inwards,
];

/// What is said; everything else follows.
#[derive(Clone, Debug)]
pub struct Talk {
    pub way: Way,
    pub v4: bool,
    /// Index of a container; of a service.
    pub client: usize,
    pub service: usize,
    /// The protocol, where it is not the service's.
    pub proto: u8,
    pub port: u16,
    pub host: usize,
    /// The gateway that takes the first packet.
    pub gateway: usize,
    /// Flags of what goes on, where it is TCP.
    pub later: u8,
    /// Of each packet, in the order of `run`.
    pub shapes: Vec<Shape>,
    /// Who else speaks of a packet: a router, or the server of the other end.
    pub told_by_server: bool,
    /// Seconds since the conversation before.
    pub wait: u64,
    /// The packets that are sent, the first one at least.
    pub packets: usize,
}

/// Packets of a conversation.
const PACKETS: usize = 7;

impl Talk {
    pub fn random(random: &mut Random, estate: &Estate) -> Talk {
        let way = random.pick(&WAYS);
        let v4 = random.below(2) == 0;
        let (client, service, proto) = loop {
            let client = random.below(estate.containers.len());
            let service = random.below(estate.services.len());
            if let Some(proto) = meets(estate, way, v4, client, service, random) {
                break (client, service, proto);
            }
        };
        let of = &estate.containers[client];
        let port = match of.passing() {
            Some(passing) if random.below(2) == 0 => random.within(passing.first, passing.last),
            _ => random.within(1024, 20000),
        };
        Talk {
            way,
            v4,
            client,
            service,
            proto,
            port,
            host: random.below(HOSTS),
            gateway: random.below(GATEWAYS.len()),
            later: later_flags(random),
            shapes: (0..PACKETS).map(|_| Shape::random(random)).collect(),
            told_by_server: random.below(2) == 0,
            wait: random.pick(&[1, 20, 60, 300, 600]),
            packets: PACKETS,
        }
    }

    /// Conversations that say less.
    pub fn simpler(&self) -> Vec<Talk> {
        let mut talks = Vec::new();
        if self.packets > 1 {
            let packets = self.packets - 1;
            talks.push(Talk { packets, shapes: self.shapes[..packets].to_vec(), ..self.clone() });
        }
        for (at, shape) in self.shapes.iter().enumerate() {
            for simpler in shape.simpler() {
                let mut talk = self.clone();
                talk.shapes[at] = simpler;
                talks.push(talk);
            }
        }
        talks.retain(|talk| format!("{talk:?}") != format!("{self:?}"));
        talks
    }
}

/// The protocol, if a client can call the service that way.
fn meets(estate: &Estate, way: Way, v4: bool, client: usize, service: usize, random: &mut Random) -> Option<u8> {
    let (from, to) = (&estate.containers[client], &estate.services[service]);
    let has_ports = to.name.1 != 0;
    let single = to.replicas.len() == 1;
    let own_network = from.network == to.network;
    let fits = to.name.0.is_ipv4() == v4
        && match way {
            Way::Service => own_network && has_ports && single,
            Way::Replicated => own_network && has_ports && !single && !to.replicas.contains(&client),
            Way::Peer => {
                has_ports
                    && single
                    && matches!((from.network, to.network), (BLUE, GREEN) | (GREEN, TEAL) | (TEAL, GREEN))
            }
            Way::Published => has_ports && to.public.is_some(),
            Way::FromService => own_network && has_ports && single && !to.replicas.contains(&client),
            Way::Portless => {
                !has_ports && own_network && sends(estate, client, to.proto, v4) && to.replicas != [client]
            }
            Way::Outside => true,
            Way::Inwards => to.public.is_some(),
        };
    let echo = if v4 { 1 } else { 58 };
    fits.then(|| if way == Way::Outside { random.pick(&[6, 17, echo]) } else { to.proto })
}

/// True if the container has a binding of the portless protocol.
fn sends(estate: &Estate, container: usize, proto: u8, v4: bool) -> bool {
    let is_own =
        |service: &Service| service.replicas == [container] && service.proto == proto && service.name.0.is_ipv4() == v4;
    estate.services.iter().any(|service| service.name.1 == 0 && is_own(service))
}
