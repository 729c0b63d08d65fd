//! Who a replica is, in the few bits that an affinity entry can spare.

/// Names one of the bindings of a service: the upper bits of its identity ([`View::identity`](super::View::identity)).
/// The same on every server, after a move and after a restart. Two of a thousand replicas share one with a chance of
/// one in 100,000; the flows of the second may then be sent to the first when the set of replicas changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReplicaId(u64);

impl ReplicaId {
    /// How many bits there are.
    pub const BITS: u32 = 36;

    /// Of the binding that has this identity. Identities and their replica ids have one order.
    #[inline]
    #[must_use]
    pub const fn of(identity: u64) -> ReplicaId {
        ReplicaId(identity >> (64 - ReplicaId::BITS))
    }

    /// As a number of [`ReplicaId::BITS`] bits.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The lower bits of a word.
    #[inline]
    #[must_use]
    pub const fn from_bits(word: u64) -> ReplicaId {
        ReplicaId(word & ((1 << ReplicaId::BITS) - 1))
    }
}
