//! A service grows from one replica to thirty-two and shrinks back, under load.

mod herd;
mod load;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use serde_json::{Value, json};

use crate::lab::api::post_once;
use crate::lab::peers::{Greeter, connect, greeting, says_back};
use crate::lab::{Lab, Member};
use herd::{ASK, COUNT, Callers, Herd, NEW_FLOWS};
use load::{Load, name_of};

/// The inside address of the service.
const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
const NAME: (Ipv4Addr, u16) = (IP, 80);
const MOST: usize = 32;
const CLIENTS: [&str; 4] = ["alice", "carol", "dave", "erin"];

/// A client of the second server whose ports are its own.
const ERIN: Member = Member {
    name: "erin",
    server: 2,
    network: "blue",
    mac: "02:42:0a:00:00:05",
    ip: Ipv4Addr::new(10, 0, 0, 5),
    local_ports: Some("40960 48127"),
};
const ERINS_BLOCK: &str = "blue any 02:00:00:00:00:02 192.168.50.2:40960-49151 02:42:0a:00:00:05 10.0.0.5:* native\n";

/// By turns on either server, all with one address.
fn replica(nth: usize) -> Member {
    let server = if nth.is_multiple_of(2) { 2 } else { 1 };
    let (name, mac) = (format!("r{nth}").leak(), format!("02:42:0a:00:02:{nth:02x}").leak());
    Member { name, server, network: "blue", mac, ip: IP, local_ports: None }
}

/// Weights are not equal: of two replicas one has 2, the other 3.
fn weight(nth: usize) -> u64 {
    2 + nth as u64 % 2
}

/// A replica's bindings: the one that is called by TCP, one that answers datagrams, and those that count them.
fn bindings(nth: usize, drain: bool) -> Vec<Value> {
    let Member { server, mac, .. } = replica(nth);
    let ports = [("tcp", NAME.1), ("udp", ASK)].into_iter().chain(COUNT.map(|port| ("udp", port)));
    let binding = |(place, (proto, port)): (usize, (&str, u16))| {
        json!({
            "network": "blue", "proto": proto, "weight": weight(nth), "drain": drain,
            "server": {
                "mac": format!("02:00:00:00:00:0{server}"), "ip": format!("192.168.50.{server}"),
                "port": 21_000 + nth * 16 + place,
            },
            "container": {"mac": mac, "ip": IP.to_string(), "port": port},
        })
    };
    ports.enumerate().map(binding).collect()
}

/// Makes the replicas `from..to` part of the service, on both servers.
fn put(lab: &mut Lab, replicas: std::ops::Range<usize>, drain: bool) {
    let puts: Vec<Value> = replicas.flat_map(|nth| bindings(nth, drain)).collect();
    change(lab, &json!({ "put": puts }));
}

fn remove(lab: &mut Lab, replicas: std::ops::Range<usize>) {
    let key = |binding: Value| json!({"network": "blue", "proto": binding["proto"], "container": binding["container"]});
    let keys: Vec<Value> = replicas.flat_map(|nth| bindings(nth, false)).map(key).collect();
    change(lab, &json!({ "delete": keys }));
}

fn change(lab: &mut Lab, set: &Value) {
    for server in [1, 2] {
        let (status, answer) = post_once(&lab.engine(server).socket(), set);
        assert_eq!(status, 200, "{answer}");
    }
}

