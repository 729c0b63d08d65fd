//! Many connections, and much on each.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::Lab;
use crate::lab::namespace::Namespace;
use crate::lab::programs::{Nginx, iperf, iperf_server};
use crate::lab::way::Way;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// 10,000 short HTTP connections from a native client and 10,000 from a default-mode one, eight at a time: none fails.
#[test]
fn ten_thousand_short_connections_and_none_fails() {
    let lab = Lab::running();
    let nginx = Nginx::start(&lab, "web");
    nginx.serve("index.html", b"hello from web\n");
    for client in ["alice", "carol"] {
        let began = Instant::now();
        let failures = short_connections(lab.at(client), 10_000, 8);
        let elapsed = began.elapsed();
        println!("{client}: 10000 connections in {elapsed:.1?}, {:.0} a second", 10_000.0 / elapsed.as_secs_f64());
        assert!(failures.is_empty(), "{client}: {} failed, the first: {}", failures.len(), failures[0]);
    }
}

fn short_connections(place: &Namespace, total: u32, at_once: u32) -> Vec<String> {
    let left = AtomicU32::new(total);
    let worker = || {
        place.enter();
        let mut failures = Vec::new();
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            if let Err(error) = fetch() {
                failures.push(error.to_string());
            }
        }
        failures
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    })
}

fn fetch() -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((WEB, 80)), Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    if page.ends_with("hello from web\n") { Ok(()) } else { Err(std::io::Error::other(format!("cut short: {page:?}"))) }
}

/// Ten TCP flows each way at once for 30 seconds: every flow moves to the very end.
#[test]
fn ten_flows_each_way_and_none_is_stuck() {
    let lab = Lab::running();
    let _server = iperf_server(lab.at("web"));
    let report = iperf(lab.at("carol"), &["-c", "10.0.0.10", "-P", "10", "-t", "30", "--bidir"]);
    assert!(report["error"].is_null(), "{}", report["error"]);
    let gigabits = |sum: &str| report["end"][sum]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e9;
    println!(
        "10 flows each way: {:.2} Gbit/s up, {:.2} Gbit/s down",
        gigabits("sum_received"),
        gigabits("sum_received_bidir_reverse")
    );
    let streams = report["end"]["streams"].as_array().expect("a list of flows");
    assert_eq!(streams.len(), 20, "ten flows each way");
    for stream in streams {
        assert!(stream["receiver"]["bytes"].as_u64() > Some(1 << 20), "a flow that hardly moved: {stream}");
    }
    let intervals = report["intervals"].as_array().expect("a list of seconds");
    let flows = intervals[0]["streams"].as_array().expect("flows").len();
    for flow in 0..flows {
        let stuck = |second: &Value| second["streams"][flow]["bytes"].as_u64() == Some(0);
        let longest = intervals.split(|second| !stuck(second)).map(<[Value]>::len).max().unwrap_or(0);
        // On a machine that is busy elsewhere one may be set back for some seconds; one that is stuck stays so.
        assert!(longest < 10, "flow {flow} stood still for {longest} seconds");
    }
}

/// Single flows of each kind, for the record: across the wire in both modes, and on one server. Engines drop nothing of
/// them; where a queue of the kernel ran over is printed.
#[test]
fn single_flows_move_in_both_directions() {
    let mut lab = Lab::running();
    let _server = iperf_server(lab.at("web"));
    for client in ["alice", "carol", "dave"] {
        for direction in [&["-c", "10.0.0.10", "-t", "3"][..], &["-c", "10.0.0.10", "-t", "3", "-R"]] {
            let before = Way::look(&mut lab, client);
            let report = iperf(lab.at(client), direction);
            let after = Way::look(&mut lab, client);
            let losses = after.losses_since(&before);
            let gigabits = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e9;
            let way = if direction.len() > 4 { "down" } else { "up" };
            let retransmits = &report["end"]["sum_sent"]["retransmits"];
            println!("{client} {way}: {gigabits:.2} Gbit/s, {retransmits} retransmits; lost by counter: {losses:?}");
            assert_eq!(after.dropped_by_engines, before.dropped_by_engines, "{client} {way}");
            assert!(gigabits > 0.1, "{client} {way}: {gigabits} Gbit/s is a flow that limps\n{report}");
        }
    }
}

/// UDP in a steady stream, 39,000 small packets a second among them. The engines lose none of what they are given; what
/// does not arrive is in the kernel's own counters of the way. On a machine with more to do than cores, queues of the
/// kernel (a veth's of 256 packets, a receiver's socket of some 270 small ones) run over before the engines' rings do.
#[test]
fn a_steady_stream_of_datagrams_arrives_or_is_accounted_for() {
    let mut lab = Lab::running();
    let _server = iperf_server(lab.at("web"));
    for (size, rate) in [("64", "20M"), ("512", "20M"), ("1448", "20M")] {
        let before = Way::look(&mut lab, "carol");
        let report = iperf(lab.at("carol"), &["-c", "10.0.0.10", "-u", "-b", rate, "-l", size, "-t", "3"]);
        let after = Way::look(&mut lab, "carol");
        let count = |name: &str| report["end"]["sum"][name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
        let (sent, lost) = (count("packets"), count("lost_packets"));
        let losses = after.losses_since(&before);
        println!("UDP, {size} bytes at {rate}bit/s: {sent} sent, {lost} lost; by counter: {losses:?}");
        assert!(sent > 1000, "hardly anything was sent: {report}");
        assert_eq!(after.dropped_by_engines, before.dropped_by_engines, "{size} bytes\n{}", lab.engine(1).all_drops());
        let accounted: u64 = losses.iter().map(|(_, packets)| packets).sum();
        assert!(
            lost <= accounted,
            "{size} bytes: {lost} of {sent} lost, and the kernel knows of {accounted}: {losses:?}"
        );
    }
}
