//! What one worker keeps for itself between packets: IPv4 identifications and answer budgets. No other thread sees it.

use crate::units::{Endpoint, PortId, Tick};

/// Counters that the identifications are drawn from, hashed by (ServerIP, peer, proto). The kernel does the same with
/// 2048 and more (`net/ipv4/route.c`, `ip_idents_reserve`).
const IDENTS: usize = 4096;

/// Answers that one port may cause a second, and at once (RFC 1812 section 4.3.2.8 asks for a limit and a way to tell).
pub const ANSWERS_PER_SECOND: u64 = 1000;

/// One worker's own state.
#[derive(Debug)]
pub struct WorkerState {
    idents: Box<[u16; IDENTS]>,
    /// Workers draw from the same 65536 numbers without meeting: worker i of n takes those that are i modulo n.
    first: u16,
    stride: u16,
    budgets: Vec<Budget>,
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
        WorkerState {
            idents: Box::new([0; IDENTS]),
            first: index,
            stride: workers.max(1),
            budgets: vec![budget; ports],
        }
    }

    /// The next IPv4 identification between these two (RFC 6864 section 4.3: unique per source, destination and
    /// protocol within the maximum datagram lifetime, for non-atomic datagrams).
    pub fn next_ident(&mut self, src: Endpoint, dst: Endpoint) -> u16 {
        let mix = (src.ip.bits() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (dst.ip.bits() as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
            ^ u64::from(src.proto.0);
        let counter = &mut self.idents[(mix >> 40) as usize % IDENTS];
        *counter = counter.wrapping_add(1);
        counter.wrapping_mul(self.stride).wrapping_add(self.first)
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Proto;

    fn endpoint(ip: &str) -> Endpoint {
        Endpoint { proto: Proto::UDP, ip: ip.parse().unwrap(), port: 1 }
    }

    #[test]
    fn two_workers_never_draw_the_same_identification() {
        let (mut first, mut second) = (WorkerState::new(0, 2, 0), WorkerState::new(1, 2, 0));
        let (a, b) = (endpoint("192.168.50.1"), endpoint("192.168.50.2"));
        let drawn: Vec<u16> = (0..1000).flat_map(|_| [first.next_ident(a, b), second.next_ident(a, b)]).collect();
        let mut unique = drawn.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), drawn.len());
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
