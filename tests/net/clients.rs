//! Control clients die in the middle of what they say.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::journal::{NEVER, Versions, assert_nothing_is_lost, pair};
use crate::lab::api::answer;
use crate::lab::engine::binary;
use crate::lab::raw::Random;
use crate::lab::traffic::Traffic;
use crate::lab::vitals::{Vitals, until_closed};
use crate::lab::{Lab, SOON, until};
use crate::live::curl;

const DEATHS: usize = 10;
const MANY: usize = 20_000;

/// Ten clients are killed at as many places of a whole mapping that they send, and ten more that load one with the command:
/// what was not sent whole changes nothing, what was is there whole; the next client is served, and packets notice nothing.
#[test]
fn clients_that_die_amid_a_whole_mapping_leave_the_former_one() {
    let mut lab = Lab::running();
    let mut traffic = Traffic::start(&mut lab);
    let socket = lab.engine(1).socket();
    let small = curl(&socket, "/v1/bindings", &[]);
    let few = small.lines().count() as u64;
    let large = small.clone() + &(0..MANY).map(elsewhere).collect::<String>();
    let before = Vitals::after_a_change(lab.engine(1));
    for death in 0..DEATHS {
        let mut client = uploader(&socket);
        let mut pipe = client.stdin.take().expect("piped");
        // By turns within a line, and after a whole one.
        let within = large.len() * (death + 1) / (DEATHS + 1);
        let sent = if death % 2 == 0 { within } else { large[..within].rfind('\n').map_or(within, |end| end + 1) };
        pipe.write_all(&large.as_bytes()[..sent]).expect("curl reads");
        // Nobody else's mapping is read meanwhile. This one is of no generation that there will be.
        until("the engine reads it", SOON, || (replaced_by_nobody(&socket) == 503).then_some(()));
        client.kill().expect("our own child");
        client.wait().expect("our own child");
        until("it is given up", SOON, || (replaced_by_nobody(&socket) == 409).then_some(()));
        until_closed(lab.engine(1), &before);
        let vitals = Vitals::of(lab.engine(1));
        assert_eq!((vitals.generation, vitals.bindings), (before.generation, few), "{sent} bytes changed something");
        traffic.goes_on();
    }

    let (large_file, small_file) = (lab.dir().join("large"), lab.dir().join("small"));
    let lines: String = (0..MANY).map(elsewhere_in_a_file).collect();
    std::fs::write(&large_file, lab.mapping().to_owned() + &lines).expect("a file");
    std::fs::write(&small_file, lab.mapping()).expect("a file");
    let took = Instant::now();
    assert!(load(&socket, &large_file).wait().expect("our own child").success());
    let took = took.elapsed();
    let mut whole = 0;
    for death in 0..DEATHS {
        assert!(load(&socket, &small_file).wait().expect("our own child").success());
        assert_eq!(Vitals::of(lab.engine(1)).bindings, few);
        let mut client = load(&socket, &large_file);
        // From its very beginning to when it is nearly done.
        let moment = Instant::now() + took.mul_f64((death + 1) as f64 / DEATHS as f64);
        until("a moment that is as good as any", SOON, || (Instant::now() >= moment).then_some(()));
        client.kill().expect("our own child");
        client.wait().expect("our own child");
        until("it is given up or done", SOON, || (replaced_by_nobody(&socket) == 409).then_some(()));
        let bindings = Vitals::of(lab.engine(1)).bindings;
        assert!(bindings == few || bindings == few + MANY as u64, "{bindings} is a part of a mapping");
        whole += usize::from(bindings > few);
    }
    println!("10 uploads were killed and left nothing; of 10 loads that were killed {whole} were through");
    assert!(load(&socket, &small_file).wait().expect("our own child").success());
    until_closed(lab.engine(1), &before);
    let after = Vitals::settled(lab.engine(1));
    assert_eq!((after.records, after.bindings), (before.records, few), "nothing is left behind");
    traffic.has_lost_nothing(&mut lab);
}

