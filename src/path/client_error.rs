//! To a client outside: an error about what it sent, from behind the gateway, where the destination had become a wire name.
//! Routers between gateway and server speak so, and the server itself. The client is told under the name that it called,
//! and from that (RFC 5508 section 4.2, REQ-5).
//!
//! Any gateway may do this: the mapping alone says what the public name is.

use super::decision::{Flow, Plan, Stop, To};
use super::gateway::may_enter;
use super::observe::{Found, Observer, SourceName, Step};
use super::verdict::Reason;
use super::walk::{Context, Walk, must_be_routable};
use crate::frame::{L4, Packet};
use crate::naming::{Inside, Public, Wire};
use crate::units::{Endpoint, Proto};

/// True for an error to somebody who is no server of ours, about a packet to a wire name of another server: the names that
/// gateways put in the place of public ones.
pub(super) fn is_one(cx: &Context<'_>, packet: &Packet) -> bool {
    let L4::IcmpError { embedded, .. } = packet.l4 else { return false };
    !cx.around.servers.contains(&packet.dst) && is_name_behind_gateways(cx, embedded.dst) && cx.around.is_gateway
}

/// True for wire names of other servers, as far as the uplink's XDP program knows them: each port of the owned range, and
/// published protocols without ports.
pub(super) fn is_name_behind_gateways(cx: &Context<'_>, name: Endpoint) -> bool {
    if matches!(name.proto, Proto::TCP | Proto::UDP) {
        let is_of_another = cx.names.server(name.ip).is_some_and(|server| !server.local);
        return is_of_another && cx.around.owned.contains(name.port);
    }
    cx.names.inner(Wire(name)).is_some_and(|at| !at.server.local && at.binding.is_public())
}

/// Decides what becomes of such an error.
#[inline(never)]
pub(super) fn decide<'g, O: Observer>(walk: &mut Walk<'_, 'g, O>, packet: &Packet) -> Result<Plan<'g>, Stop> {
    must_be_routable(packet)?;
    if packet.ttl <= 1 {
        return Err(Stop::Drop(Reason::TtlExpired));
    }
    let flow = Flow::of(packet);
    if flow.dst.ip != packet.dst {
        return Err(Stop::Drop(Reason::IcmpUnrelated));
    }
    let wire = flow.src;
    let published = walk.cx.names.inner(Wire(wire)).and_then(|at| {
        let public = walk.cx.names.public_name(at.binding, wire.proto)?;
        Some((at, public))
    });
    let Some((at, Public(name))) = published else {
        walk.step(Step::WireName { name: wire, found: Found::Unknown });
        return Err(Stop::Drop(Reason::IcmpUnrelated));
    };
    let Inside(inside) = at.inside_of(wire.proto, wire.port);
    walk.step(Step::WireName { name: wire, found: Found::Binding { name: inside, server: wire.ip } });
    may_enter(walk, flow.dst, at.binding.network())?;
    walk.step(Step::SourceLeavesAs { name, how: SourceName::Public });
    walk.step(Step::Outside { ip: flow.dst.ip });
    // Outside, addresses of the underlay are filtered, and with them what they say.
    Ok(Plan { src: name, dst: flow.dst, error_source: Some(name.ip), to: To::Outside { by: None } })
}
