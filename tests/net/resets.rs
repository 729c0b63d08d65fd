//! Clients of a replica that is gone are reset at once instead of left to wait, where their network is configured so.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failover::request;
use crate::lab::config::NETWORKS;
use crate::lab::peers::{Greeter, PATIENCE, connect, greeting};
use crate::lab::{Lab, Member};

const SHOP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 20), 80);
const MAC: &str = "02:42:0a:00:00:14";
const AT_ONCE: Duration = Duration::from_millis(500);
/// One on the server of the replica, and one on the other.
const CLIENTS: [(&str, u8); 2] = [("dave", 2), ("carol", 1)];

/// A place for the replica on each server.
const BERTHS: [Member; 2] = [
    Member { name: "berth2", server: 2, network: "blue", mac: MAC, ip: SHOP.0, local_ports: None },
    Member { name: "berth1", server: 1, network: "blue", mac: MAC, ip: SHOP.0, local_ports: None },
];

fn binding(server: u8) -> Value {
    json!({"network": "blue", "proto": "tcp", "container": {"mac": MAC, "ip": SHOP.0, "port": SHOP.1},
           "server": {"mac": format!("02:00:00:00:00:0{server}"), "ip": format!("192.168.50.{server}"), "port": 20600}})
}

fn key() -> Value {
    json!({"network": "blue", "proto": "tcp", "container": {"mac": MAC, "ip": SHOP.0, "port": SHOP.1}})
}

/// The lab, with the replica on s2; `midstream` is that of its network.
fn lab(midstream: &str) -> Lab {
    let mut lab = Lab::new();
    BERTHS.into_iter().for_each(|member| lab.add_container(member));
    lab.set_networks(&NETWORKS.replacen("outside = true", &format!("outside = true\nmidstream = \"{midstream}\""), 1));
    lab.start(1);
    lab.start(2);
    change(&mut lab, &json!({ "put": [binding(2)] }));
    lab
}

fn change(lab: &mut Lab, set: &Value) {
    for server in [1, 2] {
        let said = request(&lab.engine(server).socket(), "POST /v1/changes", set);
        assert!(said.starts_with("HTTP/1.0 200"), "{said}");
    }
}

/// Resets that an engine has sent to a client.
fn resets(lab: &mut Lab, (client, server): (&str, u8)) -> u64 {
    lab.engine(server).port(client)["answers"]["reset"].as_u64().unwrap_or(0)
}

/// What a client that says something hears, within a time.
fn hears(stream: &mut TcpStream, within: Duration) -> ErrorKind {
    stream.set_read_timeout(Some(within)).expect("a socket option");
    stream.write_all(b"still there?").expect("there is room");
    stream.read_exact(&mut [0; 12]).map_or_else(|error| error.kind(), |()| panic!("it is still there"))
}

/// A replica that is removed, and one that is unhealthy: the client's own server resets, wherever the replica was. One that
/// has moved without its connections: its new place does.
#[test]
fn clients_of_a_replica_that_is_gone_are_reset() {
    let mut lab = lab("reset");
    let _greeters = BERTHS.map(|member| Greeter::start(lab.at(member.name), member.name, SHOP.1));
    let unhealthy = |state: &str| json!({"health": [{"binding": key(), "state": state}]});
    for (what, end, by_engine) in [
        ("removed", json!({ "delete": [key()] }), true),
        ("unhealthy", unhealthy("unhealthy"), true),
        ("moved", json!({ "put": [binding(1)] }), false),
    ] {
        let mut streams = CLIENTS.map(|(client, _)| {
            let mut stream = connect(lab.at(client), SHOP).expect("it answers");
            assert!(greeting(&mut stream).starts_with("I am berth2"), "{what}");
            stream
        });
        let before = CLIENTS.map(|client| resets(&mut lab, client));
        change(&mut lab, &end);
        for ((stream, client), before) in streams.iter_mut().zip(CLIENTS).zip(before) {
            let began = Instant::now();
            assert_eq!(hears(stream, PATIENCE), ErrorKind::ConnectionReset, "{what}, {client:?}");
            assert!(began.elapsed() < AT_ONCE, "{what}, {client:?}: {:?}", began.elapsed());
            assert_eq!(resets(&mut lab, client) - before, u64::from(by_engine), "{what}, {client:?}");
            println!("{what}, {client:?}: reset after {:?}", began.elapsed());
        }
        change(&mut lab, &json!({"put": [binding(2)], "health": [{"binding": key(), "state": "unknown"}]}));
    }
}

/// Unless it is configured so, a binding that is away for a moment kills nothing: the connection waits, and goes on.
#[test]
fn otherwise_they_wait_for_it() {
    let mut lab = lab("drop");
    let _greeter = Greeter::start(lab.at("berth2"), "berth2", SHOP.1);
    let mut streams = CLIENTS.map(|(client, _)| {
        let mut stream = connect(lab.at(client), SHOP).expect("it answers");
        greeting(&mut stream);
        stream
    });
    change(&mut lab, &json!({ "delete": [key()] }));
    for ((client, server), stream) in CLIENTS.into_iter().zip(&mut streams) {
        let before = lab.engine(server).drops(Some(client), "no_binding");
        assert_eq!(hears(stream, Duration::from_millis(100)), ErrorKind::WouldBlock, "{client}");
        assert!(lab.engine(server).drops(Some(client), "no_binding") > before, "{client}");
    }
    change(&mut lab, &json!({ "put": [binding(2)], "force": true }));
    for stream in &mut streams {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("the connection goes on");
        assert_eq!(&answer, b"still there?");
    }
}
