//! `sixway explain` over the example configuration.

use crate::support::{Finished, sixway};
use serde_json::Value;

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/host.toml");

fn explain(arguments: &str) -> Finished {
    let mut all = vec!["explain", "--config", CONFIG];
    all.extend(arguments.split(' '));
    sixway(&all)
}

#[test]
fn every_step_has_a_name() {
    let explained = explain("--port web1 tcp 10.1.0.2:20740 10.2.0.4:5432 --json");
    assert_eq!(explained.code, 0, "{}", explained.stderr);
    let answer: Value = serde_json::from_str(&explained.stdout).unwrap();
    let steps: Vec<&str> = answer["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    let expected = ["parse", "port", "name", "replica", "source", "destination", "next hop", "rewrite", "verdict"];
    assert_eq!(steps, expected);
    assert_eq!(answer["out"], "uplink");
    let after = answer["after"].as_str().unwrap();
    assert!(after.contains("192.168.50.1 > 192.168.50.2") && after.contains("20740 > 20481"), "{after}");
    let shown = explain("--port web1 tcp 10.1.0.2:20740 10.2.0.4:5432").stdout;
    assert!(
        shown.starts_with("arrives  ") && shown.lines().last().unwrap().starts_with("leaves   uplink: "),
        "{shown}"
    );
}

#[test]
fn each_step_says_what_it_found() {
    let explained = explain("--port web1 tcp 10.1.0.2:20740 10.2.0.4:5432").stdout;
    let steps = "
  parse        tcp 10.1.0.2:20740 -> tcp 10.2.0.4:5432, TTL 64, 40 bytes of IP
  port         the container 02:42:0a:01:00:02 10.1.0.2 of network blue is behind this port
  name         tcp 10.2.0.4:5432 in network blue: tcp 192.168.50.2:20481, on server 192.168.50.2
  replica      the flow is new, and its hash picks this one
  source       leaves as tcp 192.168.50.1:20740: its native client block, as it is
  destination  becomes tcp 192.168.50.2:20481
  next hop     192.168.50.2 is at 02:00:00:00:00:02
  rewrite      TTL 63, transport checksum incremental
  verdict      forwarded by port uplink
leaves ";
    assert!(explained.contains(steps), "{explained}");
}

#[test]
fn what_is_refused_is_said_once() {
    let steps = |question: &str| {
        let answer: Value = serde_json::from_str(&explain(&format!("--port web1 {question} --json")).stdout).unwrap();
        let said = answer["steps"].as_array().unwrap().iter().map(|step| step["text"].as_str().unwrap().to_owned());
        said.skip(2).collect::<Vec<_>>()
    };
    let [unbound, told] = ["the address is bound, this port is not", "the sender is told: no_binding"];
    let refused = steps("udp 10.1.0.2:20740 10.2.0.4:99");
    assert_eq!(
        refused,
        [&format!("udp 10.2.0.4:99 in network blue: {unbound}"), told, "answered (unreachable) by port web1"]
    );
    let refused = steps("tcp 10.1.0.2:20740 10.2.0.4:99");
    assert_eq!(
        refused,
        [&format!("tcp 10.2.0.4:99 in network blue: {unbound}"), told, "answered (reset) by port web1"]
    );
}

#[test]
fn a_packet_that_is_dropped_is_an_answer_too() {
    let explained = explain("--port web1 tcp 10.1.0.9:20740 10.2.0.4:5432 --json");
    let answer: Value = serde_json::from_str(&explained.stdout).unwrap();
    assert_eq!((explained.code, &answer["reason"], &answer["after"]), (0, &"spoofed_source".into(), &Value::Null));
}

#[test]
fn a_question_about_nothing_is_bad_usage() {
    let elsewhere = explain("--port eth9 tcp 10.1.0.2:20740 10.2.0.4:5432");
    assert_eq!((elsewhere.code, elsewhere.stderr.as_str()), (2, "sixway: Not Found: there is no port `eth9`\n"));
    assert_eq!(explain("--port web1 tcp 10.1.0.2:20740 [fd00::1]:80").code, 2);
}
