//! `sixway replay`: the engine over captures.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::engine::replay::{Fate, Replay, ReplayError};
use crate::path::{Surroundings, Verdict};
use crate::units::PortId;

use super::Exit;
use super::arguments;
use super::check::show_mistakes;
use super::offline::Offline;
use super::output::{Output, complain};
use super::table::{Table, thousands};

pub(super) fn run(arguments: &arguments::Replay, output: &mut Output) -> Exit {
    let engine = match Offline::load(&arguments.config.config) {
        Ok(engine) => engine,
        Err(mistakes) => {
            show_mistakes(&mistakes, output);
            return Exit::No;
        }
    };
    let around = &engine.assembly.around;
    let mut inputs = Vec::with_capacity(arguments.inputs.len());
    for capture in &arguments.inputs {
        let Some(id) = around.port_called(&capture.port) else {
            complain(format_args!("--in: the configuration has no port `{}`", capture.port));
            return Exit::BadUsage;
        };
        inputs.push((id, capture.file.clone()));
    }
    let Offline { assembly, state, hops } = &engine;
    let replay = Replay { around, names: &assembly.names, state, hops, inputs, out: &arguments.out };
    match show(replay, around, output) {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(error);
            Exit::No
        }
    }
}

/// Replays: prints a line of JSON for every frame, or a table of what became of all.
fn show(replay: Replay<'_>, around: &Surroundings, output: &mut Output) -> Result<(), ReplayError> {
    let mut fates: BTreeMap<(String, &str, Option<&str>), u64> = BTreeMap::new();
    replay.run(|fate| {
        if output.is_json() {
            output.json(&line(fate, around));
        } else {
            let (verdict, reason) = words(fate.verdict);
            *fates.entry((port_name(around, fate.port).to_owned(), verdict, reason)).or_default() += 1;
        }
    })?;
    if !output.is_json() {
        let mut table = Table::new(&["port", "verdict", "reason", "frames"]);
        for ((port, verdict, reason), frames) in fates {
            table.row([port, verdict.to_owned(), reason.unwrap_or("-").to_owned(), thousands(frames)]);
        }
        table.lines().iter().for_each(|line| output.line(line));
    }
    Ok(())
}

fn line(fate: &Fate<'_>, around: &Surroundings) -> Value {
    let (verdict, reason) = words(fate.verdict);
    let sent = fate.sent.iter().map(|(port, bytes)| json!({"port": port_name(around, *port), "length": bytes.len()}));
    json!({
        "frame": fate.number,
        "port": port_name(around, fate.port),
        "verdict": verdict,
        "reason": reason,
        "out": sent.collect::<Vec<_>>(),
    })
}

/// A verdict's word, and why it is a drop or what the answer is.
fn words(verdict: Verdict) -> (&'static str, Option<&'static str>) {
    match verdict {
        Verdict::Forward { .. } | Verdict::Cut { .. } => ("forwarded", None),
        Verdict::Answer { answer, .. } => ("answered", Some(answer.as_str())),
        Verdict::Drop(reason) => ("dropped", Some(reason.as_str())),
        Verdict::Consume | Verdict::Heard => ("consumed", None),
        Verdict::Host => ("host", None),
        Verdict::Hold { .. } | Verdict::Await { .. } => ("held", None),
    }
}

fn port_name(around: &Surroundings, id: PortId) -> &str {
    around.port(id).map_or("", |port| &port.name)
}
