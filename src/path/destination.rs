//! Where a container's packet goes. The order is the design's: own network, peers, own prefixes, wire, outside.

use super::decision::{Flow, Kind, Stop};
use super::observe::{Found, Observer, Step};
use super::verdict::Reason;
use super::walk::{Walk, is_martian};
use crate::frame::IcmpError;
use crate::naming::{Binding, Inside, Network, Outer, Wire, flow_hash};
use crate::units::{Endpoint, NetworkId};

/// A bound destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'g> {
    pub binding: &'g Binding,
    pub wire: Endpoint,
    /// The sender called it by its wire name.
    pub by_wire_name: bool,
}

/// What a destination address turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination<'g> {
    Bound(Bound<'g>),
    Outside,
}

/// Finds where `flow` goes that a container of `network` sends.
pub(super) fn find<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    own: NetworkId,
    network: &Network,
    flow: &Flow,
) -> Result<Destination<'g>, Stop> {
    let around = walk.cx.around;
    let hash = flow_hash(flow.src, flow.dst);
    let mut bound = false;
    for &id in around.networks.lookups(own) {
        match walk.cx.names.outer(id, Inside(flow.dst), hash) {
            Outer::Found { binding, wire: Wire(wire) } => {
                inside_step(walk, id, flow.dst, Found::Binding { name: wire, server: wire.ip });
                return Ok(Destination::Bound(Bound { binding, wire, by_wire_name: false }));
            }
            Outer::NoReplica => {
                inside_step(walk, id, flow.dst, Found::NoReplica);
                return Err(Stop::Refuse { reason: Reason::NoReplica, bound: true });
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
        return by_wire_name(walk, own, network, flow, server.local);
    }
    if is_martian(flow.dst.ip) {
        return Err(Stop::Drop(Reason::Martian));
    }
    outside(walk, network, flow)
}

fn inside_step<O: Observer>(walk: &mut Walk<'_, '_, O>, network: NetworkId, name: Endpoint, found: Found) {
    walk.step(Step::InsideName { network, name, found });
}

/// A server's address: client blocks of networks that may reach ours (their replies), those of one's own address
/// (hairpin), and the server's own services if the network is let to them.
fn by_wire_name<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    own: NetworkId,
    network: &Network,
    flow: &Flow,
    local: bool,
) -> Result<Destination<'g>, Stop> {
    let around = walk.cx.around;
    let owned = !flow.dst.proto.has_ports() || around.owned.contains(flow.dst.port);
    if owned && flow.kind != Kind::EchoRequest {
        if let Some(inner) = walk.cx.names.inner(Wire(flow.dst)) {
            let Inside(inside) = inner.inside;
            walk.step(Step::WireName { name: flow.dst, found: Found::Binding { name: inside, server: flow.dst.ip } });
            let binding = inner.binding;
            let hairpin = binding.network() == own && binding.ip() == flow.src.ip;
            let peer = binding.network() != own && around.networks.reachable(binding.network(), own);
            if binding.is_block() && (hairpin || peer) && !flow.opens() {
                return Ok(Destination::Bound(Bound { binding, wire: flow.dst, by_wire_name: true }));
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
