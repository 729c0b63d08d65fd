//! Engines die and come back; connections do not notice.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::lab::capture::Capture;
use crate::lab::peers::{self, Greeter, Parrot, connect, connect_within, greeting, says_back};
use crate::lab::programs::{Download, Nginx};
use crate::lab::{Lab, OUTSIDE, SOON, engine, run, server_ip, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const SHORT: Duration = Duration::from_millis(500);

/// While no engine runs, the kernel sees nothing of the owned range (its resets would end every connection), and the
/// host's own traffic passes as ever. The next engine carries on.
#[test]
fn without_an_engine_owned_traffic_is_dropped_and_the_host_lives() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _ssh = lab.at("s2").within(|| TcpListener::bind((server_ip(2), 22)).expect("a free port"));
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);

    lab.engine(2).kill();
    let capture = Capture::start(lab.at("wire"), "br0", "src host 192.168.50.2");
    let silence = connect_within(lab.at("router"), (server_ip(2), 20480), SHORT).expect_err("nobody answers");
    assert_eq!(silence.kind(), ErrorKind::TimedOut, "no reset from the kernel");
    let datagram = peers::udp(lab.at("router"), (server_ip(2), 20482));
    datagram.send(b"anybody there?").expect("the first send meets no error");
    assert_eq!(datagram.recv(&mut [0; 9]).expect_err("nobody answers").kind(), ErrorKind::WouldBlock, "no ICMP error");
    connect(lab.at("router"), (server_ip(2), 22)).expect("the host's own port 22 is open");
    lab.at("router").run("ping", &["-c1", "-W2", "192.168.50.2"]);
    capture.until("the host's echo reply", |seen| seen.proto == 1);
    assert!(capture.packets().iter().all(|seen| seen.ports.is_none_or(|(from, _)| from == 22)));

    lab.engine(2).start();
    says_back(&mut stream, b"still there?").expect("the connection survived");
}

/// A default-mode client's download of 1 GiB, and a native one's of 256 MiB, with each engine killed on the way.
#[test]
fn a_download_survives_the_death_of_both_engines() {
    let mut lab = Lab::running();
    let nginx = Nginx::start(&lab, "web");
    for (client, mebibytes) in [("carol", 1024), ("alice", 256)] {
        let sum = nginx.serve_random(client, mebibytes);
        let mut deaths = vec![(1, mebibytes << 18), (2, mebibytes << 19)]; // bytes: a quarter, a half
        let began = Instant::now();
        let curl = Download::start(lab.at(client), &format!("http://10.0.0.10/{client}"));
        let copy = curl.finish(|bytes| {
            if deaths.first().is_some_and(|(_, at)| bytes >= *at) {
                let (server, _) = deaths.remove(0);
                lab.engine(server).kill();
                lab.engine(server).start();
            }
        });
        assert!(deaths.is_empty(), "both engines died on the way");
        assert_eq!(copy, sum, "{client}'s copy of {mebibytes} MiB");
        println!("{client}: {mebibytes} MiB in {:.1?}, both engines killed on the way", began.elapsed());
    }
}

/// Thirty deaths: connections of every kind live through all of them. Prints how soon forwarding is back.
#[test]
fn thirty_deaths_and_every_connection_lives() {
    thirty_deaths(&mut Lab::running());
}

/// The same with a mapping of a thousand bindings, most of which are of other servers.
#[test]
fn thirty_deaths_with_a_thousand_bindings() {
    let mut lab = Lab::new();
    let mapping = with_filler(lab.mapping(), 1000);
    lab.set_mapping(&mapping);
    lab.start(1);
    lab.start(2);
    assert_eq!(lab.engine(1).get("/v1/status")["bindings"], 1000);
    thirty_deaths(&mut lab);
}

