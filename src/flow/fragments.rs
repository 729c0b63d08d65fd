//! What later fragments need to know, which hold no transport header: the ports of their packet, the identification that
//! its first fragment got, and which parts of it have gone on ("virtual reassembly": nothing is put together).
//!
//! A fixed table of [`PACKETS`] packets in sets of [`WAYS`]; a set's keys are one cache line. A new packet takes a free
//! place of its set, or that of the oldest there. Nothing is kept of a packet after [`LIFE_MS`], the time after which
//! its receiver gives up too.
//!
//! Writers and readers: all packet workers at once, by atomic operations only. Fragments of one packet may come to
//! several workers, since NICs spread them by their addresses and first fragments by ports. Whoever writes a packet down
//! takes the place's key away meanwhile, so a reader finds all of it or nothing. Every packet has a number of its own,
//! which all that is noted of its parts carries: what another packet left in the place counts for nothing.
//!
//! It is memory of one process. A successor knows nothing of packets of which some fragments are still to come: they are
//! lost, as with any fragment that is.

use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::hash::fold;
use super::state::State;
use crate::table::mapped::Words;
use crate::units::{Ip, Mac, PortId, Proto, Tick};

/// Packets that can be under way in fragments: 1 MiB.
pub const PACKETS: usize = 4096;
/// Places of a set.
const WAYS: usize = 8;
/// Words of a place: three of what is known of the packet, then its runs of bytes without a gap. Fragments in order make
/// one run, whatever their number, and in the worst order half as many runs as there are fragments: 29 serve a packet of
/// 65,535 bytes in fragments of 1200 in any order.
const PLACE_WORDS: usize = 32;
/// Words of the table.
const WORDS: usize = PACKETS * (1 + PLACE_WORDS);

/// How long a packet is remembered, in milliseconds: as long as Linux waits for its last fragment (`ipfrag_time`), and
/// as the XDP program remembers.
pub const LIFE_MS: u64 = 30_000;
/// How long another first fragment of the same identification is a copy of this one, in milliseconds, while the packet
/// is not complete. Later it begins another packet: senders of many use numbers again (RFC 4963), and a copy that was
/// under way for so long is as well lost.
const COPY_MS: u64 = 1000;
/// A worker tries so often before it gives up; each failure means that another worker got ahead.
const ATTEMPTS: u32 = 16;

/// A place whose packet is being written down.
const BUSY: u64 = 1;
/// Of the end word: two fragments contradict one another, and no more of the packet goes on.
const SPOILT: u64 = 1 << 31;
/// Of the end word: the last fragment has come, and the low bits say where it ends.
const HAS_END: u64 = 1 << 30;
const END_MASK: u64 = 0xffff;

/// Which packet a fragment belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FragmentKey(NonZeroU64);

/// Whose fragments may be parts of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// Those of one station behind one access port.
    Station(PortId, Mac),
    /// All from the underlay and from outside, whatever port they came by: ways change.
    Beyond,
}

/// What a fragment's own header says of its packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Parcel {
    pub src: Ip,
    pub dst: Ip,
    /// IPv6 names a packet without it (RFC 8200 section 4.5).
    pub proto: Proto,
    pub id: u32,
}

/// What a first fragment says and later ones do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// The transport protocol; later IPv6 fragments need not name it.
    pub proto: Proto,
    pub what: What,
    /// Source and destination port; an echo's identifier is both.
    pub ports: (u16, u16),
    /// The identification that all fragments leave under.
    pub id: u32,
}

/// What kind of packet it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Tcp,
    Udp,
    EchoRequest,
    EchoReply,
    /// A protocol without ports.
    Portless,
    /// What is not forwarded in fragments.
    Other,
}

const WHATS: [What; 6] = [What::Tcp, What::Udp, What::EchoRequest, What::EchoReply, What::Portless, What::Other];

/// The part of its packet that a fragment holds, in units of eight bytes; the last one is rounded up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub start: u16,
    pub end: u16,
    pub is_last: bool,
}

