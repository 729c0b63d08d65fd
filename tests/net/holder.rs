//! With a holder, an engine's death costs the packets in its hands and no others.

use std::fs::{self, File};
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use sixway::afxdp::handover::receive;
use sixway::control::holder::Holder;

use crate::lab::load::{Account, Load};
use crate::lab::peers::{Greeter, connect, greeting, says_back};
use crate::lab::way::Way;
use crate::lab::{Lab, Member, SOON, engine, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// A worker takes at most this many packets at a time from a queue; it holds those of one queue at once, and may have
/// staged as many for another.
const IN_HAND: u64 = 2 * sixway::path::BURST as u64;

/// Packets a second that the binary under test takes on this machine.
fn rate() -> u64 {
    if cfg!(debug_assertions) && std::env::var_os("SIXWAY").is_none() { 5_000 } else { 50_000 }
}

/// Ten deaths in the middle of a stream.
#[test]
fn sigkill_costs_what_overflows_and_what_was_in_hand() {
    let mut lab = Lab::running_with_holders();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);
    let load = Load::start(lab.at("carol"), lab.at("web"), (WEB, 7), rate());
    let mut accounts = Vec::new();
    for death in 0..10_u8 {
        let server = death % 2 + 1;
        let (before, mark) = (Way::look(&mut lab, "carol"), load.mark());
        lab.engine(server).kill();
        let began = lab.engine(server).spawn();
        lab.engine(server).wait_until_ready();
        let ready = began.elapsed();
        says_back(&mut stream, &[death; 8]).expect("the connection survived");
        let account = load.since(mark);
        let overflow = overflowed_since(&before, &mut lab);
        println!("death {death} of s{server}: {account:?}, {overflow} overflowed, ready after {ready:.1?}");
        assert!(account.lost <= overflow + IN_HAND, "{account:?}, {overflow} overflowed");
        assert_eq!(account.doubled, 0, "{account:?}");
        assert!(inherited_all(&mut lab, server), "{}", lab.engine(server).log());
        accounts.push(account);
    }
    drop(load);
    summary("SIGKILL", &accounts);
    end_well(&mut lab);
}

/// Stop and start, as an upgrade does: what arrives meanwhile waits in the rings, and what they can't hold is counted.
/// How much that is depends on how long the machine takes: the story prints it.
#[test]
fn a_handed_over_upgrade_costs_only_what_overflows() {
    let mut lab = Lab::running_with_holders();
    let load = Load::start(lab.at("carol"), lab.at("web"), (WEB, 7), rate());
    let mut accounts = Vec::new();
    for upgrade in 0..10_u8 {
        let server = upgrade % 2 + 1;
        let (before, mark) = (Way::look(&mut lab, "carol"), load.mark());
        lab.engine(server).stop();
        lab.engine(server).start();
        let account = load.since(mark);
        let overflow = overflowed_since(&before, &mut lab);
        println!("upgrade {upgrade} of s{server}: {account:?}, {overflow} overflowed");
        assert!(account.lost <= overflow && account.doubled == 0, "{account:?}, {overflow} overflowed");
        accounts.push(account);
    }
    drop(load);
    summary("upgrade", &accounts);
    end_well(&mut lab);
}

/// Ten upgrades in a row while both engines run: each new engine takes over from the one that forwards.
#[test]
fn ten_takeovers_in_the_middle_of_a_stream_lose_nothing() {
    takeovers(Lab::running_with_holders());
}

/// No holder is needed for that.
#[test]
fn takeovers_need_no_holder() {
    takeovers(Lab::running());
}

/// Nor has a container to speak first, where engines found out by themselves which port it is behind.
#[test]
fn takeovers_remember_who_is_behind_which_port() {
    let mut lab = Lab::new();
    lab.leave_macs_to_the_engine();
    lab.start(1);
    lab.start(2);
    takeovers(lab);
}

fn takeovers(mut lab: Lab) {
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);
    let load = Load::start(lab.at("carol"), lab.at("web"), (WEB, 7), rate());
    let (before, start) = (Way::look(&mut lab, "carol"), load.mark());
    let mut accounts = Vec::new();
    for upgrade in 0..10_u8 {
        let server = upgrade % 2 + 1;
        let (mark, former) = (load.mark(), lab.engine(server).pid());
        lab.engine(server).take_over();
        let account = load.since(mark);
        println!("takeover {upgrade} of s{server}: {account:?}, {}", took(&mut lab, server));
        assert!(inherited_all(&mut lab, server), "{}", lab.engine(server).log());
        let status = lab.engine(server).get("/v1/status");
        assert!(status["pid"] == lab.engine(server).pid() && status["pid"] != former, "{status}");
        says_back(&mut stream, &[upgrade; 8]).expect("the connection survived");
        accounts.push(account);
    }
    let account = load.since(start);
    let overflow = overflowed_since(&before, &mut lab);
    println!("in all: {account:?}, {overflow} overflowed");
    assert!(account.lost <= overflow && account.doubled == 0, "{account:?}, {overflow} overflowed");
    drop(load);
    summary("takeover", &accounts);
    end_well(&mut lab);
}

