//! What one worker keeps for itself between packets: IPv4 identifications, answer budgets, a count, hints. No other thread
//! sees it.

use std::cell::Cell;

use super::hint::Hints;
use crate::units::{Ip, PortId, Proto, Random, Tick, mix};

/// Counters that the identifications are drawn from, hashed by (ServerIP, peer, proto). The kernel does the same with
/// 2048 and more (`net/ipv4/route.c`, `ip_idents_reserve`).
const IDENTS: usize = 4096;
const IDENTS6: usize = 1024;

/// Answers that one port may cause a second, and at once (RFC 1812 section 4.3.2.8 asks for a limit).
pub const ANSWERS_PER_SECOND: u64 = 1000;

/// One worker's own state.
#[derive(Debug)]
pub struct WorkerState {
    idents: Box<[u16; IDENTS]>,
    /// The same for IPv6 fragments, whose identifications are of 32 bits.
    idents6: Box<[u32; IDENTS6]>,
    /// Workers draw from the same 65536 numbers without meeting: each has `span` of them, from `first`.
    first: u16,
    span: u32,
    /// Nobody outside can tell which peers share a counter, or where it began (RFC 7739 section 5.3).
    secret: u64,
    budgets: Vec<Budget>,
    unkept: Cell<u64>,
    /// For those who probe.
    pub hints: Hints,
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    tokens: u64,
    refilled: Tick,
}

impl WorkerState {
    /// The state of worker `index` of `workers`, for `ports` ports.
    #[must_use]
    pub fn new(index: u16, workers: u16, ports: usize) -> WorkerState {
        let budget = Budget { tokens: ANSWERS_PER_SECOND, refilled: Tick(0) };
        let span = 65536 / u32::from(workers.max(1));
        let first = (u32::from(index) * span) as u16;
        WorkerState {
            idents: Box::new([0; IDENTS]),
            idents6: Box::new([0; IDENTS6]),
            first,
            span,
            secret: 0,
            budgets: vec![budget; ports],
            unkept: Cell::new(0),
            hints: Hints::default(),
        }
    }

    /// With counters that begin anywhere: those of an engine before this one, which packets on their way may still have, are
    /// as likely as others to come again, and nobody can guess the next (RFC 7739 section 5.3).
    #[must_use]
    pub fn with_secret(mut self, secret: u64) -> WorkerState {
        let mut random = Random::new(secret);
        self.idents.fill_with(|| random.word() as u16);
        self.idents6.fill_with(|| random.word() as u32);
        self.secret = secret;
        self
    }

    /// The next IPv4 identification between these two (RFC 6864 section 4.3: unique per source, destination and
    /// protocol within the maximum datagram lifetime, for non-atomic datagrams).
    pub fn next_ident(&mut self, src: Ip, dst: Ip, proto: Proto) -> u16 {
        let at = self.place(src, dst, proto) % IDENTS;
        let counter = &mut self.idents[at];
        *counter = ((u32::from(*counter) + 1) % self.span) as u16;
        self.first.wrapping_add(*counter)
    }

    /// The identification of a packet in fragments between these two: that of IPv4, or one of 32 bits (RFC 8200 section
    /// 4.5), which packets of all protocols share.
    pub fn next_fragment_ident(&mut self, src: Ip, dst: Ip, proto: Proto) -> u32 {
        if src.is_v4() {
            return u32::from(self.next_ident(src, dst, proto));
        }
        let at = self.place(src, dst, Proto(0)) % IDENTS6;
        let counter = &mut self.idents6[at];
        *counter = ((u64::from(*counter) + 1) % (u64::from(self.span) << 16)) as u32;
        (u32::from(self.first) << 16).wrapping_add(*counter)
    }

