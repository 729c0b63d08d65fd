//! Services of several replicas: what the choice table costs, how long a change takes, and how many flows move when one
//! of N leaves, against the ideal 1/N.
//!
//! `cargo bench --bench replicas`. Times are the thread's own, a whole change set each: staging, the new table, commit.
//! Flows are spread evenly over the hash, so that chance has no part in the shares.

use std::sync::Arc;
use std::time::Duration;

use sixway::naming::{BindingSpec, Inside, Located, Names, NamesWriter, Network, Networks, Ports, Protocol, Service};
use sixway::table;
use sixway::units::{Endpoint, Ip, Mac, NetworkId, PortRange, Proto};

const OWNED: PortRange = PortRange { first: 20480, last: 59903 };
const NAME: Endpoint = Endpoint { proto: Proto::TCP, ip: Ip::from_v4_octets([10, 0, 0, 1]), port: 80 };
const FLOWS: u32 = 1 << 20;
/// Replicas that leave, one at a time.
const LEAVERS: usize = 8;

fn main() {
    println!("weights   replicas   table      one change   flows moved   ideal     ratio   furthest from its weight");
    for n in [2, 3, 5, 8, 9, 16, 32, 33, 100, 316, 1000] {
        row("equal", n, |_| 1);
    }
    row("1 to 4", 4, |nth| 1 + nth % 4);
    for n in [32, 1000] {
        row("1 to 10", n, |nth| 1 + nth % 10);
        row("1, 65535", n, |nth| if nth == 0 { u16::MAX } else { 1 });
    }
}

/// `n` replicas of weights.
fn row(what: &str, n: u16, weight: impl Fn(u16) -> u16) {
    let specs: Vec<Located<BindingSpec>> = (0..n).map(|nth| replica(nth, weight(nth))).collect();
    let (names, mut writer) = tables();
    writer.replace(&specs).expect("a mapping");
    let before = picks(&names);
    let mut held = vec![0u32; usize::from(n)];
    before.iter().for_each(|&replica| held[usize::from(replica)] += 1);
    let total: f64 = specs.iter().map(|spec| f64::from(spec.value.weight)).sum();
    let furthest = specs.iter().zip(&held).map(|(spec, &held)| {
        let ideal = f64::from(FLOWS) * f64::from(spec.value.weight) / total;
        (f64::from(held) / ideal - 1.0).abs()
    });
    let furthest = 100.0 * furthest.fold(0.0, f64::max);

    let (mut moved, mut own, mut took) = (0, 0, Vec::new());
    for nth in 0..LEAVERS.min(usize::from(n)) {
        let gone = &specs[nth * usize::from(n) / LEAVERS.min(usize::from(n))];
        let start = cpu_time();
        let key = Located { line: 1, value: gone.value.key() };
        writer.apply(&[], &[key]).expect("it is there");
        took.push(cpu_time() - start);
        let after = picks(&names);
        moved += before.iter().zip(&after).filter(|(before, after)| before != after).count();
        own += held[usize::from(number(&gone.value))] as usize;
        let start = cpu_time();
        writer.apply(std::slice::from_ref(gone), &[]).expect("it comes back");
        took.push(cpu_time() - start);
    }
    took.sort_unstable();
    let tries = LEAVERS.min(usize::from(n)) as f64 * f64::from(FLOWS);
    let guard = table::pin();
    println!(
        "{what:9} {n:8} {:7} B {:>12.1?} {:12.4}% {:8.4}% {:7.2} {furthest:10.2}%",
        names.view(&guard).slots_bytes(),
        took[took.len() / 2],
        100.0 * moved as f64 / tries,
        100.0 * own as f64 / tries,
        moved as f64 / own as f64,
    );
}

fn tables() -> (Arc<Names>, NamesWriter) {
    let blue = Network { name: "blue".to_owned(), ..Network::default() };
    let networks = Networks::new(vec![blue], &[]).expect("a network");
    Names::new(Arc::new(networks), &[], OWNED)
}

fn replica(nth: u16, weight: u16) -> Located<BindingSpec> {
    let [high, low] = nth.to_be_bytes();
    let mac = Mac([2, 0x42, 0, 0, high, low]);
    let wire = (Ip::from_v4_octets([192, 168, 50, 2]), Ports::One(OWNED.first + nth));
    let spec = BindingSpec::new("blue", Protocol::One(NAME.proto), wire, (Some(mac), NAME.ip, Ports::One(NAME.port)));
    Located { line: u32::from(nth) + 1, value: BindingSpec { weight, ..spec } }
}

fn number(spec: &BindingSpec) -> u16 {
    spec.mac.map_or(0, |Mac([.., high, low])| u16::from_be_bytes([high, low]))
}

/// Who each flow goes to.
fn picks(names: &Names) -> Vec<u16> {
    let guard = table::pin();
    let view = names.view(&guard);
    let service: Service<'_> = view.service(NetworkId(0), Inside(NAME)).expect("the service");
    let picked = |nth: u32| service.choose(u64::from(nth) << 44).expect("somebody").binding;
    (0..FLOWS).map(|nth| picked(nth).wire_ports().first - OWNED.first).collect()
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
