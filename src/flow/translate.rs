//! Translation of inside ports onto the ports of a pool, and back.
//!
//! The first entry of an inside port matches any remote (endpoint-independent mapping, RFC 4787 REQ-1, RFC 5382 REQ-1).
//! It lies in the word of the wire port that it got, so that the way in is one load; the way out starts at the port that
//! is preferred and is bounded by how far that home's ports have ever been placed. When every port of the pool is taken,
//! further entries are keyed by the remote as well ([`super::overlap`]).
//!
//! Workers agree on one entry without locks. A new entry is *tentative*: every worker can see it, none may use it yet.
//! It is confirmed, by whoever needs it first, after a look at all places where another entry for the same inside port
//! might be; of two tentative ones the lower place stays. A tentative entry is visible before that look begins, so of
//! two workers at least one sees the other's (all operations here are sequentially consistent). Every change is a
//! compare-and-swap on the word that the decision was made upon.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::entry::Entry;
use super::layout::{Slot, Transport};
use super::overlap::Overlap;
use super::pool::{PUBLIC_NAME, Pool, Search, remote_word};
use super::signal::Signal;
use super::state::State;
use crate::units::{Endpoint, Tick, mix};

/// Why a packet that leaves is not translated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// All ports are taken, with this remote too; nothing that lives is taken away.
    Exhausted,
    /// A reset for a connection that has no entry makes none.
    Stray,
    /// The pool belongs to another container by now, or to none.
    NotOwner,
}

/// What is to be done about a packet that leaves: decided upon the words as they are, and changing none.
pub(super) enum Plan {
    /// The entry at this port carries it, and becomes `next`.
    Use {
        offset: u32,
        old: Entry,
        next: Entry,
    },
    /// The record carries it, and becomes `next`.
    UseOverlap {
        record: Overlap,
        next: Entry,
    },
    /// A new entry at this port, which is the search's `step`-th.
    Make {
        step: u32,
        old: Entry,
    },
    /// A new record in this cell, for this port.
    MakeOverlap {
        cell: u32,
        old: Entry,
        offset: u32,
    },
    /// Somebody has begun an entry: finish it first,
    Finish {
        offset: u32,
        entry: Entry,
    },
    /// or a record.
    FinishOverlap {
        record: Overlap,
    },
    Refuse(Refused),
}

/// A worker tries so often before it gives up; each failure means that another worker got ahead.
const ATTEMPTS: u32 = 64;
/// A home word: how many steps its ports may be away, and whether any of them has a record keyed by the remote.
const REACH: u64 = 0xffff;
const LAYERED_HOME: u64 = 1 << 32;

impl State {
    /// The port of the pool that a packet leaves from, `remote` being what it will bear as its destination: a wire name,
    /// or an address and port outside. Makes the entry if there is none, and counts as its use.
    ///
    /// # Errors
    /// See [`Refused`].
    #[inline]
    pub fn translate_out(
        &self,
        pool: &Pool,
        inside_port: u16,
        remote: &Endpoint,
        signal: Signal,
        now: Tick,
    ) -> Result<u16, Refused> {
        self.translate_out_beside(pool, inside_port, remote, (signal, now), |_| false)
    }

    /// As [`State::translate_out`], where some ports of the pool are not to be given: those of which `is_kept` is true.
    /// It is asked only when an entry is made.
    ///
    /// # Errors
    /// See [`Refused`].
    #[inline]
    pub fn translate_out_beside(
        &self,
        pool: &Pool,
        inside_port: u16,
        remote: &Endpoint,
        (signal, now): (Signal, Tick),
        is_kept: impl Fn(u16) -> bool,
    ) -> Result<u16, Refused> {
        let search = self.search(pool, inside_port, remote);
        if let Some(port) = self.translate_at_home(&search, pool, signal, now) {
            return Ok(port);
        }
        let is_kept = |offset: u32| is_kept(pool.first + offset as u16);
        let mut was_full = false;
        for _ in 0..ATTEMPTS {
            let done = match self.plan(&search, signal, now, &is_kept) {
                Plan::Use { offset, old, next } => {
                    swap(&self.entries()[search.index(offset)], old, next).then_some(offset)
                }
                Plan::UseOverlap { record, next } => {
                    swap(&self.overlap_entries()[record.cell as usize], record.entry, next).then_some(record.offset)
                }
                Plan::Make { step, old } => {
                    self.make(&search, step, old, signal, now);
                    None
                }
                Plan::MakeOverlap { cell, old, offset } => {
                    self.make_overlap(&search, cell, old, offset, signal, now);
                    None
                }
                Plan::Finish { offset, entry } => {
                    self.confirm(&search.of(entry), offset, entry, now);
                    None
                }
                Plan::FinishOverlap { record } => {
                    self.confirm_overlap(&search.of(record.entry), record, now);
                    None
                }
                // The last room may just have gone to this very flow, by another worker: then it is found at the next look.
                Plan::Refuse(Refused::Exhausted) if !was_full => {
                    was_full = true;
                    None
                }
                Plan::Refuse(why) => return Err(why),
            };
            if let Some(offset) = done {
                if search.transport == Transport::Echo {
                    self.claim_echo(Slot { index: search.base + offset, transport: Transport::Echo }, now);
                }
                return Ok(pool.first + offset as u16);
            }
        }
        Err(Refused::Exhausted)
    }

