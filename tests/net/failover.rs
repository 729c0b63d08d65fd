//! A replica dies and the one that stands by takes over, without a change inside any container.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::shutdown;
use serde_json::{Value, json};

use crate::lab::config::NETWORKS;
use crate::lab::namespace::Namespace;
use crate::lab::peers::connect_within;
use crate::lab::{GATEWAY, Lab, MAPPING, Member, SOON, until};

const SHOP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 20), 80);
const INTERVAL: Duration = Duration::from_millis(100);
/// How long one attempt to connect may take: the resolution of the figures where packets vanish.
const ATTEMPT: Duration = Duration::from_millis(10);

const FIRST: Member =
    Member { name: "first", server: 2, network: "blue", mac: "02:42:0a:00:00:14", ip: SHOP.0, local_ports: None };
const SPARE: Member = Member { name: "spare", server: 1, mac: "02:42:0a:00:00:15", ..FIRST };

const REPLICAS: &str = "\
blue   tcp  02:00:00:00:00:02  192.168.50.2:20600        02:42:0a:00:00:14  10.0.0.20:80
blue   tcp  02:00:00:00:00:01  192.168.50.1:20600        02:42:0a:00:00:15  10.0.0.20:80  standby
";

/// The lab with `first` on s2, and `spare` on s1 that stands by for it; both are probed by the servers that hold them.
fn lab() -> Lab {
    let checks = format!(
        r#"{NETWORKS}
[[health]]
network = "blue"
ip = "10.0.0.20"
port = 80
interval_ms = {}
damping = false
"#,
        INTERVAL.as_millis()
    );
    let mut lab = Lab::new();
    lab.add_container(FIRST);
    lab.add_container(SPARE);
    lab.set_networks(&checks);
    lab.set_mapping(&format!("{MAPPING}{REPLICAS}"));
    lab.start(1);
    lab.start(2);
    lab
}

/// A server that says its name to whoever connects, and ends as its process would.
struct Process {
    listener: TcpListener,
    accepting: Option<JoinHandle<()>>,
}

impl Process {
    fn start(place: &Namespace, name: &'static str) -> Process {
        let listener = place.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, SHOP.1)).expect("a free port"));
        let accepted = listener.try_clone().expect("a descriptor");
        let accepting = thread::spawn(move || {
            while let Ok((mut stream, _)) = accepted.accept() {
                let _ = stream.write_all(name.as_bytes());
            }
        });
        Process { listener, accepting: Some(accepting) }
    }

    fn kill(mut self) {
        shutdown(&self.listener, rustix::net::Shutdown::Both).expect("a listener");
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

/// Who answers, if anybody does at once.
fn answer(from: &Namespace) -> Option<String> {
    let mut stream: TcpStream = connect_within(from, SHOP, ATTEMPT).ok()?;
    stream.set_read_timeout(Some(ATTEMPT)).ok()?;
    let mut name = String::new();
    stream.read_to_string(&mut name).ok()?;
    let _ = stream.shutdown(Shutdown::Both);
    Some(name)
}

fn until_answered_by(from: &Namespace, name: &str) {
    loop_until(name, || answer(from).is_some_and(|by| by == name));
}

/// As [`until`], without a pause: for what is measured.
fn loop_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "in vain: {what}");
    }
}

