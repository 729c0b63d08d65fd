//! Fragments that came before the first of their packet: few, and not for long.

use std::collections::VecDeque;

use super::worker::Worker;
use crate::afxdp::{MAX_SEGMENTS, Segment};
use crate::flow::FragmentKey;
use crate::path::{self, Context, FRAGMENT_PATIENCE_MS, Reason};
use crate::units::{PortId, Tick};

/// Frames of memory that such fragments may take.
const MOST: usize = 256;
/// Those of one port, so that no container keeps the others' from waiting.
const MOST_OF_ONE: usize = 64;

/// Fragments that wait, the oldest first. `T` is what a driver has of them.
pub(super) struct Early<T> {
    fragments: VecDeque<Fragment<T>>,
    frames: usize,
    checked: Tick,
}

/// A fragment that waits for the first of its packet.
pub(super) struct Fragment<T> {
    pub what: T,
    /// The port that it came in by.
    pub from: PortId,
    pub key: FragmentKey,
    until: Tick,
    frames: usize,
}

impl<T> Early<T> {
    pub fn new() -> Early<T> {
        Early { fragments: VecDeque::with_capacity(MOST), frames: 0, checked: Tick(0) }
    }

    /// A fragment that begins to wait.
    pub fn fragment(what: T, from: PortId, key: FragmentKey, frames: usize, now: Tick) -> Fragment<T> {
        Fragment { what, from, key, until: now.after_ms(FRAGMENT_PATIENCE_MS), frames }
    }

    /// The fragment that has to go so that another of `frames` frames from the port `from` may wait: the oldest, of that
    /// port if it has its share already. To be asked until there is none.
    pub fn too_many(&mut self, from: PortId, frames: usize) -> Option<Fragment<T>> {
        let own = self.fragments.iter().filter(|fragment| fragment.from == from);
        let at = if own.map(|fragment| fragment.frames).sum::<usize>() + frames > MOST_OF_ONE {
            self.fragments.iter().position(|fragment| fragment.from == from)?
        } else if self.frames + frames > MOST {
            0
        } else {
            return None;
        };
        let gone = self.fragments.remove(at)?;
        self.frames -= gone.frames;
        Some(gone)
    }

    /// Lets a fragment wait, or wait on.
    pub fn hold(&mut self, fragment: Fragment<T>) {
        self.frames += fragment.frames;
        self.fragments.push_back(fragment);
    }

    /// True once a millisecond, if anything waits.
    pub fn is_due(&mut self, now: Tick) -> bool {
        let due = !self.fragments.is_empty() && now > self.checked;
        if due {
            self.checked = now;
        }
        due
    }

    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// The fragments that wait, each to be taken or held on.
    pub fn len(&self) -> usize {
        self.fragments.len()
    }

    pub fn next(&mut self) -> Option<Fragment<T>> {
        let fragment = self.fragments.pop_front()?;
        self.frames -= fragment.frames;
        Some(fragment)
    }
}

impl<T> Fragment<T> {
    /// True if it has waited long enough.
    pub fn is_overdue(&self, now: Tick) -> bool {
        now >= self.until
    }

    /// When it has.
    pub fn until(&self) -> Tick {
        self.until
    }
}

/// The fragments that a worker keeps, and empty chains to be used again.
pub(super) struct EarlyChains {
    pub waiting: Early<Vec<Segment>>,
    chains: Vec<Vec<Segment>>,
}

impl EarlyChains {
    pub fn new() -> EarlyChains {
        let chains = (0..MOST).map(|_| Vec::with_capacity(MAX_SEGMENTS)).collect();
        EarlyChains { waiting: Early::new(), chains }
    }
}

impl Worker {
    /// Keeps a fragment that came before the first of its packet. `chain` is empty afterwards.
    pub(super) fn await_first(&mut self, cx: &Context<'_>, from: PortId, key: FragmentKey, chain: &mut Vec<Segment>) {
        let frames = chain.len();
        while let Some(oldest) = self.scratch.early.waiting.too_many(from, frames) {
            self.give_up(cx, oldest);
        }
        let Some(mut own) = self.scratch.early.chains.pop() else {
            self.settle(cx, from, path::given_up(cx, from), chain);
            return;
        };
        own.append(chain);
        self.cells.ports[usize::from(from.0)].held.add(1);
        self.scratch.early.waiting.hold(Early::fragment(own, from, key, frames, cx.now));
    }