    /// What [`State::plan`] and its use come to for nearly all packets: an entry that lives at the preferred port, with
    /// no record beside it.
    #[inline(always)]
    fn translate_at_home(&self, search: &Search, pool: &Pool, signal: Signal, now: Tick) -> Option<u16> {
        let offset = search.home();
        let cell = &self.entries()[search.index(offset)];
        let entry = Entry(cell.load(SeqCst));
        let carries = entry.is_entry()
            && entry.inside() == search.inside
            && !entry.is_tentative()
            && !entry.is_layered()
            && search.transport != Transport::Echo
            && entry.is_live(&self.timers, search.transport, now)
            && self.is_owner(search);
        (carries && swap(cell, entry, entry.sent(signal, search.print, now))).then_some(pool.first + offset as u16)
    }

    /// The port that [`State::translate_out_beside`] would answer with, or why none; changes nothing.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn peek_translation(
        &self,
        pool: &Pool,
        inside_port: u16,
        remote: &Endpoint,
        (signal, now): (Signal, Tick),
        is_kept: impl Fn(u16) -> bool,
    ) -> Result<u16, Refused> {
        let search = self.search(pool, inside_port, remote);
        let is_kept = |offset: u32| is_kept(pool.first + offset as u16);
        let offset = match self.plan(&search, signal, now, &is_kept) {
            Plan::Use { offset, .. } | Plan::MakeOverlap { offset, .. } => offset,
            Plan::Make { step, .. } => search.offset(step),
            Plan::UseOverlap { record, .. } => record.offset,
            Plan::Finish { offset, entry } if entry.inside() == search.inside => offset,
            Plan::FinishOverlap { record } if record.entry.inside() == search.inside => record.offset,
            Plan::Finish { .. } | Plan::FinishOverlap { .. } => return Err(Refused::Exhausted),
            Plan::Refuse(why) => return Err(why),
        };
        Ok(pool.first + offset as u16)
    }

    /// The port of the pool that the inside port has with `remote` already; changes nothing. For ICMP errors that leave,
    /// about a packet that had come in.
    #[inline]
    #[must_use]
    pub fn peek_out(&self, pool: &Pool, inside_port: u16, remote: &Endpoint, now: Tick) -> Option<u16> {
        let search = self.search(pool, inside_port, remote);
        // A reset makes no entry.
        match self.plan(&search, Signal::Rst, now, &|_| false) {
            Plan::Use { offset, .. } => Some(pool.first + offset as u16),
            Plan::UseOverlap { record, .. } => Some(pool.first + record.offset as u16),
            _ => None,
        }
    }

    /// The inside port that a packet from `remote` to a port of the pool is for, `remote` being what it bears as its
    /// source. `None`: it is dropped, and never delivered to another port. Whether it may enter at all is for
    /// [`State::admits`] to say.
    #[inline]
    #[must_use]
    pub fn translate_in(
        &self,
        pool: &Pool,
        wire_port: u16,
        remote: &Endpoint,
        signal: Signal,
        now: Tick,
    ) -> Option<u16> {
        for _ in 0..ATTEMPTS {
            let (cell, entry, print) = self.entry_in(pool, wire_port, remote, now)?;
            if swap(cell, entry, entry.received(signal, print, now)) {
                return Some(entry.port());
            }
        }
        self.peek_in(pool, wire_port, remote, now)
    }

    /// As [`State::translate_in`], but changes nothing. For ICMP errors that come in, about a packet that had left.
    #[inline]
    #[must_use]
    pub fn peek_in(&self, pool: &Pool, wire_port: u16, remote: &Endpoint, now: Tick) -> Option<u16> {
        self.entry_in(pool, wire_port, remote, now).map(|(_, entry, _)| entry.port())
    }

    /// The live entry that a packet which comes in belongs to, where it lies, and the print that it knows the remote by.
    #[inline]
    fn entry_in(&self, pool: &Pool, wire_port: u16, remote: &Endpoint, now: Tick) -> Option<(&AtomicU64, Entry, u16)> {
        let offset = u32::from(wire_port.checked_sub(pool.first)?);
        let search = self.search(pool, wire_port, remote);
        if offset > search.mask || !self.is_owner(&search) {
            return None;
        }
        let cell = &self.entries()[search.index(offset)];
        let entry = Entry(cell.load(SeqCst));
        let is_ours = |entry: Entry| entry.inside() & PUBLIC_NAME == pool.calls;
        if entry.is_layered()
            && let Some(record) = self.overlap_at(&search, offset, now)
        {
            let cell = &self.overlap_entries()[record.cell as usize];
            return is_ours(record.entry).then_some((cell, record.entry, record.entry.print()));
        }
        let is_usable = !entry.is_tentative() && entry.is_live(&self.timers, search.transport, now) && is_ours(entry);
        is_usable.then_some((cell, entry, search.print))
    }

    #[inline(always)]
    fn search(&self, pool: &Pool, inside: u16, remote: &Endpoint) -> Search {
        let transport = Transport::of(remote.proto);
        let remote = remote_word(transport, remote);
        Search {
            transport,
            base: self.layout.port_slot(pool.server, transport, pool.first),
            mask: pool.mask(),
            owner: pool.owner,
            inside: u32::from(inside) | pool.calls,
            remote,
            print: Entry::print_of(mix(remote)),
        }
    }

    /// What is to be done about a packet that leaves.
    #[inline]
    fn plan(&self, search: &Search, signal: Signal, now: Tick, is_kept: &impl Fn(u32) -> bool) -> Plan {
        if !self.is_owner(search) {
            return Plan::Refuse(Refused::NotOwner);
        }
        let Some((offset, entry)) = self.find(search) else {
            return self.plan_without_entry(search, signal, now, is_kept);
        };
        if entry.is_tentative() {
            return Plan::Finish { offset, entry };
        }
        let is_live = entry.is_live(&self.timers, search.transport, now);
        if entry.is_layered() {
            let is_taken = self.is_laid_over(search, offset, now);
            if is_live && is_taken || self.overlaps(search, now).own.is_some() {
                return self.plan_overlap(search, signal, now, is_kept);
            }
            if is_taken {
                return self.plan_without_entry(search, signal, now, is_kept);
            }
        }
        if is_live {
            Plan::Use { offset, old: entry, next: entry.sent(signal, search.print, now) }
        } else if signal == Signal::Rst {
            Plan::Refuse(Refused::Stray)
        } else if is_kept(offset) {
            self.plan_without_entry(search, signal, now, is_kept)
        } else {
            Plan::Use { offset, old: entry, next: entry.replaced(search.inside, search.print, signal, now) }
        }
    }

    fn plan_without_entry(&self, search: &Search, signal: Signal, now: Tick, is_kept: &impl Fn(u32) -> bool) -> Plan {
        if self.is_layered(search) && self.overlaps(search, now).own.is_some() {
            return self.plan_overlap(search, signal, now, is_kept);
        }
        if signal == Signal::Rst {
            return Plan::Refuse(Refused::Stray);
        }
        let vacancy = self.vacancy(search, signal, now, is_kept);
        vacancy.unwrap_or_else(|| self.plan_overlap(search, signal, now, is_kept))
    }

    /// The entry of the inside port, alive or not.
    #[inline]
    pub(super) fn find(&self, search: &Search) -> Option<(u32, Entry)> {
        let entries = self.entries();
        let at_home = Entry(entries[search.index(search.home())].load(SeqCst));
        if at_home.inside() == search.inside && at_home.is_entry() {
            return Some((search.home(), at_home));
        }
        (1..self.reach(search)).map(|step| search.offset(step)).find_map(|offset| {
            let entry = Entry(entries[search.index(offset)].load(SeqCst));
            (entry.inside() == search.inside && entry.is_entry()).then_some((offset, entry))
        })
    }

    /// A new entry on the first port that is free or expired, or else, for a SYN, on the one that has been closed for
    /// longest. A pool is full only when nothing in it is tentative any more.
    fn vacancy(&self, search: &Search, signal: Signal, now: Tick, is_kept: &impl Fn(u32) -> bool) -> Option<Plan> {
        let entries = self.entries();
        let mut closed: Option<(u32, Entry)> = None;
        let mut begun = None;
        let usable = |entry: Entry, offset| {
            let is_free = !entry.is_layered() || !self.is_laid_over(search, offset, now);
            is_free && !is_kept(offset)
        };
        for step in 0..search.limit() {
            let offset = search.offset(step);
            let entry = Entry(entries[search.index(offset)].load(SeqCst));
            if !entry.is_live(&self.timers, search.transport, now) {
                if usable(entry, offset) {
                    return Some(Plan::Make { step, old: entry });
                }
            } else if entry.is_tentative() {
                begun = Some(Plan::Finish { offset, entry });
            } else if signal == Signal::Syn
                && entry.is_closed()
                && closed.is_none_or(|(_, oldest)| entry.age(now) > oldest.age(now))
                && usable(entry, offset)
            {
                closed = Some((step, entry));
            }
        }
        begun.or(closed.map(|(step, old)| Plan::Make { step, old }))
    }

    fn make(&self, search: &Search, step: u32, old: Entry, signal: Signal, now: Tick) {
        let home = &self.reaches()[search.index(search.home())];
        raise(home, |word| word & !REACH | (word & REACH).max(u64::from(step) + 1));
        let entry = old.replaced(search.inside, search.print, signal, now).tentative();
        let offset = search.offset(step);
        if swap(&self.entries()[search.index(offset)], old, entry) {
            self.confirm(search, offset, entry, now);
        }
    }

    /// Makes the tentative entry at `offset` good, or takes it back because another one of the same inside port goes
    /// before it. What has expired makes way.
    fn confirm(&self, search: &Search, offset: u32, tentative: Entry, now: Tick) {
        let entries = self.entries();
        let cell = &entries[search.index(offset)];
        for other in (0..self.reach(search)).map(|step| search.offset(step)).filter(|&other| other != offset) {
            let rival = &entries[search.index(other)];
            loop {
                let entry = Entry(rival.load(SeqCst));
                if !entry.is_entry() || entry.inside() != search.inside {
                    break;
                }
                let yields =
                    !entry.is_live(&self.timers, search.transport, now) || (entry.is_tentative() && offset < other);
                if !yields {
                    swap(cell, tentative, tentative.emptied());
                    return;
                }
                if swap(rival, entry, entry.emptied()) {
                    break;
                }
            }
        }
        if !self.is_owner(search) {
            swap(cell, tentative, tentative.emptied());
        } else if self.is_layered(search) {
            swap(cell, tentative, tentative.confirmed().layered());
        } else {
            swap(cell, tentative, tentative.confirmed());
        }
    }

    /// True if some inside port of the home has, or had, a record keyed by the remote.
    fn is_layered(&self, search: &Search) -> bool {
        self.reaches()[search.index(search.home())].load(SeqCst) & LAYERED_HOME != 0
    }

    /// Marks the home of the inside port: from now on its records keyed by the remote are looked for.
    pub(super) fn layer_home(&self, search: &Search) {
        raise(&self.reaches()[search.index(search.home())], |word| word | LAYERED_HOME);
    }

    fn reach(&self, search: &Search) -> u32 {
        let word = self.reaches()[search.index(search.home())].load(SeqCst);
        ((word & REACH) as u32).min(search.limit())
    }

    /// True if the pool is still its owner's. Nobody owns ports of a protocol that has none.
    #[inline]
    pub(super) fn is_owner(&self, search: &Search) -> bool {
        search.transport != Transport::Portless && self.owners()[search.base as usize].load(SeqCst) == search.owner
    }
}

impl Search {
    /// The search that an entry or record of the same pool and remote was made by.
    fn of(&self, entry: Entry) -> Search {
        Search { inside: entry.inside(), ..*self }
    }

    /// The index of a port of the pool in the arrays.
    #[inline]
    pub(super) fn index(&self, offset: u32) -> usize {
        (self.base + offset) as usize
    }
}

/// Replaces the entry in `cell`, if it still is `old`.
#[inline]
pub(super) fn swap(cell: &AtomicU64, old: Entry, new: Entry) -> bool {
    old == new || cell.compare_exchange(old.0, new.0, SeqCst, SeqCst).is_ok()
}

/// Raises a word to what `raised` makes of it.
fn raise(cell: &AtomicU64, raised: impl Fn(u64) -> u64) {
    let mut word = cell.load(SeqCst);
    loop {
        let next = raised(word);
        if next == word {
            return;
        }
        match cell.compare_exchange(word, next, SeqCst, SeqCst) {
            Ok(_) => return,
            Err(current) => word = current,
        }
    }
}

#[cfg(test)]
mod tests;
