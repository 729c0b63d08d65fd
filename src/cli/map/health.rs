//! `sixway map health`: which containers answer, shown, said, and passed on from one server to another.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::iter;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::super::client::{Client, ClientError, broken};
use super::super::output::{Colour, Output, complain};
use super::super::table::{Table, thousands};
use super::{ApplyHealth, Failure, HealthCommand, SetHealth, change, list};
use crate::control::server::{Changed, HealthEntry, Probe};
use crate::naming::{Health, HealthReport, parse_key};

/// How soon a report is tried again whose binding is not known yet, or whose engine is not there.
const AGAIN: Duration = Duration::from_millis(500);
/// The status of an answer to somebody who may not change anything (RFC 9110 section 15.5.4).
const FORBIDDEN: u16 = 403;
/// Lines that may wait while the engine is slow.
const WAITING: usize = 1024;

pub(super) fn run(client: &Client, command: &HealthCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        HealthCommand::List => show_list(client, output),
        HealthCommand::Set(set) => say(client, set, output),
        HealthCommand::Apply(apply) => pass_on(client, apply, output),
    }
}

/// What is known, and of which generation.
pub(super) fn known(client: &Client) -> Result<(Vec<HealthEntry>, u64), ClientError> {
    let mut entries = Vec::new();
    let generation = list::each(client, "/v1/health", |line| {
        entries.push(serde_json::from_slice(line).map_err(|error| broken(&error))?);
        Ok(())
    })?;
    Ok((entries, generation))
}

/// Reads a state on the command line.
pub(super) fn state(text: &str) -> Result<Health, String> {
    text.parse().map_err(|()| "expected healthy, unhealthy or unknown".to_owned())
}

fn show_list(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let (entries, _) = known(client)?;
    if output.is_json() {
        entries.iter().for_each(|entry| output.json(entry));
        return Ok(());
    }
    if entries.is_empty() {
        output.line("nothing is known, and nothing is probed");
        return Ok(());
    }
    let mut table = Table::new(&["binding", "state", "probes", "good", "bad", "refused", "hints"]);
    for HealthEntry { report, probes } in &entries {
        let name = [report.binding.to_string(), report.state.to_string()];
        if probes.is_empty() {
            let of = if report.own { "-" } else { "elsewhere" };
            table.row(name.iter().cloned().chain([of, "", "", "", ""].map(str::to_owned)));
        }
        for Probe { proto, kind, tally } in probes {
            let how = if proto == kind { kind.clone() } else { format!("{kind} for {proto}") };
            let counts = [tally.good, tally.bad, tally.refused, tally.hints].map(thousands);
            table.row(name.iter().cloned().chain([how]).chain(counts));
        }
    }
    let states = entries.iter().flat_map(|entry| iter::repeat_n(entry.report.state, entry.probes.len().max(1)));
    let states = iter::once(Health::Unknown).chain(states);
    for (line, state) in table.lines().into_iter().zip(states) {
        let line = if state == Health::Unhealthy { output.paint(Colour::Red, &line) } else { line };
        output.line(line);
    }
    Ok(())
}

fn say(client: &Client, set: &SetHealth, output: &mut Output) -> Result<(), Failure> {
    let line = set.key.join(" ");
    let binding = parse_key(&line).map_err(|mistakes| change::shown(&line, &mistakes))?;
    let changed = client.post("/v1/changes", &json!({ "health": [HealthReport::new(binding, set.state)] }))?;
    let changed = serde_json::from_value(changed).map_err(|error| broken(&error))?;
    show(changed, output);
    Ok(())
}

fn show(changed: Changed, output: &mut Output) {
    if output.is_json() {
        return output.json(&changed);
    }
    match changed.health {
        0 => output.line(format_args!("generation {}: known already", changed.generation)),
        _ => output.line(format_args!("generation {}: told", changed.generation)),
    }
}

