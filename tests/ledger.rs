//! The ledger of requirements, `docs/rfc.md`: every clause is there, says how it is met or why not, and names tests that exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const LEDGER: &str = "docs/rfc.md";
/// What a clause without a test begins with.
const EXCUSES: [&str; 4] = ["Not applicable", "Not yet", "Differs", "In "];

/// A line of a table: the heading above it, the clause, and what is said of it.
struct Line {
    rfc: String,
    clause: String,
    said: String,
}

fn text() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(LEDGER)).expect(LEDGER)
}

fn lines(text: &str) -> Vec<Line> {
    let mut rfc = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.split(':').next().unwrap_or(heading).clone_into(&mut rfc);
        }
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        if let [clause, _, said] = cells[..]
            && line.starts_with("| ")
            && clause != "clause"
        {
            lines.push(Line { rfc: rfc.clone(), clause: clause.to_owned(), said: said.to_owned() });
        }
    }
    lines
}

/// Tests by their names and the references that they are named with: [`name`][reference].
fn tests(said: &str) -> Vec<(&str, &str)> {
    said.split("[`")
        .skip(1)
        .filter_map(|rest| rest.split_once("`]["))
        .filter_map(|(name, rest)| Some((name, rest.split_once(']')?.0)))
        .collect()
}

#[test]
fn every_test_in_the_ledger_exists() {
    let text = text();
    let files: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ../")).collect();
    let mut used = Vec::new();
    let mut count = 0;
    for (name, reference) in tests(&text) {
        let file = files.get(reference).unwrap_or_else(|| panic!("{name}: what is [{reference}]?"));
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file);
        let is_there = source.contains(&format!("fn {name}(")) || source.contains(&format!("\"{name}\""));
        assert!(is_there, "{file}: no test `{name}`");
        used.push(reference);
        count += 1;
    }
    assert!(count > 100, "{count} tests are named");
    let idle: Vec<_> = files.keys().filter(|reference| !used.contains(reference)).collect();
    assert!(idle.is_empty(), "{idle:?} are not used");
}

#[test]
fn every_clause_is_met_or_says_why_not() {
    let text = text();
    for Line { rfc, clause, said } in lines(&text) {
        let is_excused = EXCUSES.iter().any(|excuse| said.starts_with(excuse));
        assert!(is_excused || !tests(&said).is_empty(), "{rfc} {clause} names no test: {said}");
    }
}

#[test]
fn no_requirement_is_left_out() {
    let text = text();
    let lines = lines(&text);
    for (rfc, last) in [("RFC 4787", 14), ("RFC 5382", 10), ("RFC 5508", 11)] {
        for nth in 1..=last {
            let clause = format!("REQ-{nth}");
            assert!(lines.iter().any(|line| line.rfc == rfc && line.clause == clause), "{rfc} {clause} is missing");
        }
    }
    for section in 2..=12 {
        let is_it = |line: &&Line| {
            line.rfc == "RFC 7857" && line.clause.split('.').next() == Some(section.to_string().as_str())
        };
        assert!(lines.iter().any(|line| is_it(&line)), "RFC 7857 section {section} is missing");
    }
}