/// A packet whose first fragment has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    pub told: Told,
    place: usize,
    number: u64,
    since: u64,
}

/// Why a fragment does not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// All of it has gone on already.
    Duplicate,
    /// It contradicts another fragment of its packet: it overlaps one, or reaches beyond the end (RFC 1858, RFC 5722). No
    /// more of the packet goes on.
    Overlap,
    /// The packet is in too many parts that do not touch.
    Scattered,
}

/// The table's memory.
pub(super) struct Cells {
    words: Words,
    count: AtomicU64,
    forgotten: AtomicU64,
}

impl Cells {
    /// An empty table.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new() -> io::Result<Cells> {
        Ok(Cells { words: Words::memory(WORDS)?, count: AtomicU64::new(0), forgotten: AtomicU64::new(0) })
    }
}

/// The table of one state.
#[derive(Clone, Copy)]
pub struct Fragments<'s> {
    words: &'s [AtomicU64],
    /// Packets so far.
    count: &'s AtomicU64,
    forgotten: &'s AtomicU64,
    secret: u64,
}

impl State {
    /// Packets that are under way in fragments.
    #[must_use]
    pub fn fragments(&self) -> Fragments<'_> {
        let Cells { words, count, forgotten } = &self.fragments;
        Fragments { words, count, forgotten, secret: self.secret }
    }
}