/// From one replica to thirty-two and back to one, by requests to the API: every connection and every flow of datagrams
/// to a replica that stays goes on, also while others drain; new ones come to all that are there, and only to those, by
/// weight; and of short ones none fails.
#[test]
fn thirty_two_replicas_come_and_go_under_load() {
    let began = Instant::now();
    let mut lab = Lab::new();
    lab.add_container(ERIN);
    (0..MOST).for_each(|nth| lab.add_container(replica(nth)));
    let mapping = lab.mapping().to_owned() + ERINS_BLOCK;
    lab.set_mapping(&mapping);
    lab.start(1);
    lab.start(2);
    let _greeters: Vec<Greeter> =
        (0..MOST).map(|nth| Greeter::start(lab.at(replica(nth).name), replica(nth).name, NAME.1)).collect();
    let herd = Herd::start((0..MOST).map(|nth| lab.at(replica(nth).name)));
    let mut callers = Callers::default();
    println!("32 replicas are up after {:.1?}", began.elapsed());

    put(&mut lab, 0..1, false);
    let load = Load::start(&lab, NAME, &[CLIENTS, CLIENTS].concat());
    // Long connections and flows of datagrams, by the replica that they are on.
    let mut open: Vec<(String, TcpStream)> = Vec::new();
    let mut present = 1;
    for count in [1, 2, 4, 8, 16, 32, 16, 8, 4, 2, 1] {
        if present > count {
            put(&mut lab, count..present, true);
            all_live(&mut open);
            callers.stay(present);
            load.goes_on();
            remove(&mut lab, count..present);
            load.forget_those_to(count..present);
        } else if present < count {
            put(&mut lab, present..count, false);
        }
        let grows = count > present;
        present = count;
        let names: BTreeSet<String> = (0..count).map(|nth| format!("r{nth}")).collect();
        open.retain(|(replica, _)| names.contains(replica));
        all_live(&mut open);
        callers.stay(count);
        let (connections, flows) = (open.len(), callers.len());
        let mut met = BTreeSet::new();
        // Of eight connections a replica, which go by chance, one in a thousand replicas gets none.
        for (nth, client) in CLIENTS.iter().cycle().take(64 * count).enumerate() {
            if nth >= 8 * count && met == names {
                break;
            }
            let mut stream = connect(lab.at(client), NAME).unwrap_or_else(|error| panic!("{count} replicas: {error}"));
            let replica = name_of(&greeting(&mut stream));
            met.insert(replica.clone());
            open.push((replica, stream));
        }
        if count > 1 {
            // A name of one binding has no entries: whose a datagram is that goes on when others join, nobody can tell.
            callers.call(&lab, 4 * count);
        }
        println!(
            "{:.1?}: {count} replicas: {connections} connections and {flows} flows of datagrams went on, {} new connections came \
             to {}",
            began.elapsed(),
            open.len() - connections,
            met.len()
        );
        assert_eq!(met, names, "who got something");
        load.goes_on();
        if let Some(stage) = NEW_FLOWS.iter().position(|(at, _)| *at == count).filter(|_| grows) {
            by_weight(&lab, &herd, stage);
        }
    }
    let affinity = [1, 2].map(|server| lab.engine(server).get("/v1/status")["affinity"].clone());
    let (done, failed) = load.end();
    println!("{} short connections done; flows kept: {affinity:?}", done.values().sum::<u32>());
    assert_eq!(done.len(), MOST);
    assert!(failed.is_empty(), "{} failed, the first: {}", failed.len(), failed[0]);
    for affinity in affinity {
        // Those to replicas that were removed are forgotten.
        assert!(affinity["used"].as_u64().is_some_and(|used| (1..20_000).contains(&used)), "{affinity}");
        // With half of the room taken, one flow in ten thousand finds none.
        assert!(affinity["full"].as_u64() < Some(200), "there was room for nearly all: {affinity}");
    }
    println!("the whole story took {:.1?}", began.elapsed());
}

/// Flows that begin now are shared out by weight.
fn by_weight(lab: &Lab, herd: &Herd, stage: usize) {
    let count = NEW_FLOWS[stage].0;
    let loads = herd.new_flows(lab, stage);
    let sent: u64 = loads.iter().sum();
    let total: u64 = (0..count).map(weight).sum();
    let mut worst = 0.0_f64;
    for (nth, &load) in loads.iter().enumerate() {
        let ideal = if nth < count { sent as f64 * weight(nth) as f64 / total as f64 } else { 0.0 };
        assert!(nth < count || load == 0, "r{nth} is not there and got {load}");
        if nth < count {
            worst = worst.max((load as f64 / ideal - 1.0).abs());
        }
    }
    println!("       {count} replicas: of {sent} new flows none is off its weight by more than {:.2}%", 100.0 * worst);
    assert!(worst < 0.05, "{count} replicas, by weight 2 and 3 in turn: {loads:?}");
}

fn all_live(open: &mut [(String, TcpStream)]) {
    for (replica, stream) in open {
        says_back(stream, b"still there?").unwrap_or_else(|error| panic!("a connection to {replica}: {error}"));
    }
}
