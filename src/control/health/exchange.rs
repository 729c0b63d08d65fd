//! One probe: an exchange of packets with one container, by smoltcp. Without I/O and clock.

use std::collections::VecDeque;
use std::net::IpAddr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    HardwareAddress, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpCidr,
    IpProtocol, Ipv4Packet, Ipv6Packet,
};

use super::check::Kind;

/// The largest packet of a probe, which makes the answers no larger: what any host takes (RFC 1122 section 3.3.3), of IPv6
/// too.
const MTU: usize = 576;
/// What datagrams and echo requests carry.
const PAYLOAD: &[u8] = b"sixway health check";
/// Most of an HTTP answer that is looked at: the status line is at its beginning.
const STATUS_LINE: usize = "HTTP/1.1 200".len();

/// How a probe ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Good,
    /// No answer in time, or a wrong one.
    Bad,
    /// The container itself said no: a reset, or unreachable.
    Refused,
}

/// An end of an exchange: an address, and a port or echo identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    pub ip: IpAddr,
    pub port: u16,
}

/// A probe under way.
pub struct Exchange {
    kind: Kind,
    own: End,
    target: End,
    deadline: u64,
    wires: Wires,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    /// The container said no.
    refused: bool,
    /// HTTP: the request is on its way, and what has come back.
    asked: bool,
    heard: Vec<u8>,
    over: bool,
}

impl Exchange {
    /// Begins at `now`, in milliseconds, and fails at `deadline`. `seed` should not be guessed by the container.
    #[must_use]
    pub fn new(kind: &Kind, own: End, target: End, now: u64, deadline: u64, seed: u64) -> Exchange {
        let mut wires = Wires::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wires, instant(now));
        interface.update_ip_addrs(|addresses| {
            // There is room for one.
            let _ = addresses.push(IpCidr::new(own.ip.into(), if own.ip.is_ipv4() { 32 } else { 128 }));
        });
        // And for one route; without Ethernet its next hop is of no consequence.
        let routes = interface.routes_mut();
        let _ = match target.ip {
            IpAddr::V4(ip) => routes.add_default_ipv4_route(ip),
            IpAddr::V6(ip) => routes.add_default_ipv6_route(ip),
        };
        let mut sockets = SocketSet::new(Vec::new());
        let socket = match kind {
            Kind::Tcp | Kind::Http { .. } => sockets.add(tcp_socket(&mut interface, own, target)),
            Kind::Udp => sockets.add(udp_socket(own, target)),
            Kind::Icmp => sockets.add(icmp_socket(own, target)),
        };
        Exchange {
            kind: kind.clone(),
            own,
            target,
            deadline,
            wires,
            interface,
            sockets,
            socket,
            refused: false,
            asked: false,
            heard: Vec::new(),
            over: false,
        }
    }

    /// Takes an IP packet from the container. False if it has nothing to do with this exchange.
    pub fn receive(&mut self, packet: &[u8]) -> bool {
        let Some((src, dst, is_unreachable)) = read(packet) else { return false };
        // A service that listens at all addresses answers a link-local one from its own (RFC 6724 section 5, rule 2).
        let is_beside = matches!((&self.kind, src), (Kind::Udp, IpAddr::V6(ip)) if ip.is_unicast_link_local());
        if dst != self.own.ip || src != self.target.ip && !is_beside {
            return false;
        }
        self.refused |= is_unreachable;
        self.wires.incoming.push_back(packet.to_vec());
        true
    }

    /// Goes on at `now`. Gives the outcome once, when it is known; the exchange may go on to take its leave.
    pub fn poll(&mut self, now: u64) -> Option<Outcome> {
        self.interface.poll(instant(now), &mut self.wires, &mut self.sockets);
        let outcome = if self.over { None } else { self.look(now) };
        if let Some(outcome) = outcome {
            self.over = true;
            if matches!(self.kind, Kind::Tcp | Kind::Http { .. }) {
                let socket = self.sockets.get_mut::<tcp::Socket>(self.socket);
                if outcome == Outcome::Good { socket.close() } else { socket.abort() }
            }
        }
        // What was just said has to leave.
        self.interface.poll(instant(now), &mut self.wires, &mut self.sockets);
        outcome
    }

    /// The next IP packet to the container.
    pub fn sent(&mut self) -> Option<Vec<u8>> {
        self.wires.outgoing.pop_front()
    }

    /// When to go on, if nothing comes.
    pub fn next_at(&mut self, now: u64) -> u64 {
        let next = self.interface.poll_at(instant(now), &self.sockets).map(|at| at.total_millis().max(0) as u64);
        next.map_or(self.deadline, |next| next.min(self.deadline))
    }

    /// True if the outcome is known.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.over
    }

    /// True if the outcome is known, and nothing is left to be said.
    #[must_use]
    pub fn is_done(&self, now: u64) -> bool {
        let silent = match self.kind {
            Kind::Tcp | Kind::Http { .. } => {
                let state = self.sockets.get::<tcp::Socket>(self.socket).state();
                matches!(state, tcp::State::Closed | tcp::State::TimeWait)
            }
            Kind::Udp | Kind::Icmp => true,
        };
        self.over && (silent || now >= self.deadline)
    }

    fn look(&mut self, now: u64) -> Option<Outcome> {
        let seen = match self.kind {
            Kind::Tcp | Kind::Http { .. } => self.look_at_tcp(),
            Kind::Udp => {
                let socket = self.sockets.get_mut::<udp::Socket>(self.socket);
                let from = socket.recv().ok().map(|(_, meta)| meta.endpoint);
                from.is_some_and(|from| from.port == self.target.port).then_some(Outcome::Good)
            }
            Kind::Icmp => {
                let socket = self.sockets.get_mut::<icmp::Socket>(self.socket);
                let is_v4 = self.target.ip.is_ipv4();
                let answered = socket.recv().is_ok_and(|(message, _)| is_echo_reply(message, is_v4));
                answered.then_some(Outcome::Good)
            }
        };
        if seen.is_none() && self.refused {
            return Some(Outcome::Refused);
        }
        seen.or((now >= self.deadline).then_some(Outcome::Bad))
    }

    fn look_at_tcp(&mut self) -> Option<Outcome> {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.socket);
        let state = socket.state();
        let Kind::Http { path } = &self.kind else {
            return match state {
                tcp::State::SynSent => None,
                tcp::State::Closed => Some(Outcome::Refused),
                _ => Some(Outcome::Good),
            };
        };
        if socket.may_send() && !self.asked {
            // RFC 3986 section 3.2.2.
            let host = match self.target.ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sixway\r\nConnection: close\r\n\r\n");
            self.asked = socket.send_slice(request.as_bytes()).is_ok();
        }
        while socket.can_recv() && self.heard.len() < STATUS_LINE {
            let taken = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            self.heard.extend(taken.unwrap_or_default());
        }
        if self.heard.len() >= STATUS_LINE {
            return Some(if is_good(&self.heard) { Outcome::Good } else { Outcome::Bad });
        }
        match state {
            tcp::State::Closed => Some(Outcome::Refused),
            tcp::State::CloseWait => Some(Outcome::Bad),
            _ => None,
        }
    }
}

