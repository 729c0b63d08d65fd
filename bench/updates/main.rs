//! What it costs to change the mapping while packets flow: at boot, in memory, in the packets' time, on live traffic, and
//! over an hour's worth of changes.
//!
//! ```text
//! cargo bench --bench updates [-- boot|walk|flat|live ...] [--bindings N] [--rounds N]
//! ```
//! All four parts by default; a million bindings (live: a tenth of them), 5 rounds.

mod boot;
mod changes;
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

fn main() {
    let mut words = std::env::args().skip(1);
    let (mut parts, mut bindings, mut rounds) = (Vec::new(), 1_000_000, 5);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).expect("a number");
        match word.as_str() {
            boot::CHILD => return boot::child(&words.next().expect("a file")),
            "--bindings" => bindings = number(),
            "--rounds" => rounds = number().max(1),
            "boot" | "walk" | "flat" | "live" => parts.push(word),
            _ => {} // cargo itself adds --bench
        }
    }
    println!("{}", machine::describe());
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|it| it == part);
    if wants("boot") {
        boot::run(bindings, rounds);
    }
    if wants("walk") {
        walk::run(bindings, rounds);
    }
    if wants("flat") {
        flat::run(bindings / 10);
    }
    if wants("live") {
        live::run(bindings / 10, rounds);
    }
}

/// Times in nanoseconds, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("a histogram of three digits")
}

/// Percentiles in microseconds, a column each.
fn percentiles(times: &Histogram<u64>, quantiles: &[f64]) -> String {
    quantiles.iter().map(|&quantile| format!(" {:>8.1}", times.value_at_quantile(quantile) as f64 / 1e3)).collect()
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
