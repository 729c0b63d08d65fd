//! The mapping changes while packets flow, by the requests of the API: any program that speaks HTTP can make them.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::lab::engine::binary;
use crate::lab::peers::{Greeter, PATIENCE, connect, connect_within, greeting, says_back, udp, udp_echo};
use crate::lab::{Lab, SOON, run, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// What `curl` says over an engine's control socket; an error status is an error here.
pub fn curl(socket: &Path, path: &str, more: &[&str]) -> String {
    let url = format!("http://sixway{path}");
    let mut arguments = vec!["-sS", "--fail-with-body", "--unix-socket", socket.to_str().expect("a path"), &url];
    arguments.extend(more);
    run("curl", &arguments)
}

/// The same change set to both engines, as an orchestrator sends it.
fn change(lab: &mut Lab, set: &Value) {
    for server in [1, 2] {
        let answer = curl(&lab.engine(server).socket(), "/v1/changes", &["-d", &set.to_string()]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert!(answer["generation"].is_u64(), "{answer}");
    }
}

fn web_at(port: u16) -> Value {
    json!({
        "network": "blue", "proto": "tcp",
        "server": {"mac": "02:00:00:00:00:02", "ip": "192.168.50.2", "port": port},
        "container": {"mac": "02:42:0a:00:00:0a", "ip": "10.0.0.10", "port": 8080},
    })
}

fn refused(lab: &Lab) {
    let error = connect_within(lab.at("carol"), (WEB, 8080), PATIENCE).expect_err("no such service");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// A service is added, gets another wire name in the middle of a connection, which goes on, and is taken away again.
/// Nobody else notices.
#[test]
fn a_binding_is_added_moved_and_removed_while_packets_flow() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _more = Greeter::start(lab.at("web"), "more", 8080);
    let mut old = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut old);
    refused(&lab);

    change(&mut lab, &json!({"put": [web_at(20490)]}));
    let mut new = connect(lab.at("carol"), (WEB, 8080)).expect("at once");
    assert_eq!(greeting(&mut new), "I am more, you are 10.0.0.3");

    let flows = curl(&lab.engine(1).socket(), "/v1/flows", &[]);
    let carols = flows.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let established = carols.filter(|flow| flow["container"]["ip"] == "10.0.0.3" && flow["state"] == "established");
    assert_eq!(established.count(), 2, "{flows}");

    change(&mut lab, &json!({"put": [web_at(20491)]}));
    says_back(&mut new, b"moved?").expect("the connection follows the binding");
    let explained = lab.engine(1).get("/v1/bindings?port=8080");
    assert_eq!(explained["server"]["port"], 20491);

    let key = json!({
        "network": "blue", "proto": "tcp",
        "container": {"mac": "02:42:0a:00:00:0a", "ip": "10.0.0.10", "port": 8080},
    });
    change(&mut lab, &json!({"delete": [key]}));
    refused(&lab);
    says_back(&mut old, b"still there?").expect("the old connection has noticed nothing");
}

/// A wire name that changes hands rests before anybody can use it, and with `force` it does not.
#[test]
fn a_wire_name_that_changes_hands_rests() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _shop = Greeter::start(lab.at("shop"), "shop", 8080);
    let mut to_shop = web_at(20480);
    to_shop["network"] = "green".into();
    to_shop["container"]["mac"] = "02:42:0a:00:01:0a".into();
    let web = json!({
        "network": "blue", "proto": "tcp",
        "container": {"mac": "02:42:0a:00:00:0a", "ip": "10.0.0.10", "port": 80},
    });
    change(&mut lab, &json!({"delete": [web], "put": [to_shop]}));
    let resting = lab.engine(2).get("/v1/status")["quarantine"].clone();
    assert_eq!(resting[0]["ports"], "20480", "{resting}");
    assert!(connect_within(lab.at("bob"), (WEB, 8080), PATIENCE).is_err(), "the name rests");

    // Back to web: another change of hands, by force.
    let mut back = web_at(20480);
    back["container"]["port"] = 80.into();
    let shop = json!({
        "network": "green", "proto": "tcp",
        "container": {"mac": "02:42:0a:00:01:0a", "ip": "10.0.0.10", "port": 8080},
    });
    change(&mut lab, &json!({"delete": [shop], "put": [back], "force": true}));
    assert_eq!(lab.engine(2).get("/v1/status")["quarantine"], json!([]));
    greeting(&mut connect(lab.at("carol"), (WEB, 80)).expect("no rest"));
    assert!(lab.engine(2).log().contains("forced"), "{}", lab.engine(2).log());
}

