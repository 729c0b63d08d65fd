//! How far a connection has got, and how what each side sends takes it further: the part of an entry that translation
//! and affinity have in common. Pure.

use super::layout::Transport;
use super::signal::Signal;
use super::timers::Timers;

/// What an entry has seen. `Several*` are translation entries that two remotes have used: they end by timer only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// No entry.
    Free = 0,
    /// TCP, unestablished.
    Opening = 1,
    Established = 2,
    /// The inside has sent its FIN,
    FinOut = 3,
    /// the outside has,
    FinIn = 4,
    /// both have, the outside last,
    FinOutIn = 5,
    /// or the inside last: the other one's next acknowledgement closes.
    FinInOut = 6,
    Closed = 7,
    /// Reset while it was opening,
    ResetOpening = 8,
    /// or established, one side's FIN perhaps seen. The inside going on shows that the reset was forged, and revives it
    /// (RFC 7857 section 2.2).
    ResetEstablished = 9,
    SeveralOpening = 10,
    SeveralEstablished = 11,
    Datagram = 12,
    SeveralDatagram = 13,
    /// Being written by one worker, of no meaning to the others.
    Claimed = 14,
}

impl Phase {
    /// The phase of this number; `Free` for one that is none.
    pub fn of(number: u8) -> Phase {
        match number {
            1 => Phase::Opening,
            2 => Phase::Established,
            3 => Phase::FinOut,
            4 => Phase::FinIn,
            5 => Phase::FinOutIn,
            6 => Phase::FinInOut,
            7 => Phase::Closed,
            8 => Phase::ResetOpening,
            9 => Phase::ResetEstablished,
            10 => Phase::SeveralOpening,
            11 => Phase::SeveralEstablished,
            12 => Phase::Datagram,
            13 => Phase::SeveralDatagram,
            14 => Phase::Claimed,
            _ => Phase::Free,
        }
    }

    /// The first phase of an entry that the inside begins.
    pub fn begun_by(signal: Signal) -> Phase {
        match signal {
            Signal::Syn | Signal::SynAck | Signal::Rst => Phase::Opening,
            Signal::Segment => Phase::Established,
            Signal::Fin => Phase::FinOut,
            Signal::Datagram => Phase::Datagram,
        }
    }

    pub fn is_closed(self) -> bool {
        matches!(self, Phase::Closed | Phase::ResetOpening | Phase::ResetEstablished)
    }

    /// True if two remotes have used the entry.
    pub fn has_several(self) -> bool {
        matches!(self, Phase::SeveralOpening | Phase::SeveralEstablished | Phase::SeveralDatagram)
    }

    /// Seconds that an entry stays without being used; `None`: there is no entry.
    pub fn timer(self, timers: &Timers, transport: Transport) -> Option<u32> {
        use Phase::*;
        Some(match self {
            Free | Claimed => return None,
            Opening | SeveralOpening => timers.opening,
            Established | FinOut | FinIn | SeveralEstablished => timers.established,
            FinOutIn | FinInOut | Closed | ResetOpening | ResetEstablished => timers.closing,
            Datagram | SeveralDatagram if transport == Transport::Echo => timers.echo,
            Datagram | SeveralDatagram => timers.udp,
        })
    }

    /// The phase after the inside has sent `signal`, to the one remote that the entry knows or to another; `None` if
    /// that is no use of the entry.
    pub fn sent(self, signal: Signal, to_known: bool) -> Option<Phase> {
        use Phase::*;
        if self.has_several() || !to_known {
            return match signal {
                Signal::Rst => None,
                Signal::Segment | Signal::Fin => Some(SeveralEstablished),
                Signal::Datagram => Some(SeveralDatagram),
                Signal::Syn | Signal::SynAck => match self {
                    Opening | SeveralOpening | ResetOpening | Closed => Some(SeveralOpening),
                    _ => Some(SeveralEstablished),
                },
            };
        }
        match (signal, self) {
            (Signal::Datagram, _) => Some(Datagram),
            (_, Closed) if signal != Signal::Syn => None,
            (Signal::Syn, Established) => Some(Established),
            (Signal::Syn, _) => Some(Opening),
            (Signal::SynAck, _) => Some(self),
            (Signal::Segment, Opening | ResetOpening | ResetEstablished) => Some(Established),
            (Signal::Segment, FinOutIn) => Some(Closed),
            (Signal::Segment, _) => Some(self),
            (Signal::Fin, FinIn | FinOutIn | FinInOut) => Some(FinInOut),
            (Signal::Fin, _) => Some(FinOut),
            (Signal::Rst, ResetOpening | ResetEstablished) => None,
            (Signal::Rst, Opening) => Some(ResetOpening),
            (Signal::Rst, FinOutIn | FinInOut) => Some(Closed),
            (Signal::Rst, _) => Some(ResetEstablished),
        }
    }

    /// The phase after `signal` has come in from the one remote; `None` if that changes nothing.
    pub fn received(self, signal: Signal) -> Option<Phase> {
        use Phase::*;
        match (signal, self) {
            (Signal::Rst, Opening) => Some(ResetOpening),
            (Signal::Rst, Established | FinOut | FinIn) => Some(ResetEstablished),
            (Signal::Rst, FinOutIn | FinInOut) => Some(Closed),
            (Signal::Fin, Opening | Established) => Some(FinIn),
            (Signal::Fin, FinOut | FinInOut) => Some(FinOutIn),
            (Signal::Segment, FinInOut) => Some(Closed),
            _ => None,
        }
    }
}