/// Ten clients send a long series of change sets on one connection, without waiting for answers, and die within one: what was
/// answered is there, what was not sent whole is not, and no change set is there by half. The engine is killed after each.
#[test]
fn clients_that_die_amid_a_series_of_change_sets_leave_none_by_half() {
    const SERIES: usize = 200;
    let mut lab = Lab::running();
    let mut traffic = Traffic::start(&mut lab);
    let socket = lab.engine(1).socket();
    let mut random = Random(20_26);
    let before = Vitals::after_a_change(lab.engine(1));
    let mut known = Versions::new();
    let (mut answered, mut unanswered) = (0, 0);
    for death in 0..DEATHS {
        let mut stream = UnixStream::connect(&socket).expect("the control socket");
        stream.set_read_timeout(Some(SOON)).expect("a socket option");
        let requests: Vec<Vec<u8>> = (0..SERIES).map(|n| request(&pair(n, death + 1))).collect();
        // Some are answered before the client dies with others on their way.
        let (wait_for, last) = (random.below(100), 100 + random.below(100));
        let cut = 1 + random.below(requests[last].len() - 1);
        let mut bytes = requests[..last].concat();
        bytes.extend_from_slice(&requests[last][..cut]);
        let mut reader = stream.try_clone().expect("a descriptor");
        let answers = std::thread::spawn(move || {
            let mut reader = BufReader::new(&mut reader);
            (0..wait_for).for_each(|_| assert_eq!(status(&mut reader), Some(200)));
        });
        stream.write_all(&bytes).expect("sent");
        answers.join().expect("answers");
        drop(stream);
        for n in 0..last {
            let version = known.entry(n).or_insert((NEVER, NEVER));
            version.1 = death + 1;
            if n < wait_for {
                version.0 = death + 1;
            }
        }
        answered += wait_for;
        until_closed(lab.engine(1), &before);
        unanswered += assert_nothing_is_lost(&socket, &known);
        settle(&mut known, &socket);
        traffic.goes_on();
        lab.engine(1).kill();
        lab.engine(1).start();
        assert_eq!(assert_nothing_is_lost(&socket, &known), 0, "what was there is there");
        traffic.goes_on();
    }
    println!(
        "10 clients and 10 engines died: {answered} change sets were answered and kept, {unanswered} others were in force"
    );
}

/// What there is now was answered, as far as later rounds are concerned.
fn settle(known: &mut Versions, socket: &Path) {
    let listing = curl(socket, "/v1/bindings", &[]);
    for (n, version) in known.iter_mut() {
        let put = &pair(*n, version.1)["put"][0];
        let (ip, port) = (put["container"]["ip"].to_string(), format!("\"port\":{}", put["server"]["port"]));
        let is_latest = listing.lines().any(|line| line.contains(&ip) && line.contains(&port));
        *version = if is_latest { (version.1, version.1) } else { (version.0, version.0) };
    }
}

fn request(set: &serde_json::Value) -> Vec<u8> {
    let body = set.to_string();
    let length = body.len();
    format!("POST /v1/changes HTTP/1.1\r\nHost: sixway\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// The status of the next answer of many.
fn status(reader: &mut impl BufRead) -> Option<u16> {
    let (mut line, mut status, mut length) = (String::new(), None, 0);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            head if status.is_none() => status = head.split(' ').nth(1)?.parse().ok(),
            header => length = header.strip_prefix("content-length: ").map_or(length, |it| it.parse().unwrap_or(0)),
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
    status
}

/// curl, which sends what comes from a pipe as it comes.
fn uploader(socket: &Path) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "curl", "-sS", "--unix-socket"]).arg(socket);
    command.args(["-X", "PUT", "-T", "-", "-H", "Expect:", "http://sixway/v1/bindings"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("curl starts")
}

fn load(socket: &Path, file: &Path) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", &binary(), "map", "--socket"]).arg(socket).arg("load").arg(file);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command starts")
}

/// What is said to who wants to replace the mapping of a generation that there is not: 503 while another's is being read.
fn replaced_by_nobody(socket: &Path) -> u16 {
    let mut stream = UnixStream::connect(socket).expect("the control socket");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket option");
    let head =
        "PUT /v1/bindings?if_generation=18446744073709551615 HTTP/1.1\r\nHost: sixway\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    answer(&mut stream).expect("an answer").0
}

fn elsewhere(n: usize) -> String {
    let (server, port, ip) = (n / 10_000, 20_480 + n % 10_000, format!("10.64.{}.{}", n / 256, n % 256));
    let web = json!({
        "network": "blue", "proto": "tcp", "server": {"ip": format!("192.168.54.{server}"), "port": port},
        "container": {"ip": ip, "port": 80},
    });
    web.to_string() + "\n"
}

fn elsewhere_in_a_file(n: usize) -> String {
    let (server, port) = (n / 10_000, 20_480 + n % 10_000);
    format!("blue tcp - 192.168.54.{server}:{port} - 10.64.{}.{}:80\n", n / 256, n % 256)
}
