//! Who answers and who does not: probes, hints from traffic, what people say, and how servers tell each other.

use std::io::Read;
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failover::{
    FIRST, FIRST_KEY, Process, SHOP, SPARE, SPARE_KEY, lab, relay, request, tell, until_first_is, until_it_is,
};
use crate::lab::config::NETWORKS;
use crate::lab::dual::{address, six_of};
use crate::lab::engine::binary;
use crate::lab::namespace::Namespace;
use crate::lab::peers::{Parrot, connect_within};
use crate::lab::{Lab, MAPPING, SOON, until};

const INTERVAL: Duration = Duration::from_millis(100);

/// Who answers a new connection.
fn answer(from: &Namespace) -> Option<String> {
    answer_at(from, SHOP)
}

fn answer_at(from: &Namespace, service: impl Into<SocketAddr>) -> Option<String> {
    let service = service.into();
    let mut stream = from.within(|| TcpStream::connect_timeout(&service, Duration::from_millis(200))).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    let mut name = String::new();
    stream.read_to_string(&mut name).ok()?;
    Some(name)
}

fn health(lab: &mut Lab, server: u8) -> Value {
    lab.engine(server).get(&format!("/v1/health/{FIRST_KEY}"))
}

/// A count of the one check that is about `first`.
fn count(lab: &mut Lab, what: &str) -> u64 {
    health(lab, 2)["probes"][0][what].as_u64().unwrap_or_else(|| panic!("no count {what}"))
}

