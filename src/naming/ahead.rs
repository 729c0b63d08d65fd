//! Puts are staged in bursts, as packets are looked up: what a burst's lookups will read is asked for before the first of
//! them is done, so that memory's latency is waited for once. Nothing depends on it but speed.

use super::hash::{address_hash, inside_hash, pair_hash, widen, wire_hash};
use super::record::{BY_ADDRESS, BY_INSIDE, BY_PAIR, BY_WIRE};
use super::staging::{Draft, Staging};

/// Puts of a burst: as many as the tables look up together.
pub(super) const BURST: usize = 32;

/// What is going to be looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// The bindings of the same identities.
    Identity,
    /// Those, and the wire names.
    AllNames,
}

impl Staging<'_> {
    /// Asks for what the lookups of these drafts, [`BURST`] at most, will read.
    pub(super) fn look_ahead(&self, burst: &[Draft], ahead: Ahead) {
        let (bindings, containers, writer) = (&self.names.bindings, &self.names.containers, &*self.writer);
        let mut hashes = [[0; 3]; BURST];
        for (draft, [pair, inside, wire]) in burst.iter().zip(&mut hashes) {
            let spec = &self.puts[draft.put as usize].value;
            *pair = pair_hash(draft.network, spec.mac, spec.ip);
            containers.prefetch_bucket_staged(BY_PAIR, *pair, writer);
            let (base, log2) = spec.inside.base_and_log2();
            *inside = inside_hash(draft.network, spec.ip, base, log2);
            bindings.prefetch_bucket_staged(BY_INSIDE, *inside, writer);
            if ahead == Ahead::AllNames {
                let (base, log2) = spec.wire.base_and_log2();
                *wire = widen(wire_hash(spec.server_ip, base, log2));
                bindings.prefetch_bucket_staged(BY_WIRE, *wire, writer);
            }
        }
        for (draft, &[pair, inside, wire]) in burst.iter().zip(&hashes) {
            let known = containers.prefetch_record_staged(BY_PAIR, pair, writer);
            bindings.prefetch_record_staged(BY_INSIDE, inside, writer);
            if ahead == Ahead::AllNames {
                bindings.prefetch_record_staged(BY_WIRE, wire, writer);
                if known.is_none() {
                    let spec = &self.puts[draft.put as usize].value;
                    let address = address_hash(draft.network, spec.ip);
                    containers.prefetch_bucket_staged(BY_ADDRESS, address, writer);
                }
            }
        }
    }
}