    /// Lets fragments go on whose first has come meanwhile, to whatever worker, and gives up those that have waited long
    /// enough.
    pub(super) fn look_after_early(&mut self, cx: &Context<'_>) {
        for _ in 0..self.scratch.early.waiting.len() {
            match self.scratch.early.waiting.next() {
                Some(fragment) if path::has_come(cx, fragment.key) => self.walk_again(cx, fragment),
                Some(fragment) if fragment.is_overdue(cx.now) => self.give_up(cx, fragment),
                Some(fragment) => self.scratch.early.waiting.hold(fragment),
                None => break,
            }
        }
    }

    fn walk_again(&mut self, cx: &Context<'_>, fragment: Fragment<Vec<Segment>>) {
        let Fragment { what: mut chain, from, .. } = fragment;
        self.cells.ports[usize::from(from.0)].held.sub(1);
        self.scratch.fates.walk(cx, &mut self.local, &self.umem, from, &mut chain);
        let (verdict, shape) = self.scratch.fates.of(0);
        self.put_into_shape(&mut chain, shape);
        self.settle(cx, from, verdict, &mut chain);
        self.scratch.early.chains.push(chain);
    }

    fn give_up(&mut self, cx: &Context<'_>, fragment: Fragment<Vec<Segment>>) {
        let Fragment { what: mut chain, from, .. } = fragment;
        self.cells.ports[usize::from(from.0)].held.sub(1);
        self.settle(cx, from, path::given_up(cx, from), &mut chain);
        self.scratch.early.chains.push(chain);
    }

    /// Drops the fragments that wait and came in by a port that is as said.
    pub(super) fn drop_early_if(&mut self, is_meant: impl Fn(PortId) -> bool) {
        for _ in 0..self.scratch.early.waiting.len() {
            match self.scratch.early.waiting.next() {
                Some(fragment) if is_meant(fragment.from) => {
                    let Fragment { what: mut chain, from, .. } = fragment;
                    self.cells.ports[usize::from(from.0)].held.sub(1);
                    self.discard(&mut chain, from, Reason::FragmentUnclaimed);
                    self.scratch.early.chains.push(chain);
                }
                Some(fragment) => self.scratch.early.waiting.hold(fragment),
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Geometry, Origin, Parcel, State};
    use crate::units::Proto;

    fn key() -> FragmentKey {
        let geometry = Geometry { servers: Vec::new(), ports: "20480-59903".parse().unwrap() };
        let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let parcel = Parcel { src, dst, proto: Proto::UDP, id: 1 };
        State::memory(&geometry).unwrap().fragments().key(Origin::Beyond, &parcel)
    }

    /// Holds one more of a port, and says which had to go.
    fn hold(early: &mut Early<usize>, nth: usize, port: u16, frames: usize) -> Vec<usize> {
        let mut gone = Vec::new();
        while let Some(oldest) = early.too_many(PortId(port), frames) {
            gone.push(oldest.what);
        }
        early.hold(Early::fragment(nth, PortId(port), key(), frames, Tick(1000)));
        gone
    }

    #[test]
    fn the_oldest_makes_room_and_a_flood_on_one_port_takes_none_from_another() {
        let mut early = Early::new();
        assert!(hold(&mut early, 0, 0, 1).is_empty());
        for nth in 1..=MOST_OF_ONE {
            assert!(hold(&mut early, nth, 1, 1).is_empty());
        }
        assert_eq!(hold(&mut early, 1000, 1, 1), [1]);
        assert_eq!(hold(&mut early, 1001, 1, 3), [2, 3, 4], "packets of several frames count for as many");
        for port in 2..5 {
            for nth in 0..MOST_OF_ONE {
                let gone = hold(&mut early, 2000 + nth, port, 1);
                let is_full = port == 4 && nth == MOST_OF_ONE - 1;
                assert_eq!(gone, if is_full { vec![0] } else { vec![] });
            }
        }
        assert_eq!(early.frames, MOST);
    }

    #[test]
    fn a_fragment_waits_for_a_tenth_of_a_second() {
        let mut early = Early::new();
        assert!(early.is_empty() && !early.is_due(Tick(1000)));
        hold(&mut early, 0, 0, 1);
        assert!(early.is_due(Tick(1001)) && !early.is_due(Tick(1001)), "once a millisecond");
        let fragment = early.next().unwrap();
        assert!(!fragment.is_overdue(Tick(1099)) && fragment.is_overdue(Tick(1100)));
        assert!(early.next().is_none() && early.frames == 0);
    }
}
