//! What the control socket has accepted outlives the engine, however it ends.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::lab::api::{post, post_once};
use crate::lab::engine::binary;
use crate::lab::peers::{Greeter, connect, greeting, says_back};
use crate::lab::{Lab, SOON, namespace, run, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// A service of the container `n`, elsewhere: its wire port says which version this is.
fn service(n: usize, inside: u16, wire: usize) -> Value {
    json!({
        "network": "blue", "proto": "tcp",
        "server": {"ip": format!("192.168.60.{}", 1 + n / 250), "port": wire},
        "container": {"mac": "02:42:0a:10:00:02", "ip": format!("10.9.{}.{}", n / 250, n % 250 + 1), "port": inside},
    })
}

/// Two services of the container, in one change set; each version has ports of its own.
pub fn pair(n: usize, version: usize) -> Value {
    let wire = 20_480 + (n % 250) * 8 + version % 4 * 2;
    json!({"put": [service(n, 80, wire), service(n, 81, wire + 1)]})
}

/// By container: the version that was answered last, and the one that was asked for last.
pub type Versions = HashMap<usize, (usize, usize)>;

/// No version of it was answered yet.
pub const NEVER: usize = usize::MAX;

/// Changes containers `first..first+50` in turn until the engine is gone. Returns how many changes were answered, too.
fn change_until_it_dies(
    socket: PathBuf,
    first: usize,
    known: Versions,
    version: usize,
) -> JoinHandle<(usize, Versions)> {
    std::thread::spawn(move || {
        let mut stream = UnixStream::connect(&socket).expect("the control socket");
        let (mut count, mut versions) = (0, known);
        versions.retain(|n, _| (first..first + 50).contains(n));
        for version in version.. {
            for n in first..first + 50 {
                let known = versions.entry(n).or_insert((NEVER, version));
                known.1 = version;
                match post(&mut stream, &pair(n, version)) {
                    Some((200, _)) => known.0 = version,
                    Some(other) => panic!("{other:?}"),
                    None => return (count, versions),
                }
                count += 1;
            }
        }
        unreachable!("versions do not end")
    })
}

fn listing(socket: &Path) -> Vec<Value> {
    let url = "http://sixway/v1/bindings";
    let text = run("curl", &["-sS", "--fail", "--unix-socket", socket.to_str().expect("a path"), url]);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Every pair that was answered is there, and none is half there. Returns how many are that were asked for last, and not
/// answered.
pub fn assert_nothing_is_lost(socket: &Path, known: &Versions) -> usize {
    let mut found: HashMap<String, HashMap<u64, u64>> = HashMap::new();
    for binding in listing(socket) {
        let (ip, port) = (binding["container"]["ip"].as_str(), binding["container"]["port"].as_u64());
        let Some((ip, port)) = ip.zip(port) else { continue };
        found.entry(ip.to_owned()).or_default().insert(port, binding["server"]["port"].as_u64().unwrap_or(0));
    }
    let mut unanswered = 0;
    for (&n, &(accepted, asked)) in known {
        let key = format!("10.9.{}.{}", n / 250, n % 250 + 1);
        let is = found.get(&key).map(|ports| (ports.get(&80).copied(), ports.get(&81).copied()));
        let of = |version: usize| {
            let wire = (20_480 + (n % 250) * 8 + version % 4 * 2) as u64;
            Some((Some(wire), Some(wire + 1)))
        };
        let never = accepted == NEVER && is.is_none();
        assert!(
            never || is == of(accepted) || is == of(asked),
            "{n}: {is:?}, {accepted} was answered, {asked} asked for"
        );
        unanswered += usize::from(accepted != asked && is == of(asked));
    }
    unanswered
}

/// Ten deaths amid changes by four clients: every change set that was answered is there, the one under way is there
/// whole or not at all, and the connections of those that nobody changed go on.
#[test]
fn ten_deaths_amid_changes_and_nothing_that_was_answered_is_lost() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut old = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut old);
    let socket = lab.engine(1).socket();
    let (mut answered, mut half, mut longest) = (0, 0, Duration::ZERO);
    let mut known = Versions::new();
    for death in 0..10_usize {
        let client = |nth: usize| change_until_it_dies(socket.clone(), nth * 50, known.clone(), death * 1000);
        let clients: Vec<_> = (0..4).map(client).collect();
        // Each death at another moment of writing, syncing and replacing the journal.
        let bytes = |lab: &mut Lab| lab.engine(1).get("/v1/status")["journal"]["bytes"].as_u64().expect("bytes");
        let begun = bytes(&mut lab);
        until("changes are under way", SOON, || (bytes(&mut lab) != begun).then_some(()));
        let moment = Instant::now() + Duration::from_millis(37 * death as u64 + 20);
        until("a moment that is as good as any", SOON, || (Instant::now() >= moment).then_some(()));
        lab.engine(1).kill();
        for client in clients {
            let (count, versions) = client.join().expect("no answer but 200");
            answered += count;
            known.extend(versions);
        }
        let began = Instant::now();
        lab.engine(1).start();
        longest = longest.max(began.elapsed());

        half += assert_nothing_is_lost(&socket, &known);
        says_back(&mut old, &[death as u8; 8]).expect("the old connection has noticed nothing");
    }
    let status = lab.engine(1).get("/v1/status");
    println!(
        "10 deaths amid {answered} change sets that were answered; {half} were on disk and not answered; longest start {longest:.1?}; {}",
        status["journal"]
    );
}