impl Fragments<'_> {
    /// The key of a packet.
    #[must_use]
    pub fn key(&self, origin: Origin, parcel: &Parcel) -> FragmentKey {
        let (port, mac) = match origin {
            Origin::Station(PortId(port), Mac([a, b, c, d, e, f])) => {
                (1 + u64::from(port), u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
            }
            Origin::Beyond => (0, 0),
        };
        let halves = |ip: Ip| [ip.bits() as u64, (ip.bits() >> 64) as u64];
        let ([a, b], [c, d]) = (halves(parcel.src), halves(parcel.dst));
        let proto = if parcel.src.is_v4() { u64::from(parcel.proto.0) } else { 0 };
        let number = u64::from(parcel.id) << 32 | port << 8 | proto;
        let mut key = fold(mac, self.secret);
        for word in [a, b, c, d, number] {
            key = fold(key ^ word, self.secret);
        }
        FragmentKey(NonZeroU64::new(key).filter(|key| key.get() != BUSY).unwrap_or(NonZeroU64::MAX))
    }

    /// What the first fragment of a packet said, if it has come.
    #[must_use]
    pub fn find(&self, key: FragmentKey, now: Tick) -> Option<Known> {
        let place = ways(key).find(|&place| self.key_at(place).load(SeqCst) == key.0.get())?;
        let (number, known) = (self.number(place), self.read(place));
        let is_whole = self.still_holds(place, key, number);
        (is_whole && now.0.saturating_sub(known.since) < LIFE_MS).then_some(known)
    }

    /// True while a first fragment with the key of this packet is a copy of its own.
    #[must_use]
    pub fn is_under_way(&self, known: &Known, now: Tick) -> bool {
        now.0.saturating_sub(known.since) < COPY_MS && !self.is_complete(known.place, known.number)
    }

    /// Notes what the first fragment of a packet says, and the part that it holds. False if there is no place: other
    /// workers were quicker, again and again.
    pub fn remember(&self, key: FragmentKey, told: Told, part: Part, now: Tick) -> bool {
        let number = u64::from((self.count.fetch_add(1, SeqCst) as u32).wrapping_add(1).max(1));
        for _ in 0..ATTEMPTS {
            let (place, held) = self.place_for(key, now);
            if held == BUSY || self.key_at(place).compare_exchange(held, BUSY, SeqCst, SeqCst).is_err() {
                continue;
            }
            let is_another = held != 0 && held != key.0.get();
            if is_another && self.age(place, now) < LIFE_MS && !self.is_complete(place, self.number(place)) {
                self.forgotten.fetch_add(1, SeqCst);
            }
            let [about, ports, end, runs @ ..] = self.place(place) else { return false };
            let what = WHATS.iter().position(|&what| what == told.what).unwrap_or_default() as u64;
            about.store(now.0 << 16 | what << 8 | u64::from(told.proto.0), SeqCst);
            let (src, dst) = told.ports;
            ports.store(u64::from(src) << 48 | u64::from(dst) << 32 | u64::from(told.id), SeqCst);
            end.store(number << 32 | if part.is_last { HAS_END | u64::from(part.end) } else { 0 }, SeqCst);
            if let [first, ..] = runs {
                first.store(run(number, part.start, part.end), SeqCst);
            }
            self.key_at(place).store(key.0.get(), SeqCst);
            return true;
        }
        false
    }

    /// Notes that a part of a known packet goes on.
    ///
    /// # Errors
    /// Why it must not.
    pub fn take(&self, known: &Known, part: Part) -> Result<(), Unfit> {
        let [_, _, end, runs @ ..] = self.place(known.place) else { return Err(Unfit::Scattered) };
        agree_on_end(end, known.number, part)?;
        for _ in 0..ATTEMPTS {
            let place = match place_of(runs, known.number, part) {
                Err(Unfit::Overlap) => return Err(spoil(end, known.number)),
                found => found?,
            };
            if let Some(taken) = settle(end, runs, known.number, part, place) {
                return taken;
            }
        }
        Err(Unfit::Scattered)
    }

    /// Packets that are remembered.
    #[must_use]
    pub fn under_way(&self, now: Tick) -> usize {
        let is_there = |&place: &usize| self.key_at(place).load(SeqCst) != 0 && self.age(place, now) < LIFE_MS;
        (0..PACKETS).filter(is_there).count()
    }

    /// Packets of which something was still to come when their places were taken.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(SeqCst)
    }

    /// The place that the packet is to have, and the key there now: its own, a free one, or the oldest of its set.
    fn place_for(&self, key: FragmentKey, now: Tick) -> (usize, u64) {
        let held = |place: usize| (place, self.key_at(place).load(SeqCst));
        let own = ways(key).map(held).find(|&(_, held)| held == key.0.get());
        let free = || ways(key).map(held).find(|&(_, held)| held == 0);
        let oldest =
            || ways(key).map(held).filter(|&(_, held)| held != BUSY).max_by_key(|&(place, _)| self.age(place, now));
        own.or_else(free).or_else(oldest).unwrap_or((0, BUSY))
    }

    fn is_complete(&self, place: usize, number: u64) -> bool {
        let [_, _, end, runs @ ..] = self.place(place) else { return false };
        let lengths = runs.iter().filter_map(|cell| bounds(cell.load(SeqCst), number)).map(|(s, e)| u64::from(e - s));
        end_of(end.load(SeqCst)).is_some_and(|end| lengths.sum::<u64>() == u64::from(end))
    }

    /// True if nobody has written there since the packet with that key had that number.
    fn still_holds(&self, place: usize, key: FragmentKey, number: u64) -> bool {
        self.number(place) == number && self.key_at(place).load(SeqCst) == key.0.get()
    }

    fn read(&self, place: usize) -> Known {
        let word = |at: usize| self.place(place).get(at).map_or(0, |cell| cell.load(SeqCst));
        let (about, ports) = (word(0), word(1));
        let what = WHATS.get((about >> 8 & 0xff) as usize).copied().unwrap_or(What::Other);
        let ends = ((ports >> 48) as u16, (ports >> 32) as u16);
        let told = Told { proto: Proto(about as u8), what, ports: ends, id: ports as u32 };
        Known { told, place, number: word(2) >> 32, since: about >> 16 }
    }

    fn number(&self, place: usize) -> u64 {
        self.place(place).get(2).map_or(0, |cell| cell.load(SeqCst) >> 32)
    }

    /// Milliseconds since the packet of this place began.
    fn age(&self, place: usize, now: Tick) -> u64 {
        now.0.saturating_sub(self.place(place).first().map_or(0, |about| about.load(SeqCst) >> 16))
    }

    fn key_at(&self, place: usize) -> &AtomicU64 {
        &self.words[place]
    }

    fn place(&self, place: usize) -> &[AtomicU64] {
        let at = PACKETS + place * PLACE_WORDS;
        self.words.get(at..at + PLACE_WORDS).unwrap_or_default()
    }
}

