//! From clients outside to a public name: which replica takes the flow, and the way to it. The source stays as it is
//! and nothing has to be remembered: every gateway chooses alike, and the replica's own server answers for it.

use super::arrival::{self, Sender};
use super::client_error;
use super::decision::{Flow, Kind, Plan, Stop, To};
use super::destination::Bound;
use super::observe::{Observer, Step};
use super::port::Role;
use super::replica;
use super::reply::server_address;
use super::verdict::Reason;
use super::walk::{Context, Walk, must_be_routable};
use crate::frame::{IcmpError, L4, Packet};
use crate::naming::{Public, Wire};
use crate::units::{Endpoint, Ip, NetworkId};

/// True if a packet from the underlay has to do with clients outside, and their rules hold: it is for a public name, where
/// clients share the interface with servers (`external`), or an error about what left under one or was sent to one.
#[inline(always)]
pub(super) fn concerns_clients(cx: &Context<'_>, external: bool, packet: &Packet) -> bool {
    let is_error = matches!(packet.l4, L4::IcmpError { .. });
    if external || is_error { is_for_public(cx, packet) || is_error && client_error::is_one(cx, packet) } else { false }
}

/// True if the packet, or that which it quotes as its own, has a public name as its destination.
fn is_for_public(cx: &Context<'_>, packet: &Packet) -> bool {
    if !cx.names.is_public_ip(packet.dst) {
        return false;
    }
    match packet.l4 {
        L4::EchoRequest { .. } => !cx.around.is_of_host(packet.dst),
        L4::IcmpError { .. } if !cx.around.is_gateway => false,
        _ => cx.names.public(Public(Flow::of(packet).dst)).is_some(),
    }
}

/// True if a packet on a port towards clients is for one of our own ServerIPs: an answer, if anything, to what has left
/// by that port.
pub(super) fn is_for_wire(cx: &Context<'_>, packet: &Packet) -> bool {
    cx.around.servers.contains(&packet.dst) && !is_for_public(cx, packet)
}

/// Decides what becomes of a packet from outside that is for a public name.
#[inline(never)]
pub(super) fn decide<'g, O: Observer>(walk: &mut Walk<'_, 'g, O>, packet: &Packet) -> Result<Plan<'g>, Stop> {
    must_be_routable(packet)?;
    if let L4::EchoRequest { .. } = packet.l4 {
        return Err(echo(walk, packet));
    }
    if packet.ttl <= 1 {
        return Err(Stop::Error { error: IcmpError::TimeExceeded, reason: Reason::TtlExpired });
    }
    let flow = Flow::of(packet);
    if flow.is_error() && flow.dst.ip != packet.dst || matches!(flow.kind, Kind::EchoReply | Kind::Unrelated) {
        return Err(Stop::Drop(Reason::IcmpUnrelated));
    }
    // Clients are told apart by their addresses alone.
    let at = replica::of_public_name(walk, 0, &flow)?.ok_or(Stop::Drop(Reason::NoBinding))?;
    let network = at.binding.network();
    may_enter(walk, flow.src, network)?;
    walk.step(Step::Outside { ip: flow.src.ip });
    let wire = at.service_name(flow.dst.proto).0;
    if at.server.local {
        let from = Sender { binding: None, name: flow.src };
        let to = Bound { at, wire_port: wire.port, by_wire_name: false };
        return arrival::deliver(walk, packet, &flow, &from, &to);
    }
    walk.step(Step::DestinationBecomes { name: wire });
    let error_source = flow.is_error().then(|| error_source(walk, packet));
    Ok(Plan { src: flow.src, dst: wire, error_source, to: To::Server(at.server) })
}

/// Where an error appears to come from that goes on to a server. A router of the underlay may be on the way there, and would
/// not take a packet from its own address (RFC 1812 section 5.3.7): the gateway speaks for it.
fn error_source<O>(walk: &Walk<'_, '_, O>, packet: &Packet) -> Ip {
    let is_by_uplink = walk.cx.around.port(walk.port).is_some_and(|port| matches!(port.role, Role::Uplink { .. }));
    let own = if is_by_uplink { server_address(walk, packet) } else { None };
    own.unwrap_or(packet.src)
}

/// Nobody outside has a wire name, or an inside name of the network that is called; and that network must be open to
/// the outside.
pub(super) fn may_enter<O>(walk: &Walk<'_, '_, O>, src: Endpoint, receiver: NetworkId) -> Result<(), Stop> {
    let Context { names, around, .. } = walk.cx;
    let claims_wire = match names.server(src.ip) {
        // Of what a server sends, all but its own connections' ports are wire names.
        Some(_) if src.proto.has_ports() => around.owned.contains(src.port),
        Some(_) => names.inner(Wire(src)).is_some(),
        None => false,
    };
    if claims_wire || around.networks.in_prefixes(receiver, src.ip) || names.address(receiver, src.ip).is_some() {
        return Err(Stop::Drop(Reason::SpoofedSource));
    }
    match around.networks.get(receiver) {
        Some(network) if network.outside => Ok(()),
        _ => Err(Stop::Drop(Reason::OutsideDenied)),
    }
}

/// Public addresses answer while somebody serves there; for those of this host its kernel does.
fn echo<O>(walk: &Walk<'_, '_, O>, packet: &Packet) -> Stop {
    if walk.cx.around.is_of_host(packet.dst) {
        return Stop::Drop(Reason::IcmpUnrelated);
    }
    walk.cx.names.public_ip(packet.dst).map_or(Stop::Drop(Reason::NoBinding), Stop::echo)
}