/// Runs the program against a server's engine.
fn sixway(lab: &mut Lab, server: u8, arguments: &[&str]) -> (bool, String) {
    let socket = lab.engine(server).socket();
    let output = Command::new(binary()).args(arguments).arg("--socket").arg(socket).output().expect("sixway starts");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Probes come every two seconds. A client that is refused makes them come at once; refusals of a port that nobody probes,
/// and of the client's own container, make nothing.
#[test]
fn a_refused_client_is_a_hint_and_probes_decide() {
    let interval = Duration::from_secs(2);
    let mut lab = lab(interval);
    let first = Process::start(lab.at("first"), "first");
    let _spare = Process::start(lab.at("spare"), "spare");
    until_first_is(&mut lab, 2, "healthy");
    // `web` is there, and serves nothing.
    assert!(connect_within(lab.at("carol"), ("10.0.0.10".parse().expect("an address"), 80), SOON).is_err());
    assert_eq!(count(&mut lab, "hints"), 0);

    first.kill();
    let began = Instant::now();
    let (sent, refused) = (count(&mut lab, "sent"), count(&mut lab, "refused"));
    assert!(connect_within(lab.at("carol"), SHOP, SOON).is_err(), "refused");
    until_first_is(&mut lab, 2, "unhealthy");
    let took = began.elapsed();
    assert!(took < interval * 3 / 4, "two probes came sooner than one would have: {took:?}");
    assert_eq!(count(&mut lab, "hints"), 1);
    assert_eq!((count(&mut lab, "sent") - sent, count(&mut lab, "refused") - refused), (2, 2));
    let metrics = request(&lab.engine(2).socket(), "GET /metrics", &Value::Null);
    assert!(metrics.contains("\nsixway_health_hints_total 1\n"), "{metrics}");
    println!("a hint, and two probes a quarter of the interval of {interval:?} apart: {took:?}");
}

/// A container that refuses one connection after the other and answers probes is never taken out, nor probed more than a few
/// times an interval.
#[test]
fn hints_alone_take_nobody_out() {
    let mut lab = lab(INTERVAL);
    let _first = Process::start(lab.at("first"), "first");
    let _spare = Process::start(lab.at("spare"), "spare");
    until_first_is(&mut lab, 2, "healthy");
    // Whoever closes with data unread resets (RFC 2525 section 2.17), and `first` reads nothing.
    let began = Instant::now();
    let (sent, refused) = (count(&mut lab, "sent"), count(&mut lab, "refused"));
    while count(&mut lab, "hints") < 20 {
        if let Ok(mut stream) = connect_within(lab.at("carol"), SHOP, SOON) {
            let _ = std::io::Write::write_all(&mut stream, b"hello");
            let _ = stream.read_to_end(&mut Vec::new());
        }
        assert!(began.elapsed() < 3 * SOON, "{}", health(&mut lab, 2));
    }
    let (sent, took) = (count(&mut lab, "sent") - sent, began.elapsed());
    assert_eq!(health(&mut lab, 2)["state"], "healthy");
    // The regular one, one for each quarter, and one under way.
    let most = 5 * (took.as_millis() / INTERVAL.as_millis()) as u64 + 6;
    assert!(sent <= most, "{sent} probes in {took:?}, at most {most}");
    assert_eq!(count(&mut lab, "refused"), refused, "none of them");
}

/// What one server finds out, the other knows by the pipe between them; there is a pipe each way, and nothing goes round. The
/// server that holds a container is not talked out of what it sees.
#[test]
fn what_one_server_finds_out_the_others_know() {
    let mut lab = lab(INTERVAL);
    let first = Process::start(lab.at("first"), "first");
    let _spare = Process::start(lab.at("spare"), "spare");
    let _pipes = [relay(&mut lab, 2, 1), relay(&mut lab, 1, 2)];
    for server in [1, 2] {
        until_first_is(&mut lab, server, "healthy");
    }
    for server in [1, 2] {
        until_it_is(&mut lab, server, SPARE_KEY, "healthy");
    }
    assert_eq!((&health(&mut lab, 2)["own"], &health(&mut lab, 1)["own"]), (&true.into(), &Value::Null));
    first.kill();
    for server in [1, 2] {
        until_first_is(&mut lab, server, "unhealthy");
    }
    assert_eq!(answer(lab.at("carol")).as_deref(), Some("spare"));
    let (_, table) = sixway(&mut lab, 1, &["map", "health", "list"]);
    let line = table.lines().find(|line| line.contains("02:42:0a:00:00:14")).expect("a line for first");
    assert!(line.contains("unhealthy  elsewhere"), "{table}");

    let _first = Process::start(lab.at("first"), "first");
    until_first_is(&mut lab, 1, "healthy");
    // Wrong, and seen to be.
    let generation = |lab: &mut Lab, server| lab.engine(server).get("/v1/status")["generation"].as_u64();
    let before = generation(&mut lab, 2);
    tell(&lab.engine(2).socket(), "unhealthy");
    until("the word of the probes", SOON, || (generation(&mut lab, 2) >= before.map(|it| it + 2)).then_some(()));
    for server in [1, 2] {
        until_first_is(&mut lab, server, "healthy");
    }
    let good = count(&mut lab, "good");
    until("all is told", SOON, || (count(&mut lab, "good") > good + 3).then_some(()));
    let settled = [1, 2].map(|server| generation(&mut lab, server));
    let good = count(&mut lab, "good");
    until("some probes later", SOON, || (count(&mut lab, "good") > good + 5).then_some(()));
    assert_eq!([1, 2].map(|server| generation(&mut lab, server)), settled, "nothing goes round");
}

/// Said once, it holds over SIGKILL, a takeover and a stop, and over an edit of the mapping file: until somebody says otherwise.
#[test]
fn what_was_said_outlives_the_engine() {
    let mut lab = lab(INTERVAL);
    let _first = Process::start(lab.at("first"), "first");
    let _spare = Process::start(lab.at("spare"), "spare");
    until_first_is(&mut lab, 2, "healthy");
    until_it_is(&mut lab, 1, SPARE_KEY, "healthy");
    let key = ["blue", "any", "02:42:0a:00:00:14", "10.0.0.20:80"];
    let set = |lab: &mut Lab, state: &str| sixway(lab, 1, &[&["map", "health", "set"], &key[..], &[state]].concat());
    let (done, said) = set(&mut lab, "unhealthy");
    assert!(done && said.contains("told"), "{said}");
    let holds = |lab: &mut Lab, after: &str| {
        assert_eq!(health(lab, 1)["state"], "unhealthy", "after {after}");
        let name = until("an answer", SOON, || answer(lab.at("carol")));
        assert_eq!(name, "spare", "after {after}");
    };
    holds(&mut lab, "it was said");
    lab.engine(1).kill();
    lab.engine(1).start();
    holds(&mut lab, "SIGKILL");
    lab.engine(1).take_over();
    holds(&mut lab, "a takeover");
    lab.engine(1).stop();
    let mapping = lab.mapping().to_owned();
    lab.set_mapping(&(mapping + "# edited\n"));
    lab.engine(1).start();
    holds(&mut lab, "a stop, and an edit of the mapping file");
    lab.engine(1).signal(rustix::process::Signal::HUP);
    until("the reload", SOON, || lab.engine(1).log().contains("were reloaded").then_some(()));
    lab.engine(1).kill();
    lab.engine(1).start();
    holds(&mut lab, "a reload and SIGKILL");
    assert!(set(&mut lab, "unknown").0);
    lab.engine(1).kill();
    lab.engine(1).start();
    assert_eq!(health(&mut lab, 1)["state"], "unknown");
    assert_eq!(answer(lab.at("carol")).as_deref(), Some("first"));
}

/// What a server knew of its own container is believed after a restart until its probes have spoken, and they win.
#[test]
fn probes_correct_what_an_engine_remembers() {
    let mut lab = lab(INTERVAL);
    let first = Process::start(lab.at("first"), "first");
    until_first_is(&mut lab, 2, "healthy");
    first.kill();
    until_first_is(&mut lab, 2, "unhealthy");
    lab.engine(2).kill();
    let _first = Process::start(lab.at("first"), "first");
    lab.engine(2).start();
    until_first_is(&mut lab, 2, "healthy");
    let log = lab.engine(2).log();
    let last = log.rsplit("forwarding").next().unwrap_or_default();
    assert!(!last.contains("is unhealthy") && last.contains("is healthy"), "known, so not found out again: {log}");
}

/// Probes go where packets to containers go, and the counters say so: over IPv4 and IPv6.
#[test]
fn all_kinds_of_probes_are_answered_by_a_sealed_container() {
    let mut lab = Lab::new();
    lab.add_ipv6();
    let kinds = [("tcp", "tcp", 80), ("tcp", "icmp", 7), ("udp", "udp", 7)];
    let six = kinds.map(|(proto, _, port)| {
        format!("blue {proto} - [fd50::2]:{} 02:42:0a:00:00:0a [fd10::a]:{port}\n", 20_490 + port)
    });
    lab.set_mapping(&format!("{MAPPING}{}", six.concat()));
    let checks = ["10.0.0.10", "fd10::a"].map(|ip| {
        kinds.map(|(proto, kind, port)| {
            let head = format!("[[health]]\nnetwork = \"blue\"\nip = \"{ip}\"\nport = {port}");
            format!("{head}\nproto = \"{proto}\"\nkind = \"{kind}\"\ninterval_ms = 50\ndamping = false\n")
        })
    });
    lab.set_networks(&format!("{NETWORKS}\n{}", checks.concat().concat()));
    let _web = Process::start(lab.at("web"), "web");
    let _parrot = Parrot::on(lab.at("web"), (Ipv6Addr::UNSPECIFIED, 7).into());
    // From then on it has a link-local address to answer from.
    until("the container's addresses are checked", SOON, || {
        lab.at("web").ip("-6 addr show dev eth0 tentative").is_empty().then_some(())
    });
    lab.start(2);
    until("healthy bindings", SOON, || {
        let list = request(&lab.engine(2).socket(), "GET /v1/health", &Value::Null);
        (list.matches(r#""state":"healthy""#).count() == 2 * kinds.len()).then_some(())
    });
    let web = lab.engine(2).port("web");
    assert!(web["consumed"].as_u64() > Some(2), "{web}");
}

/// A service of IPv6 is probed over IPv6. Its replica ends, is cut off and falls silent, and each time the one that stands by
/// on the other server takes over, and gives it back.
#[test]
fn a_service_of_ipv6_fails_over() {
    const SHOP6: (Ipv6Addr, u16) = (six_of(SHOP.0), SHOP.1);
    const KEY: &str = "blue,tcp,02:42:0a:00:00:14,[fd10::14]:80";
    const SIX: &str = "\
blue   tcp  02:00:00:00:00:02  [fd50::2]:20600        02:42:0a:00:00:14  [fd10::14]:80
blue   tcp  02:00:00:00:00:01  [fd50::1]:20600        02:42:0a:00:00:15  [fd10::14]:80  standby
blue   any  02:00:00:00:00:01  [fd50::1]:49152-57343  02:42:0a:00:00:03  [fd10::3]:*
";
    let mut lab = Lab::new();
    lab.add_ipv6();
    for member in [FIRST, SPARE] {
        lab.add_container(member);
        let place = lab.at(member.name);
        address(place, "eth0", &format!("{}/128", SHOP6.0));
        place.ip("route add default via fe80::1 dev eth0");
    }
    let ms = INTERVAL.as_millis();
    lab.set_networks(&format!(
        "{NETWORKS}\n[[health]]\nnetwork = \"blue\"\nip = \"{}\"\nport = 80\ninterval_ms = {ms}\ndamping = false\n",
        SHOP6.0
    ));
    lab.set_mapping(&format!("{MAPPING}{SIX}"));
    lab.start(1);
    lab.start(2);
    let mut first = Some(Process::start(lab.at("first"), "first"));
    let _spare = Process::start(lab.at("spare"), "spare");
    let _pipes = [relay(&mut lab, 2, 1), relay(&mut lab, 1, 2)];
    for death in ["process ends", "cable pulled", "silence"] {
        until_it_is(&mut lab, 1, KEY, "healthy");
        assert_eq!(answer_at(lab.at("carol"), SHOP6).as_deref(), Some("first"), "before: {death}");
        let began = Instant::now();
        match death {
            "process ends" => first.take().expect("it runs").kill(),
            "cable pulled" => _ = lab.at("first").ip("link set eth0 down"),
            _ => _ = lab.at("first").ip(&format!("-6 addr del {}/128 dev eth0", SHOP6.0)),
        }
        let name =
            until("an answer of the other", SOON, || answer_at(lab.at("carol"), SHOP6).filter(|name| name == "spare"));
        println!("{death}: {name} answers {:?} later, probes are {INTERVAL:?} apart", began.elapsed());
        match death {
            "process ends" => first = Some(Process::start(lab.at("first"), "first")),
            _ => _ = lab.at("first").ip("link set eth0 up"),
        }
        let six = format!("-6 addr replace {}/128 dev eth0 nodad", SHOP6.0);
        for words in [&six, "-6 route replace default via fe80::1 dev eth0"] {
            lab.at("first").ip(words);
        }
    }
    until_it_is(&mut lab, 1, KEY, "healthy");
    let seen = lab.engine(2).get(&format!("/v1/health/{KEY}"));
    let probe = &seen["probes"][0];
    assert!(["good", "bad", "refused"].iter().all(|&how| probe[how].as_u64() > Some(0)), "{probe}");
}
