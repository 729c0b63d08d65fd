//! Where a container's packet goes. The order is the design's: own network, peers, own prefixes, wire, outside.

use super::arrival::is_station;
use super::decision::{Flow, Kind, Stop};
use super::observe::{Found, Observer, Step};
use super::replica;
use super::verdict::Reason;
use super::walk::{Walk, is_martian};
use crate::frame::IcmpError;
use crate::naming::{Binding, Container, Inside, Network, Outer, Placed, Wire};
use crate::table::Handle;
use crate::units::{Endpoint, NetworkId, Proto};

/// A bound destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'g> {
    pub at: Placed<'g>,
    /// The port of its wire name.
    pub wire_port: u16,
    /// The sender called it by its wire name.
    pub by_wire_name: bool,
}

impl<'g> Bound<'g> {
    pub fn binding(&self) -> &'g Binding {
        self.at.binding
    }

    /// The wire name.
    #[inline]
    pub fn wire(&self, proto: Proto) -> Endpoint {
        Endpoint { proto, ip: self.at.server.ip, port: self.wire_port }
    }
}

/// What a destination address turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination<'g> {
    Bound(Bound<'g>),
    /// The sender called it by its public name, and is to hear from that name.
    Published(Bound<'g>),
    Outside,
}

/// Finds where `flow` goes that `sender` sends, a container of `network`.
#[inline(always)]
pub(super) fn find<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    own: NetworkId,
    network: &Network,
    sender: (Handle, &Container),
    flow: &Flow,
) -> Result<Destination<'g>, Stop> {
    let names = &walk.cx.names;
    let of_error = flow.is_error().then(|| names.lead_outer(own, Inside(flow.dst)));
    let lead = of_error.as_ref().unwrap_or(&walk.ahead.destination);
    match names.outer_from(lead, own, Inside(flow.dst)) {
        Outer::Found(at) => Ok(found(walk, own, flow, at)),
        other => find_further(walk, own, network, sender, flow, other),
    }
}

/// The destination has no one binding of the sender's own network that would serve: `nearest` says what was found there.
#[inline(never)]
fn find_further<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    own: NetworkId,
    network: &Network,
    sender: (Handle, &Container),
    flow: &Flow,
    nearest: Outer<'g>,
) -> Result<Destination<'g>, Stop> {
    let (names, around) = (&walk.cx.names, walk.cx.around);
    let mut bound = false;
    for &id in around.networks.lookups(own) {
        match if id == own { nearest } else { names.outer(id, Inside(flow.dst)) } {
            Outer::Found(at) => return Ok(found(walk, id, flow, at)),
            Outer::Choice(choice) => {
                let chosen = replica::choose(walk, &names.service_of(choice), sender.1.identity(), flow);
                let Some((binding, why)) = chosen else {
                    inside_step(walk, id, flow.dst, Found::NoReplica);
                    return Err(Stop::Refuse { reason: Reason::NoReplica, bound: true });
                };
                let at = names.placed(binding).ok_or(Stop::Drop(Reason::NoBinding))?;
                let destination = found(walk, id, flow, at);
                walk.step(Step::Replica { why });
                return Ok(destination);
            }
            Outer::Unbound => {
                inside_step(walk, id, flow.dst, Found::Unbound);
                bound = true;
            }
            Outer::Unknown => inside_step(walk, id, flow.dst, Found::Unknown),
        }
    }
    if bound || around.networks.in_prefixes(own, flow.dst.ip) {
        return Err(Stop::Refuse { reason: Reason::NoBinding, bound });
    }
    if let Some(server) = walk.cx.names.server(flow.dst.ip) {
        return by_wire_name(walk, (own, network), sender, flow, server.local);
    }
    if names.is_public_ip(flow.dst.ip)
        && let Some(destination) = published(walk, own, sender.1, flow)?
    {
        return Ok(destination);
    }
    if is_martian(flow.dst.ip) {
        return Err(Stop::Drop(Reason::Martian));
    }
    outside(walk, network, flow)
}

