//! Random packets through the state and through a translator so naive that it can be checked by eye.

use super::{WEB, at, block, range, remote, state};
use proptest::prelude::*;
use sixway::flow::{Pool, Refused, Signal, State};
use sixway::units::{Endpoint, Proto};
use std::collections::HashSet;

const FIRST: u16 = 20736;

/// One entry of the naive translator, with all that it has ever seen.
#[derive(Clone, Debug)]
struct Naive {
    inside: u16,
    wire: u16,
    /// The remote that a keyed entry is for.
    keyed: Option<u8>,
    remotes: HashSet<u8>,
    last: u64,
    established: bool,
    fin_out: bool,
    fin_in: bool,
    latest_fin_out: bool,
    closed: bool,
    reset: bool,
}

impl Naive {
    fn new(inside: u16, wire: u16, keyed: Option<u8>, host: u8, signal: Signal, now: u64) -> Naive {
        let mut new = Naive {
            inside,
            wire,
            keyed,
            remotes: HashSet::from([host]),
            last: now,
            established: false,
            fin_out: false,
            fin_in: false,
            latest_fin_out: false,
            closed: false,
            reset: false,
        };
        new.established = matches!(signal, Signal::Segment | Signal::Fin);
        new.fin_out = signal == Signal::Fin;
        new.latest_fin_out = new.fin_out;
        new
    }

    fn is_closed(&self) -> bool {
        self.remotes.len() == 1 && (self.closed || self.reset)
    }

    fn is_live(&self, proto: Proto, now: u64) -> bool {
        let single = self.remotes.len() == 1;
        let timer = match proto {
            Proto::UDP => 300,
            Proto::ICMP => 60,
            _ if single && (self.closed || self.reset || (self.fin_in && self.fin_out)) => 240,
            _ if self.established => 7440,
            _ => 240,
        };
        now - self.last <= timer
    }

    fn sent(&mut self, host: u8, signal: Signal, now: u64) {
        let stranger = !self.remotes.contains(&host) || self.remotes.len() > 1;
        if signal == Signal::Rst && (stranger || self.closed || self.reset) {
            return;
        }
        if self.closed && !stranger && signal != Signal::Syn {
            return;
        }
        if signal == Signal::Syn && self.is_closed() {
            *self = Naive::new(self.inside, self.wire, self.keyed, host, signal, now);
            return;
        }
        self.last = now;
        if stranger {
            // What was closed was no connection any more when the second remote came.
            self.established &= !self.closed || self.remotes.len() > 1;
            let half_closed = !self.closed && (self.fin_in || self.fin_out);
            self.remotes.insert(host);
            self.established |= matches!(signal, Signal::Segment | Signal::Fin) || half_closed;
            return;
        }
        match signal {
            Signal::Syn if self.fin_in || self.fin_out => {
                *self = Naive::new(self.inside, self.wire, self.keyed, host, signal, now);
            }
            Signal::Syn | Signal::SynAck | Signal::Datagram => {}
            Signal::Segment => {
                self.closed = self.fin_in && self.fin_out && !self.latest_fin_out;
                self.revive();
            }
            Signal::Fin => {
                self.revive();
                (self.fin_out, self.latest_fin_out) = (true, true);
            }
            Signal::Rst => self.was_reset(),
        }
    }

    fn was_reset(&mut self) {
        let ending = self.fin_in && self.fin_out;
        (self.closed, self.reset) = (ending, !ending);
    }

    fn revive(&mut self) {
        if self.reset {
            (self.reset, self.fin_in, self.fin_out) = (false, false, false);
        }
        self.established = true;
    }

    fn received(&mut self, host: u8, signal: Signal, now: u64) {
        if self.remotes.len() > 1 || !self.remotes.contains(&host) || self.closed || self.reset {
            return;
        }
        match signal {
            Signal::Rst => self.was_reset(),
            Signal::Fin if !self.fin_in || self.latest_fin_out => {
                (self.fin_in, self.latest_fin_out, self.established) = (true, false, true);
            }
            Signal::Segment if self.fin_in && self.fin_out && self.latest_fin_out => self.closed = true,
            _ => return,
        }
        self.last = now;
    }
}

struct Translator {
    proto: Proto,
    size: u16,
    entries: Vec<Naive>,
}

impl Translator {
    fn keyed(&mut self, wire_or_inside: impl Fn(&Naive) -> bool, host: u8, now: u64) -> Option<&mut Naive> {
        let proto = self.proto;
        self.entries.iter_mut().find(|e| e.keyed == Some(host) && wire_or_inside(e) && e.is_live(proto, now))
    }

