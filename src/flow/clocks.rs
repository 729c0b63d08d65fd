//! When each port last sent to the outside and to peers, and what may therefore enter it.
//!
//! Filtering is endpoint-independent (RFC 4787 REQ-8, RFC 5382 REQ-3): a port that has lately sent to a side may be
//! entered from there by anybody. Both clocks of a slot share a word: outside in the low half, peers in the high one.
//! Writers: packet workers, by [`State::touch`]. Readers: packet workers.

use std::sync::atomic::Ordering::Relaxed;

use super::layout::{Slot, Transport};
use super::signal::Signal;
use super::state::State;
use super::timers::Timers;
use crate::units::Tick;

/// Where a packet comes from or goes to, as far as filtering is concerned. Traffic inside a network has no side.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    Outside,
    /// All networks that are peered with the port's own.
    Peers,
}

impl State {
    /// The port has sent `signal` to `side`. A reset changes nothing, and ICMP errors must not be reported here: neither
    /// may keep a port open.
    #[inline]
    pub fn touch(&self, slot: Slot, side: Side, signal: Signal, now: Tick) {
        if signal == Signal::Rst {
            return;
        }
        let cell = &self.clocks()[slot.index as usize];
        let mut word = cell.load(Relaxed);
        loop {
            let clock = Clock::of(word, side);
            let next = clock.touched(&self.timers, slot.transport, signal, now).put(word, side);
            if next == word {
                break;
            }
            match cell.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(current) => word = current,
            }
        }
        if slot.transport == Transport::Echo {
            self.claim_echo(slot, now);
        }
    }

    /// True if a packet from `side` that means `arriving` may enter through the port: it has sent there within the
    /// timer, and for a SYN without ACK the latest thing that it sent there was a SYN (simultaneous open, RFC 5382
    /// REQ-2). An ICMP error is admitted as a packet of the flow that it embeds.
    #[inline]
    #[must_use]
    pub fn admits(&self, slot: Slot, side: Side, arriving: Signal, now: Tick) -> bool {
        let clock = Clock::of(self.clocks()[slot.index as usize].load(Relaxed), side);
        match arriving {
            Signal::Syn => clock.latest_is_syn() && clock.within(self.timers.opening, now),
            _ => clock.is_warm(&self.timers, slot.transport, now),
        }
    }
}

/// One clock: whole seconds (modulo 2^29: 17 years) and three facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Clock(u32);

const SENT: u32 = 1 << 31;
const LATEST_SYN: u32 = 1 << 30;
const ESTABLISHED: u32 = 1 << 29;
const SECONDS: u32 = ESTABLISHED - 1;
/// Workers read the time once a burst: a clock may be this many seconds ahead of a reader.
const SKEW: u32 = 60;

impl Clock {
    fn of(word: u64, side: Side) -> Clock {
        match side {
            Side::Outside => Clock(word as u32),
            Side::Peers => Clock((word >> 32) as u32),
        }
    }

    fn put(self, word: u64, side: Side) -> u64 {
        match side {
            Side::Outside => word & !0xffff_ffff | u64::from(self.0),
            Side::Peers => word & 0xffff_ffff | u64::from(self.0) << 32,
        }
    }

    fn latest_is_syn(self) -> bool {
        self.0 & LATEST_SYN != 0
    }

    fn within(self, seconds: u32, now: Tick) -> bool {
        let age = now.seconds().wrapping_sub(self.0) & SECONDS;
        self.0 & SENT != 0 && (age <= seconds || age > SECONDS - SKEW)
    }

    fn is_warm(self, timers: &Timers, transport: Transport, now: Tick) -> bool {
        let timer = match transport {
            Transport::Tcp if self.0 & ESTABLISHED != 0 => timers.established,
            Transport::Tcp => timers.opening,
            Transport::Udp | Transport::Portless => timers.udp,
            Transport::Echo => timers.echo,
        };
        self.within(timer, now)
    }

    /// A port with a connection stays established when it opens another; one that has gone cold starts anew. Anything
    /// but a SYN shows that the handshake is done: a host acknowledges nothing before it has heard the other side.
    fn touched(self, timers: &Timers, transport: Transport, signal: Signal, now: Tick) -> Clock {
        let mut facts = SENT;
        if self.is_warm(timers, transport, now) {
            facts |= self.0 & ESTABLISHED;
        }
        match signal {
            Signal::Syn | Signal::SynAck => facts |= LATEST_SYN,
            Signal::Segment | Signal::Fin | Signal::Rst => facts |= ESTABLISHED,
            Signal::Datagram => {}
        }
        Clock(now.seconds() & SECONDS | facts)
    }
}