/// `HTTP/1.x` and a status that is no error (RFC 9110 section 15).
fn is_good(answer: &[u8]) -> bool {
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(1..5));
    matches!(status, Some([b' ', b'2' | b'3', tens, ones]) if tens.is_ascii_digit() && ones.is_ascii_digit())
}

/// Who sends an IP packet to whom, and whether it says that what came could not be delivered: destination unreachable of
/// either ICMP is an answer to what we sent, since it came to our port.
fn read(packet: &[u8]) -> Option<(IpAddr, IpAddr, bool)> {
    const UNREACHABLE: (u8, u8) = (3, 1);
    if packet.first()? >> 4 == 4 {
        let view = Ipv4Packet::new_checked(packet).ok()?;
        let is_icmp = view.next_header() == IpProtocol::Icmp;
        let is_unreachable = is_icmp && view.payload().first() == Some(&UNREACHABLE.0);
        return Some((view.src_addr().into(), view.dst_addr().into(), is_unreachable));
    }
    let view = Ipv6Packet::new_checked(packet).ok()?;
    let is_icmp = view.next_header() == IpProtocol::Icmpv6;
    let is_unreachable = is_icmp && view.payload().first() == Some(&UNREACHABLE.1);
    Some((view.src_addr().into(), view.dst_addr().into(), is_unreachable))
}

fn is_echo_reply(message: &[u8], is_v4: bool) -> bool {
    if is_v4 {
        return Icmpv4Packet::new_checked(message).is_ok_and(|reply| reply.msg_type() == Icmpv4Message::EchoReply);
    }
    Icmpv6Packet::new_checked(message).is_ok_and(|reply| reply.msg_type() == Icmpv6Message::EchoReply)
}

fn tcp_socket(interface: &mut Interface, own: End, target: End) -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 1024]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_ack_delay(None);
    // Both ends are good ones, or the configuration would have been refused.
    let _ = socket.connect(interface.context(), (target.ip, target.port), own.port);
    socket
}

fn udp_socket(own: End, target: End) -> udp::Socket<'static> {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 2 * MTU]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    let _ = socket.bind(own.port);
    let _ = socket.send_slice(PAYLOAD, (target.ip, target.port));
    socket
}

fn icmp_socket(own: End, target: End) -> icmp::Socket<'static> {
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 2 * MTU]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    let _ = socket.bind(icmp::Endpoint::Ident(own.port));
    let (ident, seq_no, data) = (own.port, 0, PAYLOAD);
    match (own.ip, target.ip) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let request = Icmpv6Repr::EchoRequest { ident, seq_no, data };
            if let Ok(place) = socket.send(request.buffer_len(), target.ip.into()) {
                let caps = ChecksumCapabilities::default();
                request.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(place), &caps);
            }
        }
        _ => {
            let request = Icmpv4Repr::EchoRequest { ident, seq_no, data };
            if let Ok(place) = socket.send(request.buffer_len(), target.ip.into()) {
                request.emit(&mut Icmpv4Packet::new_unchecked(place), &ChecksumCapabilities::default());
            }
        }
    }
    socket
}

fn instant(ms: u64) -> Instant {
    Instant::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Packets on their way between the exchange and the container.
#[derive(Default)]
struct Wires {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Device for Wires {
    type RxToken<'a> = Arriving;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Arriving, Leaving<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Arriving(packet), Leaving(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        // A container's kernel leaves them to its NIC, which is the other end of a veth pair.
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities.checksum.udp = Checksum::Tx;
        capabilities
    }
}

struct Arriving(Vec<u8>);

impl RxToken for Arriving {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Leaving<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

#[cfg(test)]
mod tests;
