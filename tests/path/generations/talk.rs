//! What containers send, and what must become of it.

use super::MOST_LATE;
use super::history::{Container, History, INSIDE_BLOCK, Place, SHARED};
use super::servers::{End, Servers, port_mac};
use crate::packet::{ACK, FIN, Packet, RST, SYN, tcp, udp};
use sixway::units::Random;

/// Packets of no particular meaning, each turn.
const CHATTER: usize = 60;

pub struct Talk {
    pub servers: Servers,
    connections: Vec<Connection>,
    /// Frames that are still on the wire: who sent them, when, and towards which server.
    late: Vec<(Container, u64, usize, Vec<u8>)>,
    random: Random,
    pub delivered: usize,
    pub carried_on: usize,
}

/// How long a connection may be silent, in seconds, without losing its entries.
const MOST_SILENT: u64 = 200;

/// An open connection, in the words of both ends.
struct Connection {
    client: Container,
    server: Container,
    is_tcp: bool,
    /// The client's own end and the one that it called,
    called: (String, String),
    /// and what the server saw as the client's.
    seen: String,
    /// The oldest generation that was in use when it was opened, and the places of both ends then.
    since: usize,
    places: (Place, Place),
    /// When it was last heard of.
    heard: u64,
}

impl Talk {
    pub fn new(history: History, seed: u64) -> Talk {
        let servers = Servers::new(history);
        Talk {
            servers,
            connections: Vec::new(),
            late: Vec::new(),
            random: Random::new(seed),
            delivered: 0,
            carried_on: 0,
        }
    }

    pub fn wait(&mut self, seconds: u64) {
        self.servers.wait(seconds);
    }

    /// Everybody has the latest generation, and nothing rests any more.
    pub fn converge(&mut self) {
        self.servers.converge();
        self.servers.wait(61);
    }

    /// Late frames arrive, open connections go on, new ones are opened, and all kinds of things are sent besides.
    pub fn everybody(&mut self) {
        let now = self.servers.now;
        for (sender, sent, towards, frame) in std::mem::take(&mut self.late) {
            if now - sent <= MOST_LATE {
                self.follow(sender, End::Wire(towards, frame));
            }
        }
        let mut connections = std::mem::take(&mut self.connections);
        connections.retain_mut(|connection| self.goes_on(connection));
        self.connections = connections;
        for client in Container::all().filter(|container| container.has_block()) {
            self.open(client);
        }
        (0..CHATTER).for_each(|_| self.chatter());
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random.word() % below
    }

    /// A packet from behind the container's port on a server, to its end.
    fn send(&mut self, server: usize, sender: Container, packet: Packet) -> Option<(Container, Vec<u8>)> {
        let frame = packet.eth(&sender.mac(), &port_mac(sender)).bytes();
        let end = self.servers.receive(server, &sender.port(), &frame);
        if let End::Wire(towards, frame) = &end
            && self.random(4) == 0
        {
            let copy = (sender, self.servers.now, *towards, frame.clone());
            self.late.push(copy);
        }
        self.follow(sender, end)
    }

    /// Follows a frame to its end, which is never with another tenant.
    fn follow(&mut self, sender: Container, mut end: End) -> Option<(Container, Vec<u8>)> {
        loop {
            match end {
                End::Nowhere => return None,
                End::Wire(towards, frame) => end = self.servers.receive(towards, "uplink", &frame),
                End::To(receiver, frame) => {
                    assert_eq!(
                        receiver.tenant, sender.tenant,
                        "{sender:?} reached {receiver:?}: {:?}",
                        self.servers.at
                    );
                    self.delivered += 1;
                    return Some((receiver, frame));
                }
            }
        }
    }

    fn chatter(&mut self) {
        let who = self.random(10) as usize;
        let sender = Container::all().nth(who).unwrap();
        let server = self.random(self.servers.at.len() as u64) as usize;
        let end = |of: &mut Talk, ips: &[&str]| {
            let ip = ips[of.random(ips.len() as u64) as usize].to_owned();
            let ports = [80, INSIDE_BLOCK + 3, INSIDE_BLOCK + 7, 50_000, 20480 + of.random(6) as u16, 20739];
            format!("{ip}:{}", ports[of.random(6) as usize])
        };
        let own = sender.ip();
        let from = end(self, &[own.as_str()]);
        let to = end(self, &["10.0.0.1", "10.0.0.2", SHARED, SHARED, "192.168.50.1", "192.168.50.2"]);
        // Whoever speaks in the names of a connection may end it, or take it over from another replica.
        let is_ends = |connection: &Connection| {
            let Connection { client, called: (caller, called), seen, .. } = connection;
            let names = (&from, &to);
            client.tenant == sender.tenant && (names == (called, seen) || names == (caller, called))
        };
        if self.connections.iter().any(is_ends) {
            return;
        }
        let flags = [SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST][self.random(6) as usize];
        let packet = if self.random(2) == 0 { udp(&from, &to) } else { tcp(&from, &to, flags) };
        self.send(server, sender, packet);
    }

