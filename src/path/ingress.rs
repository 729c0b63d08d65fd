//! From the underlay or from outside: who sent it, and which of our wire names it is for.

use super::ahead::Ahead;
use super::arrival::{self, Sender};
use super::decision::{Flow, Kind, Plan, Stop};
use super::destination::Bound;
use super::gateway;
use super::observe::{Found, Observer, Step};
use super::verdict::Reason;
use super::walk::{Walk, must_be_routable};
use crate::frame::{IcmpError, Packet};
use crate::naming::{Binding, Inside, Lead, Wire};
use crate::units::{Endpoint, NetworkId};

/// Decides what becomes of a packet that came by the uplink.
#[inline(always)]
pub(super) fn decide<'g, O: Observer>(walk: &mut Walk<'_, 'g, O>, packet: &Packet) -> Result<Plan<'g>, Stop> {
    decide_by(walk, packet, true, |walk, lead, src, to| sender(walk, lead, src, to.network()))
}

/// Decides what becomes of a packet for a wire name that came by a port where no servers are. It bears neither a wire name
/// nor an inside one, and answers a container's own connection: nobody outside calls services by such names.
#[inline(never)]
pub(super) fn decide_from_outside<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    packet: &Packet,
) -> Result<Plan<'g>, Stop> {
    decide_by(walk, packet, false, |walk, _, src, to| {
        gateway::may_enter(walk, src, to.network())?;
        if !to.is_block() {
            return Err(Stop::Drop(Reason::NoBinding));
        }
        walk.step(Step::Outside { ip: src.ip });
        Ok(None)
    })
}

/// As the two above. `is_ahead`: the lookups of the packet's own names have been begun. `sender` says which binding the
/// packet comes from.
#[inline(always)]
fn decide_by<'w, 'g, O: Observer>(
    walk: &mut Walk<'w, 'g, O>,
    packet: &Packet,
    is_ahead: bool,
    sender: impl FnOnce(&mut Walk<'w, 'g, O>, &Lead, Endpoint, &'g Binding) -> Result<Option<&'g Binding>, Stop>,
) -> Result<Plan<'g>, Stop> {
    must_be_routable(packet)?;
    if packet.ttl <= 1 {
        return Err(Stop::Error { error: IcmpError::TimeExceeded, reason: Reason::TtlExpired });
    }
    let flow = Flow::of(packet);
    if flow.is_error() && flow.dst.ip != packet.dst || matches!(flow.kind, Kind::EchoRequest | Kind::Unrelated) {
        return Err(Stop::Drop(Reason::IcmpUnrelated));
    }
    let names = &walk.cx.names;
    let begun_now = (flow.is_error() || !is_ahead).then(|| Ahead::of_names(names, flow.dst, flow.src));
    let ahead = begun_now.as_ref().unwrap_or(walk.ahead);
    let Some(at) = names.inner_from(&ahead.destination, Wire(flow.dst)) else {
        walk.step(Step::WireName { name: flow.dst, found: Found::Unknown });
        return Err(Stop::Drop(Reason::NoBinding));
    };
    let Inside(inside) = at.inside_of(flow.dst.proto, flow.dst.port);
    walk.step(Step::WireName { name: flow.dst, found: Found::Binding { name: inside, server: flow.dst.ip } });
    if !at.server.local {
        return Err(Stop::Drop(Reason::NotLocal));
    }
    let to = Bound { at, wire_port: flow.dst.port, by_wire_name: false };
    let from = Sender { binding: sender(walk, &ahead.source, flow.src, at.binding)?, name: flow.src };
    arrival::deliver(walk, packet, &flow, &from, &to)
}

/// The binding that a packet comes from, if not from outside. Wire names are accepted from known bindings only, nobody out there has an inside address, and
/// what we send ourselves does not come back.
#[inline(always)]
fn sender<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    lead: &Lead,
    src: Endpoint,
    receiver: NetworkId,
) -> Result<Option<&'g Binding>, Stop> {
    // No container answers echo on the wire: a reply, and its identifier with it, is the server's own.
    let is_echo = src.proto.is_echo();
    // Known names first, as nearly all packets bear one: they need no other lookup.
    if !is_echo && let Some(at) = walk.cx.names.inner_from(lead, Wire(src)) {
        if at.server.local {
            return Err(Stop::Drop(Reason::SpoofedSource));
        }
        let Inside(inside) = at.inside_of(src.proto, src.port);
        walk.step(Step::WireName { name: src, found: Found::Binding { name: inside, server: src.ip } });
        return Ok(Some(at.binding));
    }
    from_elsewhere(walk, src, receiver)
}

/// A source that no binding has.
#[inline(never)]
fn from_elsewhere<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    src: Endpoint,
    receiver: NetworkId,
) -> Result<Option<&'g Binding>, Stop> {
    let around = walk.cx.around;
    let is_echo = src.proto.is_echo();
    let mut is_server = false;
    if let Some(server) = walk.cx.names.server(src.ip) {
        if server.local {
            return Err(Stop::Drop(Reason::SpoofedSource));
        }
        is_server = !is_echo;
        if !is_echo {
            walk.step(Step::WireName { name: src, found: Found::Unknown });
            if src.proto.has_ports() && around.owned.contains(src.port) {
                return Err(Stop::Drop(Reason::UnmappedSource));
            }
        }
    } else if around.networks.in_prefixes(receiver, src.ip) || walk.cx.names.address(receiver, src.ip).is_some() {
        return Err(Stop::Drop(Reason::SpoofedSource));
    }
    walk.step(Step::Outside { ip: src.ip });
    // Who may not call them gets no answers either: a policy that changes ends what is under way, both directions.
    if !around.networks.get(receiver).is_some_and(|own| own.outside || own.services && is_server) {
        return Err(Stop::Drop(Reason::OutsideDenied));
    }
    Ok(None)
}
