//! What it costs to change the mapping while packets flow: at boot, in memory, in the packets' time, on live traffic, and
//! over an hour's worth of changes.
//!
//! ```text
//! cargo bench --bench updates [-- boot|walk|flat|start|live ...] [--bindings N] [--rounds N] [--out DIR]
//! ```
//! All five parts by default; a million bindings (live, flat: a tenth of them), 5 rounds. `--out` keeps the figures for
//! `bench/pictures`, in a directory as cargo's own working directory sees it.

mod boot;
mod changes;
mod figures;
mod flat;
mod live;
#[path = "../pipeline/machine.rs"]
mod machine;
#[path = "../pipeline/traffic.rs"]
#[allow(dead_code)] // the pipeline bench uses more of it
mod traffic;
mod walk;
#[path = "../pipeline/worker.rs"]
#[allow(dead_code)]
mod worker;
#[path = "../pipeline/world.rs"]
#[allow(dead_code)]
mod world;

use hdrhistogram::Histogram;

use figures::Figures;

fn main() {
    let mut words = std::env::args().skip(1);
    let (mut parts, mut bindings, mut rounds, mut out) = (Vec::new(), 1_000_000, 5, None);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).expect("a number");
        match word.as_str() {
            boot::CHILD => return boot::child(&words.next().expect("a file")),
            "--bindings" => bindings = number(),
            "--rounds" => rounds = number().max(1),
            "--out" => out = Some(words.next().expect("a directory").into()),
            "boot" | "walk" | "flat" | "start" | "live" => parts.push(word),
            _ => {} // cargo itself adds --bench
        }
    }
    println!("{}", machine::describe());
    let figures = Figures::new(out);
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|it| it == part);
    if wants("boot") {
        boot::run(bindings, rounds, &figures);
    }
    if wants("walk") {
        apart(|| walk::run(bindings, rounds, &figures));
    }
    if wants("flat") {
        flat::run(bindings / 10);
    }
    if wants("start") {
        live::start::run(bindings, rounds, &figures);
    }
    if wants("live") {
        apart(|| live::run(bindings / 10, rounds, &figures));
    }
}

/// In a thread of its own: the core that it keeps to and its place in line are not the next part's.
fn apart(part: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(part).join().expect("the part comes to its end"));
}

/// Times in nanoseconds, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("a histogram of three digits")
}

/// Percentiles in microseconds, a column each.
fn percentiles(times: &Histogram<u64>, quantiles: &[f64]) -> String {
    quantiles.iter().map(|&quantile| format!(" {:>8.1}", times.value_at_quantile(quantile) as f64 / 1e3)).collect()
}

/// Sizes up to this one: what is drawn by size.
fn sizes(bindings: usize) -> [usize; 4] {
    [bindings / 100, bindings / 10, bindings / 3, bindings]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * rustix::param::page_size()
}
