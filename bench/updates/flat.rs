//! An hour's worth of changes in as long as it takes: what there is of records, places and memory, every now and then.
//! Bindings go, come back and move, in runs, so that whole containers go with them, here and on other servers.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use sixway::control::changes::{ChangeSet, History, Wish, carry_out};
use sixway::naming::{BindingSpec, Located, Names, NamesWriter, Ports};
use sixway::table;

use super::{resident, world};

const CHANGES: usize = 2_000_000;
const ROWS: usize = 10;
/// Bindings of a change set, in turn.
const SIZES: [usize; 4] = [1, 1, 10, 100];
/// Runs that are away at a time, before the oldest comes back.
const AWAY: usize = 64;

pub fn run(bindings: usize) {
    let (names, mut writer) = world::tables();
    let all = world::specs(bindings);
    writer.replace(&all).expect("bindings that do not clash");
    let history = History::new(names.view(&table::pin()).generation());
    let mut mapping = Mapping { all, away: VecDeque::new(), next: 0 };
    println!("\n{} bindings; {CHANGES} changes: runs of bindings go, come back and move, beside a reader", names.len());
    println!(
        "{:>8} {:>9} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10}",
        "changes", "/s", "bindings", "records", "retired", "vacant", "tables KiB", "RSS KiB"
    );
    print(&names, &writer, 0, 0.0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| read(&names, &stop));
        let mut changes = 0;
        for row in 1..=ROWS {
            let (before, began) = (changes, Instant::now());
            while changes < CHANGES * row / ROWS {
                changes += mapping.change(&mut writer, &history);
            }
            let rate = (changes - before) as f64 / began.elapsed().as_secs_f64();
            print(&names, &writer, changes, rate);
        }
        while let Some(run) = mapping.away.pop_front() {
            mapping.put(run, &mut writer, &history);
        }
        stop.store(true, Ordering::Relaxed);
    });
    while writer.unreclaimed() > 0 {
        writer.reclaim();
    }
    println!("all back, and no reader:");
    print(&names, &writer, CHANGES, 0.0);
}

fn print(names: &Names, writer: &NamesWriter, changes: usize, rate: f64) {
    let (live, retired) = (names.records(), writer.unreclaimed());
    println!(
        "{changes:>8} {rate:>9.0} {:>8} {live:>8} {retired:>8} {:>8} {:>10} {:>10}",
        names.len(),
        names.places() - live - retired,
        names.memory_bytes() >> 10,
        resident() >> 10
    );
}

/// Pins and lets go, as a worker does.
fn read(names: &Names, stop: &AtomicBool) {
    let mut guard = table::pin();
    while !stop.load(Ordering::Relaxed) {
        guard.repin();
        for (_, container) in names.view(&guard).all_containers().take(32) {
            std::hint::black_box(container.ip());
        }
    }
}

struct Mapping {
    all: Vec<Located<BindingSpec>>,
    away: VecDeque<Range<usize>>,
    /// The number of the next change set.
    next: usize,
}

impl Mapping {
    /// One change set. The number of bindings that it changes.
    fn change(&mut self, writer: &mut NamesWriter, history: &History) -> usize {
        self.next += 1;
        let size = SIZES[self.next / 3 % SIZES.len()];
        // Runs of each size lie side by side, and are where no other is for a long while.
        let first = self.next / 3 * 100 % (self.all.len() - 100);
        let run = first..first + size;
        match self.next % 3 {
            0 => {
                let keys = self.all[run.clone()].iter().map(|spec| Located { line: 0, value: spec.value.key() });
                let deletes: Vec<_> = keys.collect();
                carry_out_now(writer, history, ChangeSet::Apply { puts: &[], deletes: &deletes, health: &[] });
                self.away.push_back(run);
                size
            }
            1 if self.away.len() > AWAY => {
                let oldest = self.away.pop_front().unwrap_or_default();
                self.put(oldest, writer, history)
            }
            _ => {
                let run = first + 50..first + 50 + size.min(50);
                for spec in &mut self.all[run.clone()] {
                    let Ports::One(_) = spec.value.wire else { continue };
                    spec.value.weight = 3 - spec.value.weight;
                }
                self.put(run, writer, history)
            }
        }
    }

    fn put(&self, run: Range<usize>, writer: &mut NamesWriter, history: &History) -> usize {
        carry_out_now(writer, history, ChangeSet::Apply { puts: &self.all[run.clone()], deletes: &[], health: &[] });
        run.len()
    }
}

fn carry_out_now(writer: &mut NamesWriter, history: &History, set: ChangeSet<'_>) {
    let wish = Wish { set, if_generation: None, force: false };
    let done = carry_out(writer, &wish, history, |prepared| Ok(prepared.commit()));
    done.expect("bindings that do not clash");
}
