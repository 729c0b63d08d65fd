//! Maglev's consistent hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
//! 2016, section 3.4): the lookup table of a service with several replicas.

use super::hash::mix;

/// Slots of a service with more than [`SMALL_SERVICE`] bindings: the paper's own default, prime.
pub(super) const SLOTS: usize = 65537;
/// Slots of smaller services, prime: 8 KiB each, and still 256 slots a replica or more, where the paper asks for 100 to
/// balance within 1%.
pub(super) const SMALL_SLOTS: usize = 8191;
/// How many bindings a service may have to be small. It counts all of them, draining and standby ones too, so that
/// the size, and with it every flow's choice, changes only where a service crosses this line.
pub(super) const SMALL_SERVICE: usize = 32;

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
    /// Fills a table for a service that has `bindings` in all. The order of contenders is part of the result: it must
    /// be the same everywhere.
    pub(super) fn fill(contenders: &[Contender], bindings: usize) -> Slots {
        match contenders {
            [] => Slots::Empty,
            [one] => Slots::One(one.position),
            several => {
                let slots = populate(several, if bindings > SMALL_SERVICE { SLOTS } else { SMALL_SLOTS });
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
    (u128::from(flow_hash) * slots as u128 >> 64) as usize
}

/// The paper's pseudocode 1, with turns by weight: in each round everybody gains its weight and pays the highest one
/// for a turn.
fn populate(contenders: &[Contender], size: usize) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    struct Turn {
        next: usize,
        skip: usize,
        credit: u32,
    }
    let price = contenders.iter().map(|c| u32::from(c.weight)).max().unwrap_or(1).max(1);
    let mut turns: Vec<Turn> = contenders
        .iter()
        .map(|contender| Turn {
            next: (mix(contender.identity, 1) % size as u64) as usize,
            skip: (mix(contender.identity, 2) % (size as u64 - 1)) as usize + 1,
            credit: 0,
        })
        .collect();
    let mut slots = vec![FREE; size];
    let mut free = size;
    while free > 0 {
        for (turn, contender) in turns.iter_mut().zip(contenders) {
            turn.credit += u32::from(contender.weight.max(1));
            if turn.credit < price || free == 0 {
                continue;
            }
            turn.credit -= price;
            while slots[turn.next] != FREE {
                turn.next += turn.skip;
                turn.next -= if turn.next < size { 0 } else { size };
            }
            slots[turn.next] = contender.position;
            free -= 1;
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contenders(weights: &[u16]) -> Vec<Contender> {
        let with = |(i, &weight): (usize, &u16)| Contender { position: i as u16, identity: mix(i as u64, 77), weight };
        weights.iter().enumerate().map(with).collect()
    }

    fn flows() -> impl Iterator<Item = u64> {
        (0..200_000).map(|n| mix(n, 5))
    }

    fn load(slots: &Slots, replicas: usize) -> Vec<f64> {
        let mut load = vec![0.0; replicas];
        flows().for_each(|flow| load[usize::from(slots.pick(flow).unwrap())] += 1.0);
        load
    }

    #[test]
    fn every_replica_gets_its_weight_within_five_percent() {
        for weights in [vec![1; 2], vec![1; 32], vec![2, 1], vec![1, 2, 3, 10], vec![7, 100, 100, 93]] {
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            let slots = Slots::fill(&contenders(&weights), weights.len());
            for (load, &weight) in load(&slots, weights.len()).iter().zip(&weights) {
                let ideal = 200_000.0 * f64::from(weight) / total;
                assert!((load / ideal - 1.0).abs() < 0.05, "{weights:?}: {load} against {ideal}");
            }
        }
    }

    #[test]
    fn the_slots_of_a_thousand_replicas_are_shared_evenly() {
        let Slots::Wide(slots) = Slots::fill(&contenders(&[1; 1000]), 1000) else { panic!("expected wide slots") };
        assert_eq!(slots.len(), SLOTS);
        let mut held = vec![0; 1000];
        slots.iter().for_each(|&position| held[usize::from(position)] += 1);
        assert!(held.iter().all(|&n| n == 65 || n == 66), "turns are equal");
    }

    /// When one of n leaves, its own flows must move; hardly any others do.
    #[test]
    fn a_replica_that_leaves_disturbs_few_others() {
        for n in [3, 10, 32, 100] {
            let mut replicas = contenders(&vec![1; n]);
            let before = Slots::fill(&replicas, n);
            let gone = replicas.remove(n / 2).position;
            let after = Slots::fill(&replicas, n);
            let moved = flows().filter(|&flow| before.pick(flow) != after.pick(flow)).count();
            let ideal = flows().filter(|&flow| before.pick(flow) == Some(gone)).count();
            let ratio = moved as f64 / ideal as f64;
            println!("one of {n} leaves: {moved} of 200000 flows move, {ratio:.3} times the ideal");
            assert!(ratio < 1.75, "{n}: {ratio}");
        }
    }

    #[test]
    fn a_choice_of_one_or_none_needs_no_table() {
        assert_eq!(Slots::fill(&[], 5).pick(9), None);
        let one = Slots::fill(&contenders(&[3]), 5);
        assert_eq!((one.pick(9), one.memory_bytes()), (Some(0), 0));
        assert_eq!(
            Slots::fill(&contenders(&[1, 1]), 2).pick(u64::MAX),
            Slots::fill(&contenders(&[1, 1]), 2).pick(u64::MAX)
        );
    }
}