/// The whole mapping is read, written back and watched; a clash is refused by name and changes nothing. Packets flow all
/// the while.
#[test]
fn a_whole_mapping_is_exchanged_while_packets_flow() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut old = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut old);
    let socket = &lab.engine(1).socket();
    let all = curl(socket, "/v1/bindings", &[]);
    assert_eq!(all.lines().count(), 14, "{all}");

    let file = lab.dir().join("all.ndjson");
    let many = (0..20_000).map(|n| {
        let (port, ip) = (20_480 + n % 10_000, format!("10.{}.{}.{}", 1 + n / 65_536, n / 256 % 256, n % 256));
        let server = format!("192.168.51.{}", n / 10_000);
        let web = json!({"network": "blue", "proto": "tcp", "server": {"ip": server, "port": port}, "container": {"ip": ip, "port": 80}});
        web.to_string() + "\n"
    });
    std::fs::write(&file, all.clone() + &many.collect::<String>()).expect("a file");
    let upload = format!("@{}", file.display());
    for round in 0..3 {
        let answer = curl(socket, "/v1/bindings", &["-X", "PUT", "--data-binary", &upload]);
        assert!(answer.contains("\"added\":20000"), "{answer}");
        says_back(&mut old, b"in the middle").expect("the old connection has noticed nothing");
        let answer = curl(socket, "/v1/bindings", &["-X", "PUT", "--data-binary", &all]);
        assert!(answer.contains("\"removed\":20000"), "round {round}: {answer}");
        says_back(&mut old, b"and after").expect("the old connection has noticed nothing");
    }

    let clash = json!({"put": [{
        "network": "green", "proto": "tcp", "server": {"ip": "192.168.50.2", "port": 20480},
        "container": {"ip": "10.0.0.10", "port": 8080},
    }]});
    let arguments =
        ["-s", "-w", "%{http_code}", "--unix-socket", socket.to_str().expect("a path"), "http://sixway/v1/changes"];
    let answer = run("curl", &[&arguments[..], &["-d", &clash.to_string()]].concat());
    let problem: Value = serde_json::from_str(answer.strip_suffix("422").expect("a clash")).expect("JSON");
    assert_eq!(problem["errors"][0]["other"]["container"]["port"], 80, "{problem}");
    assert_eq!(curl(socket, "/v1/bindings", &[]).lines().count(), 14);
}

/// The command does what the API does.
#[test]
fn the_map_command_speaks_to_a_running_engine() {
    let mut lab = Lab::running();
    let sockets = [1, 2].map(|server| lab.engine(server).socket());
    let sixway = |server: usize, words: &str| {
        let socket = &sockets[server - 1];
        let mut arguments = vec!["map", "--socket", socket.to_str().expect("a path")];
        arguments.extend(words.split_whitespace());
        run(&binary(), &arguments)
    };
    let _parrot = crate::lab::peers::Parrot::start(lab.at("web"), 5353);
    for server in [1, 2] {
        sixway(server, "add blue udp 02:00:00:00:00:02 192.168.50.2:20495 02:42:0a:00:00:0a 10.0.0.10:5353");
    }
    assert!(udp_echo(&udp(lab.at("alice"), (WEB, 5353)), b"new name", 3));
    assert!(sixway(1, "list --port 5353").starts_with("blue udp"));

    let mapping = lab.dir().join("s1/mapping.sixway");
    let difference = sixway(1, &format!("apply {}", mapping.display()));
    assert!(difference.starts_with("- blue udp") && difference.contains("1 removed"), "{difference}");
    let metrics = curl(&sockets[0], "/metrics", &[]);
    assert!(metrics.contains("sixway_bindings 14") && metrics.ends_with("# EOF\n"), "{metrics}");
    until("the answer's way is gone", SOON, || {
        (!udp_echo(&udp(lab.at("alice"), (WEB, 5353)), b"old name", 1)).then_some(())
    });
}

/// It takes a while to put a whole mapping in force. Meanwhile whoever asks is answered, and the next change has its turn
/// after it.
#[test]
fn a_whole_mapping_keeps_nobody_waiting_who_only_asks() {
    const MANY: u32 = 60_000;
    let mut lab = Lab::running();
    let (socket, file) = (lab.engine(1).socket(), lab.dir().join("many"));
    let line = |n: u32| {
        let (server, port, ip) = (n / 30_000, 20_480 + n % 30_000, Ipv4Addr::from_bits(0x0a10_0000 + n));
        format!("blue tcp - 192.168.52.{server}:{port} 02:42:0a:10:00:01 {ip}:80\n")
    };
    std::fs::write(&file, lab.mapping().to_owned() + &(0..MANY).map(line).collect::<String>()).expect("a file");
    let before = lab.engine(1).get("/v1/status")["bindings"].as_u64().expect("a number");
    let loading = std::thread::spawn(move || {
        let began = Instant::now();
        run(&binary(), &["map", "--socket", socket.to_str().expect("a path"), "load", file.to_str().expect("a path")]);
        began.elapsed()
    });
    let (mut answers, mut longest) = (0, Duration::ZERO);
    while !loading.is_finished() {
        let began = Instant::now();
        lab.engine(1).get("/v1/status");
        (answers, longest) = (answers + 1, longest.max(began.elapsed()));
    }
    let took = loading.join().expect("loaded");
    println!("{answers} answers while {MANY} bindings were loaded in {took:.2?}, {longest:.2?} for the slowest");
    assert!(longest < took / 8, "{longest:?} of {took:?}");
    change(&mut lab, &json!({"put": [web_at(20490)]}));
    assert_eq!(lab.engine(1).get("/v1/status")["bindings"], before + u64::from(MANY) + 1);
}

