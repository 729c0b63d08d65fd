//! One core walks packets, another changes the mapping: what the packets lose, and when they see a change.
//!
//! Spans with changes alternate with spans without. The walker's time is its thread's own. The time from a commit to the
//! first burst that sees it is the clock's; what was committed while something else ran on the walker's core, or on the
//! writer's, is counted apart, and so is how long the walker was away: beside other work, `chrt --rr 1` makes it little.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sixway::control::changes::{ChangeSet, History, Wish, carry_out};
use sixway::naming::{Located, Names, NamesWriter};
use sixway::table;
use sixway::units::Proto;

use super::changes::{Changes, Kind};
use super::figures::{Figures, row};
use super::traffic::{Case, FRAMES, LEN, Way};
use super::worker::{Bench, thread_time};
use super::world::{Stage, World};
use super::{histogram, machine, median, percentiles};

/// A packet may take so much longer while the mapping changes.
const SLOWER: f64 = 1.10;
/// Packets see a change within this: the median, and 999 of a thousand.
const SEEN: [(f64, Duration); 2] = [(0.5, Duration::from_millis(1)), (0.999, Duration::from_millis(10))];
const SPAN: Duration = Duration::from_millis(500);
/// A burst that takes longer has lost its core: it takes some five microseconds. So has a commit that waits longer.
const AWAY: Duration = Duration::from_micros(100);
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

pub fn run(bindings: usize, rounds: usize, figures: &Figures) {
    let core = machine::last_core();
    machine::pin_to(0);
    let mut world = World::of(bindings);
    let frames = CASES.map(|(case, _)| case.frames(&world, FRAMES));
    let writer = &mut world.assembly.writer;
    let stage = Stage { around: &world.assembly.around, state: &world.state, hops: &world.hops };
    let names = &*world.assembly.names;
    let history = History::new(names.view(&table::pin()).generation());
    println!("\n{} bindings; spans of {SPAN:?} with and without changes, {rounds} each; microseconds", names.len());
    println!(
        "away: the share of the time that the walker was not on its core; what was committed meanwhile is in `all` only"
    );
    println!(
        "{:<26} {:<17} {:>9} {:>6} {:>6} {:>19} {:>5}  {:>35}  {:>17}  {:>26}",
        "packets",
        "changes",
        "reached/s",
        "ns",
        "ns",
        "times (quartiles)",
        "away",
        "until packets see it: 50 99 99.9 max",
        "all: 99.9 max",
        "a change set: 50 99 99.9"
    );
    let mut rows = Vec::new();
    for ((case, kind), frames) in CASES.into_iter().zip(&frames) {
        // As it was when the frames were made.
        let mut changes = Changes::new(bindings);
        writer.replace(changes.all()).expect("bindings that do not clash");
        for load in LOADS {
            let mut row = Row::new();
            for round in 0..rounds {
                let mut quiet = || span(names, stage, case, frames, core, &mut || thread::sleep(SPAN)).1.nanoseconds;
                // In turns, so that neither always follows the other.
                let before = (round % 2 == 0).then(&mut quiet);
                let mut busy = || load.apply(&mut *writer, &history, &mut changes, kind);
                let (applied, walked) = span(names, stage, case, frames, core, &mut busy);
                row.quiet.push(before.unwrap_or_else(quiet));
                row.take(applied, &walked);
            }
            rows.push(row.print(case, load));
            row.keep(case, load, figures);
        }
    }
    let columns = [
        "packets",
        "changes",
        "reached",
        "ns_without",
        "ns_with",
        "times",
        "times_q1",
        "times_q3",
        "seen_50",
        "seen_99",
        "seen_999",
    ];
    figures.table(
        "walk",
        "a packet's time with and without changes; microseconds until a change is seen",
        &columns,
        &rows,
    );
}

/// One line of the table.
struct Row {
    quiet: Vec<f64>,
    busy: Vec<f64>,
    rates: Vec<f64>,
    /// While the walker was on its core.
    seen: Histogram<u64>,
    /// Whatever the walker's core did.
    seen_at_all: Histogram<u64>,
    took: Histogram<u64>,
    away: Vec<f64>,
}

impl Row {
    fn new() -> Row {
        Row {
            quiet: Vec::new(),
            busy: Vec::new(),
            rates: Vec::new(),
            seen: histogram(),
            seen_at_all: histogram(),
            took: histogram(),
            away: Vec::new(),
        }
    }

    fn take(&mut self, applied: Applied, walked: &Walked) {
        self.busy.push(walked.nanoseconds);
        self.away.push(walked.away);
        self.rates.push(applied.changes as f64 / applied.elapsed.as_secs_f64());
        self.took.add(&applied.took).expect("the same range");
        let mut sightings = walked.sightings.iter();
        let mut sighting = sightings.next();
        for Commit { generation, at: committed, writer_away } in applied.commits {
            while sighting.is_some_and(|sighting| sighting.generation < generation) {
                sighting = sightings.next();
            }
            // What was committed at the very end of the span, nobody has looked for.
            let Some(Sighting { at, after, .. }) = sighting else { break };
            let nanoseconds = (at.saturating_duration_since(committed).as_nanos() as u64).max(1);
            self.seen_at_all.record(nanoseconds).expect("less than centuries");
            if *after <= AWAY && !writer_away {
                self.seen.record(nanoseconds).expect("less than centuries");
            }
        }
    }