/// What the engine that was started last said of the time without workers.
fn took(lab: &mut Lab, server: u8) -> String {
    let log = lab.engine(server).log();
    let line = log.lines().rev().find(|line| line.contains("workers took over within"));
    line.and_then(|line| line.split("INFO ").nth(1)).unwrap_or_default().to_owned()
}

/// A successor that fails after everything was handed to it: the engine that ran goes on, and nothing is lost.
#[test]
fn a_successor_that_fails_costs_nothing() {
    let mut lab = Lab::running_with_holders();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);
    let config = lab.engine(2).config();
    let good = fs::read_to_string(&config).expect("the configuration");
    let before = Way::look(&mut lab, "carol");
    let load = Load::start(lab.at("carol"), lab.at("web"), (WEB, 7), rate());
    let mark = load.mark();
    fs::write(&config, good.replace("/state\"", "/nowhere\\u0000/state\"")).expect("the configuration");
    assert!(!lab.engine(2).second(&["--takeover"]), "no state can be kept there");
    says_back(&mut stream, b"still the first").expect("the connection survived");
    let account = load.since(mark);
    let overflow = overflowed_since(&before, &mut lab);
    println!("a failed takeover: {account:?}, {overflow} overflowed");
    assert!(account.lost <= overflow && account.doubled == 0, "{account:?}, {overflow} overflowed");
    assert!(lab.engine(2).log().contains("this engine goes on"), "{}", lab.engine(2).log());

    fs::write(&config, good).expect("the configuration");
    lab.engine(2).take_over();
    says_back(&mut stream, b"and now the next").expect("the connection survived");
    drop(load);
    end_well(&mut lab);
}

/// A successor with other ports: sockets are bound anew, and connections live.
#[test]
fn a_takeover_with_another_port_binds_anew() {
    let mut lab = Lab::running_with_holders();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);
    let erin = Member { mac: "02:42:0a:00:00:05", ip: [10, 0, 0, 5].into(), name: "erin", ..crate::lab::CAST[5] };
    lab.add_container(erin);
    let mapping = lab.mapping().to_owned();
    lab.set_mapping(&mapping);
    lab.engine(2).take_over();
    says_back(&mut stream, b"one more port").expect("the connection survived");
    assert_eq!(lab.engine(2).get("/v1/ports").as_array().map(Vec::len), Some(5));
    assert_eq!(lab.engine(2).get("/v1/status")["holder"], true);
    lab.engine(2).take_over();
    assert!(inherited_all(&mut lab, 2), "{}", lab.engine(2).log());
    says_back(&mut stream, b"and the next").expect("the connection survived");
    end_well(&mut lab);
}

/// What was left does not fit any more, or is no packet memory at all: the engine lets go of that, and binds anew.
#[test]
fn what_does_not_fit_is_bound_anew() {
    let mut lab = Lab::running_with_holders();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);

    // Another port.
    lab.engine(2).kill();
    let erin = Member { mac: "02:42:0a:00:00:05", ip: [10, 0, 0, 5].into(), name: "erin", ..crate::lab::CAST[5] };
    lab.add_container(erin);
    let mapping = lab.mapping().to_owned();
    lab.set_mapping(&mapping);
    lab.engine(2).start();
    says_back(&mut stream, b"one more port").expect("the connection survived");
    assert!(!inherited_all(&mut lab, 2), "the new port's socket is new");
    assert_eq!(lab.engine(2).get("/v1/status")["holder"], true);

    // What the ports were bound to is gone.
    lab.engine(2).stop();
    lab.at("s2").ip("link set veth-dave name veth-left");
    lab.at("s2").ip("link del veth-left");
    lab.at("s2").ip(&format!("link add veth-dave type veth peer name eth0 netns {}", lab.at("dave").name()));
    lab.at("s2").ip("link set veth-dave up");
    lab.engine(2).start();
    says_back(&mut stream, b"another interface").expect("the connection survived");
    assert!(
        lab.engine(2).log().contains("inherited=4 queues=5"),
        "only its own socket is new: {}",
        lab.engine(2).log()
    );

    // Neither memory nor sockets, under the right name.
    lab.engine(2).kill();
    let (keeper, sets) = Holder::ask(&lab.engine(2).holder()).expect("it answers").expect("it listens");
    assert_eq!(sets.len(), 1, "one worker's");
    let name = sets[0].0.clone();
    drop(sets);
    let junk = File::open("/proc/self/exe").expect("a file");
    keeper.keep(&[(name, vec![junk.as_fd()])]).expect("it keeps anything");
    drop(keeper);
    lab.engine(2).start();
    says_back(&mut stream, b"junk").expect("the connection survived");
    assert_eq!(lab.engine(2).get("/v1/status")["holder"], true);
    end_well(&mut lab);
}

