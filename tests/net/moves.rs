//! A container moves to another server, with its connections if its stack's state moves along.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use smoltcp::iface::SocketHandle;

use crate::lab::config::NETWORKS;
use crate::lab::namespace;
use crate::lab::peers::{Greeter, PATIENCE, connect, greeting};
use crate::lab::stack::Stack;
use crate::lab::{Lab, Member, SOON, until};
use crate::live::curl;

const MAC: &str = "02:42:0a:00:03:01";
const MOVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
const PORT: u16 = 80;
/// Who talks to it, by name, inside address and service: one on either server.
const PEERS: [(&str, Ipv4Addr, u16); 2] =
    [("carol", Ipv4Addr::new(10, 0, 0, 3), 7), ("web", Ipv4Addr::new(10, 0, 0, 10), 80)];

/// A place for it on each server: an access port and the container's end of it.
const BERTHS: [Member; 2] = [berth("berth1", 1), berth("berth2", 2)];

const fn berth(name: &'static str, server: u8) -> Member {
    Member { name, server, network: "blue", mac: MAC, ip: MOVER, local_ports: None }
}

/// The wire names that it has at home on a server: service and native block, other numbers on each.
const WIRE: [(u16, &str); 2] = [(20510, "57344-58367"), (20511, "58368-59391")];
const INSIDE: &str = "57344-58367";

fn lines(server: u8) -> String {
    let (service, block) = WIRE[usize::from(server) - 1];
    let at = format!("02:00:00:00:00:0{server} 192.168.50.{server}");
    format!("blue tcp {at}:{service} {MAC} {MOVER}:{PORT}\nblue any {at}:{block} {MAC} {MOVER}:{INSIDE} native\n")
}

fn to_server(server: u8) -> Value {
    let (service, block) = WIRE[usize::from(server) - 1];
    let (mac, ip) = (format!("02:00:00:00:00:0{server}"), format!("192.168.50.{server}"));
    json!({"put": [
        {"network": "blue", "proto": "tcp", "server": {"mac": mac, "ip": ip, "port": service},
         "container": {"mac": MAC, "ip": MOVER, "port": PORT}},
        {"network": "blue", "proto": "any", "server": {"mac": mac, "ip": ip, "ports": block},
         "container": {"mac": MAC, "ip": MOVER, "ports": INSIDE}, "native": true},
    ]})
}

fn change(lab: &mut Lab, server: u8, set: &Value) {
    curl(&lab.engine(server).socket(), "/v1/changes", &["-d", &set.to_string()]);
}

/// There and back again, twice: with the old server told first and with the new one, with a pause between the two and
/// without. Connections to its service and from its native block go on, with a peer on either server, and not a byte is
/// lost or changed. What is under way to the wrong server meanwhile is dropped there and sent again.
#[test]
fn a_container_moves_with_its_connections() {
    let mut lab = Lab::new();
    BERTHS.into_iter().for_each(|member| lab.add_container(member));
    for berth in BERTHS {
        lab.at(berth.name).ip("addr flush dev eth0");
    }
    let mapping = lab.mapping().to_owned() + &lines(1);
    lab.set_mapping(&mapping);
    lab.start(1);
    lab.start(2);
    let greeters = PEERS.map(|(name, _, port)| Greeter::start(lab.at(name), name, port));
    let mut mover = Mover::new(&lab);
    let callers = PEERS.map(|(name, ..)| Caller::start(&lab, name));
    mover.goes_on(&callers);

    for (to, first, pause) in [(2, 1, true), (1, 1, true), (2, 2, false), (1, 2, false)] {
        let began = Instant::now();
        let old = 3 - to;
        mover.stack.goes_to(lab.at(BERTHS[usize::from(to) - 1].name));
        // Under way to where it no longer is, or from a name that is not known yet.
        let lost = if first == old { "no_binding" } else { "unmapped_source" };
        let before = lab.engine(old).drops(Some("uplink"), lost);
        change(&mut lab, first, &to_server(to));
        if pause {
            mover.until(lost, || lab.engine(old).drops(Some("uplink"), lost) > before);
        }
        change(&mut lab, 3 - first, &to_server(to));
        mover.goes_on(&callers);
        let lost = lab.engine(old).drops(Some("uplink"), lost) - before;
        println!(
            "to s{to}, s{first} told first, pause {pause}: {lost} dropped at the old server, all four connections go on after {:?}",
            began.elapsed()
        );
        for server in [1, 2] {
            assert_eq!(lab.engine(server).get("/v1/status")["quarantine"], json!([]), "moves need no rest");
        }
    }
    for greeter in greeters {
        assert_eq!(greeter.seen(), [IpAddr::V4(MOVER)], "one connection, by one name");
    }
    let bytes: u64 = mover.calls.iter().map(|call| call.received).sum();
    let rounds = callers.map(|caller| mover.end(caller));
    println!("{bytes} bytes from the native block and back, {rounds:?} times {CHUNK} to the service and back");
}

