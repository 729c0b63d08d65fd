//! A replica dies and the one that stands by takes over, without a change inside any container: how long that takes, and
//! what of a steady stream of requests is lost.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::shutdown;
use serde_json::{Value, json};

use crate::lab::config::NETWORKS;
use crate::lab::engine::binary;
use crate::lab::namespace::Namespace;
use crate::lab::{GATEWAY, Lab, MAPPING, Member, SOON, until};

pub const SHOP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 20), 80);
const INTERVAL: Duration = Duration::from_millis(100);
/// Requests a second while replicas die, and while changes are asked for.
const RATES: [u64; 2] = [1000, 5000];
/// How much a stream is ahead before anything happens to it, and how much of it is to be answered after that.
const BEFORE: u64 = 20;

pub const FIRST: Member =
    Member { name: "first", server: 2, network: "blue", mac: "02:42:0a:00:00:14", ip: SHOP.0, local_ports: None };
pub const SPARE: Member = Member { name: "spare", server: 1, mac: "02:42:0a:00:00:15", ..FIRST };
/// Their keys, as paths have them.
pub const FIRST_KEY: &str = "blue,any,02:42:0a:00:00:14,10.0.0.20:80";

pub const SPARE_KEY: &str = "blue,any,02:42:0a:00:00:15,10.0.0.20:80";

const REPLICAS: &str = "\
blue   any  02:00:00:00:00:02  192.168.50.2:20600        02:42:0a:00:00:14  10.0.0.20:80
blue   any  02:00:00:00:00:01  192.168.50.1:20600        02:42:0a:00:00:15  10.0.0.20:80  standby
";

