//! Lookups that a burst begins for all of its packets before it finishes any.

use super::port::{Access, Role};
use super::recent::Recent;
use super::walk::Context;
use crate::flow::{FlowKey, Purpose};
use crate::frame::{Malformed, Packet, Parsed};
use crate::naming::{Inside, Lead, View, Wire, flow_hash};
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

/// Asks for all that the choice among replicas will read, for those packets of a burst that may need it: a step for all of
/// them, then the next.
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
        if let (true, Ok(Parsed::Ip(packet))) = (ahead.destination.may_be_shared(), parsed) {
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
    let shared = |ahead: &&mut Ahead| ahead.flow.is_some();
    ahead.iter_mut().filter(shared).for_each(|ahead| cx.names.follow_group(&mut ahead.destination));
    ahead.iter_mut().filter(shared).for_each(|ahead| cx.names.follow_members(&ahead.destination));
    for (parsed, ahead) in parsed.iter().zip(ahead) {
        let (Some(flow), Ok(Parsed::Ip(packet))) = (ahead.flow, parsed) else { continue };
        match affinity.likely(flow) {
            Some(replica) => cx.names.follow_replica(&ahead.destination, replica),
            None => {
                let hash = flow_hash(packet.src_endpoint(), packet.dst_endpoint());
                cx.names.follow_slot(&ahead.destination, hash);
            }
        }
    }
}
