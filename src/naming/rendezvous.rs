//! The choice among few replicas, without a table: each is asked how soon it would have taken the flow's slot.
//!
//! This is weighted rendezvous hashing (Thaler, Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM
//! ToN 1998; weights by logarithms: Schindelhauer, Schomaker, "Weighted distributed hash tables", SPAA 2005) over the
//! permutations of [`super::maglev`]. When one leaves, its own flows move and no others.
//!
//! It nearly is Maglev's choice: filling its table, a replica that has gone through the part p of its permutation finds the
//! next slot free if none of the others has come to it yet, with a chance of Π(1 - q) over their parts. So a turn moves it on by
//! 1 / Π(1 - q), and with all factors counted, -ln(1 - p) grows in proportion to its weight and to a time that is the same for
//! all. The slot is taken by whoever comes to it first: who has the least -ln(1 - rank / slots) / weight. What chance adds
//! makes both differ in a slot of 200 with eight replicas. So a service that outgrows this, or shrinks to it, keeps nearly
//! all choices.

use super::maglev::Contender;
use super::permutation::{Permutation, Ranks, SLOTS};

/// A service of more bindings has a table.
const MOST: usize = 8;
/// So does a service where one has less than a tenth of the weight: what is nobody's turn but chance makes shares differ by
/// 1% then (one standard deviation), and by more the smaller they are.
const LEAST_SHARE: u64 = 10;

/// Whether a service can do without a table. All its bindings count, draining and standby ones too, so that the kind of
/// choice changes only where the service itself crosses a line.
pub(super) fn is_for(bindings: &[Contender]) -> bool {
    let weights = || bindings.iter().map(|contender| u64::from(contender.weight.max(1)));
    let least = weights().min().unwrap_or(1);
    bindings.len() <= MOST && least * LEAST_SHARE >= weights().sum()
}

/// Replicas to be asked.
#[derive(Debug)]
pub(super) struct Asked(Box<[One]>);

#[derive(Debug)]
struct One {
    ranks: Ranks,
    /// 2^32 by its weight.
    pace: u32,
    position: u16,
}

impl Asked {
    pub(super) fn new(contenders: &[Contender]) -> Asked {
        let one = |contender: &Contender| {
            let pace = u32::MAX / u32::from(contender.weight.max(1));
            One { ranks: Permutation::of(contender.identity).ranks(), pace, position: contender.position }
        };
        Asked(contenders.iter().map(one).collect())
    }

    /// Who takes the slot: of equals, the one that is first in the order of identities.
    #[inline]
    pub(super) fn pick(&self, slot: usize) -> Option<u16> {
        const ALL: u32 = SLOTS as u32;
        let when = |one: &One| u64::from(logarithm(ALL) - logarithm(ALL - one.ranks.of(slot))) * u64::from(one.pace);
        self.0.iter().min_by_key(|one| when(one)).map(|one| one.position)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Bits of a logarithm behind the point.
const FRACTION: u32 = 26;
/// Bits of a number that choose a step of the logarithm; between steps it is a line, off by 0.00005 at most.
const STEP: u32 = 6;

/// The binary logarithm of a number from 1 to 2^17, in whole numbers: the same on every machine. A greater number has
/// a greater one.
#[inline]
fn logarithm(number: u32) -> u32 {
    const STEPS: [u32; (1 << STEP) + 1] = steps();
    let whole = 31 - number.max(1).leading_zeros();
    let mantissa = number << (31 - whole) << 1;
    let (step, rest) = ((mantissa >> (32 - STEP)) as usize, u64::from(mantissa << STEP));
    let rise = u64::from(STEPS[step + 1] - STEPS[step]);
    (whole << FRACTION) + STEPS[step] + ((rise * rest) >> 32) as u32
}

/// Logarithms of 1, 1 + 1/64 and so on up to 2: bit by bit, as squaring a number doubles its logarithm.
const fn steps() -> [u32; (1 << STEP) + 1] {
    let mut steps = [0; (1 << STEP) + 1];
    let mut nth = 0;
    while nth < 1 << STEP {
        let mut number = ((1 << STEP) + nth as u64) << (31 - STEP);
        let mut bit = 0;
        while bit < FRACTION {
            number = (number * number) >> 31;
            steps[nth] <<= 1;
            if number >= 1 << 32 {
                number >>= 1;
                steps[nth] |= 1;
            }
            bit += 1;
        }
        nth += 1;
    }
    steps[1 << STEP] = 1 << FRACTION;
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_and_grow() {
        for number in 1..=1_u32 << 17 {
            let is = f64::from(logarithm(number)) / f64::from(1 << FRACTION);
            assert!((is - f64::from(number).log2()).abs() < 5e-5, "{number}: {is}");
            assert!(number == 1 || logarithm(number) > logarithm(number - 1), "{number}");
        }
    }
}
