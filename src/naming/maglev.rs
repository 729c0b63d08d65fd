//! Maglev's consistent hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
//! 2016, section 3.4): the lookup table of a service with several replicas.

use crate::table;

use super::permutation::{Permutation, SLOTS, Walk};
use super::rendezvous::{self, Asked};

/// One that takes turns at filling the table.
pub(super) struct Contender {
    /// Where it stands in the list that the table points into.
    pub(super) position: u16,
    /// The same on every server.
    pub(super) identity: u64,
    /// Turns come in proportion to it; not 0.
    pub(super) weight: u16,
}

/// Who has which slot.
#[derive(Debug)]
pub(super) enum Slots {
    /// Nobody to choose.
    Empty,
    /// Nothing to choose.
    One(u16),
    /// Few enough to be asked, each time.
    Few(Asked),
    /// A filled table, of positions below 256.
    Narrow(Box<[u8]>),
    Wide(Box<[u16]>),
}

impl Slots {
    /// Shares the slots out among `contenders`, which are all or some of the bindings of a service. The order of
    /// contenders is part of the result: it must be the same everywhere.
    pub(super) fn share(contenders: &[Contender], bindings: &[Contender]) -> Slots {
        match contenders {
            [] => Slots::Empty,
            [one] => Slots::One(one.position),
            few if rendezvous::is_for(bindings) => Slots::Few(Asked::new(few)),
            several => Slots::fill(several),
        }
    }

    fn fill(contenders: &[Contender]) -> Slots {
        let slots = populate(contenders);
        let narrow = slots.iter().all(|&position| position < 256);
        if narrow { Slots::Narrow(slots.iter().map(|&p| p as u8).collect()) } else { Slots::Wide(slots.into()) }
    }

    /// The position that a flow of this hash goes to.
    #[inline]
    pub(super) fn pick(&self, flow_hash: u64) -> Option<u16> {
        match self {
            Slots::Empty => None,
            Slots::One(position) => Some(*position),
            Slots::Few(asked) => asked.pick(slot(flow_hash)),
            Slots::Narrow(slots) => slots.get(slot(flow_hash)).copied().map(u16::from),
            Slots::Wide(slots) => slots.get(slot(flow_hash)).copied(),
        }
    }

    /// Asks for the memory that [`Slots::pick`] reads.
    #[inline]
    pub(super) fn prefetch(&self, flow_hash: u64) {
        match self {
            Slots::Empty | Slots::One(_) | Slots::Few(_) => {}
            Slots::Narrow(slots) => slots.get(slot(flow_hash)).into_iter().for_each(|slot| table::prefetch(slot)),
            Slots::Wide(slots) => slots.get(slot(flow_hash)).into_iter().for_each(|slot| table::prefetch(slot)),
        }
    }

    /// What it costs.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Slots::Empty | Slots::One(_) => 0,
            Slots::Few(asked) => asked.memory_bytes(),
            Slots::Narrow(slots) => slots.len(),
            Slots::Wide(slots) => 2 * slots.len(),
        }
    }
}

/// The high part of a product instead of a remainder: no division on the packet path.
#[inline]
fn slot(flow_hash: u64) -> usize {
    ((u128::from(flow_hash) * SLOTS as u128) >> 64) as usize
}

/// The paper's pseudocode 1, with turns by weight: in each round everybody gains its weight and pays the highest one
/// for a turn. The turns are worked out beforehand, in time that grows with slots and contenders and not with their
/// product, however unequal the weights are.
fn populate(contenders: &[Contender]) -> Vec<u16> {
    let mut walks: Vec<Walk> = contenders.iter().map(|contender| Permutation::of(contender.identity).walk()).collect();
    let mut slots = vec![0; SLOTS];
    // Most of the time goes into finding out what is taken: a bit each, so that it is in the nearest cache.
    let mut taken = vec![0_u64; SLOTS / 64 + 1];
    for &turn in turns(contenders, SLOTS).iter().take(SLOTS) {
        let walk = &mut walks[turn as usize];
        let mut slot = walk.slot();
        while taken[slot / 64] >> (slot % 64) & 1 == 1 {
            slot = walk.slot();
        }
        taken[slot / 64] |= 1 << (slot % 64);
        slots[slot] = contenders[turn as usize].position;
    }
    slots
}

