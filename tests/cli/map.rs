//! `sixway map`: a mapping shown, changed and watched from the command line.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::engine::with_engine;
use crate::support::{Directory, Finished, sixway};
use serde_json::Value;

const WEB: &str = "blue tcp 02:00:00:00:00:02 192.168.50.2:20480 02:42:0a:02:00:02 10.2.0.2:80 weight=2";
const BLOCK: &str = "blue any - 192.168.50.1:20736-20991 02:42:0a:01:00:02 10.1.0.2:* native";
const SHOP: &str = "red tcp - 192.168.50.2:20481 - 10.2.0.2:80";

fn map(socket: &str, arguments: &str) -> Finished {
    let mut all = vec!["map", "--socket", socket];
    all.extend(arguments.split_whitespace());
    sixway(&all)
}

/// The words of a command that ends well.
fn done(socket: &str, arguments: &str) -> String {
    let finished = map(socket, arguments);
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{arguments}: {}", finished.stdout);
    finished.stdout
}

fn list(socket: &str, filter: &str) -> Vec<String> {
    let mut lines: Vec<String> = done(socket, &format!("list {filter}")).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_binding_is_added_moved_and_removed() {
    with_engine("map-change", |socket| {
        assert_eq!(done(socket, &format!("add {WEB}")), "generation 3: 1 added, 0 replaced, 0 removed\n");
        done(socket, &format!("add {BLOCK}"));
        assert_eq!(list(socket, ""), [BLOCK, WEB]);
        assert_eq!(list(socket, "--port 80"), [WEB]);
        assert_eq!(list(socket, "--server 192.168.50.1 --network blue"), [BLOCK]);

        let moved = WEB.replace("192.168.50.2:20480", "192.168.50.3:20490");
        let answer = done(socket, &format!("add --json --if-generation 4 {moved}"));
        assert_eq!(answer, "{\"generation\":5,\"added\":0,\"replaced\":1,\"removed\":0,\"health\":0}\n");
        done(socket, "remove blue tcp 02:42:0a:02:00:02 10.2.0.2:80");
        assert_eq!(done(socket, &format!("remove {BLOCK}")), "generation 7: 0 added, 0 replaced, 1 removed\n");
        assert_eq!(list(socket, ""), [""; 0]);
    });
}

#[test]
fn what_is_refused_names_both_lines() {
    with_engine("map-refused", |socket| {
        done(socket, &format!("add {WEB}"));
        let refused = |arguments: &str, expected: &[&str]| {
            let finished = map(socket, arguments);
            assert_eq!((finished.code, finished.stdout.as_str()), (1, ""), "{arguments}");
            for expected in expected {
                assert!(finished.stderr.contains(expected), "{arguments}: {}", finished.stderr);
            }
        };
        let clash = SHOP.replace("20481", "20480");
        refused(&format!("add {clash}"), &["the wire name belongs to another", &clash, &format!("in force: {WEB}")]);
        refused("add blue tcp - 192.168.50.2 - 10.2.0.2:80", &["the arguments:1:12: tcp needs a port", "^^^"]);
        refused("remove blue tcp - 10.2.0.2:81", &["blue tcp - 10.2.0.2:81: no such binding"]);
        refused("remove blue tpc - 10.2.0.2:81", &["unknown protocol `tpc`"]);
        refused(&format!("add --if-generation 2 {SHOP}"), &["Conflict: the mapping is of generation 3"]);
        assert_eq!(list(socket, ""), [WEB]);
        let finished = map(socket, &format!("--json add {clash}"));
        let problem: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!((finished.code, &problem["status"]), (1, &Value::from(422)));
        assert_eq!(problem["errors"][0]["other"]["server"]["port"], 20480);
    });
}

/// `apply` shows the difference, does it, and has nothing to do after that.
#[test]
fn a_file_is_applied_by_its_difference() {
    with_engine("map-apply", |socket| {
        let directory = Directory::new("map-apply-file");
        let first = directory.write("first", &format!("# the beginning\n{WEB}\n{SHOP}\n"));
        let difference = format!("+ {WEB}\n+ {SHOP}\n2 to add, 0 to replace, 0 to remove\n");
        assert_eq!(done(socket, &format!("apply --dry-run {first}")), difference);
        assert_eq!(list(socket, ""), [""; 0], "only shown");
        let done_and_said = format!("{difference}generation 3: 2 added, 0 replaced, 0 removed\n");
        assert_eq!(done(socket, &format!("apply {first}")), done_and_said);

        let moved = WEB.replace("192.168.50.2:20480", "192.168.50.3:20490");
        let second = directory.write("second", &format!("{moved}\n{BLOCK}\n"));
        let difference = format!("- {SHOP}\n- {WEB}\n+ {moved}\n+ {BLOCK}\n1 to add, 1 to replace, 1 to remove\n");
        assert_eq!(done(socket, &format!("apply --dry-run {second}")), difference);
        done(socket, &format!("apply {second}"));
        assert_eq!(done(socket, &format!("apply {second}")), "0 to add, 0 to replace, 0 to remove\n");
        let json: Value = serde_json::from_str(&done(socket, &format!("apply --dry-run --json {first}"))).unwrap();
        assert_eq!((&json["generation"], json["difference"]["added"].as_array().unwrap().len()), (&Value::from(4), 1));

        let wrong = directory.write("wrong", &format!("{WEB}\nblue tcp nonsense\n"));
        let refused = map(socket, &format!("apply {wrong}"));
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("wrong:2:18: expected at least 6 columns"), "{}", refused.stderr);
        let clashing = directory.write("clashing", &format!("{WEB}\n{}\n", SHOP.replace("20481", "20480")));
        let refused = map(socket, &format!("apply {clashing}"));
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("Unprocessable Entity: 2: red tcp"), "{}", refused.stderr);
        assert_eq!(list(socket, ""), [BLOCK, moved.as_str()]);
    });
}

