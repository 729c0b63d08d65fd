//! In which order a replica would take the slots of its service.
//!
//! Maglev's own permutations, `first + k * skip`, are cheap, and some of them are in step: if one replica's skip is twice
//! another's, both come to the same slots at the same time, and a third has more or less than its share. "Other methods
//! … generate better quality permutations" (the paper, section 3.4). Here the number `first + k * skip` is the cube of a
//! slot, counted from a place of the replica's own: modulo 65537, every number is the cube of exactly one, as 3 does not
//! divide 65536.

use std::sync::LazyLock;

use super::hash::mix;

/// Slots of a service: Maglev's own default, prime.
pub(super) const SLOTS: usize = 65537;
const M: u64 = SLOTS as u64;

/// By number, of what it is the cube.
static ROOTS: LazyLock<Box<[u32]>> = LazyLock::new(|| {
    let mut roots = vec![0; SLOTS];
    (0..M).for_each(|number| roots[cube(number) as usize] = number as u32);
    roots.into()
});

/// The order of one replica.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permutation {
    /// Each below [`SLOTS`].
    first: u32,
    skip: u32,
    place: u32,
}

impl Permutation {
    /// That of a binding: the same everywhere.
    pub(super) fn of(identity: u64) -> Permutation {
        let below = |nth, limit| (mix(identity, nth) % limit) as u32;
        Permutation { first: below(1, M), skip: below(2, M - 1) + 1, place: below(3, M) }
    }

    /// The slots, from the first on, without end.
    pub(super) fn walk(self) -> Walk {
        Walk { cube: self.first, of: self, roots: &ROOTS }
    }

    /// The way back, from a slot to when it comes.
    pub(super) fn ranks(self) -> Ranks {
        Ranks { first: self.first, back: inverse(u64::from(self.skip)) as u32, place: self.place }
    }
}

/// A replica on its way through the slots.
pub(super) struct Walk {
    cube: u32,
    of: Permutation,
    roots: &'static [u32],
}

impl Walk {
    /// The next slot.
    #[inline]
    pub(super) fn slot(&mut self) -> usize {
        let slot = self.roots[self.cube as usize] + self.of.place;
        self.cube += self.of.skip;
        self.cube -= if self.cube < SLOTS as u32 { 0 } else { SLOTS as u32 };
        (slot - if slot < SLOTS as u32 { 0 } else { SLOTS as u32 }) as usize
    }
}

/// When a replica comes to which slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranks {
    first: u32,
    back: u32,
    place: u32,
}

impl Ranks {
    /// How many come before this one.
    #[inline]
    pub(super) fn of(self, slot: usize) -> u32 {
        let number = cube((slot as u64 + M - u64::from(self.place)) % M);
        ((number + M - u64::from(self.first)) * u64::from(self.back) % M) as u32
    }
}

#[inline]
fn cube(number: u64) -> u64 {
    number * number % M * number % M
}

/// Modulo the prime (Fermat).
fn inverse(number: u64) -> u64 {
    let (mut power, mut product, mut exponent) = (number % M, 1, M - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            product = product * power % M;
        }
        power = power * power % M;
        exponent >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_comes_once_and_its_rank_says_when() {
        for identity in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let (mut walk, ranks) = (Permutation::of(identity).walk(), Permutation::of(identity).ranks());
            let mut came = vec![false; SLOTS];
            for rank in 0..SLOTS as u32 {
                let slot = walk.slot();
                assert!(!std::mem::replace(&mut came[slot], true), "{slot} twice");
                assert_eq!(ranks.of(slot), rank);
            }
        }
    }
}
