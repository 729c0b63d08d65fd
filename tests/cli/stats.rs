//! `sixway stats` against a control socket, and `sixway doctor` against this host.

use crate::engine::with_engine;
use crate::support::{Directory, sixway};
use serde_json::{Value, json};

#[test]
fn counters_are_shown_in_tables() {
    with_engine("stats-tables", |socket| {
        let shown = sixway(&["stats", "--socket", socket]);
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        let expected = "\
sixway 0.1.0, process 7, up 60 s, generation 3, 1,000,000 bindings
not pinned: without the engine, owned traffic is answered with resets
flows kept on their replica: 1,234 of 131,072
no room to keep flows on their replica for 9 packets
resting: tcp 192.168.50.1:20480, 42 s more

port    interface  role    network  state        rx packets  rx bytes  tx packets  tx bytes  drops
uplink  eth1       uplink  -        native copy   1,234,567        99           5         6      3
web1    veth-web1  access  blue     down                  0         0           0         0      0

worker  core  polls  busy polls  sleeps  packets  frames  free
     0     1      0           0       0        0   4,096   100

port    reason      packets
uplink  not_public        3
";
        assert_eq!(shown.stdout, expected);
    });
}

#[test]
fn programs_get_what_the_socket_says() {
    with_engine("stats-json", |socket| {
        let shown = sixway(&["stats", "--json", "--socket", socket]);
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        let answer: Value = serde_json::from_str(&shown.stdout).unwrap();
        assert_eq!(answer["status"]["quarantine"][0]["remaining_s"], 42);
        assert_eq!(answer["ports"][0]["rx_packets"], 1_234_567);
        assert_eq!(answer["drops"], json!([{"port": "uplink", "reason": "not_public", "packets": 3}]));
        assert_eq!(answer["workers"][0]["frames"], 4096);
    });
}

#[test]
fn without_an_engine_the_answer_is_no() {
    let directory = Directory::new("stats-none");
    let socket = directory.path("control.sock");
    let shown = sixway(&["stats", "--socket", &socket]);
    assert_eq!((shown.code, shown.stdout.as_str()), (1, ""));
    assert!(shown.stderr.starts_with(&format!("sixway: no engine at {socket}: No such file")), "{}", shown.stderr);
}

#[test]
fn the_doctor_names_every_port_and_the_way_out() {
    let directory = Directory::new("doctor");
    let config = directory.write(
        "host.toml",
        "[server]\nip = \"192.168.50.1\"\nports = \"20480-59903\"\nmapping = \"m\"\n\
         [engine]\npin_dir = \"/proc/sixway\"\n\
         [[port]]\nname = \"uplink\"\ninterface = \"not-there\"\nrole = \"uplink\"\n\
         [[port]]\nname = \"loop\"\ninterface = \"lo\"\nrole = \"external\"\n",
    );
    let examined = sixway(&["doctor", "--config", &config, "--json"]);
    assert_eq!(examined.code, 1, "{}", examined.stdout);
    let report: Value = serde_json::from_str(&examined.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let findings = report["findings"].as_array().unwrap();
    let about = |subject: &str| findings.iter().filter(|f| f["subject"] == subject).collect::<Vec<_>>();
    assert_eq!(about("port uplink")[0]["found"], "there is no interface not-there in this network namespace");
    assert!(about("port loop").len() >= 3, "{report:#}");
    assert_eq!(about("pin directory /proc/sixway")[0]["level"], "fail");
    assert_eq!((about("kernel").len(), about("AF_XDP").len(), about("locked memory").len()), (1, 1, 1));
    for finding in findings {
        assert_eq!(finding["advice"].is_null(), finding["level"] == "ok", "{finding}");
    }
    let text = sixway(&["doctor", "--config", &config]).stdout;
    assert!(text.contains("fail  port uplink: there is no interface not-there"), "{text}");
    assert!(!text.contains('\x1b'), "no colours but on a terminal");
}