    /// The place of a counter, before it is cut to their number.
    fn place(&self, src: Ip, dst: Ip, proto: Proto) -> usize {
        let names = (src.bits() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (dst.bits() as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
            ^ u64::from(proto.0).wrapping_mul(0x1656_67b1_9e37_79f9);
        mix(names ^ self.secret) as usize
    }

    /// Takes one answer from the port's budget; false if it is used up for now.
    pub fn may_answer(&mut self, port: PortId, now: Tick) -> bool {
        let Some(budget) = self.budgets.get_mut(usize::from(port.0)) else { return false };
        let due = now.0.saturating_sub(budget.refilled.0).saturating_mul(ANSWERS_PER_SECOND) / 1000;
        if due > 0 {
            budget.tokens = budget.tokens.saturating_add(due).min(ANSWERS_PER_SECOND);
            budget.refilled = now;
        }
        let granted = budget.tokens > 0;
        budget.tokens -= u64::from(granted);
        granted
    }

    /// Packets so far whose flow there was no room to keep on its replica.
    #[must_use]
    pub fn unkept(&self) -> u64 {
        self.unkept.get()
    }

    /// One more of them.
    pub(super) fn count_unkept(&self) {
        self.unkept.set(self.unkept.get().wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn ips() -> (Ip, Ip) {
        ("192.168.50.1".parse().unwrap(), "192.168.50.2".parse().unwrap())
    }

    #[test]
    fn three_workers_draw_every_identification_once() {
        let (a, b) = ips();
        let mut drawn = HashSet::new();
        for mut worker in (0..3).map(|index| WorkerState::new(index, 3, 0)) {
            for _ in 0..65536 / 3 {
                assert!(drawn.insert(worker.next_ident(a, b, Proto::UDP)));
            }
        }
        assert_eq!(drawn.len(), 65535);
    }

    #[test]
    fn protocols_and_directions_have_numbers_of_their_own() {
        let (a, b) = ips();
        let mut state = WorkerState::new(0, 1, 0);
        for _ in 0..10 {
            state.next_ident(a, b, Proto::UDP);
        }
        assert_eq!(state.next_ident(a, b, Proto::UDP), 11);
        assert_eq!(state.next_ident(a, b, Proto::ICMP), 1);
        assert_eq!(state.next_ident(b, a, Proto::UDP), 1);
    }

    #[test]
    fn ipv6_fragments_have_long_numbers_that_workers_share_out() {
        let (a, b) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mut firsts = HashSet::new();
        for index in 0..3 {
            let mut worker = WorkerState::new(index as u16, 3, 0);
            let drawn: HashSet<u32> = (0..70_000).map(|_| worker.next_fragment_ident(a, b, Proto::UDP)).collect();
            assert_eq!(drawn.len(), 70_000, "more than sixteen bits hold");
            let own = index * (65536 / 3)..(index + 1) * (65536 / 3);
            assert!(drawn.iter().all(|id| own.contains(&(id >> 16))));
            assert!(drawn.iter().all(|&id| firsts.insert(id)));
        }
        let mut only = WorkerState::new(0, 1, 0);
        assert_ne!(only.next_fragment_ident(a, b, Proto::UDP), only.next_fragment_ident(a, b, Proto::ICMPV6));
    }

    #[test]
    fn with_a_secret_numbers_begin_anywhere_and_go_on_without_meeting() {
        for (a, b) in [ips(), ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())] {
            let start = |secret| WorkerState::new(0, 1, 0).with_secret(secret).next_fragment_ident(a, b, Proto::UDP);
            let starts: HashSet<u32> = (1..=100).map(start).collect();
            assert!(starts.len() > 90, "{starts:?}");
            let mut drawn = HashSet::new();
            for (index, secret) in [(0, 7), (1, 8), (2, 9)] {
                let mut worker = WorkerState::new(index, 3, 0).with_secret(secret);
                for _ in 0..65536 / 3 {
                    assert!(drawn.insert(worker.next_fragment_ident(a, b, Proto::UDP)));
                }
            }
        }
    }

    #[test]
    fn peers_are_spread_over_all_counters_whatever_the_secret() {
        let peers: Vec<Ip> = (0..IDENTS as u32).map(|nth| std::net::Ipv4Addr::from(0x0a00_0000 + nth).into()).collect();
        let own = ips().0;
        for secret in [0, 1, 0x5555_5555_5555_5555, u64::MAX] {
            let state = WorkerState::new(0, 1, 0).with_secret(secret);
            let places: HashSet<usize> = peers.iter().map(|&ip| state.place(own, ip, Proto::UDP) % IDENTS).collect();
            let same = |ip: &&Ip| state.place(own, **ip, Proto::UDP) == state.place(**ip, own, Proto::UDP);
            // A random function leaves one place of e empty.
            assert!((2500..2680).contains(&places.len()), "{} with {secret:#x}", places.len());
            assert_eq!(peers.iter().filter(same).count(), 0, "each direction has its own");
        }
    }

    #[test]
    fn answers_are_limited_per_port_and_come_back() {
        let mut state = WorkerState::new(0, 1, 2);
        let granted = |state: &mut WorkerState, port, now| {
            (0..5000).filter(|_| state.may_answer(PortId(port), Tick(now))).count() as u64
        };
        assert_eq!(granted(&mut state, 0, 10_000), ANSWERS_PER_SECOND);
        assert_eq!(granted(&mut state, 1, 10_000), ANSWERS_PER_SECOND, "a flood on one port starves no other");
        assert_eq!(granted(&mut state, 0, 10_100), ANSWERS_PER_SECOND / 10);
        assert_eq!(granted(&mut state, 7, 10_000), 0, "an unknown port has no budget");
    }
}
