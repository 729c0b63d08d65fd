//! An engine forwards a steady stream while its mapping is changed over the control socket.
//!
//! ```text
//!   container eth0 ── veth-c │ engine, worker on core 1 │ eth1 ── eth1 far server
//! ```
//! Everything else, the engine's control thread too, shares core 0. Spans with changes alternate with spans without;
//! each datagram is numbered.

#[path = "../../../tests/net/lab/load.rs"]
#[allow(dead_code)] // the lab's stories use more of these than benches do
mod load;
#[path = "../../../tests/net/lab/namespace.rs"]
#[allow(dead_code)]
mod namespace;
#[path = "../../../tests/net/lab/peers.rs"]
#[allow(dead_code)]
mod peers;
mod requests;
mod stage;
pub mod start;

use std::thread;
use std::time::{Duration, Instant};

use load::{Account, Load};

use super::changes::{Changes, Kind};
use super::figures::{Figures, row};
use super::{machine, median, percentiles};
use requests::{Client, Request};
use stage::Stage;

/// Datagrams a second.
const RATE: u64 = 50_000;
const SPAN: Duration = Duration::from_secs(2);
/// Long enough for anything that ought to happen at once.
const SOON: Duration = Duration::from_secs(30);

/// Changes of one kind: how many a second, and by how many.
const PACED: [(&str, usize, usize); 3] =
    [("100000/s, by 100", 100_000, 100), ("100000/s, by 1000", 100_000, 1000), ("10000/s, single", 10_000, 1)];

pub fn run(bindings: usize, rounds: usize, figures: &Figures) {
    assert!(rustix::process::geteuid().is_root(), "network namespaces need root");
    machine::pin_to(0);
    let mut changes = Changes::new(bindings);
    let (stage, booted) = Stage::set(changes.whole(Kind::Weigh), false);
    println!("\nlive: {bindings} bindings, engine ready {:.2} s after its start", booted.as_secs_f64());
    println!("{RATE} datagrams/s; spans of {SPAN:?}, {rounds} with changes and {rounds} without in turn");
    println!(
        "{:<20} {:>9}  {:>8} {:>6} {:>10}  {:>8} {:>6} {:>10}  {:>35}",
        "changes",
        "reached/s",
        "without",
        "lost",
        "silence ms",
        "with",
        "lost",
        "silence ms",
        "us to an answer: 50 99 99.9 max"
    );
    let load = Load::start(&stage.container, &stage.far, stage::SERVICE, RATE);
    let mut client = Client::new(&stage.socket());
    let mut rows = Vec::new();
    for (name, rate, batch) in PACED {
        let count = rate / batch * SPAN.as_secs() as usize;
        let between = SPAN / count as u32;
        let mut row = Row::default();
        for _ in 0..rounds {
            let requests: Vec<Request> =
                (0..count).map(|_| Request::changes(&changes.next(Kind::Move, batch))).collect();
            row.round(&load, || client.send_all(&requests, between));
            row.changes = batch;
        }
        let times = client.take_times();
        rows.push(row.print(name, &times));
        figures.distribution(&format!("answered-{batch}"), &format!("from a request to its answer: {name}"), &times);
    }
    let mut row = Row { changes: bindings, ..Row::default() };
    let mut whole =
        || Request::whole(changes.whole(Kind::Move).iter().map(|spec| &spec.value).chain([&stage::service()]));
    let both = [whole(), whole()];
    for _ in 0..rounds {
        row.round(&load, || {
            let began = Instant::now();
            let in_span = both.iter().cycle().take_while(|_| began.elapsed() < SPAN);
            in_span.map(|one| client.send_all(std::slice::from_ref(one), Duration::ZERO)).sum()
        });
    }
    rows.push(row.print("the whole mapping", &client.take_times()));
    let columns =
        ["changes", "reached", "sent_without", "lost_without", "sent_with", "lost_with", "us_50", "us_99", "us_999"];
    figures.table("live", "a stream through an engine with and without changes", &columns, &rows);
    drop(load);
    stage.end();
}

/// What became of the stream, over all spans of a kind.
#[derive(Default)]
struct Row {
    without: Sum,
    with: Sum,
    rates: Vec<f64>,
    /// Of one request.
    changes: usize,
}

#[derive(Default)]
struct Sum {
    sent: u64,
    lost: u64,
    silence: Duration,
}

impl Sum {
    fn add(&mut self, account: Account) {
        self.sent += account.sent;
        self.lost += account.lost;
        self.silence = self.silence.max(account.silence);
    }
}

impl Row {
    /// A span without changes, and one with those that `send` makes; it tells how many requests there were.
    fn round(&mut self, load: &Load, send: impl FnOnce() -> usize) {
        let mark = load.mark();
        thread::sleep(SPAN);
        self.without.add(load.since(mark));
        let (mark, began) = (load.mark(), Instant::now());
        let sent = send();
        self.rates.push(sent as f64 / began.elapsed().as_secs_f64());
        self.with.add(load.since(mark));
    }

    fn print(mut self, name: &str, times: &hdrhistogram::Histogram<u64>) -> Vec<String> {
        let reached = median(&mut self.rates) * self.changes as f64;
        let sum = |sum: &Sum| format!("{:>8} {:>6} {:>10.1}", sum.sent, sum.lost, sum.silence.as_secs_f64() * 1e3);
        println!(
            "{name:<20} {reached:>9.0}  {}  {}  {}",
            sum(&self.without),
            sum(&self.with),
            percentiles(times, &[0.5, 0.99, 0.999, 1.0])
        );
        let us = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        let (without, with) = (&self.without, &self.with);
        row(&[&name, &reached, &without.sent, &without.lost, &with.sent, &with.lost, &us(0.5), &us(0.99), &us(0.999)])
    }
}

/// Looks again until `look` finds something.
fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
