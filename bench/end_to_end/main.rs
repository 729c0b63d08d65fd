//! 64-byte UDP through one server on veth: sixway with its full rewrite beside two forwarders that touch no byte, a bare
//! one over its own driver and `dpdk-testpmd` io over DPDK's.
//!
//! ```text
//!   container eth0 ── veth-c │ forwarder │ eth1 ── eth1 far server
//!   generator, core 0          core 1              sink: counts
//! ```
//! The three alternate in one run, and each round gives two ratios; what the machine does besides hits all alike. The
//! generator is an XDP program under `BPF_PROG_RUN` with live frames: it sends more than any forwarder takes. Its
//! core's idle share is printed, for a generator that waits would flatter the slower one.
//!
//! `cargo bench --bench end_to_end [-- ROUNDS]`; 10 by default.

#[path = "../../tests/net/lab/namespace.rs"]
#[allow(dead_code)] // the lab's stories use more of it than benches do
mod namespace;

mod bare;
mod forwarder;
mod stage;
mod traffic;

use forwarder::Kind;
use stage::{Run, Sink, Stage};

/// Sixway comes between the two that it is compared with.
const ORDER: [Kind; 3] = [Kind::Bare, Kind::Sixway, Kind::Testpmd];
/// What sixway is to reach of each.
const TARGETS: [(Kind, f64); 2] = [(Kind::Bare, 0.90), (Kind::Testpmd, 0.85)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, from, to] = arguments.as_slice()
        && word == "bare"
    {
        bare::forward([from, to]);
    }
    let rounds: usize = arguments.iter().find_map(|word| word.parse().ok()).unwrap_or(10);
    assert!(rounds > 0, "a median of nothing");
    assert!(rustix::process::geteuid().is_root(), "network namespaces need root");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(cores >= 2, "the generator and the forwarder need a core each");
    let stage = Stage::set();
    println!("64-byte UDP from {} ports to {} services, a binding each;", traffic::SOURCES, traffic::SERVICES);
    println!("one forwarding core; {rounds} rounds; Mpps at the sink, ns of the forwarder's CPU time a packet");
    for sink in [Sink::Kernel, Sink::Xdp] {
        println!("\nsink {sink}");
        println!(
            "round   bare Mpps     ns  sixway Mpps     ns  testpmd Mpps     ns  generator idle  of bare  of testpmd"
        );
        let mut ratios = TARGETS.map(|_| Vec::new());
        for round in 1..=rounds {
            let runs = run_all(&stage, sink, round % 2 == 0);
            let [bare, sixway, testpmd] = &runs;
            let idle = runs.iter().map(|run| run.generator_idle).fold(0.0, f64::max) * 100.0;
            let of = [sixway.mpps / bare.mpps, sixway.mpps / testpmd.mpps];
            println!(
                "{round:>5} {:>11.3} {:>6.0} {:>12.3} {:>6.0} {:>13.3} {:>6.0} {:>14.0}% {:>8.3} {:>11.3}",
                bare.mpps, bare.cpu_ns, sixway.mpps, sixway.cpu_ns, testpmd.mpps, testpmd.cpu_ns, idle, of[0], of[1]
            );
            ratios.iter_mut().zip(of).for_each(|(all, one)| all.push(one));
        }
        for ((kind, target), ratios) in TARGETS.into_iter().zip(&mut ratios) {
            let ratio = median(ratios);
            let verdict = if ratio >= target { "reached" } else { "missed" };
            println!("sixway of {kind}, sink {sink}: {ratio:.3} (median of {rounds}), target {target:.2} {verdict}");
        }
    }
}

/// One run of each, in their order or in reverse; the result is in their order.
fn run_all(stage: &Stage, sink: Sink, reverse: bool) -> [Run; 3] {
    let run = |kind| stage.run(kind, sink);
    if !reverse {
        return ORDER.map(run);
    }
    let [first, second, third] = ORDER;
    let runs = [third, second, first].map(run);
    let [third, second, first] = runs;
    [first, second, third]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}
