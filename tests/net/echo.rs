//! ping and traceroute from inside.

use crate::lab::{Lab, OUTSIDE, server_ip};

/// The gateway address and every inside address answer with TTL 64: the sender's own engine speaks for them.
#[test]
fn the_engine_answers_for_the_gateway_and_for_inside_addresses() {
    let lab = Lab::running();
    for (client, target) in [
        ("alice", "169.254.1.1"),
        ("bob", "169.254.1.1"),
        ("alice", "10.0.0.10"),
        ("bob", "10.0.0.10"),
        ("carol", "10.0.0.4"),
        ("dave", "10.0.0.10"),
    ] {
        let answer = lab.at(client).run("ping", &["-c3", "-i0.05", "-W2", target]);
        assert!(answer.contains(" 0% packet loss"), "{client} -> {target}:\n{answer}");
        assert!(answer.contains("ttl=64"), "{client} -> {target}:\n{answer}");
    }
}

/// Large and odd-sized echo requests come back byte for byte; ping itself compares the pattern.
#[test]
fn echo_payloads_come_back_as_they_were() {
    let lab = Lab::running();
    for size in ["0", "1", "56", "1471", "1472"] {
        let answer = lab.at("carol").run("ping", &["-c2", "-i0.05", "-W2", "-s", size, "-p", "a55a", "10.0.0.10"]);
        assert!(answer.contains(" 0% packet loss") && !answer.contains("wrong data"), "{answer}");
    }
}

/// An address that nobody holds is unreachable, and ping says so at once.
#[test]
fn an_address_that_nobody_holds_is_unreachable() {
    let lab = Lab::running();
    let answer = lab.at("alice").attempt("ping", &["-c1", "-W2", "10.77.0.1"]);
    assert!(answer.contains("Unreachable"), "{answer}");
}

/// Echo requests to servers and to the outside leave through the block, and their replies come back.
#[test]
fn servers_and_the_outside_answer_pings_of_containers() {
    let lab = Lab::running();
    let (far, outside) = (server_ip(2).to_string(), OUTSIDE.to_string());
    for client in ["alice", "carol"] {
        for target in [&far, &outside] {
            let answer = lab.at(client).run("ping", &["-c3", "-i0.05", "-W2", target]);
            assert!(answer.contains(" 0% packet loss"), "{client} -> {target}:\n{answer}");
        }
    }
}

/// traceroute to the world shows the gateway address first, then the underlay's router, then the host.
#[test]
fn traceroute_shows_the_hops_to_the_outside() {
    let lab = Lab::running();
    for client in ["alice", "carol"] {
        let route = lab.at(client).run("traceroute", &["-n", "-q1", "-w2", "-m6", &OUTSIDE.to_string()]);
        let hops: Vec<&str> = route.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap_or("")).collect();
        println!("{route}");
        assert_eq!(hops.first(), Some(&"169.254.1.1"), "{client}:\n{route}");
        assert_eq!(hops.get(1), Some(&"192.168.50.254"), "{client}:\n{route}");
        assert_eq!(hops.last(), Some(&"203.0.113.9"), "{client}:\n{route}");
    }
}

/// traceroute by UDP to a container: the near gateway, the far server, the container.
#[test]
fn traceroute_shows_the_hops_to_a_container() {
    let lab = Lab::running();
    let route = lab.at("alice").attempt("traceroute", &["-n", "-q1", "-w2", "-m5", "-U", "-p", "7", "10.0.0.10"]);
    println!("{route}");
    let first = route.lines().nth(1).unwrap_or("");
    assert!(first.contains("169.254.1.1"), "{route}");
    assert!(route.contains("10.0.0.10"), "{route}");
}
