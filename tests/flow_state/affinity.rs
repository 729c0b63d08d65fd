//! Which replica a flow stays on: against a list, with several workers, when full, after a restart.

use super::{at, geometry, ip, state};
use proptest::prelude::*;
use sixway::flow::{AFFINITY_ENTRIES, Affinity, FlowKey, Purpose, Signal, State};
use sixway::naming::ReplicaId;
use sixway::units::{Endpoint, Proto};
use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

const CLIENT: u64 = 0xc11e;

fn replica(nth: u64) -> ReplicaId {
    ReplicaId::of((nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The key of the `nth` flow.
fn flow(affinity: &Affinity<'_>, nth: u32) -> FlowKey {
    let own = Endpoint { proto: Proto::TCP, ip: ip("10.1.0.3"), port: nth as u16 };
    let other = Endpoint { proto: Proto::TCP, ip: ip("10.2.0.2"), port: 80 + (nth >> 16) as u16 };
    affinity.key(Purpose::Destination, CLIENT, &own, &other)
}

fn to(affinity: &Affinity<'_>, flow: FlowKey, signal: Signal, seconds: u64) -> Option<ReplicaId> {
    affinity.kept(flow, signal, at(seconds)).map(|kept| kept.replica)
}

#[test]
fn flows_differ_by_every_part_of_their_key() {
    let state = state();
    let affinity = state.affinity();
    let end = |ip_text: &str, port, proto| Endpoint { proto, ip: ip(ip_text), port };
    let own = end("10.1.0.3", 40000, Proto::TCP);
    let other = end("10.2.0.2", 80, Proto::TCP);
    let keys = [
        affinity.key(Purpose::Destination, CLIENT, &own, &other),
        affinity.key(Purpose::Source, CLIENT, &own, &other),
        affinity.key(Purpose::Destination, CLIENT + 1, &own, &other),
        affinity.key(Purpose::Destination, CLIENT, &other, &own),
        affinity.key(Purpose::Destination, CLIENT, &end("10.1.0.4", 40000, Proto::TCP), &other),
        affinity.key(Purpose::Destination, CLIENT, &end("10.1.0.3", 40001, Proto::TCP), &other),
        affinity.key(Purpose::Destination, CLIENT, &own, &end("10.2.0.3", 80, Proto::TCP)),
        affinity.key(Purpose::Destination, CLIENT, &own, &end("10.2.0.2", 81, Proto::TCP)),
        affinity.key(Purpose::Destination, CLIENT, &end("10.1.0.3", 40000, Proto::UDP), &other),
        affinity.key(Purpose::Destination, CLIENT, &end("2001:db8::3", 40000, Proto::TCP), &other),
        affinity.key(Purpose::Destination, CLIENT, &end("2001:db8:1::3", 40000, Proto::TCP), &other),
        affinity.key(Purpose::Destination, CLIENT, &own, &end("2001:db8::3", 80, Proto::TCP)),
        affinity.key(Purpose::Destination, CLIENT, &own, &end("2001:db8:1::3", 80, Proto::TCP)),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

#[test]
fn a_flow_stays_until_its_connection_is_over() {
    let state = state();
    let affinity = state.affinity();
    let flow = flow(&affinity, 1);
    let (a, b) = (replica(0), replica(1));
    affinity.sent(flow, a, Signal::Syn, at(0));
    assert!(affinity.kept(flow, Signal::Syn, at(1)).unwrap().is_opening, "a SYN that is sent again");
    affinity.received(flow, a, Signal::SynAck, at(1));
    affinity.sent(flow, a, Signal::Segment, at(1));
    assert!(!affinity.kept(flow, Signal::Segment, at(1)).unwrap().is_opening);
    assert_eq!(to(&affinity, flow, Signal::Segment, 7441), Some(a));
    assert_eq!(to(&affinity, flow, Signal::Segment, 7442), None);
    assert_eq!(affinity.likely(flow), Some(a), "a guess that costs one look");
    affinity.sent(flow, a, Signal::Fin, at(10));
    affinity.received(flow, a, Signal::Fin, at(10));
    assert_eq!(to(&affinity, flow, Signal::Segment, 10), Some(a), "its last words");
    assert_eq!(to(&affinity, flow, Signal::Syn, 10), None, "a new connection of the same names");
    affinity.sent(flow, b, Signal::Syn, at(11));
    assert_eq!(to(&affinity, flow, Signal::Segment, 11), Some(b));
}

#[test]
fn the_replica_that_speaks_gets_the_replies() {
    let state = state();
    let affinity = state.affinity();
    let (a, b) = (replica(0), replica(1));
    let datagrams = flow(&affinity, 1);
    affinity.received(datagrams, a, Signal::Datagram, at(0));
    assert_eq!(to(&affinity, datagrams, Signal::Datagram, 0), Some(a));
    affinity.received(datagrams, b, Signal::Datagram, at(1));
    assert_eq!(to(&affinity, datagrams, Signal::Datagram, 1), Some(b), "the one that spoke last");

    let connection = flow(&affinity, 2);
    affinity.sent(connection, a, Signal::Syn, at(0));
    affinity.received(connection, b, Signal::SynAck, at(0));
    assert_eq!(to(&affinity, connection, Signal::Segment, 0), Some(b), "the one that accepted");
    affinity.sent(connection, b, Signal::Segment, at(0));
    for signal in [Signal::SynAck, Signal::Segment, Signal::Fin, Signal::Rst] {
        affinity.received(connection, a, signal, at(0));
        assert_eq!(to(&affinity, connection, Signal::Segment, 0), Some(b), "{signal:?} steals no connection");
    }
}

#[test]
fn a_reset_makes_no_entry() {
    let state = state();
    let affinity = state.affinity();
    let flow = flow(&affinity, 1);
    affinity.sent(flow, replica(0), Signal::Rst, at(0));
    affinity.received(flow, replica(0), Signal::Rst, at(0));
    assert_eq!(affinity.flows(at(0)).count(), 0);
}

#[test]
fn flows_of_a_removed_replica_are_forgotten_and_others_are_not() {
    let state = state();
    let affinity = state.affinity();
    for nth in 0..1000 {
        affinity.sent(flow(&affinity, nth), replica(u64::from(nth % 4)), Signal::Segment, at(0));
    }
    affinity.forget_replicas(|id| id != replica(2));
    for nth in 0..1000 {
        let expected = (nth % 4 != 2).then(|| replica(u64::from(nth % 4)));
        assert_eq!(to(&affinity, flow(&affinity, nth), Signal::Segment, 0), expected);
    }
}

/// Random flows until nothing more fits: what was promised is kept, and the table is well used by then.
#[test]
fn a_full_table_refuses_newcomers_and_keeps_the_others() {
    let state = state();
    let affinity = state.affinity();
    let mut kept = Vec::new();
    let mut refused_until = [0; 101];
    for nth in 0..2 * AFFINITY_ENTRIES as u32 {
        if affinity.sent(flow(&affinity, nth), replica(u64::from(nth % 7)), Signal::Datagram, at(0)) {
            kept.push(nth);
        }
        refused_until[100 * kept.len() / AFFINITY_ENTRIES] = nth as usize + 1 - kept.len();
    }
    for percent in [60, 70, 80, 90, 95, 99] {
        let refused = refused_until[percent];
        println!(
            "until {percent}% were taken, {refused} of {} flows found no room",
            percent * AFFINITY_ENTRIES / 100 + refused
        );
    }
    assert!(kept.len() <= AFFINITY_ENTRIES && refused_until[70] < AFFINITY_ENTRIES / 1000);
    assert_eq!(affinity.flows(at(0)).count(), kept.len());
    for &nth in &kept {
        assert_eq!(to(&affinity, flow(&affinity, nth), Signal::Datagram, 300), Some(replica(u64::from(nth % 7))));
    }
    // After their timer the places are free again.
    let newcomer = flow(&affinity, 3 * AFFINITY_ENTRIES as u32);
    assert!(affinity.sent(newcomer, replica(0), Signal::Datagram, at(301)));
    state.sweep(at(302));
    assert_eq!(affinity.flows(at(302)).collect::<Vec<_>>(), [replica(0)]);
    let is_left = |&&nth: &&u32| affinity.likely(flow(&affinity, nth)).is_some();
    assert_eq!(kept.iter().filter(is_left).count(), 0, "nothing is left to guess from");
}

#[test]
fn closed_connections_make_way_in_a_full_table() {
    let state = state();
    let affinity = state.affinity();
    let mut refused = Vec::new();
    for nth in 0..2 * AFFINITY_ENTRIES as u32 {
        let flow = flow(&affinity, nth);
        if affinity.sent(flow, replica(0), Signal::Segment, at(0)) {
            affinity.received(flow, replica(0), Signal::Rst, at(0));
        } else {
            refused.push(nth);
        }
    }
    assert!(refused.is_empty(), "each found one that was closed: {refused:?}");
}

#[test]
fn affinity_outlives_the_process() {
    let path = std::env::temp_dir().join(format!("sixway-flow-affinity-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (before, _) = State::open(&path, &geometry(), [7; 16]).unwrap();
    for nth in 0..100 {
        let affinity = before.affinity();
        affinity.sent(flow(&affinity, nth), replica(u64::from(nth % 3)), Signal::Segment, at(0));
    }
    drop(before);
    let (after, fresh) = State::open(&path, &geometry(), [7; 16]).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fresh, None);
    let affinity = after.affinity();
    for nth in 0..100 {
        assert_eq!(to(&affinity, flow(&affinity, nth), Signal::Segment, 10), Some(replica(u64::from(nth % 3))));
    }
}

/// Workers meet on the same flows, each with a replica in mind: each flow ends up on one that somebody named, in one
/// entry, and all agree on which.
#[test]
fn workers_that_meet_on_a_flow_agree_on_its_replica() {
    const WORKERS: u64 = 4;
    const FLOWS: u32 = 2000;
    for round in 0..20 {
        let state = state();
        let affinity = state.affinity();
        let barrier = Barrier::new(WORKERS as usize);
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    for nth in 0..FLOWS {
                        let nth = if worker % 2 == 0 { nth } else { FLOWS - 1 - nth };
                        let flow = flow(&affinity, round * FLOWS + nth);
                        let chosen = affinity.kept(flow, Signal::Segment, at(0)).map(|kept| kept.replica);
                        assert!(affinity.sent(flow, chosen.unwrap_or(replica(worker)), Signal::Segment, at(0)));
                    }
                });
            }
        });
        assert_eq!(affinity.flows(at(0)).count(), FLOWS as usize, "one entry a flow");
        for nth in 0..FLOWS {
            let kept = to(&affinity, flow(&affinity, round * FLOWS + nth), Signal::Segment, 0);
            assert!((0..WORKERS).any(|worker| kept == Some(replica(worker))), "{kept:?}");
        }
    }
}

/// In a table that is full all the time, workers take places over from each other: no flow is ever led to a replica that
/// was named for another.
#[test]
fn places_change_hands_and_nobody_gets_anothers_replica() {
    const FLOWS: u32 = 200_000;
    let state = state();
    let affinity = state.affinity();
    // Fill it with connections that are closed at once.
    for nth in 0..FLOWS {
        let flow = flow(&affinity, nth);
        affinity.sent(flow, replica(u64::from(nth % 5)), Signal::Segment, at(0));
        affinity.received(flow, replica(u64::from(nth % 5)), Signal::Rst, at(0));
    }
    let found = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let found = &found;
            scope.spawn(move || {
                let mut nth = worker * 50_000;
                for _ in 0..200_000 {
                    nth = (nth * 5 + 3) % FLOWS;
                    let flow = flow(&affinity, nth);
                    let own = replica(u64::from(nth % 5));
                    if let Some(kept) = affinity.kept(flow, Signal::Segment, at(1)) {
                        assert_eq!(kept.replica, own, "{nth}");
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                    if affinity.sent(flow, own, Signal::Syn, at(1)) {
                        affinity.received(flow, own, Signal::Rst, at(1));
                    }
                }
            });
        }
    });
    assert!(found.into_inner() > 1000);
}

