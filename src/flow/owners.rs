//! Who holds each wire name, and which names rest because they changed hands.
//!
//! A name whose owner changes loses its clocks and entries, and rests for the quarantine, counted from the moment at
//! which the former owner lost it: other servers may still hold the older mapping for so long. Writer: the control
//! plane alone. Readers: packet workers.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::entry::Entry;
use super::layout::Slot;
use super::state::State;
use crate::units::{Endpoint, Ip, PortRange, Proto, Tick};

/// Wire names of one server and who holds them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Holding {
    pub server: Ip,
    pub proto: Proto,
    /// Ignored for portless protocols.
    pub ports: PortRange,
    /// Identity hash of the inside owner.
    pub owner: u64,
}

/// Consecutive wire names that rest until the same moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Resting {
    /// The first name.
    pub wire: Endpoint,
    pub ports: PortRange,
    pub until: Tick,
}

/// The word of a name: since when it rests (low half) and when its owner lost it (high half), each in seconds, with the
/// top bit of the half saying that it does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rest {
    since: Option<u32>,
    lost: Option<u32>,
}

const SET: u32 = 1 << 31;
/// No identity: the owner of names that nobody has held.
const NOBODY: u64 = 0;
/// No identity: the owner of a name that is changing hands.
const NOBODY_YET: u64 = u64::MAX;

/// An identity hash, none of which may read as nobody.
pub(super) fn named(owner: u64) -> u64 {
    if matches!(owner, NOBODY | NOBODY_YET) { 1 } else { owner }
}

impl Rest {
    fn of(word: u64) -> Rest {
        let half = |half: u32| (half & SET != 0).then_some(half & !SET);
        Rest { since: half(word as u32), lost: half((word >> 32) as u32) }
    }

    fn word(self) -> u64 {
        let half = |half: Option<u32>| u64::from(half.map_or(0, |seconds| seconds & !SET | SET));
        half(self.since) | half(self.lost) << 32
    }

    /// Seconds left at `now`.
    fn left(self, now: Tick, quarantine: u32) -> Option<u32> {
        let age = now.seconds().wrapping_sub(self.since?) & !SET;
        quarantine.checked_sub(age).filter(|&left| left > 0)
    }
}

impl State {
    /// How long names rest from now on, in seconds; 0 for not at all.
    pub fn set_quarantine(&self, seconds: u32) {
        self.quarantine.store(seconds, Relaxed);
    }

    /// True while the name may neither be sent from nor entered, since its owner has changed.
    #[inline(always)]
    #[must_use]
    pub fn resting(&self, slot: Slot, now: Tick) -> bool {
        let word = self.rests()[slot.index as usize].load(Relaxed);
        word as u32 & SET != 0 && self.still_resting(word, now)
    }

    #[cold]
    fn still_resting(&self, word: u64, now: Tick) -> bool {
        Rest::of(word).left(now, self.quarantine.load(Relaxed)).is_some()
    }

    /// Gives the names to `owner`. A name that another held loses its clocks and entries and rests, counted from its
    /// release if it was released; one that the same owner held carries on. To be called before packets can see the
    /// mapping that says so. Returns how many names changed hands; names that are not ours are passed over.
    pub fn assign(&self, holding: &Holding, now: Tick) -> u32 {
        let owner = named(holding.owner);
        self.names(holding.server, holding.proto, holding.ports)
            .filter(|&slot| self.hand_over(slot, owner, now))
            .count() as u32
    }

    /// The names' owner has lost them. Clocks and entries stay, lest a binding that is absent for a moment kill
    /// connections; no packet finds them while there is no binding.
    pub fn release(&self, server: Ip, proto: Proto, ports: PortRange, now: Tick) {
        for slot in self.names(server, proto, ports) {
            self.release_slot(slot, now);
        }
    }

    /// The whole mapping of this server, at boot or reload: names in `holdings` are assigned, all others released.
    pub fn settle(&self, holdings: &[Holding], now: Tick) -> u32 {
        let mut held = vec![false; self.layout.slots as usize];
        for holding in holdings {
            for slot in self.names(holding.server, holding.proto, holding.ports) {
                held[slot.index as usize] = true;
            }
        }
        for (index, _) in held.iter().enumerate().filter(|&(_, &held)| !held) {
            self.release_slot(self.slot_at(index as u32), now);
        }
        holdings.iter().map(|holding| self.assign(holding, now)).sum()
    }