/// The places of a key's set.
fn ways(key: FragmentKey) -> std::ops::Range<usize> {
    let set = (key.0.get() >> 32) as usize % (PACKETS / WAYS);
    set * WAYS..(set + 1) * WAYS
}

fn run(number: u64, start: u16, end: u16) -> u64 {
    number << 32 | u64::from(start) << 16 | u64::from(end)
}

/// The bounds of a run, if it is one of this packet's.
fn bounds(word: u64, number: u64) -> Option<(u16, u16)> {
    (word >> 32 == number).then_some(((word >> 16) as u16, word as u16))
}

/// Where among the runs a part belongs: the run, its word now and then.
fn place_of(runs: &[AtomicU64], number: u64, part: Part) -> Result<(usize, u64, u64), Unfit> {
    let mut chosen = None;
    let mut free = None;
    let mut is_duplicate = false;
    for (at, cell) in runs.iter().enumerate() {
        let word = cell.load(SeqCst);
        let Some((start, end)) = bounds(word, number) else {
            free = free.or(Some((at, word, run(number, part.start, part.end))));
            continue;
        };
        if start <= part.start && part.end <= end {
            is_duplicate = true;
        } else if start < part.end && part.start < end || part.is_last && end > part.end {
            return Err(Unfit::Overlap);
        } else if end == part.start {
            chosen = chosen.or(Some((at, word, run(number, start, part.end))));
        } else if part.end == start {
            chosen = chosen.or(Some((at, word, run(number, part.start, end))));
        }
    }
    if is_duplicate {
        return Err(Unfit::Duplicate);
    }
    chosen.or(free).ok_or(Unfit::Scattered)
}

/// Puts a part into the place that was found for it; `None` if another worker was quicker there.
fn settle(
    end: &AtomicU64,
    runs: &[AtomicU64],
    number: u64,
    part: Part,
    (at, before, after): (usize, u64, u64),
) -> Option<Result<(), Unfit>> {
    runs.get(at)?.compare_exchange(before, after, SeqCst, SeqCst).ok()?;
    // Of two workers that take parts of the same bytes at once, at least one sees what the other did.
    let others = runs.iter().enumerate().filter(|&(other, _)| other != at);
    let mut others = others.filter_map(|(_, cell)| bounds(cell.load(SeqCst), number));
    if others.any(|(start, last)| start < part.end && part.start < last) {
        return Some(Err(spoil(end, number)));
    }
    // The end may have become known meanwhile.
    Some(agree_on_end(end, number, part))
}

/// Where a packet ends by its end word, if its last fragment has come.
fn end_of(word: u64) -> Option<u16> {
    (word & HAS_END != 0).then_some((word & END_MASK) as u16)
}

/// Notes where the packet ends, if `part` says so, and holds it against what is known of that.
fn agree_on_end(end: &AtomicU64, number: u64, part: Part) -> Result<(), Unfit> {
    for _ in 0..ATTEMPTS {
        let word = end.load(SeqCst);
        // Another packet has the place, or this one is spoilt.
        if word >> 32 != number || word & SPOILT != 0 {
            return Err(Unfit::Overlap);
        }
        match end_of(word) {
            Some(known) if part.end > known || part.is_last && part.end != known => {
                return Err(spoil(end, number));
            }
            None if part.is_last => {
                let told = word | HAS_END | u64::from(part.end);
                if end.compare_exchange(word, told, SeqCst, SeqCst).is_ok() {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
    }
    Err(Unfit::Scattered)
}

fn spoil(end: &AtomicU64, number: u64) -> Unfit {
    let mark = |word: u64| (word >> 32 == number).then_some(word | SPOILT);
    // Fails if another packet has the place by now.
    let _ = end.fetch_update(SeqCst, SeqCst, mark);
    Unfit::Overlap
}

#[cfg(test)]
mod tests;