    /// Opens a connection from where the client lives, by the oldest generation, to somebody of its tenant.
    fn open(&mut self, client: Container) {
        let oldest = self.servers.oldest();
        let place = |talk: &Talk, container| talk.servers.history.generations[oldest].place(container).copied();
        let Some(at) = place(self, client) else { return };
        let is_tcp = self.random(3) > 0;
        // Datagrams to several replicas have their own stories.
        let to = match self.random(if is_tcp { 3 } else { 1 }) {
            0 => format!("10.0.0.{}:80", 2 - client.nth),
            _ => format!("{SHARED}:80"),
        };
        let port =
            if client.is_native() { INSIDE_BLOCK + self.random(7) as u16 } else { 50_000 + self.random(999) as u16 };
        let from = format!("{}:{port}", client.ip());
        let called = (from.clone(), to.clone());
        if self.connections.iter().any(|other| other.client == client && other.called == called) {
            return;
        }
        let packet = if is_tcp { tcp(&from, &to, SYN) } else { udp(&from, &to) };
        let Some((server, frame)) = self.send(at.server, client, packet) else { return };
        let Some(server_at) = place(self, server) else { return };
        let seen = source(&frame);
        let places = (at, server_at);
        let heard = self.servers.now;
        let connection = Connection { client, server, is_tcp, called, seen, since: oldest, places, heard };
        if self.unchanged(&connection) {
            self.answer(&connection, SYN | ACK);
            self.call(&connection, ACK);
            self.connections.push(connection);
        }
    }

    /// True if both ends have had the same names in every generation that was in use since it was opened.
    fn unchanged(&self, connection: &Connection) -> bool {
        let same = |container, was: &Place| {
            let is_same = |place: Option<&Place>| place.is_some_and(|place| place.is_same(was));
            self.servers.since(connection.since).iter().all(|generation| is_same(generation.place(container)))
        };
        same(connection.client, &connection.places.0) && same(connection.server, &connection.places.1)
    }

    /// A connection whose ends are as they were carries both ways; of others nothing is promised. While one of its
    /// servers is away it waits.
    fn goes_on(&mut self, connection: &mut Connection) -> bool {
        if !self.unchanged(connection) || self.servers.now - connection.heard > MOST_SILENT {
            return false;
        }
        let Connection { places, .. } = connection;
        if [places.0.server, places.1.server].into_iter().any(|server| self.servers.is_away(server)) {
            return true;
        }
        connection.heard = self.servers.now;
        self.call(connection, ACK);
        self.answer(connection, ACK);
        self.carried_on += 2;
        true
    }

    fn call(&mut self, connection: &Connection, flags: u8) {
        let Connection { client, server, is_tcp, called: (from, to), seen, places, .. } = connection;
        let packet = if *is_tcp { tcp(from, to, flags) } else { udp(from, to) };
        let end = self.send(places.0.server, *client, packet);
        let end = end.map(|(receiver, frame)| (receiver, source(&frame), destination(&frame)));
        assert_eq!(end, Some((*server, seen.clone(), to.clone())), "{from} to {to}, generations {:?}", self.servers.at);
    }

    fn answer(&mut self, connection: &Connection, flags: u8) {
        let Connection { client, server, is_tcp, called: (from, to), seen, places, .. } = connection;
        let packet = if *is_tcp { tcp(to, seen, flags) } else { udp(to, seen) };
        let end = self.send(places.1.server, *server, packet);
        let end = end.map(|(receiver, frame)| (receiver, source(&frame), destination(&frame)));
        assert_eq!(end, Some((*client, to.clone(), from.clone())), "{to} back to {from}, {:?}", self.servers.at);
    }
}

fn source(frame: &[u8]) -> String {
    endpoint(frame, 26, 34)
}

fn destination(frame: &[u8]) -> String {
    endpoint(frame, 30, 36)
}

fn endpoint(frame: &[u8], ip: usize, port: usize) -> String {
    let [a, b, c, d] = frame[ip..ip + 4].try_into().unwrap();
    format!("{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([frame[port], frame[port + 1]]))
}