/// At least `size` turns, as places in `contenders`: round by round, and in a round in their order.
fn turns(contenders: &[Contender], size: usize) -> Vec<u32> {
    let weight = |contender: &Contender| u64::from(contender.weight.max(1));
    let price = contenders.iter().map(weight).max().unwrap_or(1);
    // Whoever has the highest weight has a turn in every round, so `size` rounds are enough.
    let after = |rounds: u64| contenders.iter().map(|c| rounds * weight(c) / price).sum::<u64>();
    let (mut rounds, mut enough) = (0, size as u64);
    while rounds + 1 < enough {
        let middle = rounds.midpoint(enough);
        if after(middle) < size as u64 { rounds = middle } else { enough = middle }
    }
    let rounds = enough as usize;
    let each_turn = |c: &Contender| Rounds::of(weight(c), price).take((enough * weight(c) / price) as usize);
    let mut starts = vec![0; rounds + 2];
    for contender in contenders {
        each_turn(contender).for_each(|round| starts[round + 1] += 1);
    }
    for round in 1..starts.len() {
        starts[round] += starts[round - 1];
    }
    let mut turns = vec![0; starts[rounds + 1]];
    for (place, contender) in contenders.iter().enumerate() {
        for round in each_turn(contender) {
            turns[starts[round]] = place as u32;
            starts[round] += 1;
        }
    }
    turns
}

/// In which rounds a contender has its turns: the nth in round n * price / weight, rounded up. No division a turn.
struct Rounds {
    weight: u64,
    /// What a turn takes: rounds, and parts of one.
    step: (usize, u64),
    at: (usize, u64),
}

impl Rounds {
    fn of(weight: u64, price: u64) -> Rounds {
        Rounds { weight, step: ((price / weight) as usize, price % weight), at: (0, 0) }
    }
}

