//! The second word of an affinity entry: which replica a flow stays on, and how far the connection has got. Pure.

use super::layout::Transport;
use super::phase::Phase;
use super::signal::Signal;
use super::timers::Timers;
use crate::naming::ReplicaId;
use crate::units::Tick;

/// The word:
///
/// | bits | what |
/// |---|---|
/// | 0-35 | the replica |
/// | 36-55 | when either side last sent: seconds modulo 2^20 (12 days; swept long before) |
/// | 56-58 | generation: differs from that of the entry before, so that a compare-and-swap cannot mistake them |
/// | 59-62 | phase |
/// | 63 | tentative: written, but it may still turn out that another worker was first |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeptWord(pub u64);

const REPLICA_MASK: u64 = (1 << ReplicaId::BITS) - 1;
const TIME_AT: u32 = 36;
const TIME_MASK: u64 = 0xf_ffff;
const GENERATION_AT: u32 = 56;
const GENERATION_MASK: u64 = 0x7;
const PHASE_AT: u32 = 59;
const PHASE_MASK: u64 = 0xf;
const TENTATIVE: u64 = 1 << 63;
/// Workers read the time once a burst: an entry may be this many seconds ahead of a reader.
const SKEW: u32 = 60;

/// Which side of a connection has sent something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Client,
    Replica,
}

impl KeptWord {
    pub fn replica(self) -> ReplicaId {
        ReplicaId::from_bits(self.0)
    }

    pub fn phase(self) -> Phase {
        Phase::of((self.0 >> PHASE_AT & PHASE_MASK) as u8)
    }

    pub fn is_tentative(self) -> bool {
        self.0 & TENTATIVE != 0
    }

    /// True if the word holds an entry, alive or not.
    pub fn is_entry(self) -> bool {
        !matches!(self.phase(), Phase::Free | Phase::Claimed)
    }

    /// Seconds since either side has sent.
    pub fn age(self, now: Tick) -> u32 {
        let age = now.seconds().wrapping_sub((self.0 >> TIME_AT) as u32) & TIME_MASK as u32;
        if age > TIME_MASK as u32 - SKEW { 0 } else { age }
    }

    /// True until the timer of its phase has run out. The transports without connections have one timer here.
    pub fn is_live(self, timers: &Timers, now: Tick) -> bool {
        self.phase().timer(timers, Transport::Udp).is_some_and(|timer| self.age(now) <= timer)
    }

    /// The place of this entry without it.
    pub fn emptied(self) -> KeptWord {
        let generation = (self.0 >> GENERATION_AT).wrapping_add(1) & GENERATION_MASK;
        KeptWord(generation << GENERATION_AT)
    }

    /// The place of this entry, taken by one worker.
    pub fn claimed(self) -> KeptWord {
        self.emptied().in_phase(Phase::Claimed)
    }

    pub fn tentative(self) -> KeptWord {
        KeptWord(self.0 | TENTATIVE)
    }

    pub fn confirmed(self) -> KeptWord {
        KeptWord(self.0 & !TENTATIVE)
    }

    /// A new, confirmed entry in the place of this one: `by` has sent `signal`.
    pub fn replaced(self, replica: ReplicaId, by: By, signal: Signal, now: Tick) -> KeptWord {
        let phase = match (by, signal) {
            (By::Replica, Signal::Fin) => Phase::FinIn,
            _ => Phase::begun_by(signal),
        };
        KeptWord(self.emptied().0 | replica.bits() & REPLICA_MASK).in_phase(phase).at(now)
    }

    /// This live entry after `by` has sent `signal`. Either side keeps it: both are inside, or called by somebody who is.
    pub fn after(self, by: By, signal: Signal, now: Tick) -> KeptWord {
        let phase = self.phase();
        match by {
            By::Client => phase.sent(signal, true).map_or(self, |next| self.in_phase(next).at(now)),
            By::Replica if phase.is_closed() => self,
            By::Replica => self.in_phase(phase.received(signal).unwrap_or(phase)).at(now),
        }
    }

