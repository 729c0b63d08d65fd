//! Which frames on an uplink are the engine's: the rules of the XDP program (`afxdp/program`), for replay, where no
//! kernel applies them. A property test holds the two against each other.

use super::port::Role;
use super::walk::Context;
use crate::frame::{self, EmbeddedL4, Frame, L4, Packet, Parsed};
use crate::naming::{Public, Wire};
use crate::units::{Endpoint, Ip, Proto};

/// True if the XDP program would hand the frame to the engine; what it would not is the kernel's. On access ports all
/// is the engine's.
#[must_use]
pub fn claims(cx: &Context<'_>, role: &Role, frame: &Frame<'_>) -> bool {
    let external = match role {
        Role::Access(_) => return true,
        Role::Uplink { external } => *external,
        Role::External => true,
    };
    match frame::parse(frame) {
        Ok(Parsed::Ip(packet)) => claims_packet(cx, external, &packet),
        Ok(Parsed::Arp(_) | Parsed::Other { .. }) => false,
        // The program reads ports and verifies nothing.
        Err(_) => unverified(frame.bytes()).is_some_and(|dst| claims_destination(cx, external, dst)),
    }
}

fn claims_packet(cx: &Context<'_>, external: bool, packet: &Packet) -> bool {
    match packet.l4 {
        L4::Tcp { .. } | L4::Udp { .. } | L4::Portless => claims_destination(cx, external, packet.dst_endpoint()),
        L4::EchoRequest { .. } => external && is_foreign_public(cx, packet.dst),
        L4::EchoReply { id } => claims_echo(cx, packet.dst, packet.proto, id),
        L4::IcmpError { embedded, .. } => {
            let src = embedded.src;
            match embedded.l4 {
                EmbeddedL4::EchoRequest => claims_echo(cx, src.ip, src.proto, src.port),
                EmbeddedL4::EchoReply => false,
                EmbeddedL4::Tcp | EmbeddedL4::Udp | EmbeddedL4::Portless => {
                    claims_destination(cx, false, src) || cx.names.public(Public(src)).is_some()
                }
            }
        }
        L4::Icmp { .. } | L4::Later => false,
    }
}

fn claims_destination(cx: &Context<'_>, external: bool, dst: Endpoint) -> bool {
    if external && cx.names.public(Public(dst)).is_some() {
        return true;
    }
    if !cx.around.servers.contains(&dst.ip) {
        return false;
    }
    if dst.proto.has_ports() { cx.around.owned.contains(dst.port) } else { cx.names.inner(Wire(dst)).is_some() }
}

fn claims_echo(cx: &Context<'_>, ip: Ip, proto: Proto, id: u16) -> bool {
    cx.state.slot(ip, proto, id).is_some_and(|slot| cx.state.expects_echo(slot, cx.now))
}

fn is_foreign_public(cx: &Context<'_>, ip: Ip) -> bool {
    cx.names.is_public_ip(ip) && !cx.around.servers.contains(&ip)
}

/// The destination of an IPv4 TCP or UDP packet of which nothing but the lengths that lead to its ports is right.
fn unverified(frame: &[u8]) -> Option<Endpoint> {
    let [0x08, 0x00, ip @ ..] = frame.get(12..)? else { return None };
    let header_len = usize::from(ip.first()? & 0x0f) * 4;
    let fragment_offset = u16::from_be_bytes(*ip.get(6..)?.first_chunk()?) & 0x1fff;
    let proto = Proto(*ip.get(9)?);
    if ip[0] >> 4 != 4 || header_len < 20 || fragment_offset != 0 || !matches!(proto, Proto::TCP | Proto::UDP) {
        return None;
    }
    let [_, _, port @ ..] = *ip.get(header_len..)?.first_chunk::<4>()?;
    Some(Endpoint { proto, ip: Ip::from_v4_octets(*ip.get(16..)?.first_chunk()?), port: u16::from_be_bytes(port) })
}
