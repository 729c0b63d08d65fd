//! What a lookup costs: the table beside hashbrown (one thread's, the floor), papaya and dashmap.
//!
//! `cargo bench --bench table [-- 1k 100k 1m 8m]`: u64 -> u64, random hits over all keys, one thread pinned to the last
//! core it may use. Rounds alternate between the maps, each over the same keys; the medians are printed with their
//! ratio to hashbrown. Then memory an entry and what commits cost.

use sixway::table::{self, Handle, Record, Snapshot, Table, Writer, hash};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const BURST: usize = 32;
const ROUNDS: usize = 11;
const LOOKUPS: usize = 1 << 20;

struct Pair {
    key: u64,
    value: u64,
}

impl Record for Pair {
    fn hash_of(&self, _index: usize) -> Option<u64> {
        Some(hash::words(&[self.key]))
    }
}

/// The same hash for every map: what differs is the map.
#[derive(Clone, Default)]
struct Words;

struct WordsHasher(u64);

impl BuildHasher for Words {
    type Hasher = WordsHasher;
    fn build_hasher(&self) -> WordsHasher {
        WordsHasher(0)
    }
}

impl std::hash::Hasher for WordsHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64")
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = hash::words(&[key]);
    }
}

fn main() {
    let core = pin_to_last_core();
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let sizes = [("1k", 1_000), ("100k", 100_000), ("1m", 1_000_000), ("8m", 8_000_000)];
    println!(
        "u64 -> u64, random hits, one thread on core {core}; median of {ROUNDS} rounds of {LOOKUPS} lookups, ns each"
    );
    println!("(x: time relative to hashbrown, which is not concurrent)\n");
    println!(
        "{:>8} {:>15} {:>15} {:>12} {:>15} {:>15}",
        "entries", "burst of 32", "scalar", "hashbrown", "papaya", "dashmap"
    );
    let mut loads = Vec::new();
    for (name, entries) in sizes.into_iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|it| it == name)) {
        loads.push((name, lookups(name, entries)));
    }
    println!(
        "\n{:>8} {:>15} {:>15} {:>18} {:>18}",
        "entries", "bytes an entry", "load, ns each", "commit of 1, us", "of 1000, us"
    );
    for (name, load) in loads {
        println!(
            "{name:>8} {:>15.1} {:>15.0} {:>9.2} (p99 {:.1}) {:>9.0} (p99 {:.0})",
            load.bytes, load.insert_ns, load.single.0, load.single.1, load.batch.0, load.batch.1
        );
    }
}

/// What filling and changing a table cost.
struct Load {
    bytes: f64,
    insert_ns: f64,
    /// Median and 99th percentile of a commit, its changes included, in microseconds.
    single: (f64, f64),
    batch: (f64, f64),
}

fn lookups(name: &str, entries: u64) -> Load {
    let mut writer = Writer::new();
    let table = writer.table::<Pair, 1>();
    let began = Instant::now();
    let mut handles: Vec<Handle> = keys(entries).map(|key| table.insert(&mut writer, pair(key))).collect();
    writer.commit();
    let insert_ns = began.elapsed().as_nanos() as f64 / entries as f64;
    let bytes = table.memory_bytes() as f64 / entries as f64;

    let brown: hashbrown::HashMap<u64, u64, Words> = keys(entries).map(|key| (key, !key)).collect();
    let papaya: papaya::HashMap<u64, u64, Words> = keys(entries).map(|key| (key, !key)).collect();
    let dash: dashmap::DashMap<u64, u64, Words> = keys(entries).map(|key| (key, !key)).collect();
    let wanted = wanted(entries);

    let timeline = writer.timeline().clone();
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let guard = table::pin();
        let at = timeline.snapshot(&guard);
        times[0].push(time(&wanted, |keys| bursts(&table, &at, keys)));
        times[1].push(time(&wanted, |keys| {
            sum(keys, |key| table.find(0, hash::words(&[key]), &at, |pair| pair.key == key).map(|(_, pair)| pair.value))
        }));
        drop(guard);
        times[2].push(time(&wanted, |keys| sum(keys, |key| brown.get(&key).copied())));
        let pinned = papaya.pin();
        times[3].push(time(&wanted, |keys| sum(keys, |key| pinned.get(&key).copied())));
        times[4].push(time(&wanted, |keys| sum(keys, |key| dash.get(&key).map(|pair| *pair))));
    }
    let [burst, scalar, brown_ns, papaya_ns, dash_ns] = times.map(median);
    let beside = |ns: f64| format!("{ns:.1} ({:.2}x)", ns / brown_ns);
    println!(
        "{name:>8} {:>15} {:>15} {brown_ns:>12.1} {:>15} {:>15}",
        beside(burst),
        beside(scalar),
        beside(papaya_ns),
        beside(dash_ns)
    );
    drop((brown, papaya, dash));
    let single = changes(&mut writer, &table, &mut handles, 1, 20_000);
    let batch = changes(&mut writer, &table, &mut handles, 1000, 200);
    Load { bytes, insert_ns, single, batch }
}