    fn print(&mut self, case: Case, load: Load) -> Vec<String> {
        let mut ratios: Vec<f64> = self.quiet.iter().zip(&self.busy).map(|(quiet, busy)| busy / quiet).collect();
        let (ratio, quiet, busy) = (median(&mut ratios), median(&mut self.quiet), median(&mut self.busy));
        let (low, high) = (ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]);
        let (reached, away) = (median(&mut self.rates), median(&mut self.away));
        let in_time =
            |(quantile, limit): (f64, Duration)| u128::from(self.seen.value_at_quantile(quantile)) <= limit.as_nanos();
        let verdict = match load {
            // It is to lose no packet, which is for `live` to show.
            Load::Whole => "",
            Load::Paced { .. } if ratio <= SLOWER && SEEN.into_iter().all(in_time) => "met",
            Load::Paced { .. } => "missed",
        };
        println!(
            "{:<26} {:<17} {reached:>9.0} {quiet:>6.1} {busy:>6.1} {:>19} {:>4.0}%  {}  {}  {}  {}",
            case.to_string().trim_end(),
            load.name(),
            format!("{ratio:.2} ({low:.2}-{high:.2})"),
            away * 100.0,
            percentiles(&self.seen, &[0.5, 0.99, 0.999, 1.0]),
            percentiles(&self.seen_at_all, &[0.999, 1.0]),
            percentiles(&self.took, &[0.5, 0.99, 0.999]),
            verdict
        );
        let seen = |quantile| self.seen.value_at_quantile(quantile) as f64 / 1e3;
        let (packets, name) = (case.to_string().trim_end().to_owned(), load.name());
        row(&[&packets, &name, &reached, &quiet, &busy, &ratio, &low, &high, &seen(0.5), &seen(0.99), &seen(0.999)])
    }

    /// Keeps the distribution of what is paced.
    fn keep(&self, case: Case, load: Load, figures: &Figures) {
        if let Load::Paced { batch, .. } = load {
            let way = if case.way == Way::Egress { "egress" } else { "ingress" };
            let what = format!("until packets see a change: {}, {}", case.to_string().trim_end(), load.name());
            figures.distribution(&format!("seen-{way}-{batch}"), &what, &self.seen);
        }
    }
}

/// What the walker found.
struct Walked {
    nanoseconds: f64,
    /// The share of the span in which it was not on its core.
    away: f64,
    sightings: Vec<Sighting>,
}

/// A generation, with the beginning of the first burst that saw it, and how long the one before had taken.
struct Sighting {
    generation: u64,
    at: Instant,
    after: Duration,
}

/// What the writer did.
struct Applied {
    changes: usize,
    elapsed: Duration,
    commits: Vec<Commit>,
    /// From the puts to the end of the commit.
    took: Histogram<u64>,
}

/// Walks on the last core while `work` is done on the first.
fn span<T>(
    names: &Names,
    stage: Stage<'_>,
    case: Case,
    frames: &[[u8; LEN]],
    core: usize,
    work: &mut impl FnMut() -> T,
) -> (T, Walked) {
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
    let (begun, began) = (thread_time(), Instant::now());
    let mut before = began;
    for part in frames.chunks(PART).cycle() {
        bench.walk(case.port(), part, |generation| {
            let at = Instant::now();
            if generation != last {
                last = generation;
                sightings.push(Sighting { generation, at, after: at - before });
            }
            before = at;
        });
        packets += part.len();
        if stop.load(Ordering::Acquire) {
            break;
        }
    }
    let (ran, elapsed) = (thread_time() - begun, began.elapsed());
    let away = 1.0 - ran / elapsed.as_nanos() as f64;
    Walked { nanoseconds: ran / packets as f64, away: away.max(0.0), sightings }
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

/// A generation, with the beginning of its commit, and whether the writer lost its core in the midst of that.
struct Commit {
    generation: u64,
    at: Instant,
    writer_away: bool,
}

impl Applied {
    fn carry_out(&mut self, writer: &mut NamesWriter, history: &History, set: ChangeSet<'_>) {
        let began = Instant::now();
        let (mut at, mut writer_away) = (began, false);
        let change = carry_out(writer, &Wish { set, if_generation: None, force: false }, history, |prepared| {
            let before = thread_time();
            at = Instant::now();
            let change = prepared.commit();
            writer_away = at.elapsed().as_nanos() as f64 - (thread_time() - before) > AWAY.as_nanos() as f64;
            Ok(change)
        });
        self.took.record(began.elapsed().as_nanos() as u64).expect("less than centuries");
        let generation = change.expect("bindings that do not clash").generation;
        self.commits.push(Commit { generation, at, writer_away });
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
