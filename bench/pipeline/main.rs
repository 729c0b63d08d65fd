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
mod world;

use rustix::time::{ClockId, clock_gettime};
use sixway::frame::Frame;
use sixway::path::{BURST, Context, Verdict, WorkerState, walk_burst};
use sixway::table;
use sixway::units::PortId;

use traffic::{Case, FRAMES, LEN};
use world::{NOW, World};

/// What the engine's own chunks are: room for a page, of which the kernel leaves this free before the packet.
const CHUNK: usize = 4096;
const HEADROOM: usize = 256;

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
    machine::pin();
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
    let mut worker = WorkerState::new(0, 1, world.assembly.around.ports.len());
    let mut bench = Bench { world, worker: &mut worker, chunks: vec![0; BURST * CHUNK] };
    let loads = Case::ALL.map(|case| (case, case.frames(world, FRAMES)));
    let mut walked = vec![Vec::new(); loads.len()];
    let mut copied = Vec::new();
    for round in 0..=rounds {
        for ((case, frames), walked) in loads.iter().zip(&mut walked) {
            let copying = bench.nanoseconds(|bench| bench.copy(frames));
            let walking = bench.nanoseconds(|bench| bench.walk(case.port(), frames));
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

/// Nanoseconds that this thread has run.
fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// An engine's worker without its rings.
pub struct Bench<'a> {
    world: &'a World,
    worker: &'a mut WorkerState,
    chunks: Vec<u8>,
}

impl Bench<'_> {
    /// What `work` takes of this thread's time for each of [`FRAMES`] packets: what else runs on the core is not in it.
    fn nanoseconds(&mut self, work: impl FnOnce(&mut Self)) -> f64 {
        let begun = thread_time();
        work(self);
        (thread_time() - begun) / FRAMES as f64
    }

    /// Copies the frames into chunks, burst by burst.
    pub fn copy(&mut self, frames: &[[u8; LEN]]) {
        for burst in frames.chunks(BURST) {
            std::hint::black_box(fill(&mut self.chunks, burst));
        }
    }

    /// Walks the frames, burst by burst.
    ///
    /// # Panics
    /// If any is not forwarded.
    pub fn walk(&mut self, port: PortId, frames: &[[u8; LEN]]) {
        let assembly = &self.world.assembly;
        let mut guard = table::pin();
        let mut verdicts = [Verdict::Consume; BURST];
        for burst in frames.chunks(BURST) {
            let mut chunks = fill(&mut self.chunks, burst);
            guard.repin();
            let cx = Context {
                names: assembly.names.view(&guard),
                around: &assembly.around,
                state: &self.world.state,
                hops: &self.world.hops,
                now: NOW,
                dry_run: false,
            };
            let walked = walk_burst(&cx, self.worker, port, &mut chunks[..burst.len()], &mut verdicts);
            let forwarded = |verdict: &Verdict| matches!(verdict, Verdict::Forward { .. });
            assert!(verdicts[..walked].iter().all(forwarded), "{verdicts:?}");
        }
    }
}

/// The burst as it comes from a ring.
fn fill<'c>(chunks: &'c mut [u8], burst: &[[u8; LEN]]) -> [Frame<'c>; BURST] {
    let mut chunks = chunks.chunks_exact_mut(CHUNK);
    let mut packets = burst.iter();
    std::array::from_fn(|_| {
        let chunk = chunks.next().unwrap_or_default();
        let Some(packet) = packets.next() else { return Frame::new(chunk, 0, 0) };
        chunk[HEADROOM..HEADROOM + LEN].copy_from_slice(packet);
        Frame::new(chunk, HEADROOM, LEN)
    })
}
