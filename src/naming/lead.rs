//! Lookups in bursts: each is begun for every packet before it is finished for any, so that one packet's memory is on
//! its way while others are looked at.

use crate::table::Handle;
use crate::units::{Endpoint, NetworkId};

use super::hash::{inside_hash, widen, wire_hash};
use super::name::{Inside, Wire};
use super::record::{BY_INSIDE, BY_WIRE};
use super::sizes::{Sizes, base_of, exponents};
use super::view::View;

/// A lookup of one name that has been begun: what it tries first, and where that most likely leads. Good for the view
/// that gave it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lead {
    hash: u64,
    likely: Option<Handle>,
    /// What lies around the port.
    pub(super) sizes: u32,
    log2: u8,
}

impl Lead {
    fn new(sizes: u32, hash: impl FnOnce(u8) -> u64) -> Lead {
        match with_services(sizes).next() {
            Some(log2) => Lead { hash: hash(log2), likely: None, sizes, log2 },
            None => Lead { sizes, ..Lead::default() },
        }
    }

    /// The size, hash and likely record of what it tries first.
    #[inline(always)]
    pub(super) fn first(&self) -> (u8, u64, Option<Handle>) {
        (self.log2, self.hash, self.likely)
    }

    /// The hash for blocks of 2^`log2` ports, and the record that it is likely to lead to.
    #[inline(always)]
    pub(super) fn key(&self, log2: u8, hash: impl FnOnce() -> u64) -> (u64, Option<Handle>) {
        if log2 == self.log2 { (self.hash, self.likely) } else { (hash(), None) }
    }
}

/// The exponents of what lies around a port, a service being as large as a block of one port.
#[inline(always)]
pub(super) fn with_services(sizes: u32) -> impl Iterator<Item = u8> {
    exponents(sizes | sizes >> Sizes::SERVICE.trailing_zeros())
}

/// First `lead_*` for every packet, then `follow_*` for every packet, then `*_from`.
impl View<'_> {
    /// Begins [`View::inner`]: asks for the bucket.
    #[inline(always)]
    #[must_use]
    pub fn lead_inner(&self, Wire(name): Wire<Endpoint>) -> Lead {
        let Endpoint { ip, port, .. } = name;
        let sizes = self.names().wire_sizes.around(port);
        let lead = Lead::new(sizes, |log2| u64::from(wire_hash(ip, base_of(port, log2), log2)));
        self.names().bindings.prefetch_bucket(BY_WIRE, widen(lead.hash as u32), self.at());
        lead
    }

    /// Goes on with [`View::inner`]: asks for the record.
    #[inline(always)]
    pub fn follow_inner(&self, lead: &mut Lead) {
        lead.likely = self.names().bindings.prefetch_record(BY_WIRE, widen(lead.hash as u32), self.at());
    }

    /// Begins [`View::outer`]: asks for the bucket.
    #[inline(always)]
    #[must_use]
    pub fn lead_outer(&self, network: NetworkId, Inside(name): Inside<Endpoint>) -> Lead {
        let Endpoint { ip, port, .. } = name;
        let sizes = self.names().inside_sizes.around(port);
        let lead = Lead::new(sizes, |log2| inside_hash(network, ip, base_of(port, log2), log2));
        self.names().bindings.prefetch_bucket(BY_INSIDE, lead.hash, self.at());
        lead
    }

    /// Goes on with [`View::outer`]: asks for the record.
    #[inline(always)]
    pub fn follow_outer(&self, lead: &mut Lead) {
        lead.likely = self.names().bindings.prefetch_record(BY_INSIDE, lead.hash, self.at());
    }
}