    /// Forgets clocks and entries of the names at once, whoever holds them.
    pub fn lose(&self, server: Ip, proto: Proto, ports: PortRange) {
        for slot in self.names(server, proto, ports) {
            self.clear(slot);
        }
    }

    /// Ends the rest of names by force.
    pub fn wake(&self, server: Ip, proto: Proto, ports: PortRange) {
        for slot in self.names(server, proto, ports) {
            let cell = &self.rests()[slot.index as usize];
            cell.store(Rest { since: None, ..Rest::of(cell.load(SeqCst)) }.word(), SeqCst);
        }
    }

    /// What rests at `now`, for status: runs of names, in the order of servers, protocols and ports.
    #[must_use]
    pub fn quarantine(&self, now: Tick) -> Vec<Resting> {
        let seconds = self.quarantine.load(Relaxed);
        let mut list: Vec<Resting> = Vec::new();
        for (index, cell) in self.rests().iter().enumerate() {
            let Some(left) = Rest::of(cell.load(SeqCst)).left(now, seconds) else { continue };
            let until = Tick((u64::from(now.seconds()) + u64::from(left)) * 1000);
            let wire = self.layout.wire_name(index as u32);
            match list.last_mut() {
                Some(run)
                    if (run.wire.ip, run.wire.proto, run.until) == (wire.ip, wire.proto, until)
                        && run.ports.last.checked_add(1) == Some(wire.port) =>
                {
                    run.ports.last = wire.port;
                }
                _ => list.push(Resting { wire, ports: PortRange { first: wire.port, last: wire.port }, until }),
            }
        }
        list
    }

    /// True if the change was one of hands.
    fn hand_over(&self, slot: Slot, owner: u64, now: Tick) -> bool {
        let holder = &self.owners()[slot.index as usize];
        let rest = &self.rests()[slot.index as usize];
        let before = holder.load(SeqCst);
        let state = Rest::of(rest.load(SeqCst));
        if before == owner {
            rest.store(Rest { lost: None, ..state }.word(), SeqCst);
            return false;
        }
        if before == NOBODY {
            holder.store(owner, SeqCst);
            return false;
        }
        // A process killed between any two of these stores leaves a name that rests, or one that is handed over again.
        let since = state.lost.unwrap_or(now.seconds() & !SET);
        rest.store(Rest { since: Some(since), lost: Some(since) }.word(), SeqCst);
        holder.store(NOBODY_YET, SeqCst);
        self.clear(slot);
        self.reaches()[slot.index as usize].store(0, SeqCst);
        holder.store(owner, SeqCst);
        rest.store(Rest { since: Some(since), lost: None }.word(), SeqCst);
        true
    }

    fn release_slot(&self, slot: Slot, now: Tick) {
        if self.owners()[slot.index as usize].load(SeqCst) == NOBODY {
            return;
        }
        let cell = &self.rests()[slot.index as usize];
        let rest = Rest::of(cell.load(SeqCst));
        if rest.lost.is_none() {
            cell.store(Rest { lost: Some(now.seconds() & !SET), ..rest }.word(), SeqCst);
        }
    }

    /// Forgets clocks and entries. Where the owner has been taken away before, they stay forgotten: a worker that was
    /// about to write an entry looks at the owner after it has, and takes the entry back.
    fn clear(&self, slot: Slot) {
        let index = slot.index as usize;
        self.clocks()[index].store(0, SeqCst);
        let cell = &self.entries()[index];
        let mut word = cell.load(SeqCst);
        while let Err(current) = cell.compare_exchange(word, Entry(word).emptied().0, SeqCst, SeqCst) {
            word = current;
        }
        if Entry(word).is_layered() {
            self.clear_overlaps(slot);
        }
    }

    fn names(&self, server: Ip, proto: Proto, ports: PortRange) -> impl Iterator<Item = Slot> {
        let portless = !proto.has_ports();
        let ports = if portless { PortRange { first: 0, last: 0 } } else { ports };
        (ports.first..=ports.last).filter_map(move |port| self.slot(server, proto, port))
    }

    fn slot_at(&self, index: u32) -> Slot {
        Slot { index, transport: self.layout.transport(index) }
    }
}
