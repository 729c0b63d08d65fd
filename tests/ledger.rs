//! The ledger of requirements, `docs/rfc.md`: every clause is there, says how it is met or why not, and names tests that exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const LEDGER: &str = "docs/rfc.md";
/// What a clause without a test begins with.
const EXCUSES: [&str; 3] = ["Not applicable", "Differs", "In "];
/// What the RFCs ask for, by their own numbers: of the first three their lists of requirements, of the others the sections
/// that ask something of who rewrites or forwards packets. A clause may have several lines, each with a word of its own
/// behind a dash.
const CLAUSES: [(&str, &str); 9] = [
    (
        "RFC 4787",
        "REQ-1 REQ-2 REQ-3 REQ-3a REQ-4 REQ-5 REQ-5a REQ-5b REQ-5c REQ-6 REQ-6a REQ-7 REQ-8 REQ-8a REQ-9 REQ-9a \
         REQ-10 REQ-10a REQ-11 REQ-12 REQ-12a REQ-12b REQ-13 REQ-13a REQ-14 REQ-14a",
    ),
    (
        "RFC 5382",
        "REQ-1 REQ-2 REQ-2a REQ-3 REQ-3a REQ-3b REQ-4 REQ-4a REQ-5 REQ-5a REQ-6 REQ-7 REQ-8 REQ-8a REQ-9 REQ-10",
    ),
    (
        "RFC 5508",
        "REQ-1 REQ-1a REQ-2 REQ-2a REQ-3 REQ-3a REQ-3b REQ-3c REQ-3d REQ-4 REQ-4a REQ-4b REQ-4c REQ-5 REQ-5a REQ-5b \
         REQ-5c REQ-6 REQ-7 REQ-7a REQ-8 REQ-9 REQ-10 REQ-10a REQ-10b REQ-10c REQ-10d REQ-10e REQ-10f 7.1.1 7.1.2 7.2 \
         7.3 REQ-11",
    ),
    ("RFC 7857", "2 2.1 2.2 3 4 5 6 7 7.1 8 9 10 11 12"),
    ("RFC 6864", "4.1 4.2 4.3 5.2 5.3.1 5.3.2"),
    ("RFC 1624", "1071-2 3 4 5 768"),
    ("RFC 791", "3.1 3.2"),
    (
        "RFC 1812",
        "3.3.2 3.3.4 4.2.2.2 4.2.2.3 4.2.2.5 4.2.2.6 4.2.2.7 4.2.2.8 4.2.2.9 4.2.3.1 4.2.3.3 4.3.2.1 4.3.2.2 4.3.2.3 \
         4.3.2.4 4.3.2.5 4.3.2.6 4.3.2.7 4.3.2.8 4.3.3.1 4.3.3.2 4.3.3.3 4.3.3.4 4.3.3.5 4.3.3.6 4.3.3.7 4.3.3.8 4.3.3.9 \
         4.3.3.10 5.2.2 5.2.5 5.2.6 5.2.7.1 5.2.7.2 5.2.7.3 5.3.1 5.3.2 5.3.3.3 5.3.4 5.3.5.1 5.3.5.2 5.3.6 5.3.7 5.3.8 \
         5.3.9 5.3.10 5.3.11 5.3.13.1 5.3.13.2 5.3.13.3 5.3.13.4 5.3.13.5 5.3.13.6",
    ),
    ("RFC 8200", "4 4.5 8.1 4443-2.4c 4443-2.4e 4443-2.4f 4443-3.1 4443-3.2 4443-3.3 4443-3.4 4443-4.2"),
];

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
fn no_requirement_is_left_out_and_none_is_made_up() {
    let text = text();
    let lines = lines(&text);
    for (rfc, clauses) in CLAUSES {
        let of_it = || lines.iter().filter(|line| line.rfc == rfc);
        for clause in clauses.split_whitespace() {
            assert!(of_it().any(|line| line.clause == clause), "{rfc} {clause} is missing");
        }
        for Line { clause, .. } in of_it() {
            let is_asked = |asked: &str| clause == asked || clause.starts_with(&format!("{asked}-"));
            assert!(clauses.split_whitespace().any(is_asked), "{rfc} has no {clause}");
        }
    }
    let known = |line: &&Line| CLAUSES.iter().any(|(rfc, _)| line.rfc == *rfc);
    assert!(lines.iter().all(|line| known(&line)), "an RFC of which nothing is known");
}
