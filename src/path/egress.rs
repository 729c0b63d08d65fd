//! From a container: whose packet it is, where it goes, under which names.

use super::arrival::{self, Sender};
use super::decision::{Flow, Plan, Stop, To};
use super::destination::{self, Destination};
use super::observe::{Observer, Step};
use super::port::{Access, Port};
use super::verdict::Reason;
use super::walk::{Walk, is_multicast};
use super::{holder, source};
use crate::frame::{IcmpError, L4, Packet};
use crate::naming::{Inside, Network};

/// Decides what becomes of a packet that came from behind an access port.
pub(super) fn decide<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    access: &Access,
    packet: &Packet,
) -> Result<Plan, Stop> {
    let around = walk.cx.around;
    let network = around.networks.get(access.network).ok_or(Stop::Drop(Reason::NetworkDenied))?;
    let container = holder::identify(walk, own, access, packet.eth_src, packet.src).map_err(Stop::Drop)?;
    walk.step(Step::Holder { mac: packet.eth_src, ip: packet.src, network: access.network });
    if network.is_gateway(packet.dst) {
        return Err(to_gateway(packet));
    }
    if is_multicast(packet.dst) {
        return Err(Stop::Drop(Reason::Multicast));
    }
    if packet.ttl <= 1 {
        return Err(Stop::Error { error: IcmpError::TimeExceeded, reason: Reason::TtlExpired });
    }
    if let L4::EchoRequest { .. } = packet.l4 {
        answer_inside_echo(walk, network, packet)?;
    }
    let flow = Flow::of(packet)?;
    if flow.error && flow.dst.ip != packet.dst {
        return Err(Stop::Drop(Reason::IcmpUnrelated));
    }
    let destination = destination::find(walk, network, container, &flow)?;
    let source = source::name(walk, network, container, &flow, &destination)?;
    match destination {
        Destination::Bound(to) if walk.cx.names.is_local(to.binding) => {
            let from = Sender::Binding { binding: source.binding, wire: source.name };
            arrival::deliver(walk, packet, &flow, &from, &to)
        }
        Destination::Bound(to) => {
            let mac = walk.cx.names.server(to.wire.ip).and_then(|server| server.mac);
            Ok(outwards(packet, &flow, source.name, to.wire, To::Underlay { ip: to.wire.ip, mac }))
        }
        Destination::Outside => Ok(outwards(packet, &flow, source.name, flow.dst, To::Underlay { ip: flow.dst.ip, mac: None })),
    }
}

fn outwards(_: &Packet, flow: &Flow, src: crate::units::Endpoint, dst: crate::units::Endpoint, to: To) -> Plan {
    Plan { src, dst, error_source: flow.error.then_some(src.ip), to }
}

/// The gateway address answers echo and holds nothing else.
fn to_gateway(packet: &Packet) -> Stop {
    match packet.l4 {
        L4::EchoRequest { .. } => Stop::Echo,
        _ => Stop::Refuse { reason: Reason::NoBinding, bound: true },
    }
}

/// Echo requests never reach far containers: the sender's engine answers for every inside address that it may reach
/// and that has an active binding. Requests to other addresses go on.
fn answer_inside_echo<O: Observer>(walk: &mut Walk<'_, '_, O>, network: &Network, packet: &Packet) -> Result<(), Stop> {
    let names = &walk.cx.names;
    for id in walk.cx.around.networks.reachable_from(network.id) {
        if let Some(address) = names.address(id, packet.dst) {
            let stop = if address.has_active() { Stop::Echo } else { Stop::Refuse { reason: Reason::NoReplica, bound: false } };
            return Err(stop);
        }
    }
    if network.holds(packet.dst) {
        return Err(Stop::Refuse { reason: Reason::NoBinding, bound: false });
    }
    if walk.cx.around.servers.contains(&packet.dst) {
        return Err(Stop::Echo);
    }
    let _ = Inside(packet.dst);
    Ok(())
}
