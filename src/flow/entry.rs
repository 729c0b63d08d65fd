//! One translation entry in one 64-bit word, and what packets do to it. Pure: no memory is touched here.
//!
//! Because an entry is one word, it changes by one compare-and-swap, and a process that dies leaves it whole.

use super::layout::Transport;
use super::phase::Phase;
use super::signal::Signal;
use super::timers::Timers;
use crate::units::Tick;

/// The word of an entry:
///
/// | bits | what |
/// |---|---|
/// | 0-15 | inside port |
/// | 16 | the inside has called a public name: see [`Pool::for_public_names`](super::Pool::for_public_names) |
/// | 17-39 | when the inside last sent, or the phase last changed: seconds modulo 2^23 (97 days; swept long before) |
/// | 40-53 | print: 14 bits of the hash of the one remote that it is used with |
/// | 54-57 | generation: differs from that of the entry before, so that a compare-and-swap cannot mistake them |
/// | 58-61 | phase |
/// | 62 | layered: look among the entries that are keyed by the remote as well |
/// | 63 | tentative: written, but it may still turn out that another worker was first |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry(pub u64);

const INSIDE_MASK: u64 = 0x1_ffff;
const TIME_AT: u32 = 17;
const TIME_MASK: u64 = 0x7f_ffff;
const PRINT_AT: u32 = 40;
const PRINT_MASK: u64 = 0x3fff;
const GENERATION_AT: u32 = 54;
const GENERATION_MASK: u64 = 0xf;
const PHASE_AT: u32 = 58;
const PHASE_MASK: u64 = 0xf;
const LAYERED: u64 = 1 << 62;
const TENTATIVE: u64 = 1 << 63;
/// Workers read the time once a burst: an entry may be this many seconds ahead of a reader.
const SKEW: u32 = 60;

impl Entry {
    /// Bits of the remote's hash that an entry keeps.
    pub const fn print_of(hash: u64) -> u16 {
        (hash >> 50) as u16
    }

    pub fn port(self) -> u16 {
        self.0 as u16
    }

    /// The inside port together with bit 16: what entries are told apart by.
    pub fn inside(self) -> u32 {
        (self.0 & INSIDE_MASK) as u32
    }

    pub fn print(self) -> u16 {
        (self.0 >> PRINT_AT & PRINT_MASK) as u16
    }

    pub fn phase(self) -> Phase {
        Phase::of((self.0 >> PHASE_AT & PHASE_MASK) as u8)
    }

    pub fn is_tentative(self) -> bool {
        self.0 & TENTATIVE != 0
    }

    pub fn is_layered(self) -> bool {
        self.0 & LAYERED != 0
    }

    /// True if the word holds an entry, alive or not.
    pub fn is_entry(self) -> bool {
        !matches!(self.phase(), Phase::Free | Phase::Claimed)
    }

    pub fn is_closed(self) -> bool {
        self.phase().is_closed()
    }

    /// True if two remotes have used the entry.
    pub fn has_several(self) -> bool {
        self.phase().has_several()
    }

    /// Seconds since the entry was last used.
    pub fn age(self, now: Tick) -> u32 {
        let age = now.seconds().wrapping_sub((self.0 >> TIME_AT) as u32) & TIME_MASK as u32;
        if age > TIME_MASK as u32 - SKEW { 0 } else { age }
    }

    /// True until the timer of its phase has run out.
    pub fn is_live(self, timers: &Timers, transport: Transport, now: Tick) -> bool {
        self.phase().timer(timers, transport).is_some_and(|timer| self.age(now) <= timer)
    }

    /// A new, confirmed entry in the place of this one.
    pub fn replaced(self, inside: u32, print: u16, signal: Signal, now: Tick) -> Entry {
        let body = u64::from(inside) & INSIDE_MASK | (u64::from(print) & PRINT_MASK) << PRINT_AT;
        Entry(self.emptied().0 | body).in_phase(Phase::begun_by(signal)).at(now)
    }

    /// The place of this entry without it: the generation moves on, and layered it stays.
    pub fn emptied(self) -> Entry {
        let generation = (self.0 >> GENERATION_AT).wrapping_add(1) & GENERATION_MASK;
        Entry(self.0 & LAYERED | generation << GENERATION_AT)
    }

    pub fn tentative(self) -> Entry {
        Entry(self.0 | TENTATIVE)
    }