    fn in_phase(self, phase: Phase) -> KeptWord {
        KeptWord(self.0 & !(PHASE_MASK << PHASE_AT) | (phase as u64) << PHASE_AT)
    }

    fn at(self, now: Tick) -> KeptWord {
        KeptWord(self.0 & !(TIME_MASK << TIME_AT) | (u64::from(now.seconds()) & TIME_MASK) << TIME_AT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: ReplicaId = ReplicaId::of(0x0123_4567_89ab_cdef);

    fn second(seconds: u64) -> Tick {
        Tick(seconds * 1000)
    }

    fn begun(signal: Signal) -> KeptWord {
        KeptWord(0).replaced(WEB, By::Client, signal, second(0))
    }

    #[test]
    fn a_word_keeps_its_parts_apart() {
        let word = KeptWord(u64::MAX).replaced(WEB, By::Client, Signal::Datagram, second(0xf_ffff));
        assert_eq!((word.replica(), word.phase(), word.is_tentative()), (WEB, Phase::Datagram, false));
        assert_eq!(word.age(second(0xf_ffff + 5)), 5);
        assert!(word.tentative().is_tentative() && !word.tentative().confirmed().is_tentative());
        assert_eq!(word.tentative().confirmed(), word);
        assert_ne!(word.emptied(), word.emptied().emptied());
        assert!(!word.claimed().is_entry() && !word.emptied().is_entry());
    }

    #[test]
    fn an_entry_may_be_a_minute_ahead_of_its_reader_and_no_more() {
        let word = KeptWord(0).replaced(WEB, By::Client, Signal::Datagram, second(1060));
        assert_eq!((word.age(second(1060)), word.age(second(1059)), word.age(second(1000))), (0, 0, 0));
        assert!(!word.is_live(&Timers::DEFAULT, second(999)), "that is an age of days");
        for hours in 1..12 * 24 {
            assert!(!word.is_live(&Timers::DEFAULT, second(1060 + hours * 3600)), "{hours}");
        }
    }

    #[test]
    fn timers_are_those_of_translation() {
        for (word, timer) in [
            (begun(Signal::Syn), 240),
            (begun(Signal::Syn).after(By::Client, Signal::Segment, second(0)), 7440),
            (begun(Signal::Datagram), 300),
            (begun(Signal::Segment).after(By::Replica, Signal::Rst, second(0)), 240),
        ] {
            assert!(
                word.is_live(&Timers::DEFAULT, second(timer)) && !word.is_live(&Timers::DEFAULT, second(timer + 1)),
                "{timer}"
            );
        }
    }

    #[test]
    fn timers_may_be_others() {
        let others = Timers { udp: 120, established: 9000, ..Timers::DEFAULT };
        for (word, timer) in [(begun(Signal::Datagram), 120), (begun(Signal::Segment), 9000)] {
            assert!(word.is_live(&others, second(timer)) && !word.is_live(&others, second(timer + 1)), "{timer}");
        }
    }

    #[test]
    fn what_the_replica_sends_keeps_the_flow_too() {
        let word = begun(Signal::Datagram).after(By::Replica, Signal::Datagram, second(200));
        assert!(word.is_live(&Timers::DEFAULT, second(500)));
        let closed = begun(Signal::Segment).after(By::Replica, Signal::Rst, second(0));
        assert_eq!(closed.after(By::Replica, Signal::Segment, second(100)), closed, "but not one that it has closed");
    }

    #[test]
    fn both_fins_and_the_last_acknowledgement_close() {
        let word = begun(Signal::Segment).after(By::Client, Signal::Fin, second(1));
        let word = word.after(By::Replica, Signal::Segment, second(1)).after(By::Replica, Signal::Fin, second(1));
        assert!(!word.phase().is_closed());
        assert!(word.after(By::Client, Signal::Segment, second(1)).phase().is_closed());
        let word =
            KeptWord(0).replaced(WEB, By::Replica, Signal::Fin, second(1)).after(By::Client, Signal::Fin, second(1));
        assert!(!word.phase().is_closed());
        assert!(word.after(By::Replica, Signal::Segment, second(1)).phase().is_closed(), "first seen as it closed");
    }
}