/// The mapping and as many services more as make `count` bindings of it, a quarter of them on s1 and s2.
fn with_filler(mapping: &str, count: usize) -> String {
    let mut mapping = mapping.to_owned();
    for n in 0..count - mapping.lines().count() {
        let (server, nth) = (n % 8 + 1, n / 8);
        mapping += &format!(
            "blue tcp 02:00:00:00:00:0{server} 192.168.50.{server}:{} 02:42:0a:63:{server:02x}:{nth:02x} \
             10.99.{server}.{nth}:80\n",
            21000 + nth,
        );
    }
    mapping
}

fn thirty_deaths(lab: &mut Lab) {
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _shop = Greeter::start(lab.at("shop"), "shop", 80);
    let _carol = Greeter::start(lab.at("carol"), "carol", 7);
    let _world = Greeter::start(lab.at("outside"), "world", 443);
    let _parrot = Parrot::start(lab.at("web"), 7);
    let mut connections: Vec<(String, TcpStream)> = [
        ("alice", (WEB, 80)),
        ("carol", (WEB, 80)),
        ("bob", (WEB, 80)),
        ("dave", ([10, 0, 0, 3].into(), 7)),
        ("dave", (WEB, 80)),
        ("alice", (OUTSIDE, 443)),
        ("carol", (OUTSIDE, 443)),
    ]
    .map(|(client, target)| {
        let mut stream = connect(lab.at(client), target).unwrap_or_else(|error| panic!("{client}: {error}"));
        greeting(&mut stream);
        (format!("{client} -> {target:?}"), stream)
    })
    .into();
    let probe = peers::udp(lab.at("carol"), (WEB, 7));
    probe.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket option");
    assert!(peers::udp_echo(&probe, b"before", 1000), "the probe works");

    let mut outages = Vec::new();
    let bindings = lab.mapping().lines().count();
    for death in 0..30_u8 {
        let server = death % 2 + 1;
        lab.engine(server).kill();
        let began = lab.engine(server).spawn();
        let words = [death; 8];
        assert!(peers::udp_echo(&probe, &words, 10_000), "forwarding is back after death {death}");
        outages.push(began.elapsed());
        lab.engine(server).wait_until_ready();
        for (who, stream) in &mut connections {
            says_back(stream, &words).unwrap_or_else(|error| panic!("{who} after death {death}: {error}"));
        }
    }
    outages.sort();
    let (median, worst) = (outages[outages.len() / 2], outages[outages.len() - 1]);
    println!(
        "30 deaths, {bindings} bindings, {} connections alive; exec to forwarding: median {median:.1?}, worst {worst:.1?}",
        connections.len()
    );
}

/// A clean stop leaves the programs pinned; `sixway detach` removes them, and the kernel has its ports back.
#[test]
fn detach_gives_the_kernel_its_ports_back() {
    let mut lab = Lab::running();
    lab.engine(2).stop();
    let held = connect_within(lab.at("router"), (server_ip(2), 20480), SHORT).expect_err("nobody answers");
    assert_eq!(held.kind(), ErrorKind::TimedOut, "still dropped after a clean stop");
    let config = lab.engine(2).config();
    lab.at("s2").run(&engine::binary(), &["detach", "--config", &config.to_string_lossy()]);
    let refused = connect_within(lab.at("router"), (server_ip(2), 20480), SHORT).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "the kernel answers again");
    let pins = config.with_file_name("bpf");
    // The kernel puts two of its own (maps.debug, progs.debug) into every bpffs.
    let left = run("find", &[&pins.to_string_lossy(), "-type", "f", "-not", "-name", "*.debug"]);
    assert_eq!(left, "", "no pin is left");
}

/// A stopped engine answers nothing, a started one is back: SIGTERM is a clean end.
#[test]
fn a_clean_stop_and_start_keeps_connections() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);
    for server in [1, 2] {
        lab.engine(server).stop();
        lab.engine(server).start();
        says_back(&mut stream, b"still there?").expect("the connection survived");
    }
    until("new connections work too", SOON, || connect(lab.at("carol"), (WEB, 80)).ok());
}
