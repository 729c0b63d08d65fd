//! Maglev's consistent hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
//! 2016, section 3.4): the lookup table of a service with several replicas.

use super::hash::mix;

/// Slots of a large service: the paper's own default, prime.
pub(super) const SLOTS: usize = 65537;
/// Slots of a small one, prime: 8 KiB, where the other takes 64. When one of 32 replicas leaves, 1.4 times the ideal
/// share of flows moves, and 1.1 times with the larger table (`bench/replicas.rs`).
pub(super) const SMALL_SLOTS: usize = 8191;
/// How many bindings a service may have to be small.
pub(super) const SMALL_SERVICE: usize = 32;
/// Slots that everybody in a small table must have by weight: turns are whole, so shares are within 5% then.
const FEWEST_SLOTS: u64 = 20;

/// How many slots a service of these weights has. All its bindings count, draining and standby ones too, so that the
/// size, and with it every flow's choice, changes only where the service itself crosses a line.
pub(super) fn slots_for(weights: impl Iterator<Item = u16>) -> usize {
    let (mut count, mut total, mut least) = (0, 0, u64::MAX);
    for weight in weights.map(|weight| u64::from(weight.max(1))) {
        (count, total, least) = (count + 1, total + weight, least.min(weight));
    }
    let is_small = count <= SMALL_SERVICE && least.saturating_mul(SMALL_SLOTS as u64) >= FEWEST_SLOTS * total;
    if is_small { SMALL_SLOTS } else { SLOTS }
}

/// One that takes turns at filling the table.
pub(super) struct Contender {
    /// Where it stands in the list that the table points into.
    pub(super) position: u16,
    /// The same on every server.
    pub(super) identity: u64,
    /// Turns come in proportion to it; not 0.
    pub(super) weight: u16,
}

/// A filled table.
#[derive(Debug)]
pub(super) enum Slots {
    /// Nobody to choose.
    Empty,
    /// Nothing to choose.
    One(u16),
    /// Positions below 256.
    Narrow(Box<[u8]>),
    Wide(Box<[u16]>),
}

impl Slots {
    /// Fills a table of `size` slots (see [`slots_for`]). The order of contenders is part of the result: it must be the
    /// same everywhere.
    pub(super) fn fill(contenders: &[Contender], size: usize) -> Slots {
        match contenders {
            [] => Slots::Empty,
            [one] => Slots::One(one.position),
            several => {
                let slots = populate(several, size);
                let narrow = slots.iter().all(|&position| position < 256);
                if narrow { Slots::Narrow(slots.iter().map(|&p| p as u8).collect()) } else { Slots::Wide(slots.into()) }
            }
        }
    }

    /// The position that a flow of this hash goes to.
    #[inline]
    pub(super) fn pick(&self, flow_hash: u64) -> Option<u16> {
        match self {
            Slots::Empty => None,
            Slots::One(position) => Some(*position),
            Slots::Narrow(slots) => slots.get(slot(flow_hash, slots.len())).copied().map(u16::from),
            Slots::Wide(slots) => slots.get(slot(flow_hash, slots.len())).copied(),
        }
    }

    /// What the table costs.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Slots::Empty | Slots::One(_) => 0,
            Slots::Narrow(slots) => slots.len(),
            Slots::Wide(slots) => 2 * slots.len(),
        }
    }
}

/// The high part of a product instead of a remainder: no division on the packet path.
#[inline]
fn slot(flow_hash: u64, slots: usize) -> usize {
    ((u128::from(flow_hash) * slots as u128) >> 64) as usize
}