    pub fn confirmed(self) -> Entry {
        Entry(self.0 & !TENTATIVE)
    }

    pub fn layered(self) -> Entry {
        Entry(self.0 | LAYERED)
    }

    /// Layered, and of the next generation: whoever is about to use the entry with another remote must look again.
    pub fn relayered(self) -> Entry {
        let generation = (self.0 >> GENERATION_AT).wrapping_add(1) & GENERATION_MASK;
        Entry(self.0 & !(GENERATION_MASK << GENERATION_AT) | generation << GENERATION_AT | LAYERED)
    }

    pub fn in_phase(self, phase: Phase) -> Entry {
        Entry(self.0 & !(PHASE_MASK << PHASE_AT) | (phase as u64) << PHASE_AT)
    }

    fn at(self, now: Tick) -> Entry {
        Entry(self.0 & !(TIME_MASK << TIME_AT) | (u64::from(now.seconds()) & TIME_MASK) << TIME_AT)
    }

    /// This live entry after the inside has sent `signal` to the remote with that print.
    pub fn sent(self, signal: Signal, print: u16, now: Tick) -> Entry {
        let known = print == self.print();
        if !known && !self.has_several() && self.is_closed() && signal == Signal::Syn {
            return self.replaced(self.inside(), print, signal, now);
        }
        match self.phase().sent(signal, known) {
            Some(next) => self.in_phase(next).at(now),
            None => self,
        }
    }