/// Two workers an engine and two queues a port: each worker's part is taken over from the holder, and by takeover.
#[test]
fn several_workers_die_and_are_followed() {
    let mut lab = Lab::new();
    lab.with_two_workers();
    lab.start(1);
    lab.start(2);
    for server in [1, 2] {
        let engine = lab.engine(server);
        engine.stop();
        engine.with_holder();
        engine.start();
    }
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut streams: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
            greeting(&mut stream);
            stream
        })
        .collect();
    for death in 0..10_u8 {
        let server = death % 2 + 1;
        if death < 6 {
            lab.engine(server).kill();
            lab.engine(server).start();
        } else {
            lab.engine(server).take_over();
        }
        assert!(inherited_all(&mut lab, server), "{}", lab.engine(server).log());
        for stream in &mut streams {
            says_back(stream, &[death; 8]).expect("the connection survived");
        }
        let workers = lab.engine(server).get("/v1/workers");
        assert_eq!(workers.as_array().map(Vec::len), Some(2), "{workers}");
        let count = |of: &serde_json::Value, name: &str| of[name].as_u64().expect("a count");
        let ports = lab.engine(server).get("/v1/ports");
        let ports = ports.as_array().expect("a list");
        assert_eq!(ports[0]["queues"].as_array().map(Vec::len), Some(2), "{}", ports[0]);
        let by_worker: Vec<u64> = (0..2).map(|n| count(&workers[n], "packets")).collect();
        println!("death {death} of s{server}: packets by worker {by_worker:?}");
        assert!(by_worker.iter().all(|&packets| packets > 0), "both workers work: {workers}");
        until("each frame has one verdict", SOON, || lab.engine(server).counters_add_up().then_some(()));
    }
    end_well(&mut lab);
}

/// A second engine is refused before it can take anything from the first.
#[test]
fn of_two_engines_the_first_keeps_its_sockets() {
    let mut lab = Lab::running_with_holders();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);
    assert!(!lab.engine(2).second(&[]), "one engine at a time");
    let (log, pid) = (lab.engine(2).log(), lab.engine(2).pid());
    for said in [&format!("(process {pid})"), "control.sock", "--takeover"] {
        assert!(log.contains(said), "it says {said}: {log}");
    }
    let busy = Holder::ask(&lab.engine(2).holder()).expect_err("the holder serves the engine that runs");
    assert_eq!(busy.kind(), std::io::ErrorKind::ResourceBusy);
    says_back(&mut stream, b"still there?").expect("the first engine runs on");
    assert_eq!(lab.engine(2).get("/v1/status")["holder"], true);
    lab.engine(2).kill();
    lab.engine(2).start();
    assert!(inherited_all(&mut lab, 2), "{}", lab.engine(2).log());
    says_back(&mut stream, b"and now?").expect("the connection survived");
}

/// The holder is its user's alone, says so in the status, and ends with `sixway detach`.
#[test]
fn detach_ends_the_holder() {
    let mut lab = Lab::running_with_holders();
    let socket = lab.engine(2).holder();
    let file = fs::metadata(&socket).expect("it listens");
    assert_eq!(file.mode() & 0o777, 0o600);
    let config = lab.engine(2).config();
    let said = lab.at("s2").run(&engine::binary(), &["detach", "--config", &config.to_string_lossy()]);
    assert!(said.contains("ended the holder"), "{said}");
    until("the status knows", SOON, || (lab.engine(2).get("/v1/status")["holder"] == false).then_some(()));
    until("its socket is gone", SOON, || (!socket.exists()).then_some(()));
}

/// Packets that found no room since `before`, on carol's way to web: in a ring of an engine (its interface counts them
/// too), of a veth, or in the buffer of web's socket. All of these run over while the machine is busy elsewhere.
fn overflowed_since(before: &Way, lab: &mut Lab) -> u64 {
    Way::look(lab, "carol").lost_since(before)
}