fn pair(key: u64) -> Pair {
    Pair { key, value: !key }
}

/// Keys that are dense in no bit.
fn keys(entries: u64) -> impl Iterator<Item = u64> {
    (0..entries).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Keys in a random order, another one each run.
fn wanted(entries: u64) -> Vec<u64> {
    let random = RandomState::new();
    let pick = |n: usize| ((u128::from(random.hash_one(n)) * u128::from(entries)) >> 64) as u64;
    (0..LOOKUPS).map(|n| pick(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}

fn bursts(table: &Table<Pair, 1>, at: &Snapshot<'_>, keys: &[u64]) -> u64 {
    let mut sum = 0u64;
    for keys in keys.chunks_exact(BURST) {
        let mut hashes = [0; BURST];
        hashes.iter_mut().zip(keys).for_each(|(hash, &key)| *hash = hash::words(&[key]));
        let mut found = [None; BURST];
        table.find_burst(0, &hashes, at, &mut found, |position, pair| pair.key == keys[position]);
        for (_, pair) in found.iter().flatten() {
            sum = sum.wrapping_add(pair.value);
        }
    }
    sum
}

fn sum(keys: &[u64], find: impl Fn(u64) -> Option<u64>) -> u64 {
    keys.iter().filter_map(|&key| find(key)).fold(0, u64::wrapping_add)
}

/// Nanoseconds a lookup. The sum of what was found is checked, so nothing is left out.
fn time(wanted: &[u64], run: impl Fn(&[u64]) -> u64) -> f64 {
    let began = cpu_ns();
    let sum = run(black_box(wanted));
    let took = (cpu_ns() - began) / wanted.len() as f64;
    assert_eq!(sum, wanted.iter().fold(0u64, |sum, key| sum.wrapping_add(!key)));
    took
}

/// Time that this thread has had its core: what others take of it on a shared machine does not count.
fn cpu_ns() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64
}

/// Commits of `size` replaced records each, while nobody reads: median and 99th percentile, in microseconds.
fn changes(
    writer: &mut Writer,
    table: &Arc<Table<Pair, 1>>,
    handles: &mut [Handle],
    size: usize,
    commits: usize,
) -> (f64, f64) {
    let all: Vec<u64> = keys(handles.len() as u64).collect();
    let mut at = 0;
    let mut times: Vec<f64> = (0..commits)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..size {
                at = (at + 7919) % all.len();
                table.retire(writer, handles[at]);
                handles[at] = table.insert(writer, pair(all[at]));
            }
            writer.commit();
            began.elapsed().as_nanos() as f64 / 1000.0
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn pin_to_last_core() -> usize {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None).expect("the cores that we may use");
    let core = (0..CpuSet::MAX_CPU).rev().find(|&core| allowed.is_set(core)).expect("a core");
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one).expect("to pin to a core that we may use");
    core
}
