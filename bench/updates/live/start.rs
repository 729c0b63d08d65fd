//! From an engine's start to its first answer, from its mapping file and from its journal, and from a whole mapping's
//! request to its answer, when packets see it and it is on disk. By size.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::requests::{Client, Request};
use super::stage::{self, Stage, status};
use super::{SOON, until};
use crate::changes::{Changes, Kind};
use crate::figures::{Figures, row};
use crate::{histogram, median, percentiles, sizes};

/// What is to be reached with a million bindings: seconds to the first answer, and of a whole replacement.
const BOOT: f64 = 2.0;
const REPLACE: f64 = 5.0;
/// Between questions while a whole mapping is read and put in force.
const PAUSE: Duration = Duration::from_millis(5);

pub fn run(bindings: usize, rounds: usize, figures: &Figures) {
    assert!(rustix::process::geteuid().is_root(), "network namespaces need root");
    println!(
        "\nengines: seconds, median of {rounds}; targets at a million: {BOOT} to the first answer, {REPLACE} for a whole mapping"
    );
    println!("meanwhile: microseconds until GET /v1/status is answered while the whole mapping is replaced");
    println!(
        "{:>9} {:>9} {:>13} {:>9}  {:>26}",
        "bindings", "from file", "from journal", "replaced", "meanwhile: 50 99 max"
    );
    let rows = sizes(bindings).map(|size| time(size, rounds, size == bindings));
    let columns = ["bindings", "from_file_s", "from_journal_s", "replaced_s", "meanwhile_50_us", "meanwhile_max_us"];
    figures.table("start", "engines with so many bindings", &columns, &rows);
}

/// Prints a row, and gives it. Targets are for the largest size.
fn time(bindings: usize, rounds: usize, is_largest: bool) -> Vec<String> {
    let [mut from_file, mut from_journal, mut replaced] = [const { Vec::new() }; 3];
    let mut meanwhile = histogram();
    let mut changes = Changes::new(bindings);
    for _ in 0..rounds {
        let (mut stage, booted) = Stage::set(changes.all(), true);
        from_file.push(booted.as_secs_f64());
        let specs = changes.whole(Kind::Move).iter().map(|spec| &spec.value);
        let whole = Request::whole(specs.chain([&stage::service()]));
        let (took, waited) = replace(&stage, &whole);
        replaced.push(took.as_secs_f64());
        meanwhile.add(waited).expect("the same range");
        until("the whole mapping is in the journal", SOON, || {
            status(&stage.socket()).filter(|said| said.contains("\"change_sets\":0,\"complete\":true"))
        });
        from_journal.push(stage.restart().as_secs_f64());
        stage.end();
    }
    let medians = [&mut from_file, &mut from_journal, &mut replaced].map(|all| median(all));
    let [from_file, from_journal, replaced] = medians;
    let verdict = match from_file <= BOOT && from_journal <= BOOT && replaced <= REPLACE {
        _ if !is_largest => "",
        true => "met",
        false => "missed",
    };
    println!(
        "{bindings:>9} {from_file:>9.2} {from_journal:>13.2} {replaced:>9.2}  {}  {}",
        percentiles(&meanwhile, &[0.5, 0.99, 1.0]),
        verdict
    );
    let us = |quantile| meanwhile.value_at_quantile(quantile) as f64 / 1e3;
    row(&[&bindings, &from_file, &from_journal, &replaced, &us(0.5), &us(1.0)])
}

/// Has the whole mapping replaced; how long that took, and how long others waited for answers meanwhile.
fn replace(stage: &Stage, whole: &Request) -> (Duration, Histogram<u64>) {
    let (done, mut client) = (AtomicBool::new(false), Client::new(&stage.socket()));
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut waited = histogram();
            while !done.load(Ordering::Acquire) {
                let began = Instant::now();
                status(&stage.socket()).expect("an answer");
                waited.record(began.elapsed().as_nanos() as u64).expect("less than centuries");
                thread::sleep(PAUSE);
            }
            waited
        });
        let began = Instant::now();
        client.send_all(std::slice::from_ref(whole), Duration::ZERO);
        let took = began.elapsed();
        done.store(true, Ordering::Release);
        (took, asking.join().expect("answers"))
    })
}
