//! A binding as a human or the API writes it, and the rules that it must keep by itself.

use std::fmt;
use std::sync::Arc;

use crate::units::{Ip, Mac, PortRange, Proto};

/// The protocols that a binding serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// TCP, UDP and ICMP echo (of the binding's address family).
    Any,
    One(Proto),
}

impl Protocol {
    /// True if packets of `proto` are served.
    #[inline]
    #[must_use]
    pub fn serves(self, proto: Proto) -> bool {
        match self {
            Protocol::Any => proto.has_ports(),
            Protocol::One(one) => one == proto,
        }
    }

    /// True if some protocol is served by both.
    #[must_use]
    pub fn overlaps(self, other: Protocol) -> bool {
        match (self, other) {
            (Protocol::One(one), other) => other.serves(one),
            (Protocol::Any, Protocol::One(one)) => one.has_ports(),
            (Protocol::Any, Protocol::Any) => true,
        }
    }

    /// The protocols, one by one, for addresses of the family of `ip`.
    pub fn each(self, ip: Ip) -> impl Iterator<Item = Proto> {
        let icmp = if ip.is_v4() { Proto::ICMP } else { Proto::ICMPV6 };
        let all = [Proto::TCP, Proto::UDP, icmp];
        let one = match self {
            Protocol::Any => None,
            Protocol::One(one) => Some(one),
        };
        all.into_iter().filter(move |_| one.is_none()).chain(one)
    }

    /// The word of the mapping file: `icmp` for both families.
    pub(super) fn from_word(word: &str, v4: bool) -> Option<Protocol> {
        Some(Protocol::One(match word {
            "any" => return Some(Protocol::Any),
            "tcp" => Proto::TCP,
            "udp" => Proto::UDP,
            "icmp" if v4 => Proto::ICMP,
            "icmp" => Proto::ICMPV6,
            "esp" => Proto::ESP,
            "ah" => Proto::AH,
            "gre" => Proto::GRE,
            "sctp" => Proto::SCTP,
            _ => return None,
        }))
    }

    fn has_ports(self) -> bool {
        match self {
            Protocol::Any => true,
            Protocol::One(one) => one.has_ports(),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Protocol::Any => f.write_str("any"),
            Protocol::One(Proto::ICMPV6) => f.write_str("icmp"),
            Protocol::One(one) => one.fmt(f),
        }
    }
}

/// The ports of one half of a binding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Ports {
    /// A portless protocol.
    None,
    /// A service binding.
    One(u16),
    /// A client block.
    Block(PortRange),
}

impl Ports {
    /// First port and exponent of the size; a single port is a range of one, and a portless half one from 0.
    #[must_use]
    pub fn base_and_log2(self) -> (u16, u8) {
        match self {
            Ports::None => (0, 0),
            Ports::One(port) => (port, 0),
            Ports::Block(range) => (range.first, range.count().ilog2() as u8),
        }
    }
}

/// A published name, as written: without a port it is the binding's inside port (or none, for a portless protocol).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Published {
    pub ip: Ip,
    pub port: Option<u16>,
}

/// One binding: one line of the mapping, wire half and inside half.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BindingSpec {
    pub network: Arc<str>,
    pub proto: Protocol,
    /// `None`: to be resolved.
    pub server_mac: Option<Mac>,
    pub server_ip: Ip,
    pub wire: Ports,
    /// `None`: to be resolved.
    pub mac: Option<Mac>,
    pub ip: Ip,
    /// Of the same kind and size as `wire`.
    pub inside: Ports,
    /// Share of a service among its replicas; 1 if nothing is said, never 0.
    pub weight: u16,
    /// Used only when no active replica is left.
    pub standby: bool,
    /// Keeps its connections and gets no new ones.
    pub drain: bool,
    /// The container's local port range is the first 7/8 of the inside range.
    pub native: bool,
    /// What tells apart replicas that share even their MAC.
    pub id: Option<Arc<str>>,
    pub public: Option<Published>,
}

/// The parts of a binding, in the order in which the mapping file writes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    Network,
    Proto,
    ServerMac,
    Server,
    Mac,
    Container,
    Native,
    Weight,
    Id,
    Public,
}

/// What is wrong with a binding, and with which part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub part: Part,
    pub message: String,
}

impl BindingSpec {
    /// A binding of `network` without options.
    #[must_use]
    pub fn new(
        network: &str,
        proto: Protocol,
        server: (Ip, Ports),
        container: (Option<Mac>, Ip, Ports),
    ) -> BindingSpec {
        BindingSpec {
            network: network.into(),
            proto,
            server_mac: None,
            server_ip: server.0,
            wire: server.1,
            mac: container.0,
            ip: container.1,
            inside: container.2,
            weight: 1,
            standby: false,
            drain: false,
            native: false,
            id: None,
            public: None,
        }
    }

