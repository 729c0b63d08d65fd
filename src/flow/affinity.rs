//! Which replica of a service a flow stays on when the set of replicas changes.
//!
//! A fixed table of [`ENTRIES`] entries in buckets of four, one cache line each. A flow's entry is in one of two
//! buckets, and a new one goes to the emptier (Azar, Broder, Karlin, Upfal, "Balanced Allocations", STOC 1994; with
//! buckets: Broder, Mitzenmacher, "Using multiple hash functions to improve IP lookups", INFOCOM 2001): nothing is ever
//! moved and a search reads two lines. Until 70% of the table are taken, one flow in 3000 finds no room, until 90% one in
//! 50. Such a flow goes where the hash says.
//!
//! An entry is two words: the flow's key, and the rest ([`super::kept`]), which alone says whether there is an entry.
//! Workers agree on one entry a flow as they do in [`super::translate`]: a worker claims a place, writes the key, and
//! shows the entry as *tentative*; it is confirmed after a look at the other seven places, and of two tentative ones the
//! lower place stays. Writers and readers: packet workers. The control plane takes entries away.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::hash::fold;
use super::kept::{By, KeptWord};
use super::phase::Phase;
use super::signal::Signal;
use super::state::State;
use super::timers::Timers;
use crate::naming::ReplicaId;
use crate::table;
use crate::units::{Endpoint, Tick};

/// Flows that can be kept at once: 2 MiB.
pub const ENTRIES: usize = 1 << 17;
/// Words of the table in the state.
pub(super) const WORDS: usize = 2 * ENTRIES;
/// Entries of a cache line.
const BUCKET: usize = 4;
/// A worker tries so often before it gives up; each failure means that another worker got ahead.
const ATTEMPTS: u32 = 16;

/// A flow, as one of its ends has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey(NonZeroU64);

/// What an entry is for: the same flow may have one of each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// The replica that the flow's destination stands for.
    Destination,
    /// The binding that the flow's source leaves by.
    Source,
}

/// What is known of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    pub replica: ReplicaId,
    /// TCP, unestablished: nobody has shown yet that the replica answers.
    pub is_opening: bool,
    at: usize,
    word: KeptWord,
}

/// Where a flow's entry is, or where a new one may go.
struct Place {
    at: usize,
    word: KeptWord,
    /// What lies there is the flow's own entry, alive or not.
    is_own: bool,
}

/// The table of one state.
#[derive(Clone, Copy)]
pub struct Affinity<'s> {
    /// Keys and words of entries, by turns.
    cells: &'s [AtomicU64],
    secret: u64,
    timers: &'s Timers,
}

impl State {
    /// Which replicas flows stay on.
    #[inline]
    #[must_use]
    pub fn affinity(&self) -> Affinity<'_> {
        Affinity { cells: self.affinity_cells(), secret: self.secret, timers: &self.timers }
    }
}

impl<'s> Affinity<'s> {
    /// The key of a flow. `holder` is the identity of the container whose flow it is (0 for a client outside), `own` its
    /// end and `other` the far one, both as it has them: containers may share addresses.
    #[inline]
    #[must_use]
    pub fn key(&self, purpose: Purpose, holder: u64, own: &Endpoint, other: &Endpoint) -> FlowKey {
        let halves = |end: &Endpoint| [end.ip.bits() as u64, (end.ip.bits() >> 64) as u64];
        let ports = u64::from(own.port) << 32 | u64::from(other.port) << 16 | u64::from(own.proto.0) << 1;
        let ([a, b], [c, d]) = (halves(own), halves(other));
        let mut key = fold(holder, self.secret);
        for word in [a, b, c, d, ports | purpose as u64] {
            key = fold(key ^ word, self.secret);
        }
        FlowKey(NonZeroU64::new(key).unwrap_or(NonZeroU64::MIN))
    }

    /// Where a packet of the flow is to go that its holder sends, if that has been decided. A SYN for a connection that
    /// is over, or about to be, is free to choose.
    #[inline]
    #[must_use]
    pub fn kept(&self, flow: FlowKey, signal: Signal, now: Tick) -> Option<Kept> {
        let (at, word) = self.entry_of(flow)?;
        let phase = word.phase();
        let goes_on = signal != Signal::Syn || matches!(phase, Phase::Opening | Phase::Established);
        let is_good = goes_on && !word.is_tentative() && word.is_live(self.timers, now);
        is_good.then(|| Kept { replica: word.replica(), is_opening: phase == Phase::Opening, at, word })
    }

