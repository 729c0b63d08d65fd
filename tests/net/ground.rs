//! The lab itself, without an engine: what later stories stand on.

use std::time::Duration;

use crate::lab::{Lab, OUTSIDE, capture::Capture, peers, server_ip};

/// Servers reach each other and the outside world by plain kernel routing, and the wire sees it.
#[test]
fn servers_reach_each_other_and_the_world() {
    let lab = Lab::new();
    let capture = Capture::start(lab.at("wire"), "br0", "icmp");
    lab.at("s1").run("ping", &["-c1", "-W2", "192.168.50.2"]);
    lab.at("s1").run("ping", &["-c1", "-W2", &OUTSIDE.to_string()]);
    capture.until("an echo request between servers", |seen| seen.src == server_ip(1) && seen.dst == server_ip(2));
    capture.until("an answer from outside", |seen| seen.src == OUTSIDE && seen.checksums_right);
}

/// Nothing but an engine connects containers: without one they reach nobody, not even on the same server.
#[test]
fn without_an_engine_containers_reach_nobody() {
    let lab = Lab::new();
    let _web = peers::Greeter::start(lab.at("web"), "web", 80);
    for client in ["alice", "dave"] {
        let refused = peers::connect_within(lab.at(client), ([10, 0, 0, 10].into(), 80), Duration::from_millis(300));
        assert!(refused.is_err(), "{client} has no way to web");
    }
}

/// A lab leaves nothing behind.
#[test]
fn a_lab_leaves_nothing_behind() {
    let lab = Lab::new();
    let (name, dir) = (lab.at("s1").name().to_owned(), lab.dir().to_owned());
    drop(lab);
    assert!(!std::path::Path::new("/run/netns").join(name).exists());
    assert!(!dir.exists());
}
