//! Workers that meet on the same flow agree on one entry.

use super::{WEB, at, block, range, remote, state};
use sixway::flow::{Pool, Refused, Signal, State};
use sixway::units::{Endpoint, Proto};
use std::collections::HashMap;
use std::sync::Barrier;

const WORKERS: usize = 4;

/// A flow by its inside port and remote, and what a worker was told about it.
type Told = HashMap<(u16, Endpoint), Result<u16, Refused>>;

fn to(host: u16) -> Endpoint {
    remote(Proto::UDP, &format!("198.51.100.{host}"), 53)
}

/// Every worker opens all flows at once, each in an order of its own.
fn race(state: &State, pool: &Pool, flows: &[(u16, Endpoint)], now: u64) -> Vec<Told> {
    let barrier = Barrier::new(WORKERS);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    // 5 divides no number of flows here.
                    let stride = 4 * (worker / 2) + 1;
                    let order = (0..flows.len()).map(|nth| flows[nth * stride % flows.len()]);
                    order
                        .map(|flow| (flow, state.translate_out(pool, flow.0, &flow.1, Signal::Datagram, at(now))))
                        .collect::<Told>()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).collect()
    })
}

fn agree(state: &State, pool: &Pool, told: &[Told], now: u64) {
    let mut ways_in = HashMap::new();
    for (&(inside, to), &wire) in &told[0] {
        for other in told {
            assert_eq!(other[&(inside, to)], wire, "{inside} to {to}");
        }
        let wire = wire.unwrap_or_else(|why| panic!("{inside} to {to}: {why:?}"));
        assert_eq!(ways_in.insert((wire, to), inside), None, "{wire} from {to} has two answers");
        assert_eq!(state.translate_in(pool, wire, &to, Signal::Datagram, at(now)), Some(inside));
    }
}

#[test]
fn in_a_block_with_room() {
    for round in 0..200 {
        let state = state();
        let pool = block(&state, range(20736, 20799), WEB, at(0));
        // Three inside ports prefer each wire port, so that searches cross.
        let flows: Vec<_> = (0..48).map(|nth| (1000 + nth % 16 + 64 * (nth / 16), to(1 + round % 4))).collect();
        agree(&state, &pool, &race(&state, &pool, &flows, 0), 0);
    }
}

#[test]
fn in_a_block_that_fills_up_exactly() {
    for _ in 0..200 {
        let state = state();
        let pool = block(&state, range(20736, 20751), WEB, at(0));
        let flows: Vec<_> = (0..16 * 3).map(|nth| (1000 + nth, to(1 + nth % 3))).collect();
        agree(&state, &pool, &race(&state, &pool, &flows, 0), 0);
    }
}

#[test]
fn over_entries_that_have_just_expired() {
    let state = state();
    let pool = block(&state, range(20736, 20751), WEB, at(0));
    for round in 0..200 {
        let now = 400 * (round + 1);
        let first = 1000 + 7 * round as u16;
        let flows: Vec<_> = (0..16 * 3).map(|nth| (first + nth, to(1 + nth % 3))).collect();
        agree(&state, &pool, &race(&state, &pool, &flows, now), now);
    }
}

/// Every port is held, and newcomers must share them: two may want the same one for the same remote, or its holder may
/// turn to that remote at the same moment.
#[test]
fn over_ports_that_are_shared() {
    let state = state();
    let pool = block(&state, range(20736, 20743), WEB, at(0));
    for round in 0..1000 {
        let now = 400 * (round + 1);
        for inside in 1000..1008 {
            state.translate_out(&pool, inside, &to(1), Signal::Datagram, at(now)).expect("its own port");
        }
        // All newcomers prefer the same port.
        let newcomers = (0..4).map(|nth| 2000 + 8 * (nth + 4 * (round as u16 % 100)));
        let holders = (0..4).map(|nth| 1000 + nth);
        let flows: Vec<_> = newcomers.chain(holders).map(|inside| (inside, to(2))).collect();
        agree(&state, &pool, &race(&state, &pool, &flows, now), now);
    }
}

#[test]
fn while_the_block_is_taken_away() {
    for _ in 0..100 {
        let state = state();
        let ports = range(20736, 20799);
        let pool = block(&state, ports, WEB, at(0));
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                for inside in 1000..1300 {
                    let _ = state.translate_out(&pool, inside, &to(1 + inside % 5), Signal::Datagram, at(0));
                }
            });
            barrier.wait();
            block(&state, ports, WEB + 1, at(0));
        });
        let heir = state.pool(super::server(), ports, false, WEB + 1).expect("the same range");
        for wire in ports.first..=ports.last {
            for host in 1..=5 {
                assert_eq!(state.peek_in(&heir, wire, &to(host), at(0)), None, "left by the former owner");
            }
        }
    }
}