/// A journal that was torn loses what was torn; one that is corrupt is kept under another name, which the log tells with
/// file and place, and so does status. What is good goes on.
#[test]
fn a_damaged_journal_is_named_and_set_aside() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut old = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut old);
    let (socket, journal) = (lab.engine(1).socket(), lab.dir().join("s1/journal"));
    let change = |n| assert_eq!(post_once(&socket, &pair(n, 0)).0, 200);
    let named = |lab: &Lab, what: &str| {
        let names = fs::read_dir(lab.dir().join("s1")).expect("the lab's directory");
        names.filter(|name| name.as_ref().expect("a name").file_name().to_string_lossy().starts_with(what)).count()
    };
    change(1);
    until("the whole mapping is in the journal", SOON, || {
        (lab.engine(1).get("/v1/status")["journal"]["complete"] == true).then_some(())
    });
    (2..5).for_each(change);

    lab.engine(1).kill();
    let bytes = fs::read(&journal).expect("a journal");
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("text") + 1;
    fs::write(&journal, &bytes[..end - 20]).expect("a torn journal");
    let checked = lab
        .at("s1")
        .attempt(&binary(), &["check", "--config", lab.dir().join("s1/sixway.toml").to_str().expect("a path")]);
    assert!(checked.contains("no whole frame") && checked.contains("20 bindings"), "{checked}");
    lab.engine(1).start();
    assert_eq!((listing(&socket).len(), named(&lab, "journal.torn")), (14 + 6, 1), "{}", lab.engine(1).log());
    assert!(lab.engine(1).log().contains("no whole frame"), "{}", lab.engine(1).log());
    (5..8).for_each(change);

    lab.engine(1).kill();
    let mut bytes = fs::read(&journal).expect("a journal");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let place = text.find("10.9.0.7:80").expect("container 6");
    bytes[place] = b'9';
    fs::write(&journal, bytes).expect("a corrupt journal");
    lab.engine(1).start();
    assert_eq!((listing(&socket).len(), named(&lab, "journal.corrupt")), (14 + 8, 1), "up to container 5");
    assert!(lab.engine(1).log().contains("corrupt at byte"), "{}", lab.engine(1).log());
    until("another journal is begun", SOON, || (post_once(&socket, &pair(9, 0)).0 == 200).then_some(()));
    lab.engine(1).kill();
    lab.engine(1).start();
    assert_eq!(listing(&socket).len(), 14 + 10);
    says_back(&mut old, b"and all the while?").expect("the old connection has noticed nothing");
}

/// SIGHUP makes the mapping file the mapping; so does an edit after the latest change, at the next start.
#[test]
fn the_mapping_file_wins_when_it_is_newer() {
    let mut lab = Lab::running();
    let socket = lab.engine(1).socket();
    let config = lab.engine(1).config();
    let check = |lab: &Lab| lab.at("s1").run(&binary(), &["check", "--config", config.to_str().expect("a path")]);
    let change = |n| assert_eq!(post_once(&socket, &pair(n, 0)).0, 200);
    let restart = |lab: &mut Lab| {
        lab.engine(1).kill();
        lab.engine(1).start();
    };
    change(1);
    assert!(check(&lab).contains("is loaded: "), "{}", check(&lab));
    restart(&mut lab);
    assert_eq!(listing(&socket).len(), 16);

    lab.engine(1).signal(Signal::HUP);
    until("the file's mapping", SOON, || {
        lab.engine(1).log().contains("mapping and policy were reloaded").then_some(())
    });
    assert_eq!(listing(&socket).len(), 14);
    restart(&mut lab);
    assert_eq!(listing(&socket).len(), 14);

    change(2);
    let more = lab.mapping().to_owned() + "blue tcp - 192.168.61.1:20480 - 10.8.0.1:80\n";
    let mapping = lab.dir().join("s1/mapping.sixway");
    until("the file system's clock is past the change", SOON, || {
        lab.set_mapping(&more);
        check(&lab).contains("was edited after the latest change").then_some(())
    });
    restart(&mut lab);
    assert_eq!(listing(&socket).len(), 15);
    let log = lab.engine(1).log();
    let said = log.lines().find(|line| line.contains("was edited after")).expect("a line that says so");
    assert!(said.contains(mapping.to_str().expect("a path")) && said.contains("/journal"), "{said}");
}

