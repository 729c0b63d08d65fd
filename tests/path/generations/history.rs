//! Who lives where, generation by generation.

use proptest::prelude::*;

/// The tenants; their containers have the same addresses.
pub const TENANTS: [&str; 2] = ["blue", "red"];
/// Service names of a server, and blocks: few, so that they are handed around.
const SERVICE_PORTS: u16 = 6;
const BLOCKS: u16 = 4;
/// Inside ports of every client block.
pub const INSIDE_BLOCK: u16 = 40_000;
/// The address that replicas hold together.
pub const SHARED: &str = "10.0.0.9";

/// Somebody who lives somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Container {
    pub tenant: usize,
    pub nth: usize,
}

impl Container {
    pub fn all() -> impl Iterator<Item = Container> {
        (0..TENANTS.len()).flat_map(|tenant| (0..5).map(move |nth| Container { tenant, nth }))
    }

    /// The first two have a client block each, the first a native one; the others are replicas.
    pub fn has_block(self) -> bool {
        self.nth < 2
    }

    pub fn is_native(self) -> bool {
        self.nth == 0
    }

    pub fn ip(self) -> String {
        if self.has_block() { format!("10.0.0.{}", self.nth + 1) } else { SHARED.to_owned() }
    }

    pub fn mac(self) -> String {
        format!("02:42:00:00:{:02x}:{:02x}", self.tenant, self.nth)
    }

    /// The name of its access port, on every server.
    pub fn port(self) -> String {
        format!("{}-{}", TENANTS[self.tenant], self.nth)
    }
}

/// A container's place, all of it in one generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub server: usize,
    service: u16,
    block: Option<u16>,
    drains: bool,
}

impl Place {
    /// True if the container has the same wire names, whatever else is to become of it.
    pub fn is_same(&self, other: &Place) -> bool {
        (self.server, self.service, self.block) == (other.server, other.service, other.block)
    }
}

/// One change of a mapping.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    /// The container moves, or appears, with new names if they are free.
    Place {
        who: usize,
        server: usize,
        service: u16,
        block: u16,
    },
    Remove {
        who: usize,
    },
    Drain {
        who: usize,
    },
    /// The containers of two tenants change places, names and all: one of each, or everybody.
    Swap {
        nth: Option<usize>,
    },
}

pub fn edits() -> impl Strategy<Value = Vec<Vec<Edit>>> {
    let edit = prop_oneof![
        5 => (0..10usize, 0..3usize, 0..SERVICE_PORTS, 0..BLOCKS)
            .prop_map(|(who, server, service, block)| Edit::Place { who, server, service, block }),
        3 => (0..10usize).prop_map(|who| Edit::Remove { who }),
        1 => (2..10usize).prop_map(|who| Edit::Drain { who }),
        2 => proptest::option::of(0..5usize).prop_map(|nth| Edit::Swap { nth }),
    ];
    proptest::collection::vec(proptest::collection::vec(edit, 1..4), 2..8)
}

/// All generations, the first of which everybody begins with.
pub struct History {
    pub servers: usize,
    pub generations: Vec<Generation>,
}

/// The places of all containers, in the order of [`Container::all`].
#[derive(Clone, Debug)]
pub struct Generation {
    places: Vec<Option<Place>>,
}

impl History {
    pub fn new(servers: usize, edits: &[Vec<Edit>]) -> History {
        let mut now = Generation { places: vec![None; 10] };
        // Of the replicas, one of each tenant is there from the start.
        for (who, container) in Container::all().enumerate().filter(|(_, container)| container.nth < 3) {
            let server = (who + container.tenant) % servers;
            (0..SERVICE_PORTS).find(|&service| {
                now.edit(servers, Edit::Place { who, server, service, block: service % BLOCKS });
                now.places[who].is_some()
            });
        }
        let mut generations = vec![now.clone()];
        for edits in edits {
            edits.iter().for_each(|&edit| now.edit(servers, edit));
            generations.push(now.clone());
        }
        History { servers, generations }
    }

    /// True if a server may go from one generation to another at once. Not so if in between one of its own names was
    /// somebody's whom it would never hear of: one who held it after nobody, or between two times of one and the same
    /// owner. A name then changes hands without resting there.
    pub fn may_skip(&self, server: usize, from: usize, to: usize) -> bool {
        let names = (0..SERVICE_PORTS).map(Name::Service).chain((0..BLOCKS).map(Name::Block));
        names.into_iter().all(|name| {
            let holder = |generation: usize| self.generations[generation].holder(server, name);
            let unheard_of = |between: Option<Container>| between.is_some() && between != holder(to);
            let rests = holder(from).is_some() && holder(from) != holder(to);
            rests || !(from + 1..to).map(holder).any(unheard_of)
        })
    }
}

/// A wire name of some server.
#[derive(Clone, Copy)]
enum Name {
    Service(u16),
    Block(u16),
}

impl Generation {
    pub fn place(&self, container: Container) -> Option<&Place> {
        self.places[5 * container.tenant + container.nth].as_ref()
    }

    fn holder(&self, server: usize, name: Name) -> Option<Container> {
        Container::all().find(|&container| {
            self.place(container).is_some_and(|place| match name {
                _ if place.server != server => false,
                Name::Service(port) => place.service == port,
                Name::Block(block) => place.block == Some(block),
            })
        })
    }

    fn edit(&mut self, servers: usize, edit: Edit) {
        match edit {
            Edit::Remove { who } => self.places[who] = None,
            Edit::Swap { nth } => {
                let (ours, theirs) = self.places.split_at_mut(5);
                for (other, (one, another)) in ours.iter_mut().zip(theirs).enumerate() {
                    if nth.is_none_or(|nth| nth == other) {
                        std::mem::swap(one, another);
                    }
                }
            }
            Edit::Drain { who } => {
                if let Some(place) = &mut self.places[who] {
                    place.drains = !place.drains;
                }
            }
            Edit::Place { who, server, service, block } => {
                let (server, has_block) = (server % servers, who % 5 < 2);
                let block = has_block.then_some(block);
                let others = self.places.iter().enumerate().filter(|&(other, _)| other != who);
                let mut there = others.filter_map(|(_, place)| place.as_ref()).filter(|place| place.server == server);
                if there.all(|place| place.service != service && (block.is_none() || place.block != block)) {
                    self.places[who] = Some(Place { server, service, block, drains: false });
                }
            }
        }
    }

    /// As a mapping file.
    pub fn mapping(&self) -> String {
        let mut text = String::new();
        for container in Container::all() {
            let Some(place) = self.place(container) else { continue };
            let network = TENANTS[container.tenant];
            let server = format!("{} {}", mac_of(place.server), ip_of(place.server));
            let (mac, ip) = (container.mac(), container.ip());
            let drain = if place.drains { "drain" } else { "" };
            text += &format!("{network} any {server}:{} {mac} {ip}:80 {drain}\n", 20480 + place.service);
            if let Some(block) = place.block {
                let (first, inside) = (20736 + 8 * block, INSIDE_BLOCK);
                let native = if container.is_native() { "native" } else { "" };
                text += &format!(
                    "{network} any {server}:{first}-{} {mac} {ip}:{inside}-{} {native}\n",
                    first + 7,
                    inside + 7
                );
            }
        }
        text
    }
}

pub fn ip_of(server: usize) -> String {
    format!("192.168.50.{}", server + 1)
}

pub fn mac_of(server: usize) -> String {
    format!("02:00:00:00:00:{:02x}", server + 1)
}