/// One connection of the naive memory.
#[derive(Clone, Debug)]
struct Naive {
    replica: u64,
    last: u64,
    established: bool,
    fin_client: bool,
    fin_replica: bool,
    client_was_last: bool,
    closed: bool,
    reset: bool,
    datagram: bool,
}

impl Naive {
    fn new(replica: u64, client: bool, signal: Signal, last: u64) -> Naive {
        Naive {
            replica,
            last,
            established: matches!(signal, Signal::Segment | Signal::Fin),
            fin_client: client && signal == Signal::Fin,
            fin_replica: !client && signal == Signal::Fin,
            client_was_last: client,
            closed: false,
            reset: false,
            datagram: signal == Signal::Datagram,
        }
    }

    fn is_over(&self) -> bool {
        self.closed || self.reset
    }

    fn is_live(&self, now: u64) -> bool {
        let timer = match self {
            _ if self.datagram => 300,
            _ if self.is_over() || (self.fin_client && self.fin_replica) || !self.established => 240,
            _ => 7440,
        };
        now - self.last <= timer
    }

    fn is_opening(&self) -> bool {
        !self.datagram && !self.established && !self.is_over()
    }

    fn client(&mut self, signal: Signal, now: u64) {
        match signal {
            Signal::Rst if self.is_over() => return,
            Signal::Rst => {
                let both = self.fin_client && self.fin_replica;
                (self.closed, self.reset) = (both, !both);
            }
            Signal::Syn if self.is_over() || self.fin_client || self.fin_replica => {
                *self = Naive::new(self.replica, true, signal, now);
            }
            _ if self.closed => return,
            Signal::Segment => {
                if self.reset {
                    // The reset was forged, and nothing is known of FINs.
                    (self.fin_client, self.fin_replica) = (false, false);
                }
                self.closed = self.fin_client && self.fin_replica && !self.client_was_last;
                (self.reset, self.established) = (false, true);
            }
            Signal::Fin => {
                let other = self.fin_replica && !self.reset;
                (self.fin_client, self.fin_replica, self.client_was_last) = (true, other, true);
                (self.reset, self.established) = (false, true);
            }
            Signal::Syn | Signal::SynAck | Signal::Datagram => {}
        }
        self.last = now;
    }