    fn plain(&mut self, wire_or_inside: impl Fn(&Naive) -> bool, now: u64) -> Option<&mut Naive> {
        let proto = self.proto;
        self.entries.iter_mut().find(|e| e.keyed.is_none() && wire_or_inside(e) && e.is_live(proto, now))
    }

    /// The entry by which a packet leaves, if it has one.
    fn out(&mut self, inside: u16, host: u8, now: u64) -> Option<&mut Naive> {
        if self.keyed(|e| e.inside == inside, host, now).is_some() {
            return self.keyed(|e| e.inside == inside, host, now);
        }
        let wire = self.plain(|e| e.inside == inside, now)?.wire;
        if self.keyed(|e| e.wire == wire, host, now).is_some() {
            return None;
        }
        self.plain(|e| e.inside == inside, now)
    }

    fn incoming(&mut self, wire: u16, host: u8, now: u64) -> Option<&mut Naive> {
        if self.keyed(|e| e.wire == wire, host, now).is_some() {
            return self.keyed(|e| e.wire == wire, host, now);
        }
        self.plain(|e| e.wire == wire, now)
    }

    /// A port that a new plain entry may have: free, or recycled by a SYN.
    fn is_open(&mut self, wire: u16, host: u8, signal: Signal, now: u64) -> bool {
        let shared = self.keyed(|e| e.wire == wire, host, now).is_some();
        let holder = self.plain(|e| e.wire == wire, now);
        !shared && holder.is_none_or(|holder| signal == Signal::Syn && holder.is_closed())
    }

    /// A port that a new keyed entry may have. In a large pool it is one of 64.
    fn is_sharable(&mut self, wire: u16, inside: u16, host: u8, signal: Signal, now: u64) -> bool {
        let stride = (self.size / 64).max(1);
        if (wire - FIRST) % stride != inside % stride {
            return false;
        }
        let record = self.keyed(|e| e.wire == wire, host, now);
        let free = record.is_none_or(|record| signal == Signal::Syn && record.is_closed());
        let holder = self.plain(|e| e.wire == wire, now);
        free && holder.is_none_or(|h| h.inside != inside && h.remotes.len() == 1 && !h.remotes.contains(&host))
    }

    fn ports(&self) -> impl Iterator<Item = u16> + use<> {
        FIRST..FIRST + self.size
    }

    /// Checks what was answered to a packet that leaves, and does the same.
    fn check_out(&mut self, inside: u16, host: u8, signal: Signal, now: u64, answer: Result<u16, Refused>) {
        if let Some(entry) = self.out(inside, host, now) {
            assert_eq!(answer, Ok(entry.wire), "an entry stays: {entry:?}");
            entry.sent(host, signal, now);
            return;
        }
        if signal == Signal::Rst {
            assert_eq!(answer, Err(Refused::Stray));
            return;
        }
        let has_plain = self.plain(|e| e.inside == inside, now).is_some();
        let open = !has_plain && self.ports().any(|wire| self.is_open(wire, host, signal, now));
        let wire = match answer {
            Ok(wire) => wire,
            Err(why) => {
                assert_eq!(why, Refused::Exhausted);
                assert!(!open, "there was room");
                assert!(!self.ports().any(|wire| self.is_sharable(wire, inside, host, signal, now)), "to share, too");
                return;
            }
        };
        let keyed = if open {
            assert!(self.is_open(wire, host, signal, now), "{wire} was taken");
            let home = FIRST + inside % self.size;
            if self.plain(|e| e.wire == home, now).is_none() && self.is_open(home, host, signal, now) {
                let mine = self.entries.iter().any(|e| e.keyed.is_none() && e.inside == inside);
                assert!(wire == home || mine, "the preferred port was free");
            }
            self.entries.retain(|e| e.keyed.is_some() || (e.wire != wire && e.inside != inside));
            None
        } else {
            assert!(self.is_sharable(wire, inside, host, signal, now), "{wire} must not be shared");
            self.entries.retain(|e| e.keyed != Some(host) || (e.wire != wire && e.inside != inside));
            Some(host)
        };
        self.entries.push(Naive::new(inside, wire, keyed, host, signal, now));
    }