/// What `list --json` prints, `load` takes; and so many bindings that they come in pieces.
#[test]
fn a_mapping_is_carried_from_engine_to_engine() {
    with_engine("map-load", |socket| {
        let directory = Directory::new("map-load-file");
        let lines =
            (0..5000).map(|n| format!("blue tcp - 192.168.50.2:{} - 10.2.{}.{}:80\n", 20480 + n, n / 250, n % 250));
        let file = directory.write("many", &lines.collect::<String>());
        assert_eq!(done(socket, &format!("load {file}")), "generation 3: 5,000 added, 0 replaced, 0 removed\n");
        let ndjson = directory.write("ndjson", &done(socket, "list --json"));
        done(socket, &format!("load {}", directory.write("empty", "# nothing\n")));
        assert_eq!(list(socket, ""), [""; 0]);
        assert_eq!(done(socket, &format!("load {ndjson}")), "generation 5: 5,000 added, 0 replaced, 0 removed\n");
    });
}

#[test]
fn changes_are_watched() {
    with_engine("map-watch", |socket| {
        let mut watch = Command::new(env!("CARGO_BIN_EXE_sixway"))
            .args(["map", "watch", "--socket", socket])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "generation 2");
        done(socket, &format!("add {WEB}"));
        done(socket, "remove blue tcp 02:42:0a:02:00:02 10.2.0.2:80");
        let said: Vec<String> = lines.by_ref().take(4).collect();
        let removed = "- blue tcp 02:42:0a:02:00:02 10.2.0.2:80";
        assert_eq!(said, ["generation 3", &format!("+ {WEB}"), "generation 4", removed]);
        watch.kill().unwrap();
        watch.wait().unwrap();

        let gone = map(socket, "watch --generation 99");
        assert_eq!(gone.code, 1);
        assert!(gone.stderr.contains("Gone: the changes after generation 99"), "{}", gone.stderr);
    });
}

