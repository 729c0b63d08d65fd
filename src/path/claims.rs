//! Which frames on an uplink or external port are the engine's: the rules of the XDP program (`afxdp/program/uplink.bpf.c`), for replay,
//! where no kernel applies them. Like the program it reads addresses, ports and identifiers and verifies nothing: a
//! malformed packet to an owned port is the engine's, which drops it for its own reason. `tests/claims_match.rs` holds
//! the two against each other.
//!
//! Later fragments follow their first, which the program remembers, and so does a [`Claimant`].

use std::collections::HashMap;

use super::client_error;
use super::port::{Port, Role};
use super::walk::Context;
use crate::flow::FRAGMENT_LIFE_MS;
use crate::frame::{Fragment, Frame, bears_tags};
use crate::naming::{Public, Wire};
use crate::units::{Endpoint, Ip, PortId, Proto};

const ETHERNET_LEN: usize = 14;
/// As many extension headers as the program walks (RFC 8200 section 4.1).
const MAX_EXTENSION_HEADERS: usize = 6;

/// Whose a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    Engine,
    Kernel,
    /// A fragment that came before the first of its packet: the engine keeps it until it knows.
    Undecided,
}

/// The program's memory of first fragments, by port: each interface has a program of its own.
#[derive(Default)]
pub struct Claimant {
    firsts: HashMap<(PortId, Name), First>,
}

/// What names a packet in fragments: source, destination, in IPv4 the protocol, and the identification.
type Name = (Ip, Ip, u8, u32);

struct First {
    second: u32,
    is_claimed: bool,
}

impl Claimant {
    /// Whose the XDP program would say that a frame is which comes in by `port`. On access ports all is the engine's.
    pub fn claim(&mut self, cx: &Context<'_>, port: PortId, own: &Port, frame: &Frame<'_>) -> Claim {
        let of = |is_claimed| if is_claimed { Claim::Engine } else { Claim::Kernel };
        let Some(rules) = Rules::of(cx, &own.role) else { return Claim::Engine };
        let Some(header) = Header::of(own, frame) else { return Claim::Kernel };
        let second = cx.now.seconds();
        if header.fragment == Fragment::Later {
            let first = self.firsts.get(&(port, header.name()));
            let first = first.filter(|first| u64::from(second.wrapping_sub(first.second)) < FRAGMENT_LIFE_MS / 1000);
            return match first {
                _ if !rules.is_here(&header) => Claim::Kernel,
                Some(first) => of(first.is_claimed),
                None => Claim::Undecided,
            };
        }
        let is_claimed = rules.decide(&header).unwrap_or(false);
        if header.fragment == Fragment::First && rules.is_here(&header) {
            self.firsts.insert((port, header.name()), First { second, is_claimed });
        }
        of(is_claimed)
    }
}

/// True if the XDP program would hand the frame, if it is no later fragment, to the engine; what it would not is the
/// kernel's. On access ports all is the engine's. Where a port has VLAN tags, what does not bear them is the kernel's.
#[must_use]
pub fn claims(cx: &Context<'_>, port: &Port, frame: &Frame<'_>) -> bool {
    let Some(rules) = Rules::of(cx, &port.role) else { return true };
    let header = Header::of(port, frame).filter(|header| header.fragment != Fragment::Later);
    header.is_some_and(|header| rules.decide(&header).unwrap_or(false))
}

/// An IP header as far as claims go, and where what follows it lies in the frame.
struct Header<'f> {
    frame: &'f [u8],
    src: Ip,
    dst: Ip,
    proto: Proto,
    fragment: Fragment,
    /// The identification of a fragment.
    id: u32,
    l4: usize,
    end: usize,
}

