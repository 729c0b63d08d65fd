//! Entries that are keyed by the remote too, for pools of which every port is taken.
//!
//! Several inside ports may share a wire port as long as their remotes differ (port overlapping, RFC 7857 section 3).
//! A record may be laid over a port whose holder is known to use one other remote only; the holder's entry is marked
//! *layered* then, and consults the records before it is used with yet another remote.
//!
//! Records lie in one table for the whole state. The bucket is chosen by pool, remote and port modulo `stride`, and a
//! record gets a wire port that is equal to its inside port modulo `stride`: so the way out and the way in, which know
//! one of the two ports each, look into the same bucket. There are at most 64 ports of a pool in one such class, and a
//! bucket is a run of 128 cells that ends at the first that was never used.

use std::sync::atomic::Ordering::SeqCst;

use super::entry::Entry;
use super::layout::Slot;
use super::phase::Phase;
use super::pool::Search;
use super::signal::Signal;
use super::state::State;
use super::translate::{Plan, Refused, swap};
use crate::units::{Tick, mix};

/// Ports of a pool in one class: one bit each of a word.
const CLASS: u32 = 64;
/// Cells that a search looks at: room for a class that is full, and for half of its neighbours.
const RUN: u32 = 2 * CLASS;

/// A record as it was read.
#[derive(Clone, Copy)]
pub(super) struct Overlap {
    /// Its place in the table.
    pub cell: u32,
    pub entry: Entry,
    /// Its port within the pool.
    pub offset: u32,
}

/// What a run says about the pool, remote and class of a search.
pub(super) struct Overlaps {
    /// The inside port's own live record.
    pub own: Option<Overlap>,
    /// Ports of the class that have a live record of another inside port, by their place in the class.
    taken: u64,
    class: Class,
    /// The first cell that may be written,
    vacant: Option<(u32, Entry)>,
    /// or the record that has been closed for longest.
    closed: Option<(u32, Entry)>,
    /// One of the records in `taken` that is tentative.
    begun: Option<Overlap>,
}

/// The ports of a pool that are equal modulo `stride`.
#[derive(Clone, Copy)]
struct Class {
    stride_log2: u32,
    first: u32,
    count: u32,
}

impl Class {
    /// The class of the port that the search prefers.
    fn of(search: &Search) -> Class {
        Class::with(search, search.home())
    }

    /// The class of the port at `offset` of the search's pool.
    fn with(search: &Search, offset: u32) -> Class {
        let size = search.mask + 1;
        let stride_log2 = (size / CLASS).checked_ilog2().unwrap_or(0);
        Class { stride_log2, first: offset & ((1 << stride_log2) - 1), count: size >> stride_log2 }
    }

    fn offset(self, place: u32) -> u32 {
        self.first + (place << self.stride_log2)
    }

    fn place(self, offset: u32) -> u32 {
        offset >> self.stride_log2
    }

    fn contains(self, offset: u32) -> bool {
        offset & ((1 << self.stride_log2) - 1) == self.first && self.place(offset) < self.count
    }
}

impl Overlaps {
    /// True if another inside port has a record for the remote at that port of the class.
    fn holds(&self, offset: u32) -> bool {
        self.class.contains(offset) && self.taken >> self.class.place(offset) & 1 == 1
    }
}

impl State {
    /// True if a record for the search's remote may be laid over the port with that entry: its holder does not use the
    /// port with that remote, and cannot begin to without finding the record.
    fn may_share(&self, holder: Entry, search: &Search, now: Tick) -> bool {
        if holder.is_tentative() {
            return false;
        }
        let elsewhere = !holder.has_several() && holder.print() != search.print && holder.inside() != search.inside;
        elsewhere || !holder.is_live(&self.timers, search.transport, now)
    }

