//! To a container: may it enter, what does it see as sender, and behind which port it is. The last part of every walk
//! that ends on this server, whether the packet came by the uplink or from a container next door.

use super::decision::{Flow, Plan, Stop, To};
use super::destination::Bound;
use super::observe::{Observer, Step};
use super::port::{Port, Role};
use super::replica;
use super::source::{passes_native, pool};
use super::verdict::Reason;
use super::walk::Walk;
use crate::flow::{Pool, Side, Slot};
use crate::frame::{L4, Packet};
use crate::naming::{Binding, Container, Inside, Public};
use crate::units::{Endpoint, Ip};

/// Who sent the packet, as the wire tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'g> {
    /// The container's; `None` for somebody outside.
    pub binding: Option<&'g Binding>,
    /// The wire name, or the address and port outside.
    pub name: Endpoint,
}

/// Decides how a packet is delivered to a container on this server.
#[inline(always)]
pub(super) fn deliver<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    packet: &Packet,
    flow: &Flow,
    from: &Sender<'_>,
    to: &Bound<'_>,
) -> Result<Plan<'g>, Stop> {
    let slot = not_resting(walk, to.wire(flow.dst.proto))?;
    let Presented { name: mut seen, side, is_stranger } = presented(walk, from, to)?;
    if side == Some(Side::Outside) && !to.binding().is_block() && !to.binding().is_public() {
        return Err(Stop::Drop(Reason::NotPublic));
    }
    if let (Some(side), Some(slot), true) = (side, slot, to.binding().is_block())
        && !walk.cx.state.admits(slot, side, flow.signal, walk.cx.now)
    {
        return Err(Stop::Drop(Reason::NotSolicited));
    }
    let dst = inside_destination(walk, flow, from, to, is_stranger, &mut seen)?;
    walk.step(Step::DestinationBecomes { name: dst });
    let src = if flow.src.proto.is_echo() { Endpoint { port: dst.port, ..seen } } else { seen };
    walk.step(Step::SourceArrivesAs { name: src });
    let container = walk.cx.names.container_of(to.binding()).ok_or(Stop::Drop(Reason::NoBinding))?;
    let held = container.held_by().ok_or(Stop::Drop(Reason::NoPort))?;
    walk.step(Step::Container { port: held.port(), mac: held.mac() });
    if let Some(binding) = from.binding
        && binding.is_shared()
    {
        replica::heard(walk, flow.signal, flow.is_error(), binding, src, container, dst);
    }
    let error_source = flow.is_error().then(|| error_source(packet, flow, from, src.ip));
    Ok(Plan { src, dst, error_source, to: To::Container(held) })
}

/// What a receiver sees.
struct Presented {
    name: Endpoint,
    /// The side that the packet comes from; none, if from its own network.
    side: Option<Side>,
    /// It is let in only by the entry of whoever has called a public name.
    is_stranger: bool,
}

impl Presented {
    fn as_peer(name: Endpoint, side: Option<Side>) -> Presented {
        Presented { name, side, is_stranger: false }
    }
}

/// What the receiver sees as sender, and the side that the packet comes from. One's own network shows its inside name
/// (and between holders of one address its wire name).
/// Across networks a client shows its wire name, and the server that it called the inside name that it was called by.
#[inline(always)]
fn presented<O>(walk: &Walk<'_, '_, O>, from: &Sender<'_>, to: &Bound<'_>) -> Result<Presented, Stop> {
    let wire = from.name;
    let Some(binding) = from.binding else { return Ok(Presented::as_peer(wire, Some(Side::Outside))) };
    let Inside(inside) = binding.inside_of(wire.proto, wire.port);
    let (sender, receiver) = (binding.network(), to.binding().network());
    if sender == receiver {
        // A container that calls its own address, held by itself or by another replica, must not see that address as
        // the sender's, nor any other of its own: it would be martian there. What comes back to the caller is from the name that it called.
        let comes_back = to.binding().is_block() && (to.by_wire_name || !binding.is_block());
        let hairpin =
            !comes_back && (binding.ip() == to.binding().ip() || is_same_station(walk, binding, to.binding()));
        return Ok(Presented::as_peer(if hairpin { wire } else { inside }, None));
    }
    let networks = &walk.cx.around.networks;
    let (calls, called) = (networks.reachable(sender, receiver), networks.reachable(receiver, sender));
    match (calls, called) {
        (true, false) => Ok(Presented::as_peer(wire, Some(Side::Peers))),
        (false, true) if to.binding().is_block() => Ok(Presented::as_peer(inside, Some(Side::Peers))),
        (false, _) => between_strangers(walk, from, binding, to),
        // Either may have called: what a service binding sends to a client block is an answer.
        (true, true) => {
            let answer = to.binding().is_block() && !binding.is_block();
            Ok(Presented::as_peer(if answer { inside } else { wire }, Some(Side::Peers)))
        }
    }
}

/// True if both are of one station next door: a container may have several addresses. What comes by the uplink, which is
/// most, is done with at once.
#[inline]
fn is_same_station<O>(walk: &Walk<'_, '_, O>, sender: &Binding, receiver: &Binding) -> bool {
    let is_next_door = matches!(walk.cx.around.port(walk.port), Some(Port { role: Role::Access(_), .. }));
    is_next_door && walk.cx.names.container_of(sender).is_some_and(|sender| is_station(walk, receiver, sender))
}

