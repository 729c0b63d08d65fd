//! Numbers that look like any: from a seed, and not for secrets that are worth an attack.

/// A bijection that spreads every bit over all (the finalizer of SplitMix64: Steele, Lea and Flood, OOPSLA 2014).
#[inline]
#[must_use]
pub const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(GOLDEN);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Two to the 64th over the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub const fn word(&mut self) -> u64 {
        let word = mix(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of its generator, of seed 0.
    #[test]
    fn bits_are_mixed_as_by_splitmix64() {
        let mut random = Random::new(0);
        let words = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        assert_eq!(words.map(|_| random.word()), words);
        assert_eq!(mix(0), words[0]);
    }
}