impl<'f> Header<'f> {
    /// The header of the packet in a frame that came by this port.
    fn of(port: &Port, frame: &'f Frame<'_>) -> Option<Header<'f>> {
        let bytes = frame.bytes();
        let at = ETHERNET_LEN + port.tags.byte_len();
        match bytes.get(at - 2..at) {
            _ if !bears_tags(bytes, port.tags) => None,
            Some([0x08, 0x00]) => Header::read_v4(bytes, at, None),
            Some([0x86, 0xdd]) => Header::read_v6(bytes, at, None),
            _ => None,
        }
    }

    /// What names its packet.
    fn name(&self) -> Name {
        (self.src, self.dst, if self.src.is_v4() { self.proto.0 } else { 0 }, self.id)
    }

    /// The header at `at`. `limit` is the end of the ICMP error that embeds it: its own length speaks of bytes that the
    /// error left out.
    fn read_v4(frame: &'f [u8], at: usize, limit: Option<usize>) -> Option<Header<'f>> {
        let ip: &[u8; 20] = frame.get(at..limit.map_or(frame.len(), |limit| limit.min(frame.len())))?.first_chunk()?;
        let (header_len, total_len) = (usize::from(ip[0] & 0x0f) * 4, usize::from(u16::from_be_bytes([ip[2], ip[3]])));
        if ip[0] >> 4 != 4 || header_len < ip.len() || (limit.is_none() && total_len < header_len) {
            return None;
        }
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *ip;
        let field = u16::from_be_bytes([ip[6], ip[7]]);
        Some(Header {
            frame,
            src: Ip::from_v4_octets([s0, s1, s2, s3]),
            dst: Ip::from_v4_octets([d0, d1, d2, d3]),
            proto: Proto(ip[9]),
            fragment: Fragment::of(field & 0x1fff, field & 0x2000 != 0),
            id: u32::from(u16::from_be_bytes([ip[4], ip[5]])),
            l4: at + header_len,
            end: limit.unwrap_or(at + total_len),
        })
    }

    /// The same for IPv6, with its extension headers.
    fn read_v6(frame: &'f [u8], at: usize, limit: Option<usize>) -> Option<Header<'f>> {
        let ip: &[u8; 40] = frame.get(at..limit.map_or(frame.len(), |limit| limit.min(frame.len())))?.first_chunk()?;
        let address = |at: usize| Some(Ip::from_v6_octets(*ip.get(at..)?.first_chunk()?));
        let (src, dst) = (address(8)?, address(24)?);
        if ip[0] >> 4 != 6 || src.is_v4() || dst.is_v4() {
            return None;
        }
        let payload_len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        let (l4, end) = (at + ip.len(), limit.unwrap_or(at + ip.len() + payload_len));
        let (proto, fragment) = (Proto(ip[6]), Fragment::Whole);
        let mut header = Header { frame, src, dst, proto, fragment, id: 0, l4, end };
        for _ in 0..=MAX_EXTENSION_HEADERS {
            // Hop-by-hop options, routing, fragment, destination options.
            if !matches!(header.proto.0, 0 | 43 | 44 | 60) {
                return Some(header);
            }
            let &[next, len, f0, f1, id @ ..] = header.l4_bytes::<8>()?;
            if header.proto.0 == 44 {
                let field = u16::from_be_bytes([f0, f1]);
                header.l4 += 8;
                header.id = u32::from_be_bytes(id);
                // Without more to come it is a whole packet, unless another header of the kind said otherwise.
                if field & 0xfff9 != 0 {
                    header.fragment = Fragment::of(field >> 3, field & 1 != 0);
                }
            } else if header.proto.0 == 43 && f1 != 0 {
                // Segments left: the destination is only a stop on the way.
                return None;
            } else {
                header.l4 += (usize::from(len) + 1) * 8;
            }
            header.proto = Proto(next);
            if header.fragment == Fragment::Later {
                return Some(header);
            }
        }
        None
    }

    /// The first bytes of what follows, if the frame and the IP packet hold them.
    fn l4_bytes<const N: usize>(&self) -> Option<&'f [u8; N]> {
        (self.l4 + N <= self.end).then(|| self.frame.get(self.l4..)?.first_chunk())?
    }

    fn is_icmp(&self) -> bool {
        self.proto == if self.src.is_v4() { Proto::ICMP } else { Proto::ICMPV6 }
    }

    fn has_ports(&self) -> bool {
        matches!(self.proto, Proto::TCP | Proto::UDP)
    }

    /// Echo request, echo reply: the types of the family.
    fn echo_types(&self) -> (u8, u8) {
        if self.src.is_v4() { (8, 0) } else { (128, 129) }
    }
}

/// What the interface is for, and the tables to decide by. `None`: not readable, so not claimed.
struct Rules<'c, 'g> {
    cx: &'c Context<'g>,
    uplink: bool,
    external: bool,
    /// Clients outside arrive here or by another port.
    gateway: bool,
}

impl<'c, 'g> Rules<'c, 'g> {
    /// The rules of a port; none where all is the engine's.
    fn of(cx: &'c Context<'g>, role: &Role) -> Option<Rules<'c, 'g>> {
        let (uplink, external) = match role {
            Role::Access(_) => return None,
            Role::Uplink { external } => (true, *external),
            Role::External => (false, true),
        };
        Some(Rules { cx, uplink, external, gateway: cx.around.is_gateway })
    }
}