    /// The identity: no two bindings of a mapping may share it.
    #[must_use]
    pub fn key(&self) -> BindingKey {
        BindingKey {
            network: self.network.clone(),
            proto: self.proto,
            mac: self.mac,
            ip: self.ip,
            ports: if self.is_same_numbers() { KeyPorts::SameNumbers } else { KeyPorts::Exactly(self.inside) },
            id: self.id.clone(),
        }
    }

    /// As [`BindingSpec::key`], with the numbers of a block of equal ones.
    #[must_use]
    pub fn exact_key(&self) -> BindingKey {
        BindingKey { ports: KeyPorts::Exactly(self.inside), ..self.key() }
    }

    /// True for a client block that is written with `*`: equal numbers on both sides.
    #[must_use]
    pub fn is_same_numbers(&self) -> bool {
        matches!(self.inside, Ports::Block(_)) && self.inside == self.wire
    }

    /// True for a client block.
    #[must_use]
    pub fn is_block(&self) -> bool {
        matches!(self.wire, Ports::Block(_))
    }

    /// The rules that one binding must keep by itself; those between bindings are kept by the live tables.
    ///
    /// # Errors
    /// The first part that is wrong.
    pub fn check(&self) -> Result<(), Fault> {
        let fault = |part, message: String| Err(Fault { part, message });
        if !is_word(&self.network) {
            return fault(Part::Network, "a network's name is one word without blanks".to_owned());
        }
        for (part, mac) in [(Part::ServerMac, self.server_mac), (Part::Mac, self.mac)] {
            if let Some(mac) = mac.filter(|mac| mac.is_group() || *mac == Mac::ZERO) {
                return fault(part, format!("no station has the MAC {mac}; write - to have it resolved"));
            }
        }
        for (part, ip) in [(Part::Server, self.server_ip), (Part::Container, self.ip)] {
            if !is_unicast(ip) {
                return fault(part, format!("{ip} is no unicast address"));
            }
        }
        if self.server_ip.is_v4() != self.ip.is_v4() {
            let message = "server and container must be of one address family: both IPv4 or both IPv6";
            return fault(Part::Container, message.to_owned());
        }
        if let Protocol::One(icmp @ (Proto::ICMP | Proto::ICMPV6)) = self.proto
            && (icmp == Proto::ICMP) != self.ip.is_v4()
        {
            return fault(Part::Proto, format!("{icmp} is of the other address family than {}", self.ip));
        }
        self.check_ports()?;
        self.check_options()
    }

    fn check_ports(&self) -> Result<(), Fault> {
        let fault = |part, message: String| Err(Fault { part, message });
        let proto = self.proto;
        match (proto.has_ports(), self.wire) {
            (true, Ports::None) => {
                return fault(Part::Server, format!("{proto} needs a port: {}:PORT", self.server_ip));
            }
            (false, Ports::One(_) | Ports::Block(_)) => {
                return fault(Part::Server, format!("{proto} has no ports: write {} alone", self.server_ip));
            }
            _ => {}
        }
        match (self.wire, self.inside) {
            (Ports::None, Ports::None) => Ok(()),
            (Ports::None, _) => fault(Part::Container, format!("{proto} has no ports: write {} alone", self.ip)),
            (_, Ports::None) => fault(Part::Container, format!("{proto} needs a port: {}:PORT", self.ip)),
            (Ports::One(wire), Ports::One(inside)) => {
                if wire == 0 {
                    fault(Part::Server, "port 0 can't be bound".to_owned())
                } else if inside == 0 {
                    fault(Part::Container, "port 0 can't be bound".to_owned())
                } else {
                    Ok(())
                }
            }
            (Ports::One(wire), Ports::Block(inside)) => fault(
                Part::Container,
                format!(
                    "one server port ({wire}) can't serve the range {inside}: give one port, or a range on both sides"
                ),
            ),
            (Ports::Block(wire), Ports::One(inside)) => fault(
                Part::Container,
                format!("the server ports {wire} are a client block: write * (or an equal range) instead of {inside}"),
            ),
            (Ports::Block(wire), Ports::Block(inside)) => {
                aligned(Part::Server, wire)?;
                if wire.count() != inside.count() {
                    let (wants, has) = (wire.count(), inside.count());
                    let message = format!(
                        "the ranges differ in size ({wants} server ports, {has} here): write * or {wants} ports"
                    );
                    return fault(Part::Container, message);
                }
                aligned(Part::Container, inside)
            }
        }
    }