/// Waits until that many bindings are known to be healthy on a server.
fn until_healthy(lab: &mut Lab, server: u8, count: usize) {
    let socket = lab.engine(server).socket();
    let healthy = || {
        let reports = request(&socket, "GET /v1/health", &Value::Null);
        reports.lines().filter(|line| line.contains(r#""state":"healthy""#)).count()
    };
    until("healthy bindings", SOON, || (healthy() >= count).then_some(()));
}

/// Carries what one engine finds out to another, as a store does.
fn relay(from: &Path, to: PathBuf) {
    let mut events = UnixStream::connect(from).expect("the control socket");
    write!(events, "GET /v1/bindings/watch HTTP/1.1\r\nHost: sixway\r\n\r\n").expect("sent");
    let mut events = BufReader::new(events);
    let mut line = String::new();
    while !line.starts_with("event: generation") {
        line.clear();
        events.read_line(&mut line).expect("the first event");
    }
    thread::spawn(move || {
        for line in events.lines().map_while(Result::ok) {
            let event = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok());
            let Some(health) = event.map(|event| event["health"].clone()).filter(Value::is_array) else { continue };
            request(&to, "POST /v1/changes", &json!({ "health": health }));
        }
    });
}

fn request(socket: &Path, what: &str, body: &Value) -> String {
    let Ok(mut stream) = UnixStream::connect(socket) else { return String::new() };
    let body = body.to_string();
    let length = body.len();
    let head = format!("{what} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.write_all((head + &body).as_bytes()).and_then(|()| stream.read_to_string(&mut answer).map(|_| ()));
    answer
}

/// How often each kind of death is told; `SIXWAY_DEATHS` says otherwise.
fn deaths() -> usize {
    std::env::var("SIXWAY_DEATHS").map_or(10, |number| number.parse().expect("a number"))
}

/// Prints the times, and keeps them for `bench/pictures` in the directory that `SIXWAY_FIGURES` names, if it does: a file
/// for each kind, `failover-NAME.tsv`, what it is in a line that begins with `#`, then the milliseconds of a death a line, in
/// order.
fn print(what: &str, name: &str, mut times: Vec<Duration>) {
    times.sort();
    if let Some(directory) = std::env::var_os("SIXWAY_FIGURES") {
        let mut text = format!("# milliseconds to the first answer: {what}, probes every {INTERVAL:?}\n");
        times.iter().for_each(|time| text += &format!("{:.1}\n", time.as_secs_f64() * 1e3));
        let directory = Path::new(&directory);
        fs::create_dir_all(directory).expect("a directory");
        fs::write(directory.join(format!("failover-{name}.tsv")), text).expect("a file");
    }
    let at = |quantile: f64| times[((times.len() - 1) as f64 * quantile).round() as usize];
    let (median, p99, worst) = (at(0.5), at(0.99), at(1.0));
    println!(
        "{what}: {} times, {median:.1?} to the first answer at the median, {p99:.1?} at p99, {worst:.1?} at worst",
        times.len()
    );
}

#[test]
fn a_replica_that_stands_by_takes_over_from_one_that_dies() {
    let mut lab = lab();
    let mut first = Process::start(lab.at("first"), "first");
    let _spare = Process::start(lab.at("spare"), "spare");
    relay(&lab.engine(2).socket(), lab.engine(1).socket());
    until_healthy(&mut lab, 1, 1);
    println!(
        "probes every {INTERVAL:?}, two of them in a row decide, and one without an answer fails after half of that"
    );

    let mut times = Vec::new();
    for _ in 0..deaths() {
        until_answered_by(lab.at("carol"), "first");
        let died = Instant::now();
        first.kill();
        until_answered_by(lab.at("carol"), "spare");
        times.push(died.elapsed());
        first = Process::start(lab.at("first"), "first");
    }
    print("a process that ends", "ends", times);

    let route = format!("route replace default via {GATEWAY} dev eth0 onlink");
    for (what, name, death, cure) in [
        ("a cable that is pulled", "unplugged", "link set eth0 down", "link set eth0 up"),
        ("a container that falls silent", "silent", "route del default", &route),
    ] {
        let mut times = Vec::new();
        for _ in 0..deaths() {
            until_answered_by(lab.at("carol"), "first");
            let inside = lab.at("first");
            let died = Instant::now();
            inside.ip(death);
            until_answered_by(lab.at("carol"), "spare");
            times.push(died.elapsed());
            inside.ip(cure);
            inside.ip(&route);
        }
        print(what, name, times);
    }
}

#[test]
fn an_explicit_change_takes_effect_at_once() {
    let mut lab = lab();
    let _first = Process::start(lab.at("first"), "first");
    let _spare = Process::start(lab.at("spare"), "spare");
    let socket = lab.engine(1).socket();
    until_healthy(&mut lab, 1, 1);
    let mut times = Vec::new();
    for _ in 0..10 * deaths() {
        until_answered_by(lab.at("carol"), "first");
        let began = Instant::now();
        let path = "PUT /v1/health/blue,tcp,02:42:0a:00:00:14,10.0.0.20:80";
        let said = request(&socket, path, &json!({ "state": "unhealthy" }));
        assert!(said.starts_with("HTTP/1.0 200"), "{said}");
        until_answered_by(lab.at("carol"), "spare");
        times.push(began.elapsed());
        request(&socket, path, &json!({ "state": "healthy" }));
    }
    print("an explicit change", "told", times);
}

/// Probes go where packets to containers go, and the counters say so.
#[test]
fn all_kinds_of_probes_are_answered_by_a_sealed_container() {
    let mut lab = Lab::new();
    let kinds = [("tcp", "tcp", 80), ("tcp", "icmp", 7), ("udp", "udp", 7)];
    let checks = kinds.map(|(proto, kind, port)| {
        format!("[[health]]\nnetwork = \"blue\"\nip = \"10.0.0.10\"\nport = {port}\nproto = \"{proto}\"\nkind = \"{kind}\"\ninterval_ms = 50\n")
    });
    lab.set_networks(&format!("{NETWORKS}\n{}", checks.join("\n")));
    lab.start(2);
    let _web = Process::start(lab.at("web"), "web");
    let _parrot = crate::lab::peers::Parrot::start(lab.at("web"), 7);
    until_healthy(&mut lab, 2, kinds.len());
    let ports = lab.engine(2).get("/v1/ports");
    let web = ports.as_array().expect("a list").iter().find(|port| port["name"] == "web").expect("web's port");
    assert!(web["consumed"].as_u64() > Some(2), "{web}");
}