const CHUNK: usize = 1000;

/// The byte at a place of a stream.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// Calls the mover's service from a container, sends and compares what comes back, until told to stop.
struct Caller {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Caller {
    fn start(lab: &Lab, from: &str) -> Caller {
        let place = File::open(format!("/run/netns/{}", lab.at(from).name())).expect("a namespace");
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            std::thread::spawn(move || {
                namespace::enter(&place);
                let mut stream =
                    TcpStream::connect_timeout(&(MOVER, PORT).into(), PATIENCE).expect("the mover answers");
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
                let mut back = [0; CHUNK];
                while !stop.load(Ordering::Relaxed) {
                    let at = rounds.load(Ordering::Relaxed) * CHUNK as u64;
                    let sent: Vec<u8> = (at..at + CHUNK as u64).map(byte).collect();
                    stream.write_all(&sent).expect("the connection goes on");
                    stream.read_exact(&mut back).expect("the connection goes on");
                    assert_eq!(back, sent[..], "what comes back is what was sent");
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Caller { stop, rounds, thread }
    }
}

/// The container that moves: two connections that came to its service, two that it opened.
struct Mover {
    stack: Stack,
    called: [(SocketHandle, Vec<u8>); 2],
    calls: [Call; 2],
}

struct Call {
    handle: SocketHandle,
    greeting: Vec<u8>,
    sent: u64,
    received: u64,
}

impl Mover {
    fn new(lab: &Lab) -> Mover {
        let mut stack = Stack::on(lab.at(BERTHS[0].name), MAC, MOVER);
        let called = [(); 2].map(|()| (stack.listen(PORT), Vec::new()));
        let mut port = 57_400;
        let calls = PEERS.map(|(_, ip, service)| {
            port += 1;
            Call { handle: stack.connect(port, (ip, service)), greeting: Vec::new(), sent: 0, received: 0 }
        });
        Mover { stack, called, calls }
    }

    /// All four connections carry more.
    fn goes_on(&mut self, callers: &[Caller; 2]) {
        let received = |mover: &Mover| mover.calls.each_ref().map(|call| call.received);
        let rounds = || callers.each_ref().map(|caller| caller.rounds.load(Ordering::Relaxed));
        let before = (received(self), rounds());
        let began = Instant::now();
        loop {
            self.tend();
            let more = received(self).iter().zip(before.0).all(|(now, before)| *now > before + 50_000)
                && rounds().iter().zip(before.1).all(|(now, before)| *now > before + 20);
            if more {
                return;
            }
            assert!(began.elapsed() < 2 * SOON, "no more than {:?}, {:?} after {before:?}", received(self), rounds());
            self.stack.rest();
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < SOON, "waited in vain: {what}");
            self.tend();
            self.stack.rest();
        }
    }

    /// Ends a caller, and says how many rounds it made.
    fn end(&mut self, caller: Caller) -> u64 {
        caller.stop.store(true, Ordering::Relaxed);
        self.until("the caller's end", || caller.thread.is_finished());
        caller.thread.join().expect("no panic");
        caller.rounds.load(Ordering::Relaxed)
    }

    /// Does all that there is to do.
    fn tend(&mut self) {
        self.stack.poll();
        let mut buffer = [0; 4096];
        for (handle, waiting) in &mut self.called {
            let socket = self.stack.socket(*handle);
            while waiting.is_empty() && socket.can_recv() && socket.can_send() {
                let len = socket.recv_slice(&mut buffer).expect("it can");
                let sent = socket.send_slice(&buffer[..len]).expect("it can");
                waiting.extend(&buffer[sent..len]);
            }
            if !waiting.is_empty() && socket.can_send() {
                let sent = socket.send_slice(waiting).expect("it can");
                waiting.drain(..sent);
            }
        }
        for call in &mut self.calls {
            call.tend(self.stack.socket(call.handle), &mut buffer);
        }
        self.stack.poll();
    }
}

impl Call {
    fn tend(&mut self, socket: &mut smoltcp::socket::tcp::Socket<'static>, buffer: &mut [u8]) {
        while socket.can_recv() {
            let len = socket.recv_slice(buffer).expect("it can");
            for &got in &buffer[..len] {
                if self.greeting.last() != Some(&b'\n') {
                    self.greeting.push(got);
                    continue;
                }
                assert_eq!(got, byte(self.received), "byte {} of what comes back", self.received);
                self.received += 1;
            }
        }
        if self.greeting.last() == Some(&b'\n') {
            let greeting = String::from_utf8_lossy(&self.greeting);
            assert!(greeting.ends_with("you are 10.0.0.20\n"), "{greeting}");
        }
        if socket.can_send() && self.sent - self.received < 8 * CHUNK as u64 {
            let bytes: Vec<u8> = (self.sent..self.sent + CHUNK as u64).map(byte).collect();
            self.sent += socket.send_slice(&bytes).expect("it can") as u64;
        }
    }
}

/// A connection from a default-mode block does not follow. Its peer's segments are dropped while its network says so, and
/// reset at once when it says otherwise: no hang.
#[test]
fn a_connection_of_a_default_block_does_not_follow() {
    let mut lab = Lab::running();
    let listener = lab.at("web").within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("a free port"));
    let mut carol = connect(lab.at("carol"), (PEERS[1].1, 80)).expect("carol reaches web");
    let (mut web, _) = listener.accept().expect("carol's connection");
    web.write_all(b"hello").expect("sent");
    carol.read_exact(&mut [0; 5]).expect("received");

    let block = json!({"put": [
        {"network": "blue", "proto": "any",
         "server": {"mac": "02:00:00:00:00:02", "ip": "192.168.50.2", "ports": "40960-49151"},
         "container": {"mac": "02:42:0a:00:00:03", "ip": "10.0.0.3", "port": "*"}},
    ]});
    for server in [1, 2] {
        change(&mut lab, server, &block);
    }
    let before = lab.engine(2).drops(Some("web"), "no_binding");
    web.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket option");
    web.write_all(b"are you there?").expect("sent");
    let silence = web.read(&mut [0; 1]).expect_err("nothing comes back");
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    assert!(lab.engine(2).drops(Some("web"), "no_binding") > before, "{}", lab.engine(2).all_drops());

    let moved = lab
        .mapping()
        .replace("02:00:00:00:00:01  192.168.50.1:49152-57343", "02:00:00:00:00:02  192.168.50.2:40960-49151");
    lab.set_mapping(&moved);
    let reset = NETWORKS.replace("outside = true", "outside = true\nmidstream = \"reset\"");
    lab.set_networks(&reset);
    lab.engine(2).signal(Signal::HUP);
    until("the reload", SOON, || lab.engine(2).log().contains("were reloaded").then_some(()));
    let began = Instant::now();
    web.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    // Sent anew, the segment would do as well, but its timer may be long by now.
    let _ = web.write_all(b"hello?");
    let error = web.read(&mut [0; 1]).expect_err("the connection is over");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    println!("midstream = \"reset\": the peer knows after {:?}", began.elapsed());
}

/// New connections find the container where it is, whatever became of the old ones.
#[test]
fn new_connections_find_a_container_that_has_moved() {
    let mut lab = Lab::new();
    BERTHS.into_iter().for_each(|member| lab.add_container(member));
    let mapping = lab.mapping().to_owned() + &lines(1);
    lab.set_mapping(&mapping);
    lab.start(1);
    lab.start(2);
    let homes = BERTHS.map(|berth| Greeter::start(lab.at(berth.name), berth.name, PORT));
    for (server, name) in [(1, "berth1"), (2, "berth2"), (1, "berth1")] {
        for engine in [1, 2] {
            change(&mut lab, engine, &to_server(server));
        }
        for (peer, ..) in PEERS {
            let mut stream = connect(lab.at(peer), (MOVER, PORT)).expect("the mover is found");
            assert!(greeting(&mut stream).starts_with(&format!("I am {name},")), "{peer} meets it on s{server}");
        }
    }
    assert_eq!(homes.map(|home| home.seen().len()), [4, 2]);
}
