//! Instructions a packet, counted by valgrind: the bench runs itself under it with two numbers of packets, and what the
//! one takes more than the other belongs to the packets alone. Unlike times, counts do not depend on the machine's mood.

use std::fmt::Write;
use std::process::Command;

use sixway::path::BURST;

use super::traffic::Case;
use super::worker::Bench;
use super::world::{Stage, World};

/// Then come the place in [`Case::ALL`] (or any other number for copying alone) and the number of passes.
pub const ARGUMENT: &str = "--under-valgrind";
/// A small mapping, for valgrind takes its time: fewer instructions depend on its size than times do.
const BINDINGS: usize = 1_000;
const PACKETS: usize = 64 * BURST;
const PASSES: [usize; 2] = [2, 12];

/// What runs under valgrind.
pub fn run(mut words: impl Iterator<Item = String>) {
    let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).expect("a number");
    let (nth, passes) = (number(), number());
    let world = World::of(BINDINGS);
    let case = Case::ALL.get(nth);
    let crowded = case.filter(|case| case.is_crowded()).map(|_| world.crowded());
    let stage = Stage { state: crowded.as_ref().unwrap_or(&world.state), ..world.stage() };
    let mut bench = Bench::new(&world.assembly.names, stage);
    let frames = case.unwrap_or(&Case::ALL[0]).frames(&world, PACKETS);
    for _ in 0..passes {
        match case {
            Some(case) => bench.walk(case.port(), &frames, |_| ()),
            None => bench.copy(&frames),
        }
    }
}

/// The counts, or why there are none.
pub fn table() -> String {
    let Some(copied) = count(Case::ALL.len()) else {
        return "no instruction counts: valgrind is missing, or does not run here".to_owned();
    };
    let mut text =
        format!("{:>8}  {:<30} {:>12} (valgrind --tool=callgrind; net)\n", "bindings", "packets", "instructions");
    for (nth, case) in Case::ALL.iter().enumerate() {
        let walked = count(nth).map_or("?".to_owned(), |walked| format!("{:.0}", walked - copied));
        let _ = writeln!(text, "{BINDINGS:>8}  {case:<30} {walked:>12}");
    }
    text
}

fn count(nth: usize) -> Option<f64> {
    let [few, many] = PASSES.map(|passes| collected(nth, passes));
    Some((many? - few?) / ((PASSES[1] - PASSES[0]) * PACKETS) as f64)
}

/// All instructions of one run.
fn collected(nth: usize, passes: usize) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args([ARGUMENT, &nth.to_string(), &passes.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let (_, after) = text.split_once("Collected :")?;
    after.split_whitespace().next()?.parse().ok()
}