/// A file system of its own, full or not.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        namespace::quietly("umount", &["-l", &self.0.to_string_lossy()]);
    }
}

/// A disk without room refuses change sets and nothing else: nothing is applied, and with room there is all is well.
#[test]
fn a_full_disk_refuses_and_applies_nothing() {
    let mut lab = Lab::running();
    let small = Small(lab.dir().join("s1/small"));
    fs::create_dir_all(&small.0).expect("a mount point");
    run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", &small.0.to_string_lossy()]);
    let config = lab.engine(1).config();
    let text = fs::read_to_string(&config).expect("a configuration");
    let journal = small.0.join("journal");
    let path = lab.dir().join("s1/journal");
    fs::write(&config, text.replace(path.to_str().expect("a path"), journal.to_str().expect("a path")))
        .expect("written");
    lab.engine(1).stop();
    lab.engine(1).start();
    let socket = lab.engine(1).socket();
    assert_eq!(post_once(&socket, &pair(1, 0)).0, 200);

    let fill = small.0.join("fill");
    let mut full = fs::File::create(&fill).expect("a file");
    while full.write_all(&[1; 4096]).is_ok() {}
    let generation = |lab: &mut Lab| lab.engine(1).get("/v1/status")["generation"].as_u64();
    // There is room for some, which was reserved before.
    let (mut taken, mut refused) = (0, None);
    while refused.is_none() {
        let before = generation(&mut lab);
        let many: Vec<Value> = (10..210).map(|n| service(n, 80, 20_480 + n * 2 + taken % 2)).collect();
        match post_once(&socket, &json!({ "put": many })) {
            (200, _) => taken += 1,
            (503, problem) => {
                assert_eq!(generation(&mut lab), before, "nothing was applied");
                refused = Some(problem);
            }
            other => panic!("{other:?}"),
        }
    }
    let problem = refused.expect("refused");
    let detail = problem["detail"].as_str().expect("a reason");
    assert!(detail.contains(journal.to_str().expect("a path")) && detail.contains("No space left"), "{problem}");
    assert!(lab.engine(1).get("/v1/status")["journal"]["last_error"].is_string());
    let was = listing(&socket).len();
    lab.engine(1).kill();
    lab.engine(1).start();
    assert_eq!(listing(&socket).len(), was, "nothing that was accepted is lost");

    drop(full);
    fs::remove_file(fill).expect("room");
    until("there is room again", SOON, || (post_once(&socket, &pair(99, 0)).0 == 200).then_some(()));
    println!("{taken} change sets were accepted on the full disk, in room that was reserved");
    lab.engine(1).stop();
    drop(small);
}

