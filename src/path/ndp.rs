//! Neighbour discovery on access ports: the engine is every neighbour and the router that a container can have (design
//! section 3).

use super::holder;
use super::observe::Observer;
use super::port::{Access, Port, Role, Surroundings};
use super::verdict::{Answer, Reason, Verdict};
use super::walk::{Walk, answered, is_link_local};
use crate::frame::{self, Frame, Ndp, Packet, Router};
use crate::units::{Ip, Mac};

/// Answers solicitations with the port's own MAC, whatever address is asked for, and learns from every message who is
/// behind the port.
#[cold]
pub(super) fn answer<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    frame: &mut Frame<'_>,
    packet: &Packet,
) -> Verdict {
    let access = match &own.role {
        Role::Access(access) => access,
        Role::Uplink { external: true } | Role::External => return for_public(walk, own, frame, packet),
        // The kernel speaks for its NIC; the XDP program never hands such a frame over.
        Role::Uplink { external: false } => return Verdict::Host,
    };
    let said = match frame::parse_ndp(frame, packet) {
        Ok(said) => said,
        Err(why) => return Verdict::Drop(why.into()),
    };
    // Before it has an address, and under that of its link, a station is nobody yet.
    let is_anonymous = packet.src.bits() == 0 || is_link_local(packet.src);
    if !is_anonymous && let Err(reason) = holder::identify(walk, access, packet.eth_src, packet.src) {
        return Verdict::Drop(reason);
    }
    match said {
        Ndp::RouterSolicitation => tell_router(walk, own, access, frame, packet),
        Ndp::NeighbourSolicitation { target } => tell_neighbour(walk, own, access, frame, packet, target),
        Ndp::NeighbourAdvertisement { .. } => Verdict::Consume,
        Ndp::Other => Verdict::Drop(Reason::IcmpUnrelated),
    }
}

fn tell_neighbour<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    access: &Access,
    frame: &mut Frame<'_>,
    packet: &Packet,
    target: Ip,
) -> Verdict {
    // Duplicate address detection (RFC 4862 section 5.4) must get no answer, nor may anybody else have the container's
    // own address.
    let is_own = walk.cx.names.sender(access.network, packet.eth_src, target, access.id).is_some();
    if is_own || packet.src.bits() == 0 {
        return Verdict::Consume;
    }
    let around = walk.cx.around;
    let is_router =
        address_of_router(around, own, access) == target || gateways(around, access).any(|gateway| gateway == target);
    answered(walk.port, Answer::Neighbour, frame::neighbour_advertisement(frame, packet, target, own.mac, is_router))
}

fn tell_router<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    access: &Access,
    frame: &mut Frame<'_>,
    packet: &Packet,
) -> Verdict {
    if packet.src.bits() == 0 {
        return Verdict::Consume;
    }
    let router = router_behind(walk.cx.around, own, access);
    answered(walk.port, Answer::Router, frame::router_advertisement(frame, packet, &router))
}

/// What a container behind this access port is told of its router. Routers speak from link-local addresses (RFC 4861
/// section 6.1.2), and the way to anywhere else carries no more than the narrowest uplink does.
#[must_use]
pub fn router_behind(around: &Surroundings, own: &Port, access: &Access) -> Router {
    let uplinks = around.uplinks.iter().filter_map(|&uplink| around.port(uplink));
    let mtu = uplinks.map(|uplink| uplink.mtu).fold(own.mtu, u32::min);
    Router { ip: address_of_router(around, own, access), mac: own.mac, mtu }
}

/// The address that the container's router has: the network's gateway, if that is link-local, else the port's.
fn address_of_router(around: &Surroundings, own: &Port, access: &Access) -> Ip {
    gateways(around, access).find(|&gateway| is_link_local(gateway)).unwrap_or_else(|| link_local(own.mac))
}

fn gateways<'a>(around: &'a Surroundings, access: &Access) -> impl Iterator<Item = Ip> + use<'a> {
    let network = around.networks.get(access.network);
    network.into_iter().flat_map(|network| network.gateways.iter().copied()).filter(|gateway| !gateway.is_v4())
}

/// Clients outside ask who has a public address. The XDP program hands over such solicitations alone, and only where the
/// configuration has the engine answer (`arp = true`).
fn for_public<O: Observer>(walk: &Walk<'_, '_, O>, own: &Port, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
    let Ok(Ndp::NeighbourSolicitation { target }) = frame::parse_ndp(frame, packet) else { return Verdict::Host };
    let is_ours = walk.cx.around.servers.contains(&target);
    if is_ours || packet.src.bits() == 0 || !walk.cx.names.is_public_ip(target) {
        return Verdict::Host;
    }
    answered(walk.port, Answer::Neighbour, frame::neighbour_advertisement(frame, packet, target, own.mac, true))
}

/// The link-local address of a station (RFC 4291 appendix A, RFC 2464 section 5).
#[must_use]
pub fn link_local(Mac([a, b, c, d, e, f]): Mac) -> Ip {
    Ip::from_v6_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
