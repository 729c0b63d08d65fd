//! Lookups that a burst begins for all of its packets before it finishes any.

use super::port::Role;
use super::walk::Context;
use crate::frame::Packet;
use crate::naming::{Inside, Lead, View, Wire};
use crate::units::Endpoint;

/// The lookups of one packet's own names. An ICMP error is about other names: it takes none of these.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    pub destination: Lead,
    /// From the underlay only: behind an access port there is mostly one sender.
    pub source: Lead,
}

impl Ahead {
    /// Asks for the buckets.
    #[inline(always)]
    pub fn begin(cx: &Context<'_>, role: &Role, packet: &Packet) -> Ahead {
        match role {
            Role::Access(access) => {
                let destination = cx.names.lead_outer(access.network, Inside(packet.dst_endpoint()));
                Ahead { destination, source: Lead::default() }
            }
            Role::Uplink { .. } | Role::External => {
                Ahead::of_names(&cx.names, packet.dst_endpoint(), packet.src_endpoint())
            }
        }
    }

    /// The lookups of two wire names.
    #[inline(always)]
    pub fn of_names(names: &View<'_>, dst: Endpoint, src: Endpoint) -> Ahead {
        Ahead { destination: names.lead_inner(Wire(dst)), source: names.lead_inner(Wire(src)) }
    }

    /// Asks for the records.
    #[inline(always)]
    pub fn follow(&mut self, cx: &Context<'_>, role: &Role) {
        if let Role::Access(_) = role {
            cx.names.follow_outer(&mut self.destination);
        } else {
            cx.names.follow_inner(&mut self.destination);
            cx.names.follow_inner(&mut self.source);
        }
    }
}
