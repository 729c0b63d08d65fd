//! One core walks packets, another changes the mapping: what the packets lose, and when they see a change.
//!
//! Spans with changes alternate with spans without. The walker's time is its thread's own; the time from a commit to the
//! first burst that sees it is the clock's, and whatever else runs on the walker's core is in it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sixway::control::changes::{ChangeSet, History, Wish, carry_out};
use sixway::naming::{Located, Names, NamesWriter};
use sixway::table;
use sixway::units::Proto;

use super::changes::{Changes, Kind};
use super::traffic::{Case, FRAMES, LEN, Way};
use super::worker::{Bench, thread_time};
use super::world::{Stage, World};
use super::{histogram, machine, median, percentiles};

/// A packet may take so much longer while the mapping changes.
const SLOWER: f64 = 1.10;
/// Packets see a change within this: the median, and 999 of a thousand.
const SEEN: [(f64, Duration); 2] = [(0.5, Duration::from_millis(1)), (0.999, Duration::from_millis(10))];
const SPAN: Duration = Duration::from_millis(500);
/// The walker looks whether the span is over after so many packets.
const PART: usize = 4096;
const CASES: [(Case, Kind); 2] = [
    (Case { way: Way::Egress, proto: Proto::UDP }, Kind::Move),
    (Case { way: Way::Ingress, proto: Proto::UDP }, Kind::Weigh),
];

/// How the mapping is changed.
#[derive(Clone, Copy)]
enum Load {
    /// So many changes a second, so many at once.
    Paced { rate: usize, batch: usize },
    /// All of it, once.
    Whole,
}

const LOADS: [Load; 4] = [
    Load::Paced { rate: 100_000, batch: 100 },
    Load::Paced { rate: 100_000, batch: 1000 },
    Load::Paced { rate: 10_000, batch: 1 },
    Load::Whole,
];

/// The core of the walker; the writer's is the first.
static WALKER: OnceLock<usize> = OnceLock::new();

pub fn run(bindings: usize, rounds: usize) {
    WALKER.get_or_init(machine::last_core);
    machine::pin_to(0);
    let mut world = World::of(bindings);
    let frames = CASES.map(|(case, _)| case.frames(&world, FRAMES));
    let writer = &mut world.assembly.writer;
    let stage = Stage { around: &world.assembly.around, state: &world.state, hops: &world.hops };
    let names = &*world.assembly.names;
    let history = History::new(names.view(&table::pin()).generation());
    println!("\n{} bindings; spans of {SPAN:?} with and without changes, {rounds} each; microseconds", names.len());
    println!(
        "{:<26} {:<20} {:>9} {:>6} {:>6} {:>6}  {:>35}  {:>26}",
        "packets",
        "changes",
        "reached/s",
        "ns",
        "ns",
        "times",
        "until packets see it: 50 99 99.9 max",
        "a change set: 50 99 99.9"
    );
    for ((case, kind), frames) in CASES.into_iter().zip(&frames) {
        // As it was when the frames were made.
        let mut changes = Changes::new(bindings);
        writer.replace(changes.all()).expect("bindings that do not clash");
        for load in LOADS {
            let mut row = Row::new();
            for _ in 0..rounds {
                let mut quiet = || thread::sleep(SPAN);
                row.quiet.push(span(names, stage, case, frames, &mut quiet).1.nanoseconds);
                let mut busy = || load.apply(&mut *writer, &history, &mut changes, kind);
                let (applied, walked) = span(names, stage, case, frames, &mut busy);
                row.take(applied, &walked);
            }
            row.print(case, load);
        }
    }
}

/// One line of the table.
struct Row {
    quiet: Vec<f64>,
    busy: Vec<f64>,
    rates: Vec<f64>,
    seen: Histogram<u64>,
    took: Histogram<u64>,
}

impl Row {
    fn new() -> Row {
        Row { quiet: Vec::new(), busy: Vec::new(), rates: Vec::new(), seen: histogram(), took: histogram() }
    }

    fn take(&mut self, applied: Applied, walked: &Walked) {
        self.busy.push(walked.nanoseconds);
        self.rates.push(applied.changes as f64 / applied.elapsed.as_secs_f64());
        self.took.add(&applied.took).expect("the same range");
        let mut sightings = walked.sightings.iter();
        let mut sighting = sightings.next();
        for (generation, committed) in applied.commits {
            while sighting.is_some_and(|(seen, _)| *seen < generation) {
                sighting = sightings.next();
            }
            // What was committed at the very end of the span, nobody has looked for.
            let Some((_, at)) = sighting else { break };
            let nanoseconds = at.saturating_duration_since(committed).as_nanos() as u64;
            self.seen.record(nanoseconds.max(1)).expect("less than centuries");
        }
    }

