//! A service grows from one replica to eight and shrinks back, under load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Result};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::Signal;

use crate::lab::namespace;
use crate::lab::peers::{Greeter, PATIENCE, connect, greeting, says_back};
use crate::lab::{Lab, Member, SOON, until};

const NAME: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 20), 80);
const CLIENTS: [&str; 2] = ["alice", "carol"];

/// A replica: by turns on either server, all with one address.
const fn replica(name: &'static str, server: u8, mac: &'static str) -> Member {
    Member { name, server, network: "blue", mac, ip: NAME.0, local_ports: None }
}

const REPLICAS: [Member; 8] = [
    replica("r0", 2, "02:42:0a:00:02:00"),
    replica("r1", 1, "02:42:0a:00:02:01"),
    replica("r2", 2, "02:42:0a:00:02:02"),
    replica("r3", 1, "02:42:0a:00:02:03"),
    replica("r4", 2, "02:42:0a:00:02:04"),
    replica("r5", 1, "02:42:0a:00:02:05"),
    replica("r6", 2, "02:42:0a:00:02:06"),
    replica("r7", 1, "02:42:0a:00:02:07"),
];

/// From one replica to eight and back to one: every connection to a replica that stays goes on, also while others drain;
/// new ones come to all that are there, and only to those; and of short ones none fails.
#[test]
fn eight_replicas_come_and_go_under_load() {
    let mut lab = Lab::new();
    REPLICAS.into_iter().for_each(|member| lab.add_container(member));
    let before = lab.mapping().to_owned();
    lab.set_mapping(&(before.clone() + &lines(1, 1)));
    lab.start(1);
    lab.start(2);
    let _greeters: Vec<Greeter> =
        REPLICAS.iter().map(|member| Greeter::start(lab.at(member.name), member.name, NAME.1)).collect();

    let load = Arc::new(Load::default());
    let clients = [CLIENTS, CLIENTS].concat().into_iter().map(|client| {
        let place = File::open(format!("/run/netns/{}", lab.at(client).name())).expect("a namespace");
        let load = Arc::clone(&load);
        std::thread::spawn(move || load.run(&place))
    });
    let clients: Vec<JoinHandle<()>> = clients.collect();
    // Long connections, by the replica that they are on.
    let mut open: Vec<(String, TcpStream)> = Vec::new();
    let mut present = 1;
    for count in [1, 2, 4, 8, 4, 2, 1] {
        if present > count {
            reload(&mut lab, &before, &lines(count, present));
            all_live(&mut open);
            load.goes_on();
        }
        present = count;
        reload(&mut lab, &before, &lines(count, count));
        open.retain(|(replica, _)| REPLICAS[..count].iter().any(|member| member.name == replica));
        all_live(&mut open);
        let carried_on = open.len();
        let mut met = BTreeSet::new();
        for client in CLIENTS.iter().cycle().take(16 * count) {
            let mut stream = connect(lab.at(client), NAME).unwrap_or_else(|error| panic!("{count} replicas: {error}"));
            let replica = name_of(&greeting(&mut stream));
            met.insert(replica.clone());
            open.push((replica, stream));
        }
        println!("{count} replicas: {carried_on} connections went on, {} new ones came to {met:?}", 16 * count);
        assert_eq!(met.len(), count, "a replica got nothing");
        load.goes_on();
    }
    load.stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    let (done, failed) = (load.done.lock().unwrap(), load.failed.lock().unwrap());
    println!("{} short connections done: {done:?}", done.values().sum::<u32>());
    assert_eq!(done.len(), REPLICAS.len());
    assert!(failed.is_empty(), "{} failed, the first: {}", failed.len(), failed[0]);
}

fn all_live(open: &mut [(String, TcpStream)]) {
    for (replica, stream) in open {
        says_back(stream, b"still there?").unwrap_or_else(|error| panic!("a connection to {replica}: {error}"));
    }
}

/// Short connections, one after the other, until it is told to stop.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    done: Mutex<BTreeMap<String, u32>>,
    failed: Mutex<Vec<String>>,
}

impl Load {
    /// Waits for a hundred connections more.
    fn goes_on(&self) {
        let done = || self.done.lock().unwrap().values().sum::<u32>();
        let before = done();
        until("more load", SOON, || (done() > before + 100).then_some(()));
    }

    fn run(&self, place: &File) {
        namespace::enter(place);
        while !self.stop.load(Ordering::Relaxed) {
            let mut met = String::new();
            match talk(&mut met) {
                Ok(()) => *self.done.lock().unwrap().entry(met).or_default() += 1,
                Err(error) => self.failed.lock().unwrap().push(format!("{met:?}: {error}")),
            }
        }
    }
}

/// A connection with a few exchanges.
fn talk(met: &mut String) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&NAME.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::with_capacity(1, &stream).read_line(&mut line)?;
    *met = name_of(&line);
    (0..3).try_for_each(|_| says_back(&mut stream, &[7; 500]))
}

fn name_of(greeting: &str) -> String {
    greeting.split([' ', ',']).nth(2).unwrap_or_default().to_owned()
}

/// The bindings of the first `present` replicas, of which those after the first `count` drain.
fn lines(count: usize, present: usize) -> String {
    let line = |(nth, member): (usize, &Member)| {
        let Member { server, mac, ip, .. } = member;
        let (wire, drain) = (20500 + nth, if nth < count { "" } else { "drain" });
        format!("blue tcp 02:00:00:00:00:0{server} 192.168.50.{server}:{wire} {mac} {ip}:{} {drain}\n", NAME.1)
    };
    REPLICAS.iter().take(present).enumerate().map(line).collect()
}

/// Gives both engines another mapping and waits until each has it.
fn reload(lab: &mut Lab, before: &str, lines: &str) {
    let mapping = before.to_owned() + lines;
    if lab.mapping() == mapping {
        return;
    }
    lab.set_mapping(&mapping);
    for server in [1, 2] {
        let generation = lab.engine(server).get("/v1/status")["generation"].clone();
        lab.engine(server).signal(Signal::HUP);
        until("a new generation", SOON, || {
            (lab.engine(server).get("/v1/status")["generation"] != generation).then_some(())
        });
    }
}