/// Does not wait for a disk: the next word may be about somebody else who has just died, and a pipe begins with all that is known.
fn tell(client: &Client, reports: &[HealthReport]) -> Result<Changed, ClientError> {
    let changed = client.post_in_haste("/v1/changes", &json!({ "health": reports }))?;
    serde_json::from_value(changed).map_err(|error| broken(&error))
}

/// A line to be passed on: an event, or a report alone. What else is in it is of no interest here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Event { health: Vec<HealthReport> },
    Entry(HealthEntry),
    Other {},
}

impl Line {
    fn read(text: &str) -> Result<Vec<HealthReport>, String> {
        match serde_json::from_str(text) {
            Ok(Line::Event { health }) => Ok(health),
            Ok(Line::Entry(entry)) => Ok(vec![entry.report]),
            Ok(Line::Other {}) => Ok(Vec::new()),
            Err(_) => Err(format!("no event and no report: {text}")),
        }
    }
}

/// Says every line at once. What is refused since its binding is not in the mapping yet, or can't be said since no engine
/// answers, is said again until it is taken or something newer comes; at the end of a file it is told.
fn pass_on(client: &Client, apply: &ApplyHealth, output: &mut Output) -> Result<(), Failure> {
    let lines = lines(&apply.file)?;
    // By the text of the key: the latest state of each.
    let mut waiting: BTreeMap<String, HealthReport> = BTreeMap::new();
    loop {
        let line = match lines.recv_timeout(if waiting.is_empty() { Duration::MAX } else { AGAIN }) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let is_news = line.is_some();
        if let Some(line) = line {
            let line = line.map_err(|error| Failure::Mistakes(vec![error.to_string()]))?;
            let reports = Line::read(&line).map_err(|mistake| Failure::Mistakes(vec![mistake]))?;
            waiting.extend(reports.into_iter().map(|report| (report.binding.to_string(), report)));
        }
        if !waiting.is_empty() {
            say_what_waits(client, &mut waiting, is_news, output)?;
        }
    }
    let left = waiting.keys().map(|key| format!("{key}: there is no such binding, or no engine"));
    if waiting.is_empty() { Ok(()) } else { Err(Failure::Mistakes(left.collect())) }
}

/// Says all that waits, at once if it can be. What is taken waits no longer.
fn say_what_waits(
    client: &Client,
    waiting: &mut BTreeMap<String, HealthReport>,
    is_news: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let all: Vec<HealthReport> = waiting.values().cloned().collect();
    match tell(client, &all) {
        Ok(changed) => {
            waiting.clear();
            if changed.health > 0 {
                show(changed, output);
            }
            return Ok(());
        }
        Err(ClientError::Refused(problem)) if problem.status == FORBIDDEN => {
            return Err(ClientError::Refused(problem).into());
        }
        // One of them may be to blame for all.
        Err(ClientError::Refused(_)) if all.len() > 1 => {}
        Err(error) => {
            if is_news {
                complain(format_args!("{error}: it is said again"));
            }
            return Ok(());
        }
    }
    for (key, report) in std::mem::take(waiting) {
        let mut one = BTreeMap::from([(key, report)]);
        say_what_waits(client, &mut one, is_news, output)?;
        waiting.append(&mut one);
    }
    Ok(())
}

/// The lines of a file, or of the standard input as they come.
fn lines(file: &Path) -> Result<mpsc::Receiver<io::Result<String>>, Failure> {
    let name = file.display().to_string();
    let reader: Box<dyn BufRead + Send> = match name.as_str() {
        "-" => Box::new(BufReader::new(io::stdin())),
        _ => {
            let file = File::open(file).map_err(|error| Failure::Mistakes(vec![format!("{name}: {error}")]))?;
            Box::new(BufReader::new(file))
        }
    };
    let (told, lines) = mpsc::sync_channel(WAITING);
    std::thread::spawn(move || {
        for line in reader.lines().filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty())) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    Ok(lines)
}