/// The lab with `first` on s2, and `spare` on s1 that stands by for it; both are probed by the servers that hold them.
pub fn lab(interval: Duration) -> Lab {
    let checks = format!(
        r#"{NETWORKS}
[[health]]
network = "blue"
ip = "10.0.0.20"
port = 80
interval_ms = {}
damping = false
"#,
        interval.as_millis()
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

/// A server that says its name to whoever connects, sends datagrams back with its name, and ends as its process would.
pub struct Process {
    listener: TcpListener,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Process {
    pub fn start(place: &Namespace, name: &'static str) -> Process {
        // Of both families.
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, SHOP.1));
        let (listener, socket) =
            place.within(|| (TcpListener::bind(any).expect("a free port"), UdpSocket::bind(any).expect("a free port")));
        socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a socket option");
        let (accepted, ends) = (listener.try_clone().expect("a descriptor"), Arc::new(AtomicBool::new(false)));
        let accepting = thread::spawn(move || {
            while let Ok((mut stream, _)) = accepted.accept() {
                let _ = stream.write_all(name.as_bytes());
            }
        });
        let ending = Arc::clone(&ends);
        let answering = thread::spawn(move || {
            let mut datagram = [0; 64];
            while !ending.load(Ordering::Relaxed) {
                let Ok((len, peer)) = socket.recv_from(&mut datagram) else { continue };
                let _ = socket.send_to(&[&datagram[..len.min(8)], name.as_bytes()].concat(), peer);
            }
        });
        Process { listener, ends, threads: vec![accepting, answering] }
    }

    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Numbered requests at a steady rate over one socket, each answered by whichever replica gets it.
struct Requests {
    rate: u64,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    answers: Arc<Mutex<Answers>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Answers {
    /// By number: whether it was answered.
    answered: Vec<bool>,
    /// Who has answered, when first and last, and how often.
    by: Vec<(String, [Instant; 2], u64)>,
}

impl Requests {
    fn start(from: &Namespace, rate: u64) -> Requests {
        // A flow stays on its replica: each stream is another one.
        static PORT: AtomicU16 = AtomicU16::new(10_000);
        let own = (Ipv4Addr::UNSPECIFIED, PORT.fetch_add(1, Ordering::Relaxed));
        let socket = from.within(|| {
            let socket = UdpSocket::bind(own).expect("a free port");
            socket.connect(SHOP).expect("a route");
            socket
        });
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket option");
        let (stop, sent, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::default());
        let sending = {
            let (socket, stop, sent) =
                (socket.try_clone().expect("a descriptor"), Arc::clone(&stop), Arc::clone(&sent));
            thread::spawn(move || send(&socket, rate, &stop, &sent))
        };
        let receiving = {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            thread::spawn(move || receive(&socket, &stop, &answers))
        };
        Requests { rate, stop, sent, answers, threads: vec![sending, receiving] }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().expect("no panic")
    }

    /// Waits until a replica has answered that often; when it has first and last.
    fn until_answered_by(&self, name: &str, times: u64) -> [Instant; 2] {
        until(name, SOON, || {
            let answers = self.answers();
            answers.by.iter().find(|(by, _, count)| by == name && *count >= times).map(|(_, when, _)| *when)
        })
    }

    /// Ends the stream: for how long it was without answers, which is what it lost by its rate.
    fn end(mut self) -> Duration {
        let last = self.sent.load(Ordering::Acquire);
        self.until_caught_up(last);
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("no panic"));
        let answers = self.answers();
        let answered = answers.answered.iter().take(last as usize).filter(|answered| **answered).count() as u64;
        Duration::from_secs_f64((last - answered) as f64 / self.rate as f64)
    }

    fn until_caught_up(&self, last: u64) {
        until("the latest requests are answered", SOON, || (self.answers().answered.len() as u64 > last).then_some(()));
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn send(socket: &UdpSocket, rate: u64, stop: &AtomicBool, sent: &AtomicU64) {
    let (began, gap) = (Instant::now(), Duration::from_nanos(1_000_000_000 / rate));
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Some(early) = (gap * number).checked_sub(began.elapsed()) {
            thread::sleep(early);
        }
        // A port that is closed is told of by an earlier one.
        while socket.send(&u64::from(number).to_be_bytes()).is_err() {}
        sent.store(u64::from(number) + 1, Ordering::Release);
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, answers: &Mutex<Answers>) {
    let mut datagram = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let Ok(len) = socket.recv(&mut datagram) else { continue };
        let (now, (number, name)) = (Instant::now(), datagram[..len].split_at(8));
        let number = u64::from_be_bytes(number.try_into().expect("eight bytes")) as usize;
        let name = String::from_utf8_lossy(name);
        let mut answers = answers.lock().expect("no panic");
        if answers.answered.len() <= number {
            answers.answered.resize(number + 1, false);
        }
        answers.answered[number] = true;
        match answers.by.iter_mut().find(|(by, ..)| *by == name) {
            Some((_, [_, last], count)) => (*last, *count) = (now, *count + 1),
            None => answers.by.push((name.into_owned(), [now; 2], 1)),
        }
    }
}

/// The pipe that carries what one server finds out of its containers to another, as an operator would write it.
pub fn relay(lab: &mut Lab, from: u8, to: u8) -> Child {
    let (from, to) = (lab.engine(from).socket(), lab.engine(to).socket());
    let (sixway, from, to) = (binary(), from.display(), to.display());
    let pipe = format!(
        "{sixway} map watch --health --json --socket {from} | {sixway} map health apply --socket {to} - >/dev/null"
    );
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", &pipe]).stderr(Stdio::null()).spawn().expect("a shell")
}

/// Waits until an engine says this of `first`.
pub fn until_first_is(lab: &mut Lab, server: u8, state: &str) {
    until_it_is(lab, server, FIRST_KEY, state);
}

/// Waits until an engine says this of a binding.
pub fn until_it_is(lab: &mut Lab, server: u8, key: &str, state: &str) {
    let engine = lab.engine(server);
    until(&format!("{key} is {state} on s{server}"), SOON, || {
        (engine.get(&format!("/v1/health/{key}"))["state"] == state).then_some(())
    });
}

pub fn request(socket: &Path, what: &str, body: &Value) -> String {
    let Ok(mut stream) = UnixStream::connect(socket) else { return String::new() };
    let body = body.to_string();
    let length = body.len();
    let head = format!("{what} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.write_all((head + &body).as_bytes()).and_then(|()| stream.read_to_string(&mut answer).map(|_| ()));
    answer
}

/// Says something of `first` to an engine.
pub fn tell(socket: &Path, state: &str) {
    let said = request(socket, &format!("PUT /v1/health/{FIRST_KEY}"), &json!({ "state": state }));
    assert!(said.starts_with("HTTP/1.0 200"), "{said}");
}

/// How often each kind of death is told; `SIXWAY_DEATHS` says otherwise.
fn deaths() -> usize {
    std::env::var("SIXWAY_DEATHS").map_or(5, |number| number.parse().expect("a number"))
}

/// Prints times. `SIXWAY_FIGURES` names a directory for those until an answer comes, which `bench/pictures` draws: a file for
/// each kind, what it is in a line that begins with `#`, then milliseconds, one a line, in order.
fn print(kind: &str, what: &str, times: &[Duration], interval: Option<Duration>) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |quantile: f64| sorted[((sorted.len() - 1) as f64 * quantile).round() as usize];
    let of = |time: Duration| match interval {
        Some(interval) => format!("{:.1} ms ({:.2} intervals)", ms(time), ms(time) / ms(interval)),
        None => format!("{:.2} ms", ms(time)),
    };
    println!(
        "{kind}: {what}: median {}, p99 {}, worst {}, {} times",
        of(at(0.5)),
        of(at(0.99)),
        of(at(1.0)),
        times.len()
    );
    let names =
        [("process ends", "ends"), ("cable pulled", "unplugged"), ("silence", "silent"), ("explicit change", "told")];
    let name = names.into_iter().find(|&(of, _)| of == kind && what == "until answered").map(|(_, name)| name);
    if let (Some(directory), Some(name)) = (std::env::var_os("SIXWAY_FIGURES"), name) {
        let head = format!("# milliseconds to the first answer: {kind}, probes every {INTERVAL:?}\n");
        let text = sorted.iter().fold(head, |text, time| text + &format!("{:.3}\n", ms(*time)));
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(PathBuf::from(directory).join(format!("failover-{name}.tsv")), text).expect("a file");
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What one death costs a client on the standby's server: from the last answer of the one to the first of the other, and
/// without answers in all. A death takes effect when it does: to start a program may take long.
fn suffer(lab: &Lab, death: impl FnOnce()) -> (Duration, Duration) {
    let requests = Requests::start(lab.at("carol"), RATES[0]);
    requests.until_answered_by("first", BEFORE);
    death();
    let [answered, _] = requests.until_answered_by("spare", BEFORE);
    let [_, died] = requests.until_answered_by("first", BEFORE);
    let answered = answered.saturating_duration_since(died);
    (answered, requests.end())
}

/// However it dies, the standby answers within three intervals and what a busy machine adds; it is out of service on both
/// servers, and in service again on both once it is back.
#[test]
fn a_replica_that_stands_by_takes_over_from_one_that_dies() {
    let mut lab = lab(INTERVAL);
    let mut first = Some(Process::start(lab.at("first"), "first"));
    let _spare = Process::start(lab.at("spare"), "spare");
    let _pipes = [relay(&mut lab, 2, 1), relay(&mut lab, 1, 2)];
    until_it_is(&mut lab, 1, SPARE_KEY, "healthy");
    println!(
        "probes every {INTERVAL:?}, two of them in a row decide, and one without an answer fails after half of that; \
         {} requests a second",
        RATES[0]
    );
    // A kernel refuses datagrams once a second after the first six (icmp(7)), and nobody else dies that often.
    lab.at("first").set("net.ipv4.icmp_ratelimit", "0");
    let route = format!("route replace default via {GATEWAY} dev eth0 onlink");
    for kind in ["process ends", "cable pulled", "silence"] {
        let (mut answered, mut blocked) = (Vec::new(), Vec::new());
        for _ in 0..deaths() {
            [1, 2].into_iter().for_each(|server| until_first_is(&mut lab, server, "healthy"));
            let (until_answer, without) = suffer(&lab, || match kind {
                "process ends" => first.take().expect("it runs").kill(),
                "cable pulled" => _ = lab.at("first").ip("link set eth0 down"),
                _ => _ = lab.at("first").ip("route del default"),
            });
            answered.push(until_answer);
            blocked.push(without);
            [1, 2].into_iter().for_each(|server| until_first_is(&mut lab, server, "unhealthy"));
            match kind {
                "process ends" => first = Some(Process::start(lab.at("first"), "first")),
                "cable pulled" => _ = lab.at("first").ip("link set eth0 up"),
                _ => {}
            }
            lab.at("first").ip(&route);
        }
        print(kind, "until answered", &answered, Some(INTERVAL));
        print(kind, "without answers", &blocked, Some(INTERVAL));
        answered.sort();
        let median = answered[answered.len() / 2];
        assert!(median < 4 * INTERVAL, "{kind}: {median:?} at the median");
    }
    let probe = &lab.engine(2).get(&format!("/v1/health/{FIRST_KEY}"))["probes"][0];
    assert!(probe["hints"].as_u64() > Some(0), "datagrams to a process that had ended were refused: {probe}");
    assert!(probe["refused"].as_u64() > Some(0) && probe["bad"].as_u64() > Some(0), "{probe}");
}

/// Said to the client's server, it is in force before the answer, and nothing is lost.
#[test]
fn an_explicit_change_takes_effect_at_once() {
    let mut lab = lab(INTERVAL);
    let _first = Process::start(lab.at("first"), "first");
    let _spare = Process::start(lab.at("spare"), "spare");
    until_it_is(&mut lab, 1, SPARE_KEY, "healthy");
    let socket = lab.engine(1).socket();
    let (mut reached, mut said, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..10 * deaths() {
        let requests = Requests::start(lab.at("carol"), RATES[1]);
        requests.until_answered_by("first", BEFORE);
        let began = Instant::now();
        tell(&socket, "unhealthy");
        said.push(began.elapsed());
        requests.until_answered_by("spare", BEFORE);
        let [answered, _] = requests.until_answered_by("spare", 1);
        reached.push(answered.saturating_duration_since(began));
        lost.push(requests.end());
        tell(&socket, "healthy");
    }
    print("explicit change", "until answered", &reached, None);
    print("explicit change", "until said and on disk", &said, None);
    print("explicit change", "without answers", &lost, None);
    reached.sort();
    let median = reached[reached.len() / 2];
    assert!(median < Duration::from_millis(5), "{median:?} at the median");
}
