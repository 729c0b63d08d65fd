//! Where everything lies in the file: one array per kind of fact, each indexed by slot.

use std::ops::Range;

use super::affinity;
use crate::units::{Endpoint, Ip, PortRange, Proto};

/// What the arrays are made for: the ServerIPs of this server, in the order of the configuration, and the owned range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    pub servers: Vec<Ip>,
    pub ports: PortRange,
}

/// Which timers and which array a wire name has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    Tcp,
    Udp,
    /// ICMP and ICMPv6 echo: the identifier is the port.
    Echo,
    /// All else: one wire name per (ServerIP, protocol number).
    Portless,
}

impl Transport {
    /// The transport of a protocol number.
    #[inline(always)]
    #[must_use]
    pub fn of(proto: Proto) -> Transport {
        match proto {
            Proto::TCP => Transport::Tcp,
            Proto::UDP => Transport::Udp,
            Proto::ICMP | Proto::ICMPV6 => Transport::Echo,
            _ => Transport::Portless,
        }
    }
}

/// The index of one wire name in the arrays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    pub(super) index: u32,
    pub(super) transport: Transport,
}

/// Words before the affinity table: a page, so that its buckets are cache lines.
pub(super) const HEADER_WORDS: usize = 512;
/// Words before the first array.
const ARRAYS_AT: usize = HEADER_WORDS + affinity::WORDS;
/// The header holds two words a server.
pub(super) const MAX_SERVERS: usize = 200;
const PORTLESS: u32 = 256;

/// The geometry with its sums done.
pub(super) struct Layout {
    pub geometry: Geometry,
    /// Slots of one server: three arrays of ports, then the portless protocols.
    per_server: u32,
    /// Slots of all servers.
    pub slots: u32,
    /// Records for ports that several inside ports share: a power of two.
    pub overlaps: u32,
}

impl Layout {
    /// `None` if there are too many servers for a header.
    pub fn new(geometry: &Geometry) -> Option<Layout> {
        if geometry.servers.len() > MAX_SERVERS {
            return None;
        }
        let per_server = 3 * geometry.ports.count() + PORTLESS;
        let slots = per_server * geometry.servers.len() as u32;
        let overlaps = (slots / 4).next_power_of_two().max(1024);
        Some(Layout { geometry: geometry.clone(), per_server, slots, overlaps })
    }

    /// All words of the file.
    pub fn words(&self) -> usize {
        self.overlap_slots().end
    }

    #[inline(always)]
    fn array(&self, nth: usize) -> Range<usize> {
        let start = ARRAYS_AT + nth * self.slots as usize;
        start..start + self.slots as usize
    }

    /// Which replica flows stay on: of no one server.
    pub fn affinity(&self) -> Range<usize> {
        HEADER_WORDS..ARRAYS_AT
    }

    /// Last-sent clocks: both sides in one word.
    pub fn clocks(&self) -> Range<usize> {
        self.array(0)
    }

    /// Translation entries.
    pub fn entries(&self) -> Range<usize> {
        self.array(1)
    }

    /// How far from its preferred port an inside port has been placed.
    pub fn reaches(&self) -> Range<usize> {
        self.array(2)
    }

    /// Identity hashes of owners.
    pub fn owners(&self) -> Range<usize> {
        self.array(3)
    }

    /// When owners were lost and since when names rest.
    pub fn rests(&self) -> Range<usize> {
        self.array(4)
    }

    fn overlap_array(&self, nth: usize) -> Range<usize> {
        let start = ARRAYS_AT + 5 * self.slots as usize + nth * self.overlaps as usize;
        start..start + self.overlaps as usize
    }

    /// Records keyed by the remote: their entries,
    pub fn overlap_entries(&self) -> Range<usize> {
        self.overlap_array(0)
    }

    /// their remotes,
    pub fn overlap_remotes(&self) -> Range<usize> {
        self.overlap_array(1)
    }

    /// and their slots.
    pub fn overlap_slots(&self) -> Range<usize> {
        self.overlap_array(2)
    }

    /// Which of our servers has this address.
    #[inline(always)]
    pub fn server(&self, ip: Ip) -> Option<u16> {
        self.geometry.servers.iter().position(|&server| server == ip).map(|at| at as u16)
    }

    /// The slot of port `port` (in the owned range) of a server.
    #[inline(always)]
    pub fn port_slot(&self, server: u16, transport: Transport, port: u16) -> u32 {
        let ports = self.geometry.ports;
        let plane = match transport {
            Transport::Tcp => 0,
            Transport::Udp => 1,
            Transport::Echo | Transport::Portless => 2,
        };
        u32::from(server) * self.per_server + plane * ports.count() + u32::from(port - ports.first)
    }

    /// The slot of a wire name; `None` if it is not one of ours.
    #[inline(always)]
    pub fn slot(&self, server: Ip, proto: Proto, port: u16) -> Option<Slot> {
        let server = self.server(server)?;
        let transport = Transport::of(proto);
        let index = if transport == Transport::Portless {
            u32::from(server) * self.per_server + 3 * self.geometry.ports.count() + u32::from(proto.0)
        } else if self.geometry.ports.contains(port) {
            self.port_slot(server, transport, port)
        } else {
            return None;
        };
        Some(Slot { index, transport })
    }

    /// The transport of any slot below [`Layout::slots`].
    pub fn transport(&self, index: u32) -> Transport {
        match index % self.per_server / self.geometry.ports.count() {
            0 => Transport::Tcp,
            1 => Transport::Udp,
            2 => Transport::Echo,
            _ => Transport::Portless,
        }
    }

    /// The wire name of any slot below [`Layout::slots`]. Echo is reported as ICMPv6 where the server has an IPv6
    /// address.
    pub fn wire_name(&self, index: u32) -> Endpoint {
        let ip = self.geometry.servers[(index / self.per_server) as usize];
        let count = self.geometry.ports.count();
        let within = index % self.per_server;
        let port = self.geometry.ports.first.wrapping_add((within % count) as u16);
        match self.transport(index) {
            Transport::Tcp => Endpoint { proto: Proto::TCP, ip, port },
            Transport::Udp => Endpoint { proto: Proto::UDP, ip, port },
            Transport::Echo => Endpoint { proto: if ip.is_v4() { Proto::ICMP } else { Proto::ICMPV6 }, ip, port },
            Transport::Portless => Endpoint { proto: Proto((within - 3 * count) as u8), ip, port: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_of_ours_has_a_slot_of_its_own_that_says_its_name() {
        let servers: [Ip; 2] = ["192.168.50.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let ports = PortRange { first: 20480, last: 20580 };
        let layout = Layout::new(&Geometry { servers: servers.to_vec(), ports }).unwrap();
        let mut seen = HashSet::new();
        for ip in servers {
            let echo = if ip.is_v4() { Proto::ICMP } else { Proto::ICMPV6 };
            let with_ports = [Proto::TCP, Proto::UDP, echo];
            let ports = with_ports.into_iter().flat_map(|proto| (20480..=20580).map(move |port| (proto, port)));
            let portless = (0..=255).map(|number| (Proto(number), 0));
            let portless = portless.filter(|(proto, _)| Transport::of(*proto) == Transport::Portless);
            for (proto, port) in ports.chain(portless) {
                let slot = layout.slot(ip, proto, port).unwrap();
                assert!(slot.index < layout.slots && seen.insert(slot.index), "{proto} {port}");
                assert_eq!(layout.wire_name(slot.index), Endpoint { proto, ip, port });
                assert_eq!(layout.transport(slot.index), slot.transport);
            }
        }
    }
}