    /// True if the flow has an entry, or could get one. Of a flow that has none although it could, nothing has been sent
    /// since affinity is kept of its service.
    #[must_use]
    pub fn has_room(&self, flow: FlowKey, now: Tick) -> bool {
        self.place(flow, now).is_some()
    }

    /// The holder has sent `signal` to the replica: the flow stays there from now on. False if there is no room to
    /// remember it. A reset makes no entry.
    #[inline]
    pub fn sent(&self, flow: FlowKey, replica: ReplicaId, signal: Signal, now: Tick) -> bool {
        self.keep(flow, (replica, By::Client, signal), now, |_| true)
    }

    /// As [`Affinity::sent`], to the replica that `kept` has just said.
    #[inline]
    pub fn sent_as_kept(&self, flow: FlowKey, kept: &Kept, signal: Signal, now: Tick) -> bool {
        let next = kept.word.after(By::Client, signal, now);
        swap(self.word(kept.at), kept.word, next) || self.sent(flow, kept.replica, signal, now)
    }

    /// Asks for the memory that a search for the flow reads.
    #[inline]
    pub fn prefetch(&self, flow: FlowKey) {
        places(flow).step_by(BUCKET).for_each(|at| table::prefetch(self.key_at(at)));
    }

    /// The replica of the flow's entry, alive or not: a guess at where it goes.
    #[inline]
    #[must_use]
    pub fn likely(&self, flow: FlowKey) -> Option<ReplicaId> {
        self.entry_of(flow).map(|(_, word)| word.replica())
    }

    /// `signal` has come in from the replica: if the flow was nobody's, or nobody has answered yet, it is this one's.
    #[inline]
    pub fn received(&self, flow: FlowKey, replica: ReplicaId, signal: Signal, now: Tick) -> bool {
        self.keep(flow, (replica, By::Replica, signal), now, |word| match word.phase() {
            Phase::Opening => signal == Signal::SynAck,
            Phase::Datagram => true,
            phase => phase.is_closed() && signal != Signal::Rst,
        })
    }

    /// Forgets the flow.
    pub fn forget(&self, flow: FlowKey) {
        for _ in 0..ATTEMPTS {
            let Some((at, word)) = self.entry_of(flow) else { return };
            if swap(self.word(at), word, word.emptied()) {
                return;
            }
        }
    }

    /// Forgets all flows to replicas that `stays` is false of. To be called after the mapping that no longer has them
    /// is visible: the same name may come back later, without the connections.
    pub fn forget_replicas(&self, mut stays: impl FnMut(ReplicaId) -> bool) {
        for at in 0..ENTRIES {
            let cell = self.word(at);
            let word = KeptWord(cell.load(SeqCst));
            if word.is_entry() && !stays(word.replica()) {
                let _ = cell.compare_exchange(word.0, word.emptied().0, SeqCst, SeqCst);
            }
        }
    }

