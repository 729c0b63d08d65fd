//! Datagrams: who answers flows that go on, and how many new flows come to each replica.

use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::{CLIENTS, ERIN, IP};
use crate::lab::namespace::Namespace;
use crate::lab::peers::udp;
use crate::lab::raw::{self, Injector};
use crate::lab::{CAST, Lab, Member, SOON, gateway_mac, until};

/// Where replicas say who they are.
pub const ASK: u16 = 53;
/// Where they count what comes.
pub const COUNT: [u16; 4] = [9000, 9001, 9002, 9003];
/// At how many replicas new flows are begun, and to which of the names. Engines remember 131,072 flows each: these are
/// 14,000 and 42,000 from either server, half of that.
pub const NEW_FLOWS: [(usize, Range<usize>); 2] = [(4, 0..1), (32, 1..4)];
/// Source ports of each client. Those of default mode have no more on the wire.
const SOURCES: u16 = 7000;
/// Datagrams under way: less than the shortest queue holds.
const WINDOW: u64 = 128;
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A server of datagrams in every replica.
pub struct Herd {
    stop: Arc<AtomicBool>,
    /// By replica.
    counted: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Herd {
    pub fn start<'n>(places: impl Iterator<Item = &'n Namespace>) -> Herd {
        let mut herd = Herd { stop: Arc::default(), counted: Vec::new(), threads: Vec::new() };
        for (nth, place) in places.enumerate() {
            let bind = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port");
            let (asked, counting) = place.within(|| (bind(ASK), COUNT.map(bind)));
            for socket in &counting {
                set_socket_recv_buffer_size_force(socket, 1 << 20).expect("root may ask for much");
            }
            let (stop, counted) = (Arc::clone(&herd.stop), Arc::new(AtomicU64::new(0)));
            herd.counted.push(Arc::clone(&counted));
            herd.threads.push(std::thread::spawn(move || serve(nth, &asked, &counting, &stop, &counted)));
        }
        herd
    }

    fn loads(&self) -> Vec<u64> {
        self.counted.iter().map(|counted| counted.load(Ordering::Relaxed)).collect()
    }

    /// Begins the new flows of a stage, a datagram each, from every client. Returns how many have come to each replica;
    /// all have.
    pub fn new_flows(&self, lab: &Lab, stage: usize) -> Vec<u64> {
        let before = self.loads();
        let arrived = || self.loads().iter().sum::<u64>() - before.iter().sum::<u64>();
        let ports = &COUNT[NEW_FLOWS[stage].1.clone()];
        let mut sent = 0;
        for client in CLIENTS {
            let Member { mac, ip, .. } = *CAST.iter().chain([&ERIN]).find(|one| one.name == client).expect("a client");
            let macs = (raw::mac(mac), gateway_mac(lab, client));
            let mut injector = Injector::new(lab.at(client), "eth0");
            let first = first_port(client);
            for (&port, from) in ports.iter().flat_map(|port| (first..first + SOURCES).map(move |from| (port, from))) {
                injector.send(&raw::udp(macs, (ip, from), (IP, port), b"count me"));
                sent += 1;
                if sent % WINDOW == 0 {
                    until("datagrams arrive", SOON, || (arrived() + WINDOW > sent).then_some(()));
                }
            }
        }
        until("all datagrams arrive", SOON, || (arrived() == sent).then_some(()));
        self.loads().iter().zip(before).map(|(now, before)| now - before).collect()
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The first of a client's source ports: within its block, where that is native.
fn first_port(client: &str) -> u16 {
    match client {
        "alice" => 32_768,
        "erin" => 40_960,
        _ => 10_000,
    }
}

fn serve(nth: usize, asked: &UdpSocket, counting: &[UdpSocket], stop: &AtomicBool, counted: &AtomicU64) {
    asked.set_nonblocking(true).expect("a socket option");
    counting.iter().for_each(|socket| socket.set_nonblocking(true).expect("a socket option"));
    let mut datagram = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let mut fds: Vec<PollFd<'_>> =
            counting.iter().chain([asked]).map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        let _ = poll(&mut fds, Some(&GLANCE));
        while let Ok((_, peer)) = asked.recv_from(&mut datagram) {
            let _ = asked.send_to(format!("r{nth}").as_bytes(), peer);
        }
        for socket in counting {
            while socket.recv(&mut datagram).is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Sockets that ask who answers them, now and then, and the replica that has answered first.
#[derive(Default)]
pub struct Callers(Vec<(usize, UdpSocket)>);

impl Callers {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// So many more, from all clients in turn.
    pub fn call(&mut self, lab: &Lab, count: usize) {
        for client in CLIENTS.iter().cycle().take(count) {
            let socket = udp(lab.at(client), (IP, ASK));
            let replica = ask(&socket);
            self.0.push((replica, socket));
        }
    }

    /// All flows to the first `count` replicas stay where they are; the others are given up.
    pub fn stay(&mut self, count: usize) {
        self.0.retain(|&(replica, _)| replica < count);
        for (replica, socket) in &self.0 {
            assert_eq!(ask(socket), *replica, "a flow of datagrams stays on its replica");
        }
    }
}

/// Who answers. One that is lost on a busy machine is asked again.
fn ask(socket: &UdpSocket) -> usize {
    let mut answer = [0; 64];
    let who = (0..3).find_map(|_| {
        socket.send(b"who are you?").ok()?;
        let len = socket.recv(&mut answer).ok()?;
        std::str::from_utf8(&answer[..len]).ok()?.strip_prefix('r')?.parse().ok()
    });
    who.expect("an answer")
}