/// How quick changes are, among many bindings. `SIXWAY_BINDINGS` says among how many: a million takes a release build
/// (`SIXWAY=target/release/sixway`) to be a fair figure. Without a journal a change is answered once packets see it, so that
/// the time of an answer is never less than that of the change.
#[test]
fn changes_among_many_bindings() {
    const SINGLE: usize = 5_000;
    const BATCHES: usize = 50;
    const BATCH: usize = 1_000;
    let many: usize = std::env::var("SIXWAY_BINDINGS").map_or(20_000, |number| number.parse().expect("a number"));
    let mut lab = Lab::running();
    let config = lab.engine(1).config();
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let journal = format!("journal = \"{}\"", lab.dir().join("s1/journal").display());
    std::fs::write(&config, text.replace(&journal, "journal = \"none\"")).expect("written");
    lab.engine(1).stop();
    lab.engine(1).start();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut old = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut old);
    let socket = lab.engine(1).socket();
    assert!(lab.engine(1).get("/v1/status").get("journal").is_none(), "it is none");
    let file = lab.dir().join("many");
    let line = |n: usize, port: usize| {
        let (server, ip) = (n / 30_000, 0x0a10_0000 + n as u32);
        format!(
            "blue tcp - 192.168.52.{server}:{} 02:42:0a:10:00:01 {}:80\n",
            port + n % 30_000,
            Ipv4Addr::from_bits(ip)
        )
    };
    let lines: String = (0..many).map(|n| line(n, 20_480)).collect();
    std::fs::write(&file, lab.mapping().to_owned() + &lines).expect("a file");
    let began = Instant::now();
    let load = ["map", "--socket", socket.to_str().expect("a path"), "load", file.to_str().expect("a path")];
    print!("{}", run(&binary(), &load));
    println!("load of {many} bindings, from file to packets: {:?}", began.elapsed());
    says_back(&mut old, b"and now?").expect("the old connection has noticed nothing");

    let stream = UnixStream::connect(&socket).expect("the control socket");
    let mut stream = BufReader::new(stream);
    for (what, requests, bindings) in [("one", SINGLE, 1), ("batches", BATCHES, BATCH)] {
        let form = |n: usize, step: usize| {
            json!({
                "network": "blue", "proto": "tcp",
                "server": {"ip": "192.168.53.1", "port": 20_480 + n * 3 + step},
                "container": {"mac": "02:42:0a:10:00:02", "ip": Ipv4Addr::from_bits(0x0a80_0000 + n as u32).to_string(), "port": 80},
            })
        };
        let bodies = (0..requests).map(|nth| {
            let puts: Vec<Value> = (0..bindings).map(|n| form((nth * bindings + n) % 10_000, nth % 3)).collect();
            json!({ "put": puts }).to_string()
        });
        let bodies: Vec<String> = bodies.collect();
        let mut times = Histogram::<u64>::new(3).expect("a histogram");
        let began = Instant::now();
        for body in &bodies {
            let sent = Instant::now();
            let length = body.len();
            let head = format!("POST /v1/changes HTTP/1.1\r\nHost: sixway\r\nContent-Length: {length}\r\n\r\n");
            stream.get_mut().write_all((head + body).as_bytes()).expect("sent");
            let answer = answer(&mut stream);
            assert!(answer.contains("\"generation\""), "{answer}");
            times.record(sent.elapsed().as_micros() as u64).expect("less than an hour");
        }
        let rate = (requests * bindings) as f64 / began.elapsed().as_secs_f64();
        println!(
            "{what}: {rate:.0} changes/s, an answer in {} us at the median, {} at p99, {} at p99.9",
            times.value_at_quantile(0.5),
            times.value_at_quantile(0.99),
            times.value_at_quantile(0.999),
        );
        says_back(&mut old, b"and now?").expect("the old connection has noticed nothing");
    }
}

/// The body of the next answer on a connection.
fn answer(stream: &mut BufReader<UnixStream>) -> String {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        stream.read_line(&mut line).expect("an answer");
        match line.trim_end() {
            "" => break,
            header => {
                length = header.strip_prefix("content-length: ").map_or(length, |it| it.parse().expect("a number"))
            }
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    String::from_utf8(body).expect("JSON")
}