    /// This live entry after `signal` has come in from the remote with that print. Only a change of phase counts as a
    /// use: what comes in refreshes nothing (RFC 4787 REQ-6 leaves it open), or the outside could keep entries.
    pub fn received(self, signal: Signal, print: u16, now: Tick) -> Entry {
        match self.phase().received(signal) {
            Some(next) if print == self.print() => self.in_phase(next).at(now),
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: Entry = Entry(0);
    const HERE: u16 = 7;
    const ELSEWHERE: u16 = 8;

    fn second(seconds: u64) -> Tick {
        Tick(seconds * 1000)
    }

    fn open() -> Entry {
        EMPTY.replaced(40000, HERE, Signal::Syn, second(0))
    }

    fn established() -> Entry {
        open().sent(Signal::Segment, HERE, second(0))
    }

    #[test]
    fn a_word_keeps_its_parts_apart() {
        let entry = Entry(u64::MAX).replaced(0x1_ffff, 0x3fff, Signal::Datagram, second(0x7f_ffff));
        assert_eq!((entry.port(), entry.print(), entry.phase()), (0xffff, 0x3fff, Phase::Datagram));
        assert_eq!(entry.inside(), 0x1_ffff);
        assert!(entry.is_layered() && !entry.is_tentative() && entry.tentative().is_tentative());
        assert_eq!(entry.tentative().confirmed(), entry);
        assert_eq!(entry.age(second(0x7f_ffff + 5)), 5);
        assert_ne!(entry.relayered(), entry);
        assert_eq!((entry.relayered().port(), entry.relayered().phase()), (entry.port(), entry.phase()));
        for bits in 0..16 {
            let _ = Entry(bits << PHASE_AT).phase();
        }
    }

    #[test]
    fn sixteen_entries_of_a_place_in_a_row_differ() {
        let mut seen = vec![Entry(0)];
        for _ in 1..16 {
            let next = seen[seen.len() - 1].emptied();
            assert!(!seen.contains(&next), "{next:?}");
            seen.push(next);
        }
        let mut holder = open();
        for _ in 0..16 {
            let next = holder.relayered();
            assert!(next != holder && next.is_layered() && next.emptied().is_layered());
            assert_eq!((next.inside(), next.print(), next.phase()), (holder.inside(), holder.print(), holder.phase()));
            holder = next;
        }
        assert!(!open().is_layered() && !open().emptied().is_layered());
    }

    #[test]
    fn an_entry_may_be_a_minute_ahead_of_its_reader_and_no_more() {
        let entry = EMPTY.replaced(40000, HERE, Signal::Datagram, second(1060));
        assert_eq!((entry.age(second(1060)), entry.age(second(1059)), entry.age(second(1000))), (0, 0, 0));
        assert!(!entry.is_live(&Timers::DEFAULT, Transport::Udp, second(999)), "that is an age of weeks");
        for days in 1..97 {
            assert!(!entry.is_live(&Timers::DEFAULT, Transport::Udp, second(1060 + days * 86_400)), "{days}");
        }
    }

    #[test]
    fn a_handshake_lengthens_the_timer() {
        assert!(
            open().is_live(&Timers::DEFAULT, Transport::Tcp, second(240))
                && !open().is_live(&Timers::DEFAULT, Transport::Tcp, second(241))
        );
        let entry = established();
        assert!(
            entry.is_live(&Timers::DEFAULT, Transport::Tcp, second(7440))
                && !entry.is_live(&Timers::DEFAULT, Transport::Tcp, second(7441))
        );
    }

    #[test]
    fn both_fins_and_the_last_acknowledgement_close() {
        let closing = established().sent(Signal::Fin, HERE, second(1)).received(Signal::Segment, HERE, second(1));
        assert_eq!(closing.phase(), Phase::FinOut, "half-closed: the other side may go on for hours");
        let closing = closing.received(Signal::Fin, HERE, second(2));
        assert!(!closing.is_closed(), "not yet acknowledged");
        assert!(closing.sent(Signal::Segment, HERE, second(2)).is_closed());
        let passive = established().received(Signal::Fin, HERE, second(1)).sent(Signal::Fin, HERE, second(1));
        assert!(
            !passive.sent(Signal::Segment, HERE, second(1)).is_closed(),
            "its own acknowledgement is not the answer"
        );
        assert!(passive.received(Signal::Segment, HERE, second(1)).is_closed());
    }

    #[test]
    fn a_forged_reset_is_outlived() {
        let entry = established().received(Signal::Rst, HERE, second(5));
        assert!(entry.is_closed() && entry.is_live(&Timers::DEFAULT, Transport::Tcp, second(245)));
        assert_eq!(entry.sent(Signal::Segment, HERE, second(6)).phase(), Phase::Established);
        assert_eq!(established().received(Signal::Rst, ELSEWHERE, second(5)), established(), "not its remote");
    }

    #[test]
    fn a_reset_after_both_fins_is_no_forgery() {
        let closing = established().sent(Signal::Fin, HERE, second(1)).received(Signal::Fin, HERE, second(1));
        for reset in [closing.received(Signal::Rst, HERE, second(2)), closing.sent(Signal::Rst, HERE, second(2))] {
            assert!(reset.sent(Signal::Segment, HERE, second(3)).is_closed());
        }
    }

    #[test]
    fn an_entry_of_two_remotes_ends_by_timer_only() {
        let entry = established().sent(Signal::Syn, ELSEWHERE, second(1));
        assert_eq!(entry.phase(), Phase::SeveralEstablished);
        for print in [HERE, ELSEWHERE] {
            assert_eq!(entry.received(Signal::Rst, print, second(2)), entry);
            assert_eq!(entry.sent(Signal::Rst, print, second(2)), entry);
        }
        assert!(!entry.sent(Signal::Fin, HERE, second(2)).received(Signal::Fin, HERE, second(2)).is_closed());
    }

    #[test]
    fn a_syn_recycles_what_is_closed() {
        let closed = established().sent(Signal::Rst, HERE, second(5));
        assert_eq!(closed.sent(Signal::Syn, HERE, second(6)).phase(), Phase::Opening);
        let ended = established().sent(Signal::Fin, HERE, second(1)).received(Signal::Fin, HERE, second(1));
        let ended = ended.sent(Signal::Segment, HERE, second(1));
        for signal in [Signal::SynAck, Signal::Segment, Signal::Fin, Signal::Rst] {
            assert_eq!(ended.sent(signal, HERE, second(6)), ended, "{signal:?} is no use of what is over");
        }
        assert_eq!(ended.sent(Signal::Syn, HERE, second(6)).phase(), Phase::Opening);
        let elsewhere = closed.sent(Signal::Syn, ELSEWHERE, second(6));
        assert_eq!((elsewhere.phase(), elsewhere.print()), (Phase::Opening, ELSEWHERE));
    }

    #[test]
    fn what_comes_in_keeps_nothing_alive() {
        let entry = established();
        assert_eq!(entry.received(Signal::Segment, HERE, second(100)), entry);
        let entry = EMPTY.replaced(5, HERE, Signal::Datagram, second(0));
        assert_eq!(entry.received(Signal::Datagram, HERE, second(100)), entry);
        assert!(entry.sent(Signal::Datagram, HERE, second(100)).is_live(&Timers::DEFAULT, Transport::Udp, second(400)));
    }
}