impl Rules<'_, '_> {
    fn decide(&self, header: &Header<'_>) -> Option<bool> {
        let Header { dst: ip, proto, .. } = *header;
        if header.is_icmp() {
            return self.decide_icmp(header);
        }
        let port = match header.l4_bytes::<4>() {
            Some(&[_, _, p0, p1]) if header.has_ports() => u16::from_be_bytes([p0, p1]),
            None if header.has_ports() => return None,
            _ => 0,
        };
        let name = Endpoint { proto, ip, port };
        Some(self.external && self.is_public(name) || self.is_ours(name))
    }

    fn decide_icmp(&self, header: &Header<'_>) -> Option<bool> {
        let &[kind, _, _, _, i0, i1, ..] = header.l4_bytes::<8>()?;
        let (request, reply) = header.echo_types();
        if kind == request {
            let Context { names, around, .. } = self.cx;
            return Some(self.external && names.is_public_ip(header.dst) && !around.is_of_host(header.dst));
        }
        if kind == reply {
            return Some(self.is_server(header.dst) && self.expects_echo(u16::from_be_bytes([i0, i1])));
        }
        let is_error = if header.src.is_v4() { matches!(kind, 3 | 4 | 11 | 12) } else { (1..=4).contains(&kind) };
        if !is_error {
            return Some(false);
        }
        if self.is_here(header) {
            self.decide_error(header)
        } else {
            Some(self.uplink && self.gateway && self.is_about_call(header)?)
        }
    }

    /// An error is the engine's if the packet that it is about was: the embedded source is one of our names.
    fn decide_error(&self, error: &Header<'_>) -> Option<bool> {
        let embedded = Rules::embedded(error)?;
        let Header { src: ip, proto, .. } = embedded;
        if !embedded.has_ports() && !embedded.is_icmp() {
            let name = Endpoint { proto, ip, port: 0 };
            return Some(self.is_ours(name) || self.is_public(name));
        }
        if embedded.fragment == Fragment::Later {
            return Some(false);
        }
        let &[a, b, _, _, i0, i1, ..] = embedded.l4_bytes::<8>()?;
        if embedded.has_ports() {
            let name = Endpoint { proto, ip, port: u16::from_be_bytes([a, b]) };
            return Some(self.is_ours(name) || self.is_public(name));
        }
        let is_request = a == embedded.echo_types().0;
        Some(is_request && self.is_server(ip) && self.expects_echo(u16::from_be_bytes([i0, i1])))
    }

    /// What arrives for no address of ours is the engine's if it tells a client of its packet to a public name, which is a
    /// wire name of another server there: the embedded destination.
    fn is_about_call(&self, error: &Header<'_>) -> Option<bool> {
        let embedded = Rules::embedded(error)?;
        let Header { dst: ip, proto, .. } = embedded;
        if embedded.is_icmp() || embedded.has_ports() && embedded.fragment == Fragment::Later {
            return Some(false);
        }
        let port = match embedded.has_ports() {
            true => embedded.l4_bytes::<8>().map(|&[_, _, a, b, ..]| u16::from_be_bytes([a, b]))?,
            false => 0,
        };
        Some(client_error::is_name_behind_gateways(self.cx, Endpoint { proto, ip, port }))
    }

    /// The packet that an error quotes.
    fn embedded<'f>(error: &Header<'f>) -> Option<Header<'f>> {
        let (at, limit) = (error.l4 + 8, Some(error.end));
        if error.src.is_v4() {
            Header::read_v4(error.frame, at, limit)
        } else {
            Header::read_v6(error.frame, at, limit)
        }
    }

    /// True if the destination is an address of ours.
    fn is_here(&self, header: &Header<'_>) -> bool {
        self.is_server(header.dst) || self.gateway && self.cx.names.is_public_ip(header.dst)
    }

    fn is_server(&self, ip: Ip) -> bool {
        self.cx.around.servers.contains(&ip)
    }

    /// True for a wire name in the owned range, and for a portless one that is bound.
    fn is_ours(&self, name: Endpoint) -> bool {
        let Endpoint { proto, ip, port } = name;
        let is_bound = match proto {
            Proto::TCP | Proto::UDP => self.cx.around.owned.contains(port),
            _ => self.cx.names.inner(Wire(name)).is_some(),
        };
        self.is_server(ip) && is_bound
    }

    fn is_public(&self, name: Endpoint) -> bool {
        self.gateway && self.cx.names.public(Public(name)).is_some()
    }

    /// The program knows identifiers only, whichever of our addresses they were sent from.
    fn expects_echo(&self, id: u16) -> bool {
        let Context { around, state, now, .. } = *self.cx;
        let slot = |&ip: &Ip| state.slot(ip, Proto::ICMP, id);
        around.servers.iter().filter_map(slot).any(|slot| state.expects_echo(slot, now))
    }
}
