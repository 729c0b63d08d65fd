//! From a container: whose packet it is, where it goes, under which names.

use super::arrival::{self, Sender};
use super::decision::{Flow, Kind, Plan, Stop, To};
use super::destination::{self, Destination};
use super::observe::{Observer, Step};
use super::port::Access;
use super::verdict::Reason;
use super::walk::{Walk, is_link_local, is_multicast};
use super::{hint, holder, probe, source};
use crate::frame::{IcmpError, L4, Packet};
use crate::naming::{Network, flow_hash};
use crate::units::{Endpoint, Ip, NetworkId};

/// Decides what becomes of a packet that came from behind an access port.
#[inline(always)]
pub(super) fn decide<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    access: &Access,
    packet: &Packet,
) -> Result<Plan<'g>, Stop> {
    let own = access.network;
    let network = walk.cx.around.networks.get(own).ok_or(Stop::Drop(Reason::NetworkDenied))?;
    let (handle, container) = holder::identify(walk, access, packet.eth_src, packet.src)
        .map_err(|reason| of_nobody(network, packet, reason))?;
    walk.step(Step::Holder { mac: packet.eth_src, ip: packet.src, network: own });
    if network.gateways.contains(&packet.dst) {
        return Err(to_gateway(packet));
    }
    if is_multicast(packet.dst) {
        return Err(Stop::Drop(Reason::Multicast));
    }
    if packet.ttl <= 1 {
        return Err(Stop::Error { error: IcmpError::TimeExceeded, reason: Reason::TtlExpired });
    }
    if let L4::EchoRequest { .. } = packet.l4 {
        answer_inside_echo(walk, own, packet)?;
    }
    let flow = Flow::of(packet);
    // A container speaks of what it was sent itself, to the one who sent it. No echo request ever reaches a container,
    // so it has none to reply to.
    let is_of_flow = (flow.src.ip, flow.dst.ip) == (packet.src, packet.dst);
    if flow.is_error() && !is_of_flow || matches!(flow.kind, Kind::EchoReply | Kind::Unrelated) {
        return Err(Stop::Drop(Reason::IcmpUnrelated));
    }
    let destination = destination::find(walk, own, network, (handle, container), &flow)?;
    let source = source::name(walk, own, (handle, container), &flow, &destination)?;
    if hint::refuses(packet) && !source.binding.is_block() {
        hint::note(walk, source.binding, flow.src, packet.eth_src);
    }
    match destination {
        Destination::Bound(to) | Destination::Published(to) => {
            let server = to.at.server;
            if server.local {
                let from = Sender { binding: Some(source.binding), name: source.name };
                return arrival::deliver(walk, packet, &flow, &from, &to);
            }
            Ok(leave(walk, &flow, source.name, to.wire(flow.dst.proto), To::Server(server)))
        }
        Destination::Outside => {
            let by = if source.is_public { gateway_of(walk, &flow) } else { None };
            Ok(leave(walk, &flow, source.name, flow.dst, To::Outside { by }))
        }
    }
}

/// The gateway that answers of a public name leave by: a flow's packets by one and the same.
pub(super) fn gateway_of<O>(walk: &Walk<'_, '_, O>, flow: &Flow) -> Option<Ip> {
    let gateways = &walk.cx.around.gateways;
    let nth = flow_hash(flow.src, flow.dst).checked_rem(gateways.len() as u64)?;
    gateways.get(nth as usize).copied()
}

fn leave<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    flow: &Flow,
    src: Endpoint,
    dst: Endpoint,
    to: To<'g>,
) -> Plan<'g> {
    // An echo has one identifier, and it is the asking side's.
    let dst = if flow.src.proto.is_echo() { Endpoint { port: src.port, ..dst } } else { dst };
    walk.step(Step::DestinationBecomes { name: dst });
    Plan { src, dst, error_source: flow.is_error().then_some(src.ip), to }
}

/// A station has a link-local address whatever it is bound to, and may ask by that whether its router is there. From there
/// comes also what a socket without an address of its own sends to a link-local one (RFC 6724 section 5, rule 2).
#[cold]
fn of_nobody(network: &Network, packet: &Packet, reason: Reason) -> Stop {
    if !is_link_local(packet.src) || !network.gateways.contains(&packet.dst) {
        return Stop::Drop(reason);
    }
    match packet.l4 {
        L4::EchoRequest { .. } => Stop::Echo,
        L4::Udp { .. } if probe::may_be_answer(packet) => Stop::Heard,
        _ => Stop::Drop(reason),
    }
}

/// The gateway address answers echo, sends probes, and holds nothing else.
fn to_gateway(packet: &Packet) -> Stop {
    match packet.l4 {
        L4::EchoRequest { .. } => Stop::Echo,
        _ if probe::may_be_answer(packet) => Stop::Heard,
        _ => Stop::Refuse { reason: Reason::NoBinding, bound: true },
    }
}

/// Echo requests never reach far containers: the sender's engine answers for every inside address that it may reach
/// and that has an active binding, for public ones, and for its own server. Requests to other addresses go on.
fn answer_inside_echo<O: Observer>(walk: &mut Walk<'_, '_, O>, own: NetworkId, packet: &Packet) -> Result<(), Stop> {
    let around = walk.cx.around;
    for &id in around.networks.lookups(own) {
        if let Some(address) = walk.cx.names.address(id, packet.dst) {
            return Err(Stop::echo(address));
        }
    }
    if around.networks.in_prefixes(own, packet.dst) {
        return Err(Stop::Refuse { reason: Reason::NoBinding, bound: false });
    }
    if around.servers.contains(&packet.dst) {
        return Err(Stop::Echo);
    }
    walk.cx.names.public_ip(packet.dst).map_or(Ok(()), |address| Err(Stop::echo(address)))
}