    fn print(&mut self, case: Case, load: Load) {
        let mut ratios: Vec<f64> = self.quiet.iter().zip(&self.busy).map(|(quiet, busy)| busy / quiet).collect();
        let (ratio, quiet, busy) = (median(&mut ratios), median(&mut self.quiet), median(&mut self.busy));
        let in_time =
            |(quantile, limit): (f64, Duration)| u128::from(self.seen.value_at_quantile(quantile)) <= limit.as_nanos();
        let met = ratio <= SLOWER && SEEN.into_iter().all(in_time);
        println!(
            "{:<26} {:<20} {:>9.0} {quiet:>6.1} {busy:>6.1} {ratio:>6.2}  {}  {}  {}",
            case.to_string().trim_end(),
            load.name(),
            median(&mut self.rates),
            percentiles(&self.seen, &[0.5, 0.99, 0.999, 1.0]),
            percentiles(&self.took, &[0.5, 0.99, 0.999]),
            if met { "met" } else { "missed" }
        );
    }
}

/// What the walker found.
struct Walked {
    nanoseconds: f64,
    /// Generations, each with the beginning of the first burst that saw it.
    sightings: Vec<(u64, Instant)>,
}

/// What the writer did.
struct Applied {
    changes: usize,
    elapsed: Duration,
    /// Generations, each with the beginning of its commit.
    commits: Vec<(u64, Instant)>,
    /// From the puts to the end of the commit.
    took: Histogram<u64>,
}

/// Walks on the last core while `work` is done on the first.
fn span<T>(
    names: &Names,
    stage: Stage<'_>,
    case: Case,
    frames: &[[u8; LEN]],
    work: &mut impl FnMut() -> T,
) -> (T, Walked) {
    let core = WALKER.get().copied().unwrap_or_default();
    let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let walker = scope.spawn(|| {
            machine::pin_to(core);
            walk(&mut Bench::new(names, stage), case, frames, &ready, &stop)
        });
        while !ready.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        let done = work();
        stop.store(true, Ordering::Release);
        (done, walker.join().expect("every packet is forwarded"))
    })
}

fn walk(bench: &mut Bench<'_>, case: Case, frames: &[[u8; LEN]], ready: &AtomicBool, stop: &AtomicBool) -> Walked {
    // Fills caches, branch predictors and translation entries.
    bench.walk(case.port(), frames, |_| ());
    let (mut last, mut packets) = (0, 0);
    let mut sightings = Vec::with_capacity(1 << 16);
    ready.store(true, Ordering::Release);
    let begun = thread_time();
    for part in frames.chunks(PART).cycle() {
        bench.walk(case.port(), part, |generation| {
            if generation != last {
                last = generation;
                sightings.push((generation, Instant::now()));
            }
        });
        packets += part.len();
        if stop.load(Ordering::Acquire) {
            break;
        }
    }
    Walked { nanoseconds: (thread_time() - begun) / packets as f64, sightings }
}

impl Load {
    fn name(self) -> String {
        match self {
            Load::Paced { rate, batch: 1 } => format!("{rate}/s, single"),
            Load::Paced { rate, batch } => format!("{rate}/s, by {batch}"),
            Load::Whole => "the whole mapping".to_owned(),
        }
    }

    fn apply(self, writer: &mut NamesWriter, history: &History, changes: &mut Changes, kind: Kind) -> Applied {
        let mut applied = Applied { changes: 0, elapsed: Duration::ZERO, commits: Vec::new(), took: histogram() };
        let began = Instant::now();
        match self {
            Load::Whole => {
                let whole = changes.whole(kind);
                applied.carry_out(writer, history, ChangeSet::Replace(whole));
                applied.changes = whole.len();
            }
            Load::Paced { rate, batch } => {
                let between = Duration::from_secs(1) * batch as u32 / rate as u32;
                while began.elapsed() < SPAN {
                    let due = between * (applied.commits.len() as u32);
                    let puts: Vec<Located<_>> = changes.next(kind, batch);
                    wait_until(began + due);
                    applied.carry_out(writer, history, ChangeSet::Apply { puts: &puts, deletes: &[], health: &[] });
                    applied.changes += batch;
                }
            }
        }
        applied.elapsed = began.elapsed();
        applied
    }
}

impl Applied {
    fn carry_out(&mut self, writer: &mut NamesWriter, history: &History, set: ChangeSet<'_>) {
        let began = Instant::now();
        let mut committed = began;
        let change = carry_out(writer, &Wish { set, if_generation: None, force: false }, history, |prepared| {
            committed = Instant::now();
            Ok(prepared.commit())
        });
        self.took.record(began.elapsed().as_nanos() as u64).expect("less than centuries");
        self.commits.push((change.expect("bindings that do not clash").generation, committed));
    }
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > Duration::from_micros(200) {
            thread::sleep(left - Duration::from_micros(100));
        } else {
            std::hint::spin_loop();
        }
    }
}