    fn check_in(&mut self, wire: u16, host: u8, signal: Signal, now: u64, answer: Option<u16>) {
        let entry = self.incoming(wire, host, now);
        assert_eq!(answer, entry.as_ref().map(|entry| entry.inside), "{entry:?}");
        if let Some(entry) = entry {
            entry.received(host, signal, now);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Out {
        inside: u16,
        host: u8,
        signal: Signal,
    },
    In {
        port: u16,
        host: u8,
        signal: Signal,
    },
    /// Most ports are taken, or go on being used, each with one of three remotes.
    Crowd,
    Wait(u64),
    Sweep,
}

fn signal(proto: Proto) -> BoxedStrategy<Signal> {
    if proto != Proto::TCP {
        return Just(Signal::Datagram).boxed();
    }
    prop_oneof![
        4 => Just(Signal::Syn),
        1 => Just(Signal::SynAck),
        6 => Just(Signal::Segment),
        4 => Just(Signal::Fin),
        1 => Just(Signal::Rst),
    ]
    .boxed()
}

/// Steps with few ports and remotes, so that they meet, and waits around every timer.
fn steps(proto: Proto) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0..40u16, 1..5u8, signal(proto))
            .prop_map(|(inside, host, signal)| Step::Out { inside: 40_000 + inside, host, signal }),
        6 => (0..64u16, 1..6u8, signal(proto)).prop_map(|(port, host, signal)| Step::In { port, host, signal }),
        2 => (0..3u64).prop_map(Step::Wait),
        1 => prop::sample::select(vec![59, 60, 61, 100, 239, 240, 241, 299, 300, 301, 7441]).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..400)
}

/// The same steps in a crowd.
fn crowded_steps(proto: Proto) -> impl Strategy<Value = Vec<Step>> {
    let crowds = prop::collection::vec(any::<prop::sample::Index>(), 1..8);
    (steps(proto), crowds).prop_map(|(mut steps, crowds)| {
        crowds.into_iter().for_each(|at| steps.insert(at.index(steps.len()), Step::Crowd));
        steps.insert(0, Step::Crowd);
        steps
    })
}

/// A packet of each of the inside ports that are the crowd in a pool of that size.
fn crowd(proto: Proto, size: u16) -> impl Iterator<Item = Step> {
    let signal = if proto == Proto::TCP { Signal::Segment } else { Signal::Datagram };
    let offsets = (0..size).filter(|offset| offset % 32 != 5);
    offsets.map(move |offset| Step::Out { inside: 30_720 + offset, host: 1 + (offset % 3) as u8, signal })
}

fn run(state: &State, pool: &Pool, proto: Proto, size: u16, steps: Vec<Step>) {
    let mut naive = Translator { proto, size, entries: vec![] };
    let mut now = 1000;
    let to = |host: u8| -> Endpoint { remote(proto, &format!("198.51.100.{host}"), 443) };
    let steps = steps.into_iter().flat_map(|step| match step {
        Step::Crowd => crowd(proto, size).collect(),
        step => vec![step],
    });
    for step in steps {
        match step {
            Step::Crowd => unreachable!("it has been replaced"),
            Step::Out { inside, host, signal } => {
                let would = state.peek_translation(pool, inside, &to(host), (signal, at(now)), |_| false);
                let has = state.peek_out(pool, inside, &to(host), at(now));
                assert_eq!(has, naive.out(inside, host, now).map(|entry| entry.wire));
                let answer = state.translate_out(pool, inside, &to(host), signal, at(now));
                assert_eq!(answer, would, "what was foretold");
                naive.check_out(inside, host, signal, now, answer);
            }
            Step::In { port, host, signal } => {
                let wire = FIRST + port % size;
                let would = state.peek_in(pool, wire, &to(host), at(now));
                let answer = state.translate_in(pool, wire, &to(host), signal, at(now));
                assert_eq!(answer, would);
                naive.check_in(wire, host, signal, now, answer);
            }
            Step::Wait(seconds) => now += seconds,
            Step::Sweep => {
                state.sweep(at(now));
                naive.entries.retain(|entry| entry.is_live(proto, now));
            }
        }
    }
}

fn compare(proto: Proto, log2: u8, steps: Vec<Step>) {
    let state = state();
    let size = 1 << log2;
    let pool = block(&state, range(FIRST, FIRST + size - 1), WEB, at(0));
    run(&state, &pool, proto, size, steps);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tcp_is_translated_as_naively(log2 in 0..6u8, steps in steps(Proto::TCP)) {
        compare(Proto::TCP, log2, steps);
    }

    #[test]
    fn udp_is_translated_as_naively(log2 in 0..6u8, steps in steps(Proto::UDP)) {
        compare(Proto::UDP, log2, steps);
    }

    #[test]
    fn echoes_are_translated_as_naively(log2 in 0..6u8, steps in steps(Proto::ICMP)) {
        compare(Proto::ICMP, log2, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tcp_is_translated_as_naively_in_a_crowd(log2 in 7..9u8, steps in crowded_steps(Proto::TCP)) {
        compare(Proto::TCP, log2, steps);
    }

    #[test]
    fn udp_is_translated_as_naively_in_a_crowd(log2 in 7..9u8, steps in crowded_steps(Proto::UDP)) {
        compare(Proto::UDP, log2, steps);
    }
}