impl Iterator for Rounds {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let (whole, parts) = (self.at.0 + self.step.0, self.at.1 + self.step.1);
        self.at = if parts < self.weight { (whole, parts) } else { (whole + 1, parts - self.weight) };
        Some(self.at.0 + usize::from(self.at.1 > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::hash::mix;

    fn contenders(weights: &[u16]) -> Vec<Contender> {
        let with = |(i, &weight): (usize, &u16)| Contender { position: i as u16, identity: mix(i as u64, 77), weight };
        weights.iter().enumerate().map(with).collect()
    }

    fn shared(contenders: &[Contender]) -> Slots {
        Slots::share(contenders, contenders)
    }

    fn flows() -> impl Iterator<Item = u64> {
        (0..200_000).map(|n| mix(n, 5))
    }

    /// Who has each slot.
    fn owners(slots: &Slots) -> Vec<u16> {
        let hash = |slot: usize| (((slot as u128) << 64).div_ceil(SLOTS as u128)) as u64;
        (0..SLOTS).map(|slot| slots.pick(hash(slot)).expect("somebody")).collect()
    }

    /// Slots of each replica.
    fn held(slots: &Slots, replicas: usize) -> Vec<usize> {
        let mut held = vec![0; replicas];
        owners(slots).into_iter().for_each(|position| held[usize::from(position)] += 1);
        held
    }

    /// How far the worst share is from its weight.
    fn furthest(slots: &Slots, weights: &[u16]) -> f64 {
        let total: usize = weights.iter().map(|&w| usize::from(w)).sum();
        let off = held(slots, weights.len()).into_iter().zip(weights).map(|(held, &weight)| {
            let ideal = SLOTS as f64 * f64::from(weight) / total as f64;
            (held as f64 / ideal - 1.0).abs()
        });
        off.fold(0.0, f64::max)
    }

    #[test]
    fn every_replica_gets_its_weight_within_five_percent() {
        let many: Vec<u16> = (0..500).map(|n| 1 + n % 10).collect();
        let cases = [
            vec![1; 2],
            vec![1; 8],
            vec![1; 9],
            vec![1; 32],
            vec![2, 1],
            vec![1, 2, 3, 4],
            vec![1, 2, 3, 10],
            vec![7, 100, 100, 93],
            vec![500, 1],
            vec![1000, 1, 7],
        ];
        for weights in cases.into_iter().chain([vec![100; 31], vec![1; 1000], many]) {
            let off = furthest(&shared(&contenders(&weights)), &weights);
            assert!(off <= 0.05, "{weights:?}: {off}");
        }
    }

    /// Whoever they are: few that are asked are as good as the permutations of their names are independent.
    #[test]
    fn shares_without_a_table_are_even_enough() {
        let mut worst = 0.0_f64;
        for names in 0..100 {
            let mut few = contenders(&[1; 8]);
            few.iter_mut().for_each(|one| one.identity = mix(one.identity, names));
            let slots = shared(&few);
            assert!(matches!(slots, Slots::Few(_)));
            worst = worst.max(furthest(&slots, &[1; 8]));
        }
        println!("the worst share of 100 services of 8 is off by {worst:.4}");
        assert!(worst < 0.05, "{worst}");
    }

    #[test]
    fn flows_are_spread_as_the_slots_are() {
        let weights = [7, 100, 100, 93];
        let slots = shared(&contenders(&weights));
        let mut load = [0.0; 4];
        flows().for_each(|flow| load[usize::from(slots.pick(flow).unwrap())] += 1.0);
        for (load, weight) in load.into_iter().zip(weights) {
            assert!((load / (200_000.0 * f64::from(weight) / 300.0) - 1.0).abs() < 0.05, "{load} of weight {weight}");
        }
    }

    #[test]
    fn the_slots_of_a_thousand_replicas_are_shared_evenly() {
        let slots = shared(&contenders(&[1; 1000]));
        assert_eq!(slots.memory_bytes(), 2 * SLOTS);
        assert!(held(&slots, 1000).iter().all(|&n| n == 65 || n == 66), "turns are equal");
    }

    #[test]
    fn turns_come_by_weight_round_by_round() {
        // Each gains its weight a round and pays 4 a turn.
        let turns = turns(&contenders(&[4, 1, 2]), 14);
        assert_eq!(turns[..14], [0, 0, 2, 0, 0, 1, 2, 0, 0, 2, 0, 0, 1, 2]);
    }

    /// When one of n leaves, its own flows must move; hardly any others do, also where the service then has no table any
    /// more.
    #[test]
    fn a_replica_that_leaves_disturbs_few_others() {
        for (n, limit) in
            [(2, 1.0), (3, 1.0), (8, 1.0), (9, 1.1), (10, 1.1), (32, 1.2), (33, 1.2), (100, 1.75), (1000, 8.0)]
        {
            let mut replicas = contenders(&vec![1; n]);
            let before = owners(&shared(&replicas));
            let gone = replicas.remove(n / 2).position;
            let after = owners(&shared(&replicas));
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            let ideal = before.iter().filter(|&&owner| owner == gone).count();
            let ratio = moved as f64 / ideal as f64;
            println!("one of {n} leaves: {moved} of {SLOTS} slots move, {ratio:.3} times the ideal");
            assert!(ratio <= limit, "{n}: {ratio}");
        }
    }

    /// Those who are asked say what a table would.
    #[test]
    fn a_table_says_nearly_the_same() {
        for weights in [vec![1; 2], vec![1; 5], vec![1; 8], vec![1, 2, 3, 4], vec![100, 300, 250]] {
            let few = contenders(&weights);
            let (asked, filled) = (shared(&few), Slots::fill(&few));
            assert!(matches!(asked, Slots::Few(_)), "{weights:?}");
            let differ = owners(&asked).iter().zip(owners(&filled)).filter(|&(asked, filled)| *asked != filled).count();
            assert!(differ * 100 < SLOTS, "{weights:?}: {differ}");
        }
    }

    #[test]
    fn a_choice_of_one_or_none_needs_no_table() {
        assert_eq!(shared(&[]).pick(9), None);
        let one = shared(&contenders(&[3]));
        assert_eq!((one.pick(9), one.memory_bytes()), (Some(0), 0));
        let two = || shared(&contenders(&[1, 1]));
        assert_eq!(two().pick(u64::MAX), two().pick(u64::MAX));
        assert!(two().memory_bytes() <= 64, "{}", two().memory_bytes());
    }
}
