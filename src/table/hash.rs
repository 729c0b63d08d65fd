//! A fast, fixed, non-cryptographic hash of keys made of `u64` words.
//!
//! The mixing step and the constants are those of wyhash (Wang Yi, final version 4, public domain): a 64x64 -> 128 bit
//! multiplication folded by xor. The seed is fixed, so that every server computes the same; keys come from the
//! mapping, which its operator writes, so floods of colliding keys are not the threat that they are to a web server.

/// Secrets of wyhash, final version 4.
const SECRET: [u64; 4] = [0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9, 0x4b33_a62e_d433_d4a3, 0x4d5a_2da5_1de1_aa47];

/// Hash of a key. All 64 bits are good: tables take the bucket from the low ones and the tag from the high ones.
#[inline(always)]
#[must_use]
pub fn words(key: &[u64]) -> u64 {
    let mut state = SECRET[0];
    let mut pairs = key.chunks_exact(2);
    for pair in &mut pairs {
        state = fold(pair[0] ^ SECRET[1], pair[1] ^ state);
    }
    if let [last] = *pairs.remainder() {
        state = fold(last ^ SECRET[2], state);
    }
    fold(state ^ SECRET[3], SECRET[1] ^ key.len() as u64)
}

/// Both halves of the product, folded into one.
#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipping_any_bit_of_a_key_flips_about_half_of_the_hash() {
        for len in 1..=3 {
            let mut flips = [0u32; 64];
            let trials = if cfg!(miri) { 4 } else { 500 };
            for trial in 0..trials {
                let key: Vec<u64> = (0..len).map(|i| words(&[trial, i])).collect();
                for bit in 0..64 * len as usize {
                    let mut other = key.clone();
                    other[bit / 64] ^= 1 << (bit % 64);
                    let changed = words(&key) ^ words(&other);
                    for (at, flips) in flips.iter_mut().enumerate() {
                        *flips += (changed >> at & 1) as u32;
                    }
                }
            }
            let share = |flips: u32| f64::from(flips) / (trials * 64 * len) as f64;
            let slack = if cfg!(miri) { 0.25 } else { 0.03 };
            assert!(flips.iter().all(|&flips| (share(flips) - 0.5).abs() < slack), "{len} words: {flips:?}");
        }
    }

    /// Keys of real tables are dense: one prefix, consecutive ports. Each half of the hash must spread them alone.
    #[test]
    fn dense_keys_spread_evenly_over_buckets_and_tags() {
        let keys = if cfg!(miri) { 1 << 8 } else { 1 << 16 };
        let key = |n: u64| [0x0a00_0000_0000_0000 | (n >> 8) << 16, n & 0xff | 6 << 32];
        for half in [0, 32] {
            let mut load = vec![0u32; keys as usize / 4];
            (0..keys).for_each(|n| load[(words(&key(n)) >> half) as usize % (keys as usize / 4)] += 1);
            // Poisson with mean 4: beyond 24 with a chance of 1e-11 a bucket.
            assert!(load.iter().all(|&load| load < 24), "half at {half}: {:?}", load.iter().max());
            let empty = load.iter().filter(|&&load| load == 0).count() as f64 / load.len() as f64;
            assert!(cfg!(miri) || (empty - (-4f64).exp()).abs() < 0.005, "half at {half}: {empty} empty");
        }
    }

    #[test]
    fn keys_of_different_lengths_differ() {
        assert_ne!(words(&[0]), words(&[0, 0]));
        assert_ne!(words(&[]), words(&[0]));
    }
}