    fn check_options(&self) -> Result<(), Fault> {
        let fault = |part, message: &str| Err(Fault { part, message: message.to_owned() });
        if self.weight == 0 {
            return fault(Part::Weight, "weight is 1 to 65535; to send no new connections, write drain");
        }
        if let Some(id) = &self.id
            && !is_word(id)
        {
            return fault(Part::Id, "an id is one word without blanks");
        }
        if self.native {
            match self.wire {
                Ports::Block(range) if range.count() >= 8 => {}
                Ports::Block(_) => return fault(Part::Native, "native needs a block of 8 ports or more"),
                Ports::One(_) | Ports::None => return fault(Part::Native, "native is for client blocks only"),
            }
        }
        let Some(public) = self.public else { return Ok(()) };
        if self.is_block() {
            return fault(Part::Public, "a client block can't be public: publish the service ports one by one");
        }
        if !is_unicast(public.ip) {
            return Err(Fault { part: Part::Public, message: format!("{} is no unicast address", public.ip) });
        }
        if public.ip.is_v4() != self.ip.is_v4() {
            return fault(Part::Public, "the public address must be of the container's address family");
        }
        match (self.proto.has_ports(), public.port) {
            (false, Some(_)) => fault(Part::Public, "a portless protocol is published by its address alone"),
            (true, Some(0)) => fault(Part::Public, "port 0 can't be published"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for BindingSpec {
    /// The line of the mapping file, columns parted by one blank.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.network, self.proto, OrDash(self.server_mac))?;
        write_half(f, self.server_ip, self.wire, false)?;
        write!(f, " {} ", OrDash(self.mac))?;
        write_half(f, self.ip, self.inside, self.is_same_numbers())?;
        if self.weight != 1 {
            write!(f, " weight={}", self.weight)?;
        }
        for (set, word) in [(self.standby, " standby"), (self.drain, " drain"), (self.native, " native")] {
            f.write_str(if set { word } else { "" })?;
        }
        if let Some(id) = &self.id {
            write!(f, " id={id}")?;
        }
        if let Some(public) = self.public {
            write!(f, " public={public}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip.is_v4(), self.port) {
            (true, None) => self.ip.fmt(f),
            (false, None) => write!(f, "[{}]", self.ip),
            (true, Some(port)) => write!(f, "{}:{port}", self.ip),
            (false, Some(port)) => write!(f, "[{}]:{port}", self.ip),
        }
    }
}

/// What names a binding in a change set: (network, proto, id, ip, port).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BindingKey {
    pub network: Arc<str>,
    pub proto: Protocol,
    pub mac: Option<Mac>,
    pub ip: Ip,
    pub ports: KeyPorts,
    /// Defaults to the MAC.
    pub id: Option<Arc<str>>,
}

/// The port of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyPorts {
    /// `*`: the container's client block of equal numbers on both sides, whatever the numbers are. There must be
    /// only one.
    SameNumbers,
    Exactly(Ports),
}

impl fmt::Display for BindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.network, self.proto, OrDash(self.mac))?;
        match self.ports {
            KeyPorts::SameNumbers => write_half(f, self.ip, Ports::Block(PortRange { first: 0, last: 0 }), true)?,
            KeyPorts::Exactly(ports) => write_half(f, self.ip, ports, false)?,
        }
        self.id.as_ref().map_or(Ok(()), |id| write!(f, " id={id}"))
    }
}

/// A word of the mapping file: no blanks, and no `#` to begin with.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('#') && !text.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
}

fn is_unicast(ip: Ip) -> bool {
    let ip = ip.to_std();
    !ip.is_multicast() && !ip.is_unspecified() && ip != std::net::Ipv4Addr::BROADCAST
}

fn aligned(part: Part, range: PortRange) -> Result<(), Fault> {
    if range.aligned_log2().is_some() {
        return Ok(());
    }
    let count = range.count();
    let size = count.next_power_of_two();
    let first = u32::from(range.first) / size * size;
    let way_out = format!("for example {first}-{}", first + size - 1);
    let message = if count.is_power_of_two() {
        format!("the block {range} is not aligned: {count} ports start at a multiple of {count}, {way_out}")
    } else {
        format!("the block {range} has {count} ports: a block is an aligned power of two, {way_out}")
    };
    Err(Fault { part, message })
}

fn write_half(f: &mut fmt::Formatter<'_>, ip: Ip, ports: Ports, same_numbers: bool) -> fmt::Result {
    if ip.is_v4() {
        write!(f, "{ip}")?
    } else {
        write!(f, "[{ip}]")?
    }
    match ports {
        Ports::None => Ok(()),
        Ports::One(port) => write!(f, ":{port}"),
        Ports::Block(_) if same_numbers => f.write_str(":*"),
        Ports::Block(range) => write!(f, ":{range}"),
    }
}

struct OrDash(Option<Mac>);

impl fmt::Display for OrDash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(mac) => mac.fmt(f),
            None => f.write_str("-"),
        }
    }
}
