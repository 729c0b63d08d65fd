//! 64-byte UDP through one server on veth: sixway with its full rewrite beside `dpdk-testpmd` io, which touches no byte.
//!
//! ```text
//!   container eth0 ── veth-c │ forwarder │ eth1 ── eth1 far server
//!   generator, core 0          core 1              sink: counts
//! ```
//! The two alternate in one run, and each pair gives a ratio; what the machine does besides hits both alike. The
//! generator is an XDP program under `BPF_PROG_RUN` with live frames: it sends more than any forwarder takes. Its
//! core's idle share is printed, for a generator that waits would flatter the slower one.

#[path = "../../tests/net/lab/namespace.rs"]
#[allow(dead_code)] // the lab's stories use more of it than benches do
mod namespace;

mod forwarder;
mod stage;
mod traffic;

use forwarder::Kind;
use stage::{Sink, Stage};

fn main() {
    let pairs: usize = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(10);
    assert!(rustix::process::geteuid().is_root(), "network namespaces need root");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(cores >= 2, "the generator and the forwarder need a core each");
    let stage = Stage::set();
    println!("64-byte UDP, one flow table of 1024 flows, one forwarding core; {pairs} alternating pairs");
    for sink in [Sink::Kernel, Sink::Xdp] {
        let mut ratios = Vec::new();
        println!("\nsink: {sink}\n{:>6} {:>12} {:>12} {:>7}", "pair", "sixway Mpps", "testpmd Mpps", "ratio");
        for pair in 0..pairs {
            let mut order = [Kind::Sixway, Kind::Testpmd];
            if pair % 2 == 1 {
                order.reverse();
            }
            let mut runs = order.map(|kind| (kind, stage.run(kind, sink)));
            runs.sort_by_key(|(kind, _)| *kind);
            let [(_, ours), (_, theirs)] = &runs;
            let ratio = ours.mpps / theirs.mpps;
            println!("{:>6} {:>12.3} {:>12.3} {:>7.3}   {ours} | {theirs}", pair + 1, ours.mpps, theirs.mpps, ratio);
            ratios.push(ratio);
        }
        ratios.sort_by(f64::total_cmp);
        println!("median ratio with sink {sink}: {:.3}", ratios[ratios.len() / 2]);
    }
}