    /// What is to be done about a packet that no entry without remote can carry.
    pub(super) fn plan_overlap(
        &self,
        search: &Search,
        signal: Signal,
        now: Tick,
        is_kept: &impl Fn(u32) -> bool,
    ) -> Plan {
        let records = self.overlaps(search, now);
        if let Some(record) = records.own {
            return if record.entry.is_tentative() {
                Plan::FinishOverlap { record }
            } else {
                Plan::UseOverlap { record, next: record.entry.sent(signal, record.entry.print(), now) }
            };
        }
        if signal == Signal::Rst {
            return Plan::Refuse(Refused::Stray);
        }
        let sharable = |&offset: &u32| {
            self.may_share(Entry(self.entries()[search.index(offset)].load(SeqCst)), search, now) && !is_kept(offset)
        };
        let class = records.class;
        let preferred = class.place(search.home());
        let free = (0..class.count)
            .map(|nth| class.offset((preferred + nth) & (class.count - 1)))
            .filter(|&offset| !records.holds(offset))
            .find(sharable);
        let recycles = signal == Signal::Syn;
        let cell = records.vacant.or(records.closed.filter(|_| recycles));
        if let (Some(offset), Some((cell, old))) = (free, cell) {
            return Plan::MakeOverlap { cell, old, offset };
        }
        if let Some(record) = records.begun {
            return Plan::FinishOverlap { record };
        }
        let begun = (0..class.count).map(|place| class.offset(place)).find_map(|offset| {
            let entry = Entry(self.entries()[search.index(offset)].load(SeqCst));
            (entry.is_tentative() && entry.is_live(&self.timers, search.transport, now))
                .then_some(Plan::Finish { offset, entry })
        });
        if let Some(begun) = begun {
            return begun;
        }
        let closed = if recycles { self.closed_overlap(search, class, sharable, now) } else { None };
        closed.map_or(Plan::Refuse(Refused::Exhausted), |Overlap { cell, entry, offset }| Plan::MakeOverlap {
            cell,
            old: entry,
            offset,
        })
    }

    /// Of the records for the search's remote, at ports that may be shared, the one that has been closed for longest.
    fn closed_overlap(
        &self,
        search: &Search,
        class: Class,
        sharable: impl Fn(&u32) -> bool,
        now: Tick,
    ) -> Option<Overlap> {
        let mut oldest: Option<Overlap> = None;
        for cell in self.run(search, class) {
            let (entry, remote, slot) = self.record(cell);
            if entry == NEVER_USED {
                break;
            }
            let Some(offset) = offset_of(search, class, remote, slot) else { continue };
            if entry.is_closed()
                && oldest.is_none_or(|oldest| entry.age(now) > oldest.entry.age(now))
                && sharable(&offset)
            {
                oldest = Some(Overlap { cell, entry, offset });
            }
        }
        oldest
    }

    /// Everything that the run of the search says.
    pub(super) fn overlaps(&self, search: &Search, now: Tick) -> Overlaps {
        let class = Class::of(search);
        let mut records = Overlaps { own: None, taken: 0, class, vacant: None, closed: None, begun: None };
        for cell in self.run(search, class) {
            let (entry, remote, slot) = self.record(cell);
            if !entry.is_live(&self.timers, search.transport, now) {
                if entry.phase() != Phase::Claimed {
                    records.vacant = records.vacant.or(Some((cell, entry)));
                }
                if entry == NEVER_USED {
                    break;
                }
                continue;
            }
            let is_older = |(_, closed): (u32, Entry)| entry.age(now) > closed.age(now);
            if entry.is_closed() && records.closed.is_none_or(is_older) {
                records.closed = Some((cell, entry));
            }
            let Some(offset) = offset_of(search, class, remote, slot) else { continue };
            let record = Overlap { cell, entry, offset };
            if entry.inside() == search.inside {
                records.own = records.own.or(Some(record));
            } else {
                records.taken |= 1 << class.place(offset);
                if entry.is_tentative() {
                    records.begun = Some(record);
                }
            }
        }
        records
    }

    /// True if another inside port has a record for the search's remote at that port.
    pub(super) fn is_laid_over(&self, search: &Search, offset: u32, now: Tick) -> bool {
        self.laid_over(search, offset, now).any(|record| record.entry.inside() != search.inside)
    }

    /// The live record for the search's remote at that port, whoever's it is.
    pub(super) fn overlap_at(&self, search: &Search, offset: u32, now: Tick) -> Option<Overlap> {
        self.laid_over(search, offset, now).find(|record| !record.entry.is_tentative())
    }

    /// The live records for the search's remote at that port, tentative ones too. The port may be of another class than
    /// the inside port of the search, as a first entry's often is.
    fn laid_over(&self, search: &Search, offset: u32, now: Tick) -> impl Iterator<Item = Overlap> {
        let (search, class) = (*search, Class::with(search, offset));
        let records = self.run(&search, class).map(|cell| (cell, self.record(cell)));
        records.take_while(|(_, (entry, ..))| *entry != NEVER_USED).filter_map(move |(cell, (entry, remote, slot))| {
            let is_there = offset_of(&search, class, remote, slot) == Some(offset);
            (is_there && entry.is_live(&self.timers, search.transport, now)).then_some(Overlap { cell, entry, offset })
        })
    }

    /// Writes a tentative record, unless somebody else has taken its cell.
    pub(super) fn make_overlap(&self, search: &Search, cell: u32, old: Entry, offset: u32, signal: Signal, now: Tick) {
        self.layer_home(search);
        // Records are marked as layered so that a cell that was used once never reads as never used.
        let entry = old.replaced(search.inside, search.print, signal, now).layered().tentative();
        let claimed = entry.confirmed().in_phase(Phase::Claimed);
        let at = cell as usize;
        if swap(&self.overlap_entries()[at], old, claimed) {
            self.overlap_remotes()[at].store(search.remote, SeqCst);
            self.overlap_slots()[at].store(u64::from(search.base + offset), SeqCst);
            swap(&self.overlap_entries()[at], claimed, entry);
            self.confirm_overlap(search, Overlap { cell, entry, offset }, now);
        }
    }