    /// The replicas of all flows that are kept at `now`, one item a flow. For status.
    pub fn flows(self, now: Tick) -> impl Iterator<Item = ReplicaId> + use<'s> {
        let words = (0..ENTRIES).map(move |at| KeptWord(self.word(at).load(SeqCst)));
        words.filter(move |word| !word.is_tentative() && word.is_live(self.timers, now)).map(KeptWord::replica)
    }

    /// Frees what has expired.
    pub(super) fn sweep(&self, now: Tick) {
        for at in 0..ENTRIES {
            let cell = self.word(at);
            let word = KeptWord(cell.load(SeqCst));
            if word.is_entry() && !word.is_live(self.timers, now) {
                let _ = cell.compare_exchange(word.0, word.emptied().0, SeqCst, SeqCst);
            }
        }
    }

    /// Takes back what a killed process had claimed and not yet confirmed.
    pub(super) fn recover(&self) {
        for at in 0..ENTRIES {
            let cell = self.word(at);
            let word = KeptWord(cell.load(SeqCst));
            if word.is_tentative() || word.phase() == Phase::Claimed {
                cell.store(word.emptied().0, SeqCst);
            }
        }
    }

    fn keep(
        &self,
        flow: FlowKey,
        (replica, by, signal): (ReplicaId, By, Signal),
        now: Tick,
        may_take_over: impl Fn(KeptWord) -> bool,
    ) -> bool {
        for _ in 0..ATTEMPTS {
            let Some(Place { at, word, is_own }) = self.place(flow, now) else { return false };
            if !is_own || !word.is_live(self.timers, now) {
                if signal == Signal::Rst {
                    return false;
                }
                if self.begin(flow, at, word, word.replaced(replica, by, signal, now), now) {
                    return true;
                }
                continue;
            }
            if word.is_tentative() {
                self.confirm(flow, at, word, now);
                continue;
            }
            let next = if word.replica() == replica {
                word.after(by, signal, now)
            } else if signal == Signal::Rst || !may_take_over(word) {
                return true;
            } else {
                word.replaced(replica, by, signal, now)
            };
            if swap(self.word(at), word, next) {
                return true;
            }
        }
        false
    }

    /// Writes a new entry into a place that holds `old`, and confirms it. False if another worker was first.
    fn begin(&self, flow: FlowKey, at: usize, old: KeptWord, new: KeptWord, now: Tick) -> bool {
        let cell = self.word(at);
        if !swap(cell, old, old.claimed()) {
            return false;
        }
        // Ours alone while it is claimed.
        self.key_at(at).store(flow.0.get(), SeqCst);
        cell.store(new.tentative().0, SeqCst);
        self.confirm(flow, at, new.tentative(), now)
    }

    /// Makes a tentative entry good, or takes it back because another one of the same flow goes before it.
    fn confirm(&self, flow: FlowKey, at: usize, tentative: KeptWord, now: Tick) -> bool {
        for other in places(flow).filter(|&other| other != at) {
            let rival = self.word(other);
            while self.is_of(other, flow) {
                let word = KeptWord(rival.load(SeqCst));
                if !word.is_entry() {
                    break;
                }
                let yields = !word.is_live(self.timers, now) || (word.is_tentative() && at < other);
                if !yields {
                    swap(self.word(at), tentative, tentative.emptied());
                    return false;
                }
                if swap(rival, word, word.emptied()) {
                    break;
                }
            }
        }
        swap(self.word(at), tentative, tentative.confirmed())
    }

    /// The flow's own place, if it has one, whatever is left there.
    #[inline]
    fn entry_of(&self, flow: FlowKey) -> Option<(usize, KeptWord)> {
        places(flow).find_map(|at| {
            if !self.is_of(at, flow) {
                return None;
            }
            let word = KeptWord(self.word(at).load(SeqCst));
            // The key is looked at again: the place may have changed hands in between.
            (word.is_entry() && self.is_of(at, flow)).then_some((at, word))
        })
    }

    /// Where the flow's entry is; else the first place in the emptier bucket that is free or expired; else the entry
    /// that has been closed for longest. `None` if all are alive.
    fn place(&self, flow: FlowKey, now: Tick) -> Option<Place> {
        if let Some((at, word)) = self.entry_of(flow) {
            return Some(Place { at, word, is_own: true });
        }
        let mut vacant: [Option<(usize, KeptWord)>; 2] = [None; 2];
        let mut taken = [0; 2];
        let mut closed: Option<(usize, KeptWord)> = None;
        for (nth, at) in places(flow).enumerate() {
            let word = KeptWord(self.word(at).load(SeqCst));
            let bucket = nth / BUCKET;
            if word.phase() == Phase::Claimed || word.is_live(self.timers, now) {
                taken[bucket] += 1;
                let is_older = closed.is_none_or(|(_, oldest)| word.age(now) > oldest.age(now));
                if word.phase().is_closed() && is_older {
                    closed = Some((at, word));
                }
            } else {
                vacant[bucket] = vacant[bucket].or(Some((at, word)));
            }
        }
        let emptier = usize::from(taken[1] < taken[0]);
        vacant[emptier].or(closed).map(|(at, word)| Place { at, word, is_own: false })
    }

    fn is_of(&self, at: usize, flow: FlowKey) -> bool {
        self.key_at(at).load(SeqCst) == flow.0.get()
    }

    fn key_at(&self, at: usize) -> &'s AtomicU64 {
        &self.cells[2 * at]
    }

    fn word(&self, at: usize) -> &'s AtomicU64 {
        &self.cells[2 * at + 1]
    }
}

/// The eight places of a flow, bucket by bucket.
#[inline]
fn places(flow: FlowKey) -> impl Iterator<Item = usize> {
    const BUCKETS: usize = ENTRIES / BUCKET;
    let first = flow.0.get() as usize % BUCKETS;
    let second = (flow.0.get() >> 32) as usize % BUCKETS;
    let second = if second == first { first ^ 1 } else { second };
    [first, second].into_iter().flat_map(|bucket| bucket * BUCKET..(bucket + 1) * BUCKET)
}

/// Replaces the word in `cell`, if it still is `old`.
#[inline]
fn swap(cell: &AtomicU64, old: KeptWord, new: KeptWord) -> bool {
    old == new || cell.compare_exchange(old.0, new.0, SeqCst, SeqCst).is_ok()
}

#[cfg(test)]
mod tests;