#[inline(always)]
fn found<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    network: NetworkId,
    flow: &Flow,
    at: Placed<'g>,
) -> Destination<'g> {
    let Wire(wire) = at.wire_of(flow.dst.proto, flow.dst.port);
    inside_step(walk, network, flow.dst, Found::Binding { name: wire, server: wire.ip });
    Destination::Bound(Bound { at, wire_port: wire.port, by_wire_name: false })
}

fn inside_step<O: Observer>(walk: &mut Walk<'_, '_, O>, network: NetworkId, name: Endpoint, found: Found) {
    walk.step(Step::InsideName { network, name, found });
}

/// A server's address: client blocks of networks that may reach ours (their replies), those of one's own address
/// (hairpin), and the server's own services if the network is let to them.
fn by_wire_name<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    (own, network): (NetworkId, &Network),
    (handle, container): (Handle, &Container),
    flow: &Flow,
    local: bool,
) -> Result<Destination<'g>, Stop> {
    let around = walk.cx.around;
    let owned = !flow.dst.proto.has_ports() || around.owned.contains(flow.dst.port);
    if owned && flow.kind != Kind::EchoRequest {
        if let Some(at) = walk.cx.names.inner(Wire(flow.dst)) {
            let Inside(inside) = at.inside_of(flow.dst.proto, flow.dst.port);
            walk.step(Step::WireName { name: flow.dst, found: Found::Binding { name: inside, server: flow.dst.ip } });
            let binding = at.binding;
            let is_own = || binding.ip() == flow.src.ip || is_station(walk, binding, container);
            let hairpin = binding.network() == own && is_own();
            let caller = binding.network();
            let peer = caller != own && around.networks.reachable(caller, own);
            // Somebody of another network may have called the sender by a public name.
            let stranger = || {
                let service = walk.cx.names.source_service(handle, container, flow.src.proto, flow.src.port);
                caller != own
                    && around.networks.publicly_reachable(caller, own)
                    && service.is_some_and(Binding::is_public)
            };
            if binding.is_block() && !flow.opens() && (hairpin || peer || stranger()) {
                return Ok(Destination::Bound(Bound { at, wire_port: flow.dst.port, by_wire_name: true }));
            }
            return Err(Stop::Refuse { reason: Reason::NetworkDenied, bound: false });
        }
        if flow.dst.proto.has_ports() {
            walk.step(Step::WireName { name: flow.dst, found: Found::Unknown });
            return Err(Stop::Refuse { reason: Reason::NoBinding, bound: false });
        }
    }
    if flow.kind == Kind::EchoRequest && !local {
        return outside(walk, network, flow);
    }
    if local || !network.services {
        return Err(Stop::Error { error: IcmpError::AdminProhibited, reason: Reason::ServerDenied });
    }
    walk.step(Step::Outside { ip: flow.dst.ip });
    Ok(Destination::Outside)
}

/// A public name: straight to a replica, without a gateway.
fn published<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    own: NetworkId,
    caller: &Container,
    flow: &Flow,
) -> Result<Option<Destination<'g>>, Stop> {
    let Some(at) = replica::of_public_name(walk, caller.identity(), flow)? else { return Ok(None) };
    if !walk.cx.around.networks.publicly_reachable(own, at.binding.network()) {
        return Err(Stop::Error { error: IcmpError::AdminProhibited, reason: Reason::NetworkDenied });
    }
    let Wire(wire) = at.service_name(flow.dst.proto);
    Ok(Some(Destination::Published(Bound { at, wire_port: wire.port, by_wire_name: false })))
}

fn outside<'g, O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    network: &Network,
    flow: &Flow,
) -> Result<Destination<'g>, Stop> {
    walk.step(Step::Outside { ip: flow.dst.ip });
    if network.outside {
        Ok(Destination::Outside)
    } else {
        Err(Stop::Error { error: IcmpError::AdminProhibited, reason: Reason::OutsideDenied })
    }
}