    /// Makes a tentative record good, or takes it back: because the inside port has an entry that serves, because
    /// another record for the same way out or in goes before it, or because the port's holder may use the remote.
    pub(super) fn confirm_overlap(&self, search: &Search, record: Overlap, now: Tick) {
        let cell = &self.overlap_entries()[record.cell as usize];
        // One that has expired serves nobody, though it could be used again now that `record` has made room.
        let serves = |(offset, entry): (u32, Entry)| {
            let is_free = || !entry.is_layered() || !self.is_laid_over(search, offset, now);
            entry.is_tentative() || (entry.is_live(&self.timers, search.transport, now) && is_free())
        };
        if self.find(search).is_some_and(serves)
            || !self.outranks(search, record, now)
            || !self.lay_over(search, record.offset, now)
            || !self.is_owner(search)
        {
            swap(cell, record.entry, record.entry.emptied());
            return;
        }
        swap(cell, record.entry, record.entry.confirmed());
    }

    /// Removes expired and higher tentative records that stand against `record`; false if one is left.
    fn outranks(&self, search: &Search, record: Overlap, now: Tick) -> bool {
        let class = Class::of(search);
        let mut is_behind = false;
        for cell in self.run(search, class) {
            if cell == record.cell {
                is_behind = true;
                continue;
            }
            loop {
                let (entry, remote, slot) = self.record(cell);
                if entry == NEVER_USED {
                    return true;
                }
                let Some(offset) = offset_of(search, class, remote, slot) else { break };
                if !entry.is_entry() || (entry.inside() != search.inside && offset != record.offset) {
                    break;
                }
                let yields = !entry.is_live(&self.timers, search.transport, now) || (entry.is_tentative() && is_behind);
                if !yields {
                    return false;
                }
                if swap(&self.overlap_entries()[cell as usize], entry, entry.emptied()) {
                    break;
                }
            }
        }
        true
    }

    /// Marks the entry at the port as layered and makes its holder look again; false if the port may not be shared.
    fn lay_over(&self, search: &Search, offset: u32, now: Tick) -> bool {
        let cell = &self.entries()[search.index(offset)];
        loop {
            let holder = Entry(cell.load(SeqCst));
            if !self.may_share(holder, search, now) {
                return false;
            }
            if swap(cell, holder, holder.relayered()) {
                return true;
            }
        }
    }

    /// Forgets all records at a slot. For the control plane: it looks at the whole table.
    pub(super) fn clear_overlaps(&self, slot: Slot) {
        for cell in 0..self.layout.overlaps {
            loop {
                let (entry, _, at) = self.record(cell);
                if !entry.is_entry()
                    || at != u64::from(slot.index)
                    || swap(&self.overlap_entries()[cell as usize], entry, entry.emptied())
                {
                    break;
                }
            }
        }
    }

    /// The cells in which records of the search's pool, remote and class may lie, in the order of their rank.
    fn run(&self, search: &Search, class: Class) -> impl Iterator<Item = u32> + use<> {
        let last = self.layout.overlaps - 1;
        let start = mix(search.remote ^ mix(u64::from(search.base) << 32 | u64::from(class.first))) as u32;
        (0..RUN).map(move |nth| start.wrapping_add(nth) & last)
    }

    /// A record's three words as they were at one moment: the two others change only while the entry says that it is
    /// claimed, and each claim has another generation.
    pub(super) fn record(&self, cell: u32) -> (Entry, u64, u64) {
        let at = cell as usize;
        let entry = &self.overlap_entries()[at];
        let mut word = entry.load(SeqCst);
        loop {
            let remote = self.overlap_remotes()[at].load(SeqCst);
            let slot = self.overlap_slots()[at].load(SeqCst);
            match entry.load(SeqCst) {
                same if same == word => return (Entry(word), remote, slot),
                changed => word = changed,
            }
        }
    }
}

/// A cell that was never used: no record lies behind it.
const NEVER_USED: Entry = Entry(0);

/// The port of a record within the search's pool, if it is for the same remote and class.
fn offset_of(search: &Search, class: Class, remote: u64, slot: u64) -> Option<u32> {
    if remote != search.remote {
        return None;
    }
    let offset = u32::try_from(slot).ok()?.checked_sub(search.base)?;
    class.contains(offset).then_some(offset)
}

#[cfg(test)]
mod tests;