/// The paper's pseudocode 1, with turns by weight: in each round everybody gains its weight and pays the highest one
/// for a turn. The turns are worked out beforehand, in time that grows with slots and contenders and not with their
/// product, however unequal the weights are.
fn populate(contenders: &[Contender], size: usize) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let mut next: Vec<(usize, usize)> = contenders
        .iter()
        .map(|contender| {
            let first = (mix(contender.identity, 1) % size as u64) as usize;
            let skip = (mix(contender.identity, 2) % (size as u64 - 1)) as usize + 1;
            (first, skip)
        })
        .collect();
    let mut slots = vec![FREE; size];
    for &turn in turns(contenders, size).iter().take(size) {
        let (at, skip) = &mut next[turn as usize];
        while slots[*at] != FREE {
            *at += *skip;
            *at -= if *at < size { 0 } else { size };
        }
        slots[*at] = contenders[turn as usize].position;
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
    let each_turn = |contender: &Contender| 1..=enough * weight(contender) / price;
    let round_of = |contender: &Contender, nth: u64| (nth * price).div_ceil(weight(contender)) as usize;
    let mut starts = vec![0; rounds + 2];
    for contender in contenders {
        each_turn(contender).for_each(|nth| starts[round_of(contender, nth) + 1] += 1);
    }
    for round in 1..starts.len() {
        starts[round] += starts[round - 1];
    }
    let mut turns = vec![0; starts[rounds + 1]];
    for (place, contender) in contenders.iter().enumerate() {
        for nth in each_turn(contender) {
            let at = &mut starts[round_of(contender, nth)];
            turns[*at] = place as u32;
            *at += 1;
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contenders(weights: &[u16]) -> Vec<Contender> {
        let with = |(i, &weight): (usize, &u16)| Contender { position: i as u16, identity: mix(i as u64, 77), weight };
        weights.iter().enumerate().map(with).collect()
    }

    fn filled(contenders: &[Contender]) -> Slots {
        Slots::fill(contenders, slots_for(contenders.iter().map(|c| c.weight)))
    }

    fn flows() -> impl Iterator<Item = u64> {
        (0..200_000).map(|n| mix(n, 5))
    }

    /// Slots of each replica.
    fn held(slots: &Slots, replicas: usize) -> Vec<usize> {
        let mut held = vec![0; replicas];
        match slots {
            Slots::Narrow(slots) => slots.iter().for_each(|&position| held[usize::from(position)] += 1),
            Slots::Wide(slots) => slots.iter().for_each(|&position| held[usize::from(position)] += 1),
            Slots::Empty | Slots::One(_) => panic!("nothing to share"),
        }
        held
    }

    #[test]
    fn every_replica_gets_its_weight_within_five_percent() {
        let many: Vec<u16> = (0..500).map(|n| 1 + n % 10).collect();
        let cases = [
            vec![1; 2],
            vec![1; 32],
            vec![2, 1],
            vec![1, 2, 3, 10],
            vec![7, 100, 100, 93],
            vec![500, 1],
            vec![1000, 1, 7],
        ];
        for weights in cases.into_iter().chain([vec![100; 31], vec![1; 1000], many]) {
            let total: usize = weights.iter().map(|&w| usize::from(w)).sum();
            let slots = filled(&contenders(&weights));
            let size = held(&slots, weights.len()).iter().sum::<usize>();
            for (held, &weight) in held(&slots, weights.len()).iter().zip(&weights) {
                let ideal = size as f64 * f64::from(weight) / total as f64;
                assert!((*held as f64 / ideal - 1.0).abs() <= 0.05, "{weights:?}: {held} against {ideal}");
            }
        }
    }

    #[test]
    fn flows_are_spread_as_the_slots_are() {
        let weights = [7, 100, 100, 93];
        let slots = filled(&contenders(&weights));
        let mut load = [0.0; 4];
        flows().for_each(|flow| load[usize::from(slots.pick(flow).unwrap())] += 1.0);
        for (load, weight) in load.into_iter().zip(weights) {
            assert!((load / (200_000.0 * f64::from(weight) / 300.0) - 1.0).abs() < 0.05, "{load} of weight {weight}");
        }
    }

    #[test]
    fn the_slots_of_a_thousand_replicas_are_shared_evenly() {
        let slots = filled(&contenders(&[1; 1000]));
        assert_eq!(slots.memory_bytes(), 2 * SLOTS);
        assert!(held(&slots, 1000).iter().all(|&n| n == 65 || n == 66), "turns are equal");
    }

    #[test]
    fn turns_come_by_weight_round_by_round() {
        // Each gains its weight a round and pays 4 a turn.
        let turns = turns(&contenders(&[4, 1, 2]), 14);
        assert_eq!(turns[..14], [0, 0, 2, 0, 0, 1, 2, 0, 0, 2, 0, 0, 1, 2]);
    }

    /// When one of n leaves, its own flows must move; hardly any others do.
    #[test]
    fn a_replica_that_leaves_disturbs_few_others() {
        for (n, limit) in [(2, 1.0), (3, 1.01), (10, 1.1), (32, 1.45), (100, 1.75), (1000, 8.0)] {
            let mut replicas = contenders(&vec![1; n]);
            let before = filled(&replicas);
            let gone = replicas.remove(n / 2).position;
            // The line between small and large services is not what this is about.
            let after = Slots::fill(&replicas, slots_for(std::iter::repeat_n(1, n)));
            let moved = flows().filter(|&flow| before.pick(flow) != after.pick(flow)).count();
            let ideal = flows().filter(|&flow| before.pick(flow) == Some(gone)).count();
            let ratio = moved as f64 / ideal as f64;
            println!("one of {n} leaves: {moved} of 200000 flows move, {ratio:.3} times the ideal");
            assert!(ratio <= limit, "{n}: {ratio}");
        }
    }

    #[test]
    fn a_choice_of_one_or_none_needs_no_table() {
        assert_eq!(Slots::fill(&[], SLOTS).pick(9), None);
        let one = Slots::fill(&contenders(&[3]), SLOTS);
        assert_eq!((one.pick(9), one.memory_bytes()), (Some(0), 0));
        let two = || filled(&contenders(&[1, 1]));
        assert_eq!(two().pick(u64::MAX), two().pick(u64::MAX));
    }
}
