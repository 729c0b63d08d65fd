//! The changes that are made.

use sixway::naming::{BindingSpec, Located, Ports};

use super::world::{self, Place};

/// What a change does to a service of another server, and the next one takes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It gets another server port. Packets to it go on; of what comes from it, those that were under way are dropped.
    Move,
    /// It gets another weight. Its record is another, its names are the same: packets from it go on too.
    Weigh,
}

/// Added to a server port: no other binding is there.
const AWAY: u16 = 4096;
/// A prime, so that changes that follow each other are far apart and reach every service.
const STRIDE: usize = 7919;

/// The mapping as it is after the changes so far.
pub struct Changes {
    all: Vec<Located<BindingSpec>>,
    /// Positions of the services of other servers.
    services: Vec<u32>,
    at: usize,
}

impl Changes {
    pub fn new(bindings: usize) -> Changes {
        let all = world::specs(bindings);
        let us = Place { server: 0, container: 0 }.server_ip();
        let is_ours = |spec: &BindingSpec| spec.server_ip == us || spec.is_block();
        let services = all.iter().enumerate().filter(|(_, spec)| !is_ours(&spec.value));
        let services = services.map(|(position, _)| position as u32).collect();
        Changes { all, services, at: 0 }
    }

    /// The whole mapping.
    pub fn all(&self) -> &[Located<BindingSpec>] {
        &self.all
    }

    /// The next `size` changes.
    pub fn next(&mut self, kind: Kind, size: usize) -> Vec<Located<BindingSpec>> {
        (0..size)
            .map(|_| {
                self.at = (self.at + STRIDE) % self.services.len();
                let spec = &mut self.all[self.services[self.at] as usize];
                turn(kind, &mut spec.value);
                spec.clone()
            })
            .collect()
    }

    /// The whole mapping, with every service of other servers changed.
    pub fn whole(&mut self, kind: Kind) -> &[Located<BindingSpec>] {
        for &position in &self.services {
            turn(kind, &mut self.all[position as usize].value);
        }
        &self.all
    }
}

fn turn(kind: Kind, spec: &mut BindingSpec) {
    match (kind, &mut spec.wire) {
        (Kind::Move, Ports::One(port)) => {
            *port = if *port < world::OWNED.first + AWAY { *port + AWAY } else { *port - AWAY }
        }
        _ => spec.weight = 3 - spec.weight,
    }
}