/// True if the engine that was started last took over every socket.
fn inherited_all(lab: &mut Lab, server: u8) -> bool {
    let log = lab.engine(server).log();
    // A start's lines end with the one that says that it forwards.
    let last = log.rsplit("forwarding state").nth(1).unwrap_or_default().lines().skip(1).collect::<Vec<_>>().join(" ");
    let count = |name: &str| Some(last.split(&format!("{name}=")).nth(1)?.split_whitespace().next()?.to_owned());
    count("inherited").is_some_and(|inherited| count("queues").is_some_and(|all| inherited == all))
}

/// Counters add up, and at their end the engines find every frame.
fn end_well(lab: &mut Lab) {
    for server in [1, 2] {
        until("each packet has its verdict", SOON, || lab.engine(server).counters_add_up().then_some(()));
        lab.engine(server).stop();
        assert!(!lab.engine(server).log().contains("lost frames"), "{}", lab.engine(server).log());
    }
}

fn summary(what: &str, accounts: &[Account]) {
    let mut silences: Vec<Duration> = accounts.iter().map(|account| account.silence).collect();
    silences.sort();
    let lost: Vec<u64> = accounts.iter().map(|account| account.lost).collect();
    let sent: u64 = accounts.iter().map(|account| account.sent).sum();
    let (median, worst) = (silences[silences.len() / 2], silences[silences.len() - 1]);
    println!("{what}: of {sent} at {}/s lost {lost:?}; silence: median {median:.1?}, worst {worst:.1?}", rate());
}

/// Under systemd, the descriptor store does what a holder does (sd_notify(3), sd_listen_fds(3)).
#[test]
fn the_service_manager_keeps_sockets_too() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);
    lab.engine(2).stop();

    let notify = lab.dir().join("notify");
    let manager = UnixDatagram::bind(&notify).expect("a socket");
    manager.set_read_timeout(Some(SOON)).expect("a socket option");
    let config = lab.engine(2).config();
    let start = |lab: &Lab, script: &str| {
        let mut command = lab.at("s2").command("bash");
        command.args(["-c", script, &engine::binary(), "run", "--config", &config.to_string_lossy()]);
        command.env("NOTIFY_SOCKET", &notify).env("FDSTORE", "64").stderr(Stdio::piped());
        command.spawn().expect("the engine starts")
    };
    let stored = |manager: &UnixDatagram| {
        let (name, fds) = receive(manager).expect("a message").expect("a name");
        let name = name.strip_prefix("FDSTORE=1\nFDNAME=").expect("it stores").to_owned();
        (name.split('\n').next().expect("a name").to_owned(), fds)
    };

    let mut first = start(&lab, r#"exec "$0" "$@""#);
    let (name, fds) = stored(&manager);
    assert_eq!(receive(&manager).expect("a message").expect("a word").0.trim(), "READY=1");
    says_back(&mut stream, b"under a manager").expect("the connection survived");
    assert_eq!(lab.engine(2).get("/v1/status")["holder"], true);
    first.kill().expect("our own child");
    first.wait().expect("our own child");

    // The manager passes what it kept, as the descriptors from 3 on.
    let passed: Vec<OwnedFd> = fds.iter().map(|fd| fcntl_dupfd_cloexec(fd, 100).expect("a number")).collect();
    drop(fds);
    let numbers: Vec<String> = (3..).zip(&passed).map(|(to, fd)| format!("{to}<&{} {0}<&-", fd.as_raw_fd())).collect();
    let names = vec![name.as_str(); passed.len()].join(":");
    let script = format!(
        r#"exec {}; LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names} exec "$0" "$@""#,
        numbers.join(" "),
        passed.len()
    );
    passed.iter().for_each(|fd| fcntl_setfd(fd, FdFlags::empty()).expect("a flag"));
    let mut second = start(&lab, &script);
    drop(passed);
    let (removed, _) = receive(&manager).expect("a message").expect("a word");
    assert_eq!(removed, format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    assert_eq!(stored(&manager).1.len(), numbers.len(), "and stores them for the next");
    assert_eq!(receive(&manager).expect("a message").expect("a word").0.trim(), "READY=1");
    says_back(&mut stream, b"and the next one").expect("the connection survived");
    second.kill().expect("our own child");
    let mut log = String::new();
    second.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
    second.wait().expect("our own child");
    assert!(log.contains("sockets were taken over"), "{log}");
}
