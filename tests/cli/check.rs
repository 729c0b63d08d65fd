//! `sixway check`, as a person and as a program sees it.

use std::path::Path;

use crate::support::{Directory, sixway};
use serde_json::Value;

const HOST: &str = r#"
[server]
ip = "192.168.50.1"
ports = "20480-59903"
mapping = "mapping.sixway"

[[network]]
name = "blue"
prefixes = ["10.0.0.0/8"]
"#;

#[test]
fn the_examples_are_right() {
    for example in ["host.toml", "gateway.toml"] {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(example);
        let checked = sixway(&["check", "--config", config.to_str().unwrap(), "--json"]);
        assert_eq!(checked.code, 0, "{example}: {}", checked.stdout);
        let summary: Value = serde_json::from_str(&checked.stdout).unwrap();
        assert_eq!((&summary["ok"], &summary["bindings"]), (&Value::Bool(true), &Value::from(8)), "{summary}");
    }
}

#[test]
fn every_mistake_of_the_configuration_has_its_place() {
    let directory = Directory::new("check-config");
    let file =
        directory.write("host.toml", "[server]\nip = \"192.168.50\"\nprots = \"20480-59903\"\nmapping = \"m\"\n");
    let checked = sixway(&["check", "--config", &file]);
    let expected = format!(
        "{file}:1:1: [server] needs `ports`, like `ports = \"20480-59903\"`\n\
         {file}:2:6: `ip`: expected an IP address, not \"192.168.50\"\n\
         {file}:3:1: unknown key `prots` in [server]; did you mean `ports`?\n"
    );
    assert_eq!((checked.code, checked.stdout), (1, expected));
}

#[test]
fn every_mistake_of_the_mapping_has_its_place() {
    let directory = Directory::new("check-mapping");
    let config = directory.write("host.toml", HOST);
    let mapping = directory.write(
        "mapping.sixway",
        "blue tcp - 192.168.50.1:20480 - 10.1.0.2:80\n\
         blue tcp - 192.168.50.1:99999 - 10.1.0.2:81\n\
         blue tcp - 192.168.50.1:20480 - 10.1.0.3:80\n\
         grey tcp - 192.168.50.1:20482 - 10.1.0.4:80\n\
         blue tcp - 192.168.50.1:80 - 10.1.0.5:80\n",
    );
    let checked = sixway(&["check", "--config", &config, "--json"]);
    assert_eq!(checked.code, 1);
    let answer: Value = serde_json::from_str(&checked.stdout).unwrap();
    let errors = answer["errors"].as_array().unwrap();
    assert!(errors.iter().all(|error| error["file"] == mapping.as_str()), "{answer:#}");
    let lines: Vec<u64> = errors.iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 3, 4, 5], "{answer:#}");
    let clash = errors[1]["message"].as_str().unwrap();
    assert!(clash.contains("line 1"), "both lines are named: {clash}");
    let text = sixway(&["check", "--config", &config]).stdout;
    assert!(text.starts_with(&format!("{mapping}:2:")), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_mapping_that_is_not_there_is_a_mistake_of_the_configuration() {
    let directory = Directory::new("check-missing");
    let config = directory.write("host.toml", HOST);
    let checked = sixway(&["check", "--config", &config]);
    let missing = directory.path("mapping.sixway");
    let expected =
        format!("{config}:5:11: the mapping {missing} can't be read: No such file or directory (os error 2)\n");
    assert_eq!((checked.code, checked.stdout), (1, expected));
}

#[test]
fn a_right_configuration_is_summed_up() {
    let directory = Directory::new("check-right");
    let config = directory.write("host.toml", HOST);
    directory.write("mapping.sixway", "blue tcp - 192.168.50.1:20480 - 10.1.0.2:80\n");
    let checked = sixway(&["check", "--config", &config]);
    assert_eq!((checked.code, checked.stdout.as_str()), (0, "ok: 1 network, 0 ports, 1 binding\n"));
}

#[test]
fn bad_usage_is_not_a_no() {
    for usage in [&["check"][..], &["fly"], &[], &["check", "--config"]] {
        let refused = sixway(usage);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{usage:?}");
        assert!(!refused.stderr.is_empty(), "{usage:?}");
    }
}

/// What the control socket has accepted is told of, and held against the configuration.
#[test]
fn a_journal_is_told_of() {
    use sixway::control::journal::{FileMark, frame, record};
    let directory = Directory::new("check-journal");
    let config = directory.write("host.toml", &(HOST.to_owned() + "[control]\njournal = \"kept\"\n"));
    let mapping = "blue tcp - 192.168.50.1:20480 - 10.1.0.2:80\n";
    directory.write("mapping.sixway", mapping);
    let check = || sixway(&["check", "--config", &config, "--json"]);
    let answer = |stdout: &str| serde_json::from_str::<Value>(stdout).unwrap();
    let none = answer(&check().stdout);
    assert_eq!((&none["journal"]["loaded"], &none["journal"]["detail"]), (&Value::Bool(false), &Value::Null), "{none}");

    let journal = |network: &str| {
        let mut bytes = frame::preamble(7).into_bytes();
        frame::put(&mut bytes, 7, 1, record::base(FileMark::of(mapping.as_bytes())).as_bytes());
        let change = format!("@ 2 1790000000000\n+ {network} tcp - 192.168.50.1:20481 - 10.1.0.3:80\n");
        frame::put(&mut bytes, 7, 2, change.as_bytes());
        std::fs::write(directory.path("kept"), bytes).unwrap();
    };
    journal("blue");
    let found = answer(&check().stdout);
    assert_eq!((&found["bindings"], &found["journal"]["bindings"]), (&Value::from(1), &Value::from(2)), "{found}");
    let text = sixway(&["check", "--config", &config]).stdout;
    assert!(text.contains("kept is loaded: 1 change set, newer than") && text.contains("2 bindings"), "{text}");

    journal("grey");
    let refused = check();
    assert_eq!(refused.code, 1);
    assert!(refused.stdout.contains("kept") && refused.stdout.contains("grey tcp"), "{}", refused.stdout);
}