/// What is known is listed with what probes say, people say more, and a file, or the standard input as it comes, says it of many.
#[test]
fn health_is_listed_said_and_passed_on() {
    const OWN: &str = "blue tcp - 192.168.50.1:20482 02:42:0a:01:00:02 10.1.0.2:80";
    const WEB_KEY: &str = "blue tcp 02:42:0a:02:00:02 10.2.0.2:80";
    const OWN_KEY: &str = "blue tcp 02:42:0a:01:00:02 10.1.0.2:80";
    with_engine("map-health", |socket| {
        assert_eq!(done(socket, "health list"), "nothing is known, and nothing is probed\n");
        done(socket, &format!("add {WEB}"));
        done(socket, &format!("add {OWN}"));
        assert_eq!(done(socket, &format!("health set {WEB_KEY} unhealthy")), "generation 5: told\n");
        assert_eq!(done(socket, &format!("health set {WEB_KEY} unhealthy")), "generation 5: known already\n");
        assert_eq!(done(socket, &format!("health set {OWN_KEY} healthy")), "generation 6: told\n");
        let mut table: Vec<String> = done(socket, "health list").lines().map(str::to_owned).collect();
        table[1..].sort();
        assert_eq!(
            table,
            [
                "binding                                 state      probes        good   bad  refused  hints",
                "blue tcp 02:42:0a:01:00:02 10.1.0.2:80  healthy    http for tcp  1,200  1    2        3",
                "blue tcp 02:42:0a:02:00:02 10.2.0.2:80  unhealthy  elsewhere",
            ]
        );
        let listed = done(socket, "health list --json");
        assert!(listed.contains(r#""probes":[{"proto":"tcp","kind":"http","sent":1204,"#), "{listed}");

        let wrong = map(socket, "health set blue tcp - 10.9.9.9:80 healthy");
        assert_eq!(wrong.code, 1);
        assert!(wrong.stderr.contains("blue tcp - 10.9.9.9:80: no such binding"), "{}", wrong.stderr);
        assert_eq!(map(socket, &format!("health set {WEB_KEY} ill")).code, 2);

        // What was listed is said again; the other lines of a watch say nothing of health.
        let directory = Directory::new("map-health-file");
        let file = directory.write("listed", &format!("{{\"generation\":2}}\n{listed}"));
        done(socket, &format!("health set {OWN_KEY} unknown"));
        assert_eq!(done(socket, &format!("health apply {file}")), "generation 8: told\n");
        let nobody =
            listed.replace("10.2.0.2", "10.9.9.9").replace("unhealthy", "unknown").replace("healthy", "unhealthy");
        let refused = map(socket, &format!("health apply {}", directory.write("nobody", &nobody)));
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("10.9.9.9:80: there is no such binding"), "{}", refused.stderr);
        let listed = done(socket, "health list");
        assert!(listed.contains("10.1.0.2:80  unhealthy"), "the others are said all the same: {listed}");
        let garbage = map(socket, &format!("health apply {}", directory.write("garbage", "healthy\n")));
        assert!((garbage.code, garbage.stderr.contains("no event and no report")) == (1, true), "{}", garbage.stderr);
    });
}

/// One engine's own containers, as they are and as they change, passed on to another that learns of one of them later.
#[test]
fn what_a_server_finds_out_is_watched_and_applied() {
    const OWN: &str = "blue tcp - 192.168.50.1:20482 02:42:0a:01:00:02 10.1.0.2:80";
    const LATER: &str = "blue tcp - 192.168.50.1:20483 02:42:0a:01:00:03 10.1.0.3:80";
    let key = |line: &str| {
        line.split_whitespace()
            .enumerate()
            .filter(|(n, _)| ![2, 3].contains(n))
            .map(|(_, word)| word.to_owned() + " ")
            .collect::<String>()
    };
    with_engine("map-relay-from", |from| {
        with_engine("map-relay-to", |to| {
            for line in [OWN, LATER, WEB] {
                done(from, &format!("add {line}"));
            }
            done(to, &format!("add {OWN}"));
            done(to, &format!("add {WEB}"));
            done(from, &format!("health set {} unhealthy", key(OWN)));
            let sixway = env!("CARGO_BIN_EXE_sixway");
            let pipe = format!(
                "{sixway} map watch --health --json --socket {from} | {sixway} map health apply --socket {to} -"
            );
            let mut relay =
                Command::new("sh").args(["-c", &pipe]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut lines = BufReader::new(relay.stdout.take().unwrap()).lines().map(Result::unwrap);
            assert_eq!(lines.next().unwrap(), "generation 5: told", "what was known before");
            // Another server's container, of which this one only heard: not its business.
            done(from, &format!("health set {} unhealthy", "blue tcp 02:42:0a:02:00:02 10.2.0.2:80"));
            done(from, &format!("health set {} unhealthy", key(LATER)));
            done(from, &format!("health set {} healthy", key(OWN)));
            assert_eq!(lines.next().unwrap(), "generation 6: told", "beside one that is not known there");
            done(to, &format!("add {LATER}"));
            assert_eq!(lines.next().unwrap(), "generation 8: told", "as soon as it is");
            let listed = done(to, "health list");
            assert!(listed.contains("10.1.0.3:80  unhealthy") && listed.contains("10.1.0.2:80  healthy"), "{listed}");
            assert_eq!(listed.lines().count(), 3, "{listed}");
            relay.kill().unwrap();
            relay.wait().unwrap();
        });
    });
}

#[test]
fn without_an_engine_the_answer_is_no() {
    let directory = Directory::new("map-none");
    let finished = map(&directory.path("control.sock"), "list");
    assert_eq!((finished.code, finished.stdout.as_str()), (1, ""));
    assert!(finished.stderr.contains("no engine at"), "{}", finished.stderr);
    assert_eq!(sixway(&["map", "add", "--socket", "x"]).code, 2);
}
