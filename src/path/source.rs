//! Under which name a container's packet leaves: its service's own, or a port of its client block.

use super::decision::{Flow, Stop};
use super::destination::Destination;
use super::observe::{Observer, SourceName, Step};
use super::verdict::Reason;
use super::walk::Walk;
use crate::flow::{Block, Exhausted, Side};
use crate::frame::IcmpError;
use crate::naming::{Binding, Container, Network};
use crate::units::Endpoint;

/// The name that a packet leaves under, and the binding that it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'g> {
    pub name: Endpoint,
    pub binding: &'g Binding,
}

/// Names the source of `flow`. A service binding's own name comes before the block; towards the outside only if it is
/// public. A connection's first packet through a default-mode block makes its translation entry here.
pub(super) fn name<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    network: &Network,
    container: &'g Container,
    flow: &Flow,
    to: &Destination<'_>,
) -> Result<Source<'g>, Stop> {
    let (remote, side) = match to {
        Destination::Outside => (flow.dst, Some(Side::Outside)),
        Destination::Bound(bound) if bound.binding.network() == network.id => (bound.wire, None),
        Destination::Bound(bound) => (bound.wire, Some(Side::Peers)),
    };
    let source = match service(walk, container, flow, side)? {
        Some(source) => source,
        None => from_block(walk, container, flow, remote, side)?,
    };
    Ok(source)
}

fn service<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    container: &'g Container,
    flow: &Flow,
    side: Option<Side>,
) -> Result<Option<Source<'g>>, Stop> {
    let names = &walk.cx.names;
    let Some(binding) = names.source_service(container, flow.src.proto, flow.src.port) else { return Ok(None) };
    let wire = binding.wire_endpoint(flow.src.proto, flow.src.port);
    not_resting(walk, wire)?;
    let (name, how) = if side == Some(Side::Outside) {
        let Some(public) = binding.public_endpoint(flow.src.proto) else { return Ok(None) };
        (public, SourceName::Public)
    } else {
        (wire, SourceName::Service)
    };
    walk.step(Step::SourceLeavesAs { name, how });
    Ok(Some(Source { name, binding }))
}

fn from_block<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    container: &'g Container,
    flow: &Flow,
    remote: Endpoint,
    side: Option<Side>,
) -> Result<Source<'g>, Stop> {
    let prohibited = |reason| Stop::Error { error: IcmpError::AdminProhibited, reason };
    let binding = walk
        .cx
        .names
        .source_block(container, flow.src.proto, flow.src.port)
        .ok_or(prohibited(Reason::NoClientBlock))?;
    let (port, how) = if binding.passes_native(flow.src.port) {
        (binding.wire_endpoint(flow.src.proto, flow.src.port).port, SourceName::NativeBlock)
    } else {
        (translated(walk, binding, flow, remote).map_err(|_| prohibited(Reason::BlockExhausted))?, SourceName::Translated)
    };
    let name = Endpoint { proto: flow.src.proto, ip: binding.server_ip(), port };
    let slot = not_resting(walk, name)?;
    if let (Some(slot), Some(side), false) = (slot, side, flow.error) {
        walk.cx.state.touch(slot, side, flow.segment, walk.cx.now);
    }
    walk.step(Step::SourceLeavesAs { name, how });
    Ok(Source { name, binding })
}
