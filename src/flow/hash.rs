//! How the keys of flows and of fragmented packets are made.

/// A folded multiplication, as in wyhash. With a secret factor nobody can choose keys that share a bucket.
#[inline]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xa076_1d64_78bd_642f) * u128::from(b ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::fold;

    /// The low half of a key names one of its buckets, the high half the other.
    #[test]
    fn every_bit_of_both_words_reaches_both_halves() {
        let (word, secret) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
        let key = fold(word, secret);
        for bit in 0..64 {
            for other in [fold(word ^ 1 << bit, secret), fold(word, secret ^ 1 << bit)] {
                assert!(other as u16 != key as u16 && other >> 48 != key >> 48, "bit {bit}");
            }
        }
    }
}