/// How long it takes to keep many bindings and to start with them. `SIXWAY_BINDINGS` says how many: a million takes a
/// release build (`SIXWAY=target/release/sixway`) to be a fair figure.
#[test]
fn a_start_with_many_bindings() {
    let many: usize = std::env::var("SIXWAY_BINDINGS").map_or(20_000, |number| number.parse().expect("a number"));
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut old = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut old);
    let socket = lab.engine(1).socket();
    let file = lab.dir().join("many");
    let line = |n: usize| {
        let (server, ip) = (n / 30_000, Ipv4Addr::from_bits(0x0a10_0000 + n as u32));
        format!("blue tcp - 192.168.52.{server}:{} 02:42:0a:10:00:01 {ip}:80\n", 20_480 + n % 30_000)
    };
    fs::write(&file, lab.mapping().to_owned() + &(0..many).map(line).collect::<String>()).expect("a file");
    let began = Instant::now();
    let load = ["map", "--socket", socket.to_str().expect("a path"), "load", file.to_str().expect("a path")];
    run(&binary(), &load);
    println!("load of {many} bindings, from file to packets and disk: {:.2?}", began.elapsed());
    let began = Instant::now();
    let patience = SOON + Duration::from_secs(60);
    until("the whole mapping is in the journal", patience, || {
        (lab.engine(1).get("/v1/status")["journal"]["complete"] == true).then_some(())
    });
    println!("snapshot: {:.2?} more; {}", began.elapsed(), lab.engine(1).get("/v1/status")["journal"]);
    for death in 0..3 {
        lab.engine(1).kill();
        let began = lab.engine(1).spawn();
        until("the engine answers", patience, || UnixStream::connect(&socket).ok());
        lab.engine(1).wait_until_ready();
        println!("start from the journal, to the first answer: {:.2?}", began.elapsed());
        assert_eq!(lab.engine(1).get("/v1/status")["bindings"], many + 14);
        assert_eq!(post_once(&socket, &pair(1, death)).0, 200);
        let key = |port: u16| {
            json!({
                "network": "blue", "proto": "tcp",
                "container": {"mac": "02:42:0a:10:00:02", "ip": "10.9.0.2", "port": port},
            })
        };
        let undo = json!({"delete": [key(80), key(81)]});
        assert_eq!(post_once(&socket, &undo).0, 200);
        says_back(&mut old, b"and now?").expect("the old connection has noticed nothing");
    }
    let path = lab.dir().join("s1/mapping.sixway");
    let from_file = fs::read_to_string(&file).expect("a file");
    lab.engine(1).kill();
    fs::write(path, from_file).expect("the mapping file");
    let began = lab.engine(1).spawn();
    until("the engine answers", patience, || UnixStream::connect(&socket).ok());
    lab.engine(1).wait_until_ready();
    println!("the same from the mapping file: {:.2?}", began.elapsed());
}

/// An engine that takes over in the middle of changes knows them all; one that fails to leaves the journal to the one that
/// goes on.
#[test]
fn takeovers_amid_changes_lose_none() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut old = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut old);
    let socket = lab.engine(1).socket();
    let (mut answered, mut unanswered) = (0, 0);
    let mut known = Versions::new();
    for upgrade in 0..5_usize {
        let client = |nth: usize| change_until_it_dies(socket.clone(), nth * 50, known.clone(), upgrade * 1000);
        let clients: Vec<_> = (0..2).map(client).collect();
        let generation = lab.engine(1).get("/v1/status")["generation"].as_u64();
        until("changes are under way", SOON, || {
            (lab.engine(1).get("/v1/status")["generation"].as_u64() > generation.map(|before| before + 20))
                .then_some(())
        });
        lab.engine(1).take_over();
        for client in clients {
            let (count, versions) = client.join().expect("no answer but 200");
            answered += count;
            known.extend(versions);
        }
        unanswered += assert_nothing_is_lost(&socket, &known);
        says_back(&mut old, &[upgrade as u8; 8]).expect("the old connection has noticed nothing");
    }
    println!("5 takeovers amid {answered} change sets that were answered; {unanswered} were in force and not answered");

    let config = lab.engine(1).config();
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("/s1/state\"", "/s1/no/sixway.toml/state\"")).expect("written");
    fs::write(lab.dir().join("s1/no"), "no directory").expect("written");
    assert!(!lab.engine(1).second(&["--takeover"]), "no state can be kept there");
    fs::write(&config, text).expect("written");
    assert_eq!(post_once(&socket, &pair(240, 0)).0, 200, "the engine that ran goes on with its journal");
    lab.engine(1).kill();
    lab.engine(1).start();
    known.insert(240, (0, 0));
    assert_nothing_is_lost(&socket, &known);
}

/// How many change sets a second reach the disk: of one client, which waits for each, and of many, who share its syncs.
#[test]
fn clients_share_the_syncs_of_the_disk() {
    const EACH: usize = 100;
    let mut lab = Lab::running();
    let socket = lab.engine(1).socket();
    for clients in [1, 8, 64] {
        let began = Instant::now();
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let socket = socket.clone();
                std::thread::spawn(move || {
                    let mut stream = UnixStream::connect(&socket).expect("the control socket");
                    for version in 0..EACH {
                        let (status, body) = post(&mut stream, &pair(client, version)).expect("an answer");
                        assert_eq!(status, 200, "{body}");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no answer but 200"));
        let rate = (clients * EACH) as f64 / began.elapsed().as_secs_f64();
        println!("{clients} clients: {rate:.0} change sets a second are on disk");
    }
    let kept = lab.engine(1).get("/v1/status")["journal"].clone();
    assert!(kept["last_error"].is_null(), "{kept}");
}
