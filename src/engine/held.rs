//! Packets that wait for their next hop's MAC: few, and not for long.

use std::collections::VecDeque;

use crate::afxdp::Segment;
use crate::units::{Ip, PortId, Tick};

/// Packets that one worker holds at most.
const MOST: usize = 256;
/// Packets that it holds for one next hop (RFC 1122 section 2.3.2.2 asks for at least one).
const MOST_FOR_ONE: usize = 16;
/// How long a packet waits: while the kernel asks, three times and a second apart (`mcast_solicit`, `retrans_time_ms`).
const PATIENCE_MS: u64 = 3000;

/// A packet that waits. Everything in it is written but the two MACs.
pub(super) struct Held {
    pub chain: Vec<Segment>,
    pub from: PortId,
    pub to: PortId,
    pub hop: Ip,
    until: Tick,
}

/// The packets that a worker holds, oldest first.
pub(super) struct Waiting {
    packets: VecDeque<Held>,
    /// Empty chains to be used again.
    chains: Vec<Vec<Segment>>,
    checked: Tick,
}

/// What became of a packet that was to be held.
pub(super) enum Holding {
    /// It is the first for its hop: somebody must ask.
    First,
    Joined,
    /// Too many wait already: the chain is as it was.
    Refused,
}

impl Waiting {
    pub fn new(longest_chain: usize) -> Waiting {
        let chains = (0..MOST).map(|_| Vec::with_capacity(longest_chain)).collect();
        Waiting { packets: VecDeque::with_capacity(MOST), chains, checked: Tick(0) }
    }

    /// Takes a packet out of `chain`.
    pub fn hold(&mut self, chain: &mut Vec<Segment>, from: PortId, to: PortId, hop: Ip, now: Tick) -> Holding {
        let others = self.packets.iter().filter(|held| (held.to, held.hop) == (to, hop)).count();
        if others >= MOST_FOR_ONE {
            return Holding::Refused;
        }
        let Some(mut own) = self.chains.pop() else { return Holding::Refused };
        own.append(chain);
        self.packets.push_back(Held { chain: own, from, to, hop, until: now.after_ms(PATIENCE_MS) });
        if others == 0 { Holding::First } else { Holding::Joined }
    }

    /// True once a millisecond, if anything waits.
    pub fn is_due(&mut self, now: Tick) -> bool {
        let due = !self.packets.is_empty() && now > self.checked;
        if due {
            self.checked = now;
        }
        due
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets that wait, each to be taken or put back with `keep`.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn next(&mut self) -> Option<Held> {
        self.packets.pop_front()
    }

    /// Lets a packet wait on.
    pub fn keep(&mut self, held: Held) {
        self.packets.push_back(held);
    }

    /// Keeps an emptied chain for the next packet.
    pub fn recycle(&mut self, chain: Vec<Segment>) {
        debug_assert!(chain.is_empty());
        self.chains.push(chain);
    }
}

impl Held {
    /// True if it has waited long enough.
    pub fn is_overdue(&self, now: Tick) -> bool {
        now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::afxdp::Umem;

    fn hop(last: u8) -> Ip {
        format!("192.168.50.{last}").parse().unwrap()
    }

    #[test]
    fn the_first_packet_for_a_hop_asks_and_the_queue_is_bounded() {
        let mut umem = Umem::new(64).unwrap();
        let mut waiting = Waiting::new(1);
        let hold = |umem: &mut Umem, waiting: &mut Waiting, to| {
            let mut chain = vec![Segment { buffer: umem.take().unwrap(), offset: 0, len: 64, more: false }];
            let holding = waiting.hold(&mut chain, PortId(0), PortId(1), to, Tick(5000));
            chain.drain(..).for_each(|refused| umem.release(refused.buffer));
            holding
        };
        assert!(matches!(hold(&mut umem, &mut waiting, hop(2)), Holding::First));
        for _ in 1..MOST_FOR_ONE {
            assert!(matches!(hold(&mut umem, &mut waiting, hop(2)), Holding::Joined));
        }
        assert!(matches!(hold(&mut umem, &mut waiting, hop(2)), Holding::Refused));
        assert!(matches!(hold(&mut umem, &mut waiting, hop(3)), Holding::First), "another hop has its own share");

        assert!(waiting.is_due(Tick(5001)) && !waiting.is_due(Tick(5001)), "once a millisecond");
        assert_eq!(waiting.len(), MOST_FOR_ONE + 1);
        while let Some(mut held) = waiting.next() {
            assert!(!held.is_overdue(Tick(7999)) && held.is_overdue(Tick(8000)));
            held.chain.drain(..).for_each(|segment| umem.release(segment.buffer));
            waiting.recycle(held.chain);
        }
        assert!(waiting.is_empty() && umem.free() == 64);
    }
}
