//! What the forwarding core costs: bursts of 32 packets of 64 bytes from frame to verdict, in memory, on one core.
//!
//! Parsing, lookups, rewriting, checksums and MACs are in it; receiving and sending are not (see `end_to_end`). Frames
//! are copied into the chunks that they are walked in, as a walk destroys them: what that costs is measured by rounds
//! that do nothing else, in alternation with the others.
//!
//! ```text
//! cargo bench --bench pipeline [-- BINDINGS ...] [--rounds N] [--no-count]
//! ```

mod instructions;
mod machine;
mod traffic;
mod worker;
mod world;

use sixway::path::BURST;

use traffic::{Case, FRAMES};
use worker::Bench;
use world::{Stage, World};

/// Nanoseconds a packet: what must be held now, and what is aimed at.
const TARGET: f64 = 100.0;
const GOAL: f64 = 40.0;

fn main() {
    let mut words = std::env::args().skip(1);
    let (mut sizes, mut rounds, mut counts) = (Vec::new(), 15, true);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = words.next().and_then(|n| n.parse().ok()).expect("--rounds N"),
            "--no-count" => counts = false,
            instructions::ARGUMENT => return instructions::run(words),
            _ => sizes.extend(word.parse::<usize>()), // cargo itself adds --bench
        }
    }
    if sizes.is_empty() {
        sizes = vec![1_000, 100_000, 1_000_000];
    }
    println!("{}", machine::describe());
    machine::pin_to(machine::last_core());
    println!(
        "64-byte IPv4 packets in bursts of {BURST}, random hits, one core, ns a packet: median (least) of {rounds} rounds"
    );
    println!("target: {TARGET} ns a packet now, goal {GOAL} ns; net = walked less copied\n");
    println!("{:>8}  {:<30} {:>16} {:>7} {:>7}  {:>6}", "bindings", "packets", "walked", "copied", "net", "target");
    for bindings in sizes {
        time(&World::of(bindings), rounds);
    }
    if counts {
        println!("\n{}", instructions::table());
    }
}

/// Prints the rows of one mapping.
fn time(world: &World, rounds: usize) {
    let crowded = world.crowded();
    let stages = [world.stage(), Stage { state: &crowded, ..world.stage() }];
    let mut benches = stages.map(|stage| Bench::new(&world.assembly.names, stage));
    let loads = Case::ALL.map(|case| (case, case.frames(world, FRAMES)));
    let mut walked = vec![Vec::new(); loads.len()];
    let mut copied = Vec::new();
    for round in 0..=rounds {
        for ((case, frames), walked) in loads.iter().zip(&mut walked) {
            let bench = &mut benches[usize::from(case.is_crowded())];
            let copying = bench.nanoseconds(|bench| bench.copy(frames));
            let walking = bench.nanoseconds(|bench| bench.walk(case.port(), frames, |_| ()));
            // The first round fills caches, branch predictors and translation entries.
            if round > 0 {
                copied.push(copying);
                walked.push(walking);
            }
        }
    }
    let copied = median(&mut copied);
    for ((case, _), walked) in loads.iter().zip(&mut walked) {
        let (middle, least) = (median(walked), walked[0]);
        let net = middle - copied;
        let verdict = if net <= GOAL {
            "goal"
        } else if net <= TARGET {
            "met"
        } else {
            "missed"
        };
        println!(
            "{:>8}  {case:<30} {:>16} {copied:>7.1} {net:>7.1}  {verdict:>6}",
            world.bindings,
            format!("{middle:.1} ({least:.1})")
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
