//! Under which name a container's packet leaves: its service's own, or a port of its client block.

use super::arrival::not_resting;
use super::decision::{Flow, Stop};
use super::destination::Destination;
use super::observe::{Observer, SourceName, Step};
use super::replica;
use super::verdict::Reason;
use super::walk::Walk;
use crate::flow::{Pool, Refused, Side};
use crate::frame::IcmpError;
use crate::naming::{Binding, Container, Placed, Public, Wire};
use crate::table::Handle;
use crate::units::{Endpoint, NetworkId, Proto};

/// The name that a packet leaves under, and the binding that it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'g> {
    pub name: Endpoint,
    pub binding: &'g Binding,
    /// The name is a public one.
    pub is_public: bool,
}

/// Names the source of `flow`. A service binding's own name comes before the block; towards the outside only if it is
/// public, and for a connection that the container itself opens only if no other binding has that name too. A
/// connection's first packet through a default-mode block makes its translation entry here.
#[inline(always)]
pub(super) fn name<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    own: NetworkId,
    container: (Handle, &'g Container),
    flow: &Flow,
    to: &Destination<'_>,
) -> Result<Source<'g>, Stop> {
    let (remote, side) = match to {
        Destination::Outside => (flow.dst, Some(Side::Outside)),
        Destination::Bound(bound) | Destination::Published(bound) => {
            (bound.wire(flow.dst.proto), (bound.binding().network() != own).then_some(Side::Peers))
        }
    };
    // Whoever calls a public name gets an entry, in which it is noted that the answers are to come from there.
    let by_public_name = matches!(to, Destination::Published(_));
    if !by_public_name && let Some(source) = of_service(walk, container, flow, side)? {
        return Ok(source);
    }
    of_block(walk, container.0, flow, by_public_name, remote, side)
}

#[inline(always)]
fn of_service<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    (handle, container): (Handle, &'g Container),
    flow: &Flow,
    side: Option<Side>,
) -> Result<Option<Source<'g>>, Stop> {
    let names = &walk.cx.names;
    let Endpoint { proto, port, .. } = flow.src;
    let Some(binding) = names.source_service(handle, container, proto, port) else { return Ok(None) };
    let Some(at) = names.placed(binding) else { return Ok(None) };
    let Wire(wire) = at.wire_of(proto, port);
    let (name, how) = if side == Some(Side::Outside) {
        let Some(Public(public)) = names.public_name(binding, proto) else { return Ok(None) };
        (public, SourceName::Public)
    } else {
        (wire, SourceName::Service)
    };
    let is_shared = if how == SourceName::Public { binding.is_public_shared() } else { binding.is_shared() };
    if is_shared && replica::opened_itself(walk, (handle, container), flow) {
        return Ok(None);
    }
    not_resting(walk, wire)?;
    walk.step(Step::SourceLeavesAs { name, how });
    Ok(Some(Source { name, binding, is_public: how == SourceName::Public }))
}

#[inline(always)]
fn of_block<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    handle: Handle,
    flow: &Flow,
    by_public_name: bool,
    remote: Endpoint,
    side: Option<Side>,
) -> Result<Source<'g>, Stop> {
    let prohibited = |reason| Stop::Error { error: IcmpError::AdminProhibited, reason };
    let Endpoint { proto, port, .. } = flow.src;
    let names = &walk.cx.names;
    let find = || names.source_block(handle, proto, port).and_then(|binding| names.placed(binding));
    let Some(at) = walk.recent.block(handle, proto, port, find) else {
        return Err(prohibited(Reason::NoClientBlock));
    };
    let (binding, Wire(arithmetic)) = (at.binding, at.wire_of(proto, port));
    let (name, how) = if passes_native(binding, port) && !by_public_name {
        (arithmetic, SourceName::NativeBlock)
    } else {
        let port = translated(walk, at, flow, by_public_name, remote)?;
        (Endpoint { port, ..arithmetic }, SourceName::Translated)
    };
    let slot = not_resting(walk, name)?;
    if let (Some(slot), Some(side), false) = (slot, side, flow.is_error() || walk.cx.dry_run) {
        walk.cx.state.touch(slot, side, flow.signal, walk.cx.now);
    }
    walk.step(Step::SourceLeavesAs { name, how });
    Ok(Source { name, binding, is_public: false })
}

/// The block's port that the connection has, or gets now. An error gets none.
fn translated<'g, O: Observer>(
    walk: &Walk<'_, 'g, O>,
    at: Placed<'g>,
    flow: &Flow,
    by_public_name: bool,
    remote: Endpoint,
) -> Result<u16, Stop> {
    let pool = walk.recent.pool(at.binding, || pool(walk, at)).ok_or(Stop::Drop(Reason::NoClientBlock))?;
    let pool = if by_public_name { pool.for_public_names() } else { pool };
    let (state, port, now) = (walk.cx.state, flow.src.port, walk.cx.now);
    if flow.is_error() {
        return state.peek_out(&pool, port, &remote, now).ok_or(Stop::Drop(Reason::NoEntry));
    }
    let names = &walk.cx.names;
    // A peer of the same network sees the connection come from the inside name of its port. If that is a service's, the
    // answers go to the service.
    let is_service = |wire_port| {
        let inside = at.inside_of(flow.src.proto, wire_port);
        names.service(at.binding.network(), inside).is_some()
    };
    let port = if walk.cx.dry_run {
        state.peek_translation(&pool, port, &remote, (flow.signal, now), is_service)
    } else {
        state.translate_out_beside(&pool, port, &remote, (flow.signal, now), is_service)
    };
    port.map_err(|refused| match refused {
        // New TCP and UDP are told; the middle of a connection is not, which may be resumed when a port gets free.
        Refused::Exhausted if flow.opens() || flow.src.proto == Proto::UDP => {
            Stop::Error { error: IcmpError::AdminProhibited, reason: Reason::BlockExhausted }
        }
        Refused::Exhausted => Stop::Drop(Reason::BlockExhausted),
        Refused::Stray => Stop::Drop(Reason::NoEntry),
        Refused::NotOwner => Stop::Drop(Reason::Quarantine),
    })
}

/// The part of a block that translated connections use.
pub(super) fn pool<O>(walk: &Walk<'_, '_, O>, at: Placed<'_>) -> Option<Pool> {
    let Placed { binding, server } = at;
    walk.cx.state.pool(server.ip, binding.wire_ports(), binding.is_native(), walk.cx.names.owner(binding))
}

/// True if packets of this inside port pass the block as they are: the first 7/8 of a native one, which the
/// container's local port range has been set to.
#[inline(always)]
pub(super) fn passes_native(binding: &Binding, inside_port: u16) -> bool {
    let ports = binding.inside_ports();
    let translated = ports.count() >> 3;
    binding.is_native() && ports.contains(inside_port) && u32::from(ports.last - inside_port) >= translated
}