/// True if the container of the binding is behind the same port, and has the same MAC, as the other one.
pub(super) fn is_station<O>(walk: &Walk<'_, '_, O>, binding: &Binding, other: &Container) -> bool {
    let held = walk.cx.names.container_of(binding).and_then(Container::held_by);
    held.is_some() && held == other.held_by()
}

/// Networks that are no peers have to do with each other as the outside has: by what they publish. What a published
/// service sends back is let in by the entry of whoever called its public name, and by nothing else.
#[inline(never)]
fn between_strangers<O>(
    walk: &Walk<'_, '_, O>,
    from: &Sender<'_>,
    sender: &Binding,
    to: &Bound<'_>,
) -> Result<Presented, Stop> {
    let networks = &walk.cx.around.networks;
    let (from_network, to_network) = (sender.network(), to.binding().network());
    let calls = to.binding().is_public() && networks.publicly_reachable(from_network, to_network);
    let answers =
        to.binding().is_block() && sender.is_public() && networks.publicly_reachable(to_network, from_network);
    match (calls, answers) {
        (true, _) => Ok(Presented::as_peer(from.name, Some(Side::Outside))),
        (_, true) => Ok(Presented { name: from.name, side: Some(Side::Peers), is_stranger: true }),
        _ => Err(Stop::Drop(Reason::NetworkDenied)),
    }
}

/// The inside name that the packet is for. A translated port leads where its entry says, and nowhere without one. Whoever
/// has called the sender by its public name is to see that: it takes the place of `seen`.
#[inline(always)]
fn inside_destination<O>(
    walk: &Walk<'_, '_, O>,
    flow: &Flow,
    from: &Sender<'_>,
    to: &Bound<'_>,
    is_stranger: bool,
    seen: &mut Endpoint,
) -> Result<Endpoint, Stop> {
    let Inside(inside) = to.at.inside_of(flow.dst.proto, to.wire_port);
    if !to.binding().is_block() || passes_native(to.binding(), inside.port) {
        return if is_stranger { Err(Stop::Drop(Reason::NetworkDenied)) } else { Ok(inside) };
    }
    let pool = pool(walk, to.at).ok_or(Stop::Drop(Reason::NoEntry))?;
    let by_inside_name = if is_stranger { None } else { entry(walk, flow, to, &pool, &from.name) };
    let port = match by_inside_name {
        Some(port) => port,
        None => {
            let (port, public) = of_public_name(walk, flow, from, to, &pool).ok_or(Stop::Drop(Reason::NoEntry))?;
            *seen = public;
            port
        }
    };
    Ok(Endpoint { port, ..inside })
}

#[inline(always)]
fn entry<O>(walk: &Walk<'_, '_, O>, flow: &Flow, to: &Bound<'_>, pool: &Pool, remote: &Endpoint) -> Option<u16> {
    let state = walk.cx.state;
    if flow.is_error() || walk.cx.dry_run {
        state.peek_in(pool, to.wire_port, remote, walk.cx.now)
    } else {
        state.translate_in(pool, to.wire_port, remote, flow.signal, walk.cx.now)
    }
}

/// The inside port that has called the sender by its public name, and that name.
#[inline(never)]
fn of_public_name<O>(
    walk: &Walk<'_, '_, O>,
    flow: &Flow,
    from: &Sender<'_>,
    to: &Bound<'_>,
    pool: &Pool,
) -> Option<(u16, Endpoint)> {
    let Public(name) = walk.cx.names.public_name(from.binding?, from.name.proto)?;
    Some((entry(walk, flow, to, &pool.for_public_names(), &from.name)?, name))
}

/// Where an ICMP error appears to come from: unreachable of code 2 or 3 from the server of the embedded destination
/// speaks for the container there and takes its name; all others keep their source.
fn error_source(packet: &Packet, flow: &Flow, from: &Sender<'_>, seen: Ip) -> Ip {
    let L4::IcmpError { kind, code, .. } = packet.l4 else { return packet.src };
    let speaks_for_container =
        if packet.src.is_v4() { kind == 3 && matches!(code, 2 | 3) } else { kind == 1 && code == 4 };
    if from.binding.is_none() {
        return packet.src;
    }
    // From a container next door: it has not been on the wire, where it would have taken the ServerIP.
    let wire = from.name.ip;
    let is_neighbour = packet.src == flow.src.ip && packet.src != wire;
    match speaks_for_container {
        true if is_neighbour || packet.src == wire => seen,
        false if is_neighbour => wire,
        _ => packet.src,
    }
}

/// The slot of one of our wire names; stops the packet if the name changed its owner a moment ago.
#[inline(always)]
pub(super) fn not_resting<O>(walk: &Walk<'_, '_, O>, wire: Endpoint) -> Result<Option<Slot>, Stop> {
    let slot = walk.cx.state.slot(wire.ip, wire.proto, wire.port);
    match slot {
        Some(slot) if walk.cx.state.resting(slot, walk.cx.now) => Err(Stop::Drop(Reason::Quarantine)),
        slot => Ok(slot),
    }
}
