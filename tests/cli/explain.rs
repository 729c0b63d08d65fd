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
