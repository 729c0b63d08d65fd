//! Servers in memory, each at a generation of its own.

use super::history::{Container, Generation, History, TENANTS, ip_of, mac_of};
use super::{MOST_BEHIND, MOST_LATE};
use crate::world::World;

pub struct Servers {
    pub history: History,
    worlds: Vec<World>,
    /// The generation that each server has.
    pub at: Vec<usize>,
    /// Which of them are away.
    away: Vec<bool>,
    /// When each generation was published, in seconds.
    published: Vec<u64>,
    pub now: u64,
}

/// The end of a frame.
pub enum End {
    /// Delivered to this container.
    To(Container, Vec<u8>),
    /// On the wire to this server.
    Wire(usize, Vec<u8>),
    Nowhere,
}

impl Servers {
    pub fn new(history: History) -> Servers {
        let first = history.generations[0].mapping();
        let worlds = (0..history.servers).map(|server| World::new(&config(server), &first)).collect();
        let (at, away) = (vec![0; history.servers], vec![false; history.servers]);
        Servers { worlds, at, away, published: vec![0], now: 0, history }
    }

    pub fn publish(&mut self) {
        if self.published.len() < self.history.generations.len() {
            self.published.push(self.now);
        }
    }

    /// A server takes the next generation or the latest one, if there is any. It may skip those that it need not know.
    pub fn take(&mut self, server: usize, latest: bool) {
        if self.away[server] {
            return;
        }
        let (at, last) = (self.at[server], self.published.len() - 1);
        let may_take = |&next: &usize| next == at + 1 || self.history.may_skip(server, at, next);
        let next = (at + 1..=last).rev().filter(|&next| latest || next == at + 1).find(may_take).unwrap_or(at);
        self.go_to(server, next);
    }

    fn go_to(&mut self, server: usize, generation: usize) {
        if generation > self.at[server] {
            self.at[server] = generation;
            self.worlds[server].remap(&self.history.generations[generation].mapping());
        }
    }

    pub fn is_away(&self, server: usize) -> bool {
        self.away[server]
    }

    pub fn leave(&mut self, server: usize) {
        self.away[server] = true;
    }

    /// Before any packet passes it, the server takes every generation that others, or frames on the wire, may still be
    /// at: a generation goes out of use when the one after it has been out for as long as anybody may be behind.
    pub fn come_back(&mut self, server: usize) {
        if !std::mem::take(&mut self.away[server]) {
            return;
        }
        let in_use = |&next_at: &u64| next_at + MOST_BEHIND + MOST_LATE >= self.now;
        let first = self.published[1..].iter().position(in_use).unwrap_or(self.published.len() - 1);
        (first..self.published.len()).for_each(|generation| self.go_to(server, generation));
    }

    /// Time passes; who would be too far behind takes what it has missed.
    pub fn wait(&mut self, seconds: u64) {
        for server in 0..self.at.len() {
            let then = self.now + seconds;
            let too_far = |next_at: &u64| next_at + MOST_BEHIND < then;
            while !self.away[server] && self.published.get(self.at[server] + 1).is_some_and(too_far) {
                self.take(server, false);
            }
        }
        self.now += seconds;
        self.worlds.iter_mut().for_each(|world| world.later(seconds));
    }

    pub fn converge(&mut self) {
        self.published.resize(self.history.generations.len(), self.now);
        let last = self.published.len() - 1;
        (0..self.at.len()).for_each(|server| {
            self.come_back(server);
            while self.at[server] < last {
                self.take(server, true);
            }
        });
    }

    /// Every generation from `first` up to the latest that a server has.
    pub fn since(&self, first: usize) -> &[Generation] {
        &self.history.generations[first..=self.at.iter().copied().max().unwrap()]
    }

    pub fn oldest(&self) -> usize {
        let present = self.at.iter().zip(&self.away).filter(|&(_, &away)| !away);
        present.map(|(&at, _)| at).min().unwrap_or(self.published.len() - 1)
    }

    /// A frame comes in by a port of a server.
    pub fn receive(&mut self, server: usize, port: &str, frame: &[u8]) -> End {
        if self.away[server] {
            return End::Nowhere;
        }
        let world = &mut self.worlds[server];
        let outcome = world.receive(port, frame);
        let words = world.words(outcome.verdict);
        let Some(out) = outcome.out else { return End::Nowhere };
        let Some(to) = words.strip_prefix("forward ") else { return End::Nowhere };
        if to == "uplink" {
            let towards = (0..self.worlds.len()).find(|&other| out[..6] == crate::packet::mac(&mac_of(other)).0);
            return towards.map_or(End::Nowhere, |towards| End::Wire(towards, out));
        }
        let container = Container::all().find(|container| container.port() == to).expect("a container's port");
        End::To(container, out)
    }
}

/// A server with an access port for whoever may come to live there.
fn config(server: usize) -> String {
    let mut text = format!(
        "[server]\nip = \"{}\"\nports = \"20480-20991\"\nmapping = \"mapping.sixway\"\n\
         [[port]]\nname = \"uplink\"\nrole = \"uplink\"\naddress = \"{}\"\nmtu = 1500\n",
        ip_of(server),
        mac_of(server)
    );
    for tenant in TENANTS {
        text += &format!(
            "[[network]]\nname = \"{tenant}\"\nprefixes = [\"10.0.0.0/8\"]\ngateway = \"169.254.1.1\"\noutside = true\n"
        );
    }
    for container in Container::all() {
        let (name, network, mac) = (container.port(), TENANTS[container.tenant], container.mac());
        text += &format!(
            "[[port]]\nname = \"{name}\"\nrole = \"access\"\nnetwork = \"{network}\"\nmac = \"{mac}\"\n\
             address = \"{}\"\n",
            port_mac(container)
        );
    }
    text
}

/// The MAC of a container's access port.
pub fn port_mac(container: Container) -> String {
    format!("02:0a:00:00:{:02x}:{:02x}", container.tenant, container.nth)
}
