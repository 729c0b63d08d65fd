//! Lookups that a burst begins for all of its packets before it finishes any.

use super::burst::BURST;
use super::port::{Access, Role};
use super::recent::Recent;
use super::walk::Context;
use crate::flow::{FlowKey, Purpose};
use crate::frame::{Malformed, Packet, Parsed};
use crate::naming::{Inside, Lead, Public, View, Wire, flow_hash};
use crate::units::Endpoint;

/// The lookups of one packet's own names. An ICMP error is about other names: it takes none of these.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    pub destination: Lead,
    /// From the underlay only: behind an access port there is mostly one sender.
    pub source: Lead,
    /// The flow of a container's packet to a name that several bindings may hold.
    pub flow: Option<FlowKey>,
}

impl Ahead {
    /// Asks for the buckets.
    #[inline(always)]
    pub fn begin(cx: &Context<'_>, role: &Role, packet: &Packet) -> Ahead {
        match role {
            Role::Access(access) => {
                let destination = cx.names.lead_outer(access.network, Inside(packet.dst_endpoint()));
                Ahead { destination, ..Ahead::default() }
            }
            Role::Uplink { .. } => Ahead::of_names(&cx.names, packet.dst_endpoint(), packet.src_endpoint()),
            // Clients outside and what they call have no wire names.
            Role::External => Ahead::default(),
        }
    }

    /// The lookups of two wire names.
    #[inline(always)]
    pub fn of_names(names: &View<'_>, dst: Endpoint, src: Endpoint) -> Ahead {
        Ahead { destination: names.lead_inner(Wire(dst)), source: names.lead_inner(Wire(src)), flow: None }
    }

    /// Asks for the records.
    #[inline(always)]
    pub fn follow(&mut self, cx: &Context<'_>, role: &Role) {
        match role {
            Role::Access(_) => cx.names.follow_outer(&mut self.destination),
            Role::Uplink { .. } => {
                cx.names.follow_inner(&mut self.destination);
                cx.names.follow_inner(&mut self.source);
            }
            Role::External => {}
        }
    }
}

/// Asks for all that the choice among replicas will read, for those packets of containers that may need it: a step for
/// all of them, then the next.
#[inline(never)]
pub(super) fn choose<'g>(
    cx: &Context<'g>,
    access: &Access,
    recent: &Recent<'g>,
    parsed: &[Result<Parsed, Malformed>],
    ahead: &mut [Ahead],
) {
    let affinity = cx.state.affinity();
    for (parsed, ahead) in parsed.iter().zip(&mut *ahead) {
        if let (true, Some(packet)) = (ahead.destination.may_be_shared(), packet_of(parsed)) {
            cx.names.lead_group(&mut ahead.destination, access.network, Inside(packet.dst_endpoint()));
            let find = || cx.names.sender(access.network, packet.eth_src, packet.src, access.id);
            ahead.flow = recent.sender(packet.eth_src, packet.src, find).map(|(_, sender)| {
                let (own, other) = (packet.src_endpoint(), packet.dst_endpoint());
                let flow = affinity.key(Purpose::Destination, sender.identity(), &own, &other);
                affinity.prefetch(flow);
                flow
            });
        }
    }
    among(cx, parsed, ahead);
}

/// Asks for all that packets from clients outside will read of the public names that they call.
#[inline(never)]
pub(super) fn published(cx: &Context<'_>, parsed: &[Result<Parsed, Malformed>], ahead: &mut [Ahead]) {
    let (names, affinity) = (&cx.names, cx.state.affinity());
    let packets = || parsed.iter().map(packet_of);
    packets().flatten().for_each(|packet| names.lead_public_ip(packet.dst));
    // Where clients and servers share an interface, the other lookups are those of wire names.
    let mut own = [Ahead::default(); BURST];
    for (packet, own) in packets().zip(&mut own) {
        if let Some(packet) = packet {
            own.destination = names.lead_published(Public(packet.dst_endpoint()));
        }
    }
    own.iter_mut().for_each(|own| names.follow_published(&mut own.destination));
    for ((packet, own), ahead) in packets().zip(&mut own).zip(ahead) {
        let Some(packet) = packet else { continue };
        if own.destination.may_be_shared() {
            let (client, name) = (packet.src_endpoint(), packet.dst_endpoint());
            names.lead_public_group(&mut own.destination, Public(name));
            let flow = affinity.key(Purpose::Destination, 0, &client, &name);
            affinity.prefetch(flow);
            (own.flow, ahead.flow) = (Some(flow), Some(flow));
        } else {
            names.follow_caller(&own.destination, packet.src);
        }
    }
    among(cx, parsed, &mut own);
}

/// The rest, once the group and the flow of each packet have been asked for.
fn among(cx: &Context<'_>, parsed: &[Result<Parsed, Malformed>], ahead: &mut [Ahead]) {
    let affinity = cx.state.affinity();
    let shared = |ahead: &&mut Ahead| ahead.flow.is_some();
    ahead.iter_mut().filter(shared).for_each(|ahead| cx.names.follow_group(&mut ahead.destination));
    ahead.iter_mut().filter(shared).for_each(|ahead| cx.names.follow_members(&ahead.destination));
    let mut new_flows = [None; BURST];
    for ((parsed, ahead), new) in parsed.iter().zip(&*ahead).zip(&mut new_flows) {
        let (Some(flow), Some(packet)) = (ahead.flow, packet_of(parsed)) else { continue };
        match affinity.likely(flow) {
            Some(replica) => cx.names.follow_replica(&ahead.destination, replica),
            None => {
                let hash = flow_hash(packet.src_endpoint(), packet.dst_endpoint());
                cx.names.follow_slot(&ahead.destination, hash);
                *new = Some(hash);
            }
        }
    }
    for (ahead, hash) in ahead.iter().zip(new_flows) {
        if let Some(hash) = hash {
            cx.names.follow_pick(&ahead.destination, hash);
        }
    }
}

fn packet_of(parsed: &Result<Parsed, Malformed>) -> Option<&Packet> {
    match parsed {
        Ok(Parsed::Ip(packet)) => Some(packet),
        _ => None,
    }
}