    fn replica(&mut self, signal: Signal, now: u64) {
        if self.is_over() {
            return;
        }
        self.last = now;
        match signal {
            Signal::Rst => {
                let both = self.fin_client && self.fin_replica;
                (self.closed, self.reset) = (both, !both);
            }
            Signal::Fin => {
                (self.fin_replica, self.established) = (true, true);
                self.client_was_last = false;
            }
            Signal::Segment => self.closed = self.fin_client && self.fin_replica && self.client_was_last,
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Client { flow: u32, replica: u64, signal: Signal },
    Replica { flow: u32, replica: u64, signal: Signal },
    Gone(u64),
    Wait(u64),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let signal = || prop::sample::select(vec![Signal::Syn, Signal::SynAck, Signal::Segment, Signal::Fin, Signal::Rst]);
    let step = prop_oneof![
        8 => (0..6u32, 0..3u64, signal())
            .prop_map(|(flow, replica, signal)| Step::Client { flow, replica, signal }),
        6 => (0..6u32, 0..3u64, signal())
            .prop_map(|(flow, replica, signal)| Step::Replica { flow, replica, signal }),
        // Flows from 6 on are of datagrams.
        4 => (6..9u32, 0..3u64, any::<bool>()).prop_map(|(flow, replica, client)| match client {
            true => Step::Client { flow, replica, signal: Signal::Datagram },
            false => Step::Replica { flow, replica, signal: Signal::Datagram },
        }),
        1 => (0..3u64).prop_map(Step::Gone),
        2 => (0..3u64).prop_map(Step::Wait),
        1 => prop::sample::select(vec![100, 239, 240, 241, 299, 300, 301, 7441]).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..120)
}

/// Random connections against a memory so naive that it can be checked by eye.
#[test]
fn flows_are_kept_as_naively() {
    let state = state();
    let affinity = state.affinity();
    proptest!(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }, |(steps in steps())| {
        affinity.forget_replicas(|_| false);
        let mut naive: HashMap<u32, Naive> = HashMap::new();
        let mut now = 1000;
        for step in steps {
            naive.retain(|_, connection| connection.is_live(now));
            match step {
                Step::Client { flow: nth, replica: chosen, signal } => {
                    let flow = flow(&affinity, nth);
                    let known = naive.get(&nth);
                    let free = |c: &Naive| signal == Signal::Syn && (c.is_over() || c.fin_client || c.fin_replica);
                    let expected = known.filter(|c| !free(c));
                    let kept = affinity.kept(flow, signal, at(now));
                    prop_assert_eq!(kept.map(|kept| kept.replica), expected.map(|c| replica(c.replica)));
                    prop_assert_eq!(kept.map(|kept| kept.is_opening), expected.map(Naive::is_opening));
                    // What the walk does: to the one that is kept, else to another.
                    let to = expected.map_or(chosen, |c| c.replica);
                    affinity.sent(flow, replica(to), signal, at(now));
                    match naive.get_mut(&nth) {
                        Some(c) if c.replica == to => c.client(signal, now),
                        _ if signal == Signal::Rst => {}
                        _ => drop(naive.insert(nth, Naive::new(to, true, signal, now))),
                    }
                }
                Step::Replica { flow: nth, replica: from, signal } => {
                    affinity.received(flow(&affinity, nth), replica(from), signal, at(now));
                    match naive.get_mut(&nth) {
                        Some(c) if c.replica == from => c.replica(signal, now),
                        Some(c) if c.is_opening() && signal != Signal::SynAck => {}
                        Some(c) if !c.is_opening() && !c.is_over() && !c.datagram => {}
                        _ if signal == Signal::Rst => {}
                        _ => drop(naive.insert(nth, Naive::new(from, false, signal, now))),
                    }
                }
                Step::Gone(gone) => {
                    affinity.forget_replicas(|id| id != replica(gone));
                    naive.retain(|_, c| c.replica != gone);
                }
                Step::Wait(seconds) => now += seconds,
                Step::Sweep => state.sweep(at(now)),
            }
        }
    });
}
