//! Ports come and go while packets flow, by the requests that a plugin makes which has just made a veth.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::lab::engine::binary;
use crate::lab::load::{Account, Load};
use crate::lab::namespace::Namespace;
use crate::lab::peers::{Greeter, PATIENCE, connect, connect_within, greeting};
use crate::lab::way::Way;
use crate::lab::{CAST, GATEWAY, Lab, MAPPING, Member, SOON, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const ERIN: Member = Member { name: "erin", mac: "02:42:0a:00:00:05", ip: Ipv4Addr::new(10, 0, 0, 5), ..CAST[2] };
/// Erin's names: a service and a client block.
const ERINS: &str = "\
blue   tcp  02:00:00:00:00:01  192.168.50.1:20490        02:42:0a:00:00:05  10.0.0.5:80
blue   any  02:00:00:00:00:01  192.168.50.1:57344-58367  02:42:0a:00:00:05  10.0.0.5:*
";

/// Packets a second that the binary under test takes on this machine.
fn rate() -> u64 {
    if cfg!(debug_assertions) && std::env::var_os("SIXWAY").is_none() { 5_000 } else { 50_000 }
}

/// The lab with erin's names in the mapping, a greeter at erin's port 80, and no port for her yet.
fn lab_with_erin(workers: usize) -> Lab {
    let mut lab = Lab::new();
    if workers == 2 {
        lab.with_two_workers();
    }
    lab.set_mapping(&(MAPPING.to_owned() + ERINS));
    lab.make_container(ERIN);
    lab.start(1);
    lab.start(2);
    lab
}

/// What `curl` says over the control socket of s1: the status, and the JSON of the answer.
fn curl(lab: &mut Lab, path: &str, more: &[&str]) -> (u16, Value) {
    let socket = lab.engine(1).socket();
    let url = format!("http://sixway{path}");
    let mut arguments =
        vec!["-sS", "-w", "\n%{http_code}", "--unix-socket", socket.to_str().expect("a path"), url.as_str()];
    arguments.extend(more);
    let said = crate::lab::run("curl", &arguments);
    let (body, status) = said.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn attach(lab: &mut Lab, port: &Value) -> (u16, Value) {
    curl(lab, "/v1/ports", &["-X", "POST", "-d", &port.to_string()])
}

fn erins_port() -> Value {
    json!({ "name": "erin", "interface": "veth-erin", "network": "blue", "mac": ERIN.mac })
}

fn attach_erin(lab: &mut Lab) {
    let (status, port) = attach(lab, &erins_port());
    assert_eq!(status, 201, "{port}");
    assert_eq!((&port["name"], &port["live"]), (&json!("erin"), &json!(true)), "{port}");
}

fn detach_erin(lab: &mut Lab) {
    let (status, problem) = curl(lab, "/v1/ports/erin", &["-X", "DELETE"]);
    assert_eq!((status, &problem), (204, &Value::Null), "{problem}");
}

fn names(lab: &mut Lab) -> Vec<String> {
    let ports = lab.engine(1).get("/v1/ports");
    ports.as_array().expect("a list").iter().map(|port| port["name"].as_str().expect("a name").to_owned()).collect()
}

fn meets_erin(from: &Namespace) {
    let mut stream = connect(from, (ERIN.ip, 80)).expect("erin is reached");
    assert!(greeting(&mut stream).starts_with("I am erin"));
}

/// A stream between two others, which is to lose nothing that does not overflow elsewhere.
struct Others {
    load: Load,
    before: Way,
    full: u64,
    mark: u64,
}

impl Others {
    fn start(lab: &mut Lab) -> Others {
        let load = Load::start(lab.at("carol"), lab.at("web"), (WEB, 7), rate());
        let before = Way::look(lab, "carol");
        let (full, mark) = (full(lab), load.mark());
        Others { load, before, full, mark }
    }

    fn lost_nothing(&self, lab: &mut Lab) -> Account {
        let account = self.load.since(self.mark);
        // While the machine is busy elsewhere, the way from one worker to another runs over like any ring.
        let overflow = Way::look(lab, "carol").lost_since(&self.before) + full(lab).saturating_sub(self.full);
        println!("the others: {account:?}, {overflow} overflowed");
        let drops = [1, 2].map(|server| lab.engine(server).all_drops()).concat();
        assert!(account.lost <= overflow && account.doubled == 0, "{account:?}, {overflow} overflowed\n{drops}");
        account
    }
}

/// Packets that engines found no room for in a ring.
fn full(lab: &mut Lab) -> u64 {
    [1, 2].map(|server| lab.engine(server).drops(None, "transmit_full")).iter().sum()
}

/// A plugin attaches a container, which talks and is talked to at once; when it is detached it is silent, and under the same
/// name it comes again.
#[test]
fn a_container_comes_and_goes_while_others_lose_nothing() {
    comes_and_goes(lab_with_erin(1));
}

/// With two workers, packets to and from the new port cross between them.
#[test]
fn a_container_comes_and_goes_with_two_workers() {
    comes_and_goes(lab_with_erin(2));
}

fn comes_and_goes(mut lab: Lab) {
    let _erin = Greeter::start(lab.at("erin"), "erin", 80);
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let others = Others::start(&mut lab);
    // Another one comes before her, and goes before her.
    lab.at("s1").ip("link add before type veth peer name before-peer");
    let before = json!({ "name": "before", "interface": "before", "network": "green" });
    for _ in 0..3 {
        assert_eq!(attach(&mut lab, &before).0, 201);
        attach_erin(&mut lab);
        assert_eq!(curl(&mut lab, "/v1/ports/before", &["-X", "DELETE"]).0, 204);
        lab.at("erin").run("ping", &["-c1", "-W2", &GATEWAY.to_string()]);
        meets_erin(lab.at("dave"));
        meets_erin(lab.at("carol"));
        greeting(&mut connect(lab.at("erin"), (WEB, 80)).expect("erin reaches web"));
        assert!(names(&mut lab).contains(&"erin".to_owned()));
        detach_erin(&mut lab);
        assert!(!names(&mut lab).contains(&"erin".to_owned()));
        assert!(connect_within(lab.at("dave"), (ERIN.ip, 80), PATIENCE).is_err(), "nobody is there");
    }
    others.lost_nothing(&mut lab);
}

/// Twenty times in a row: frames, descriptors, pins and memory are as before.
#[test]
fn nothing_is_left_of_ports_that_went() {
    let mut lab = lab_with_erin(1);
    let _erin = Greeter::start(lab.at("erin"), "erin", 80);
    let frames = |lab: &mut Lab| lab.engine(1).get("/v1/workers")[0]["frames_free"].as_u64().expect("a count");
    let once = |lab: &mut Lab| {
        attach_erin(lab);
        meets_erin(lab.at("dave"));
        detach_erin(lab);
    };
    // At first packets of others are on their way, and what has gone is closed a moment later.
    let free = settled("free frames", || frames(&mut lab));
    once(&mut lab);
    until("all frames are home", SOON, || (frames(&mut lab) == free).then_some(()));
    settled("descriptors", || Footprint::of(&mut lab).descriptors);
    let (before, began) = (Footprint::of(&mut lab), Instant::now());
    (0..20).for_each(|_| once(&mut lab));
    let took = began.elapsed() / 20;
    until("all frames are home", SOON, || (frames(&mut lab) == free).then_some(()));
    let after = Footprint::of(&mut lab);
    println!("{took:.1?} for one to come, be met and go; {before:?}, then {after:?}");
    let is_as_before = |now: &Footprint| {
        (now.descriptors, now.pins) == (before.descriptors, before.pins) && now.memory_kib <= before.memory_kib + 1024
    };
    until("descriptors, pins and memory are as before", SOON, || is_as_before(&Footprint::of(&mut lab)).then_some(()));
    lab.engine(1).stop();
    assert!(!lab.engine(1).log().contains("lost frames"), "{}", lab.engine(1).log());
    lab.engine(1).start();
}

/// What `look` finds fifty times in a row.
fn settled<T: PartialEq>(what: &str, mut look: impl FnMut() -> T) -> T {
    let (mut found, mut same) = (look(), 0);
    until(&format!("{what} stay as they are"), SOON, || {
        let now = look();
        same = if now == found { same + 1 } else { 0 };
        found = now;
        (same == 50).then_some(())
    });
    found
}

/// What an engine has of the host.
#[derive(Debug)]
struct Footprint {
    descriptors: usize,
    pins: usize,
    memory_kib: u64,
}

impl Footprint {
    fn of(lab: &mut Lab) -> Footprint {
        let process = PathBuf::from(format!("/proc/{}", lab.engine(1).pid()));
        let count = |directory: PathBuf| fs::read_dir(directory).expect("a directory").count();
        let spaces = fs::read_dir(lab.dir().join("s1/bpf")).expect("pins").flatten().map(|space| space.path());
        let pins = spaces.filter(|space| space.is_dir()).map(count);
        let status = fs::read_to_string(process.join("status")).expect("a process");
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a size");
        let memory_kib = anonymous.trim().trim_end_matches(" kB").parse().expect("a number");
        Footprint { descriptors: count(process.join("fd")), pins: pins.sum(), memory_kib }
    }
}

/// Whatever is wrong with a port is said at once, with the way out, and changes nothing.
#[test]
fn mistakes_are_told_all_at_once() {
    let mut lab = lab_with_erin(1);
    let before = names(&mut lab);
    let mut refused = |port: Value, status: u16, said: &[&str]| {
        let (found, problem) = attach(&mut lab, &port);
        assert_eq!(found, status, "{problem}");
        let errors = problem["errors"].as_array().expect("a list");
        assert_eq!(errors.len(), said.len(), "{problem}");
        for (error, said) in errors.iter().zip(said) {
            assert!(error["detail"].as_str().expect("words").contains(said), "{said}: {problem}");
        }
    };
    refused(
        json!({ "name": "e", "interface": "veth-erin", "colour": 1 }),
        400,
        &["needs `network`", "unknown key `colour`"],
    );
    refused(json!({ "name": "e", "interface": "eth1", "role": "uplink" }), 400, &["only access ports"]);
    let clashes = json!({ "name": "alice", "interface": "veth-carol", "network": "red", "mac": CAST[0].mac });
    refused(
        clashes,
        422,
        &["a port `alice` already", "interface veth-carol is port `carol`", "no network `red`, only blue, green"],
    );
    let pinned = json!({ "name": "e", "interface": "veth-nobody", "network": "blue", "mac": CAST[0].mac });
    refused(pinned, 422, &["is pinned to port `alice`", "no interface veth-nobody"]);
    refused(json!({ "name": "e", "interface": "lo", "network": "blue" }), 422, &["Ethernet address"]);

    // Somebody else's program is not replaced, and is named.
    let source =
        "int pass(void *frame) __attribute__((section(\"xdp\"), used));\nint pass(void *frame) { return 2; }\n";
    fs::write(lab.dir().join("pass.c"), source).expect("a file");
    let (source, object) = (lab.dir().join("pass.c"), lab.dir().join("pass.o"));
    let object = object.to_string_lossy().into_owned();
    crate::lab::run("clang", &["-O2", "-target", "bpf", "-c", &source.to_string_lossy(), "-o", &object]);
    lab.at("s1").run("ip", &["link", "set", "veth-erin", "xdp", "object", &object, "section", "xdp"]);
    let mut taken = erins_port();
    taken["network"] = "red".into();
    let (status, problem) = attach(&mut lab, &taken);
    let words = problem["detail"].as_str().expect("words");
    assert!(status == 422 && words.contains("foreign") && words.contains("no network `red`"), "{problem}");
    lab.at("s1").run("ip", &["link", "set", "veth-erin", "xdp", "off"]);

    // More queues than there is memory for.
    lab.at("s1")
        .ip("link add wide numrxqueues 9 numtxqueues 9 type veth peer name wide-peer numrxqueues 9 numtxqueues 9");
    lab.at("s1").run("ethtool", &["-L", "wide", "rx", "9", "tx", "9"]);
    let wide = json!({ "name": "wide", "interface": "wide", "network": "blue" });
    let (status, problem) = attach(&mut lab, &wide);
    assert_eq!(status, 422, "{problem}");
    assert!(problem["detail"].as_str().expect("words").contains("spare_queues"), "{problem}");
    assert_eq!(names(&mut lab), before);

    // What is the configuration's stays.
    let (status, problem) = curl(&mut lab, "/v1/ports/alice", &["-X", "DELETE"]);
    assert!(status == 409 && problem["detail"].as_str().expect("words").contains("sixway.toml"), "{status} {problem}");
    assert_eq!(curl(&mut lab, "/v1/ports/nobody", &["-X", "DELETE"]).0, 404);
}

/// The container goes and takes its interface along. The engine goes on, says so, and the next container by that name is
/// attached; so is one that is there before the engine has heard of the other's end.
#[test]
fn an_interface_that_vanishes_takes_its_port_along() {
    let mut lab = lab_with_erin(1);
    let others = Others::start(&mut lab);
    attach_erin(&mut lab);
    lab.at("s1").ip("link del veth-erin");
    until("the port goes", SOON, || (!names(&mut lab).contains(&"erin".to_owned())).then_some(()));
    assert!(lab.engine(1).log().contains("the interface is gone"), "{}", lab.engine(1).log());
    for _ in 0..3 {
        lab.plug_container(ERIN);
        attach_erin(&mut lab);
        let _erin = Greeter::start(lab.at("erin"), "erin", 80);
        meets_erin(lab.at("dave"));
        lab.at("s1").ip("link del veth-erin");
    }
    // One of the configuration keeps its place until another takes it.
    lab.at("s1").ip("link del veth-alice");
    lab.plug_container(CAST[0]);
    let (status, port) = attach(&mut lab, &json!({ "name": "alice", "interface": "veth-alice", "network": "blue" }));
    assert_eq!((status, &port["live"]), (201, &json!(true)), "{port}");
    lab.at("alice").run("ping", &["-c1", "-W2", &GATEWAY.to_string()]);
    others.lost_nothing(&mut lab);
}

/// A crash and a restart, with a holder and without: the port is there. One whose interface is gone meanwhile is not, which
/// is said and costs nobody anything.
#[test]
fn a_port_that_came_live_outlives_the_engine() {
    let mut lab = lab_with_erin(1);
    let erin = Greeter::start(lab.at("erin"), "erin", 80);
    attach_erin(&mut lab);
    for round in 0..4 {
        match round {
            0 | 2 => lab.engine(1).kill(),
            _ => lab.engine(1).stop(),
        }
        if round == 2 {
            lab.engine(1).with_holder();
        }
        lab.engine(1).start();
        assert_eq!(lab.engine(1).get("/v1/ports")[4]["live"], true, "round {round}");
        meets_erin(lab.at("dave"));
    }
    // SIGHUP says nothing of it, and leaves it where it is.
    lab.engine(1).signal(Signal::HUP);
    until("the reload", SOON, || lab.engine(1).log().contains("mapping and policy were reloaded").then_some(()));
    assert!(!lab.engine(1).log().contains("[[port]] has changed"), "{}", lab.engine(1).log());
    meets_erin(lab.at("dave"));

    lab.engine(1).kill();
    drop(erin);
    lab.at("s1").ip("link del veth-erin");
    lab.engine(1).start();
    assert!(lab.engine(1).log().contains("not attached again: its interface is gone"), "{}", lab.engine(1).log());
    let others = "inherited=4 queues=4";
    assert!(lab.engine(1).log().contains(others), "their sockets are taken over: {}", lab.engine(1).log());
    assert_eq!(names(&mut lab).len(), 4);
    lab.plug_container(ERIN);
    attach_erin(&mut lab);
    let _erin = Greeter::start(lab.at("erin"), "erin", 80);
    meets_erin(lab.at("dave"));
}

/// An upgrade takes the port along and loses nothing; so does one that fails. `sixway detach` ends it.
#[test]
fn a_takeover_takes_live_ports_along() {
    let mut lab = lab_with_erin(2);
    let _erin = Greeter::start(lab.at("erin"), "erin", 80);
    let others = Others::start(&mut lab);
    // A place that is not the next one: workers have the same queues again only if the id is kept.
    let (status, _) = {
        lab.at("s1").ip("link add before type veth peer name before-peer");
        attach(&mut lab, &json!({ "name": "before", "interface": "before", "network": "green" }))
    };
    assert_eq!(status, 201);
    attach_erin(&mut lab);
    assert_eq!(curl(&mut lab, "/v1/ports/before", &["-X", "DELETE"]).0, 204);
    for _ in 0..4 {
        lab.engine(1).take_over();
        meets_erin(lab.at("dave"));
        let log = lab.engine(1).log();
        assert!(!log.contains("bound anew"), "{log}");
    }
    let config = lab.engine(1).config();
    let good = fs::read_to_string(&config).expect("the configuration");
    let (here, elsewhere) = (lab.dir().join("s1"), lab.dir().join("s1/elsewhere"));
    fs::create_dir_all(elsewhere.join("state")).expect("a directory");
    fs::copy(here.join("state.ports"), elsewhere.join("state.ports")).expect("the same ports");
    fs::write(&config, good.replace("/state\"", "/elsewhere/state\"")).expect("the configuration");
    assert!(!lab.engine(1).second(&["--takeover"]), "a directory is no state file");
    assert!(lab.engine(1).log().contains("this engine goes on"), "{}", lab.engine(1).log());
    fs::write(&config, good).expect("the configuration");
    meets_erin(lab.at("dave"));
    others.lost_nothing(&mut lab);

    detach_erin(&mut lab);
    attach_erin(&mut lab);
    lab.engine(1).kill();
    lab.at("s1").run(&binary(), &["detach", "--config", &config.to_string_lossy()]);
    assert!(!lab.at("s1").ip("link show veth-erin").contains("xdp"));
    lab.engine(1).start();
    assert!(!names(&mut lab).contains(&"erin".to_owned()));
}

/// The command does what the requests do, and the other questions know of the port.
#[test]
fn a_live_port_is_a_port_like_others() {
    let mut lab = lab_with_erin(1);
    let _erin = Greeter::start(lab.at("erin"), "erin", 80);
    let socket = lab.engine(1).socket().to_string_lossy().into_owned();
    let sixway = |lab: &Lab, words: &str| {
        let mut arguments: Vec<&str> = words.split(' ').collect();
        arguments.extend(["--socket", &socket]);
        lab.at("s1").attempt(&binary(), &arguments)
    };
    let said = sixway(&lab, "port attach erin --interface veth-erin --network blue");
    assert!(said.contains("veth-erin"), "{said}");
    // Nobody told the MAC: who is behind it is found out.
    meets_erin(lab.at("dave"));
    assert!(sixway(&lab, "port list").contains("erin"));
    assert!(sixway(&lab, "stats").contains("erin"));
    assert!(sixway(&lab, "explain --port erin tcp 10.0.0.5:4000 10.0.0.10:80").contains("leaves   uplink"));
    let metrics = crate::lab::run("curl", &["-sS", "--unix-socket", &socket, "http://sixway/metrics"]);
    assert!(metrics.contains("sixway_received_packets_total{port=\"erin\"}"), "{metrics}");
    let again = sixway(&lab, "port attach erin --interface veth-erin --network red");
    assert!(again.contains("a port `erin` already") && again.contains("no network `red`"), "{again}");
    assert_eq!(sixway(&lab, "port detach erin"), "");
    assert!(sixway(&lab, "port detach erin").contains("there is no port `erin`"));
}
