//! How the keys of flows and of fragmented packets are made.

/// A folded multiplication, as in wyhash. With a secret factor nobody can choose keys that share a bucket.
#[inline]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xa076_1d64_78bd_642f) * u128::from(b ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ (product >> 64) as u64
}
