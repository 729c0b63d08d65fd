//! `sixway check`: is everything right that a person wrote, and which mapping would an engine start with?

use serde_json::{Value, json};

use crate::control::assemble::{Assembly, Mapping, MappingFile};
use crate::control::config::{Config, Mistake};
use crate::control::journal::read_start;
use crate::table;

use super::Exit;
use super::arguments::ConfigFile;
use super::output::{Colour, Output};

/// What a journal beside the mapping means to the next start.
struct Journal {
    path: String,
    /// How many bindings it would load; `None`: the mapping file is loaded.
    loads: Option<usize>,
    /// What there is to say; nothing of a journal that is not there.
    words: Option<String>,
}

pub(super) fn run(arguments: &ConfigFile, output: &mut Output) -> Exit {
    let checked = Config::load(&arguments.config).and_then(|config| {
        let text = MappingFile::text(&config)?;
        let bindings = bindings(&config, &Mapping::File(MappingFile::parse(&config, text.clone())?))?;
        let journal = journal(&config, text)?;
        Ok((config, bindings, journal))
    });
    match checked {
        Ok((config, bindings, journal)) => {
            show_summary(&config, bindings, journal.as_ref(), output);
            Exit::Done
        }
        Err(mistakes) => {
            show_mistakes(&mistakes, output);
            Exit::No
        }
    }
}

fn bindings(config: &Config, mapping: &Mapping<'_>) -> Result<usize, Vec<Mistake>> {
    let assembly = Assembly::of(config, mapping, |_| None)?;
    Ok(assembly.names.view(&table::pin()).bindings().count())
}

/// Reads the journal and changes nothing. What is in it must fit the configuration, if it is to be loaded.
fn journal(config: &Config, text: Vec<u8>) -> Result<Option<Journal>, Vec<Mistake>> {
    let Some(path) = config.control.journal_file(config.server.ips[0], &config.server.mapping) else { return Ok(None) };
    let journal = |loads, words| Ok(Some(Journal { path: path.display().to_string(), loads, words }));
    let mut start = match read_start(&path, &config.server.mapping, &text) {
        Ok(start) => start,
        // Only the engine's user can read it, perhaps.
        Err(err) => return journal(None, Some(format!("the journal {} can't be read: {err}", path.display()))),
    };
    let words = start.choice().map(|_| start.describe());
    if start.recovered().is_none() {
        return journal(None, words);
    }
    let mapping = Mapping::at_start(config, &mut start, text)?;
    journal(Some(bindings(config, &mapping)?), words)
}

fn show_summary(config: &Config, bindings: usize, journal: Option<&Journal>, output: &mut Output) {
    let (networks, ports) = (config.networks.len(), config.ports.len());
    if output.is_json() {
        let journal = journal.map_or(Value::Null, |Journal { path, loads, words }| {
            json!({"path": path, "loaded": loads.is_some(), "bindings": loads, "detail": words})
        });
        let summary = json!({
            "ok": true, "errors": [], "networks": networks, "ports": ports, "bindings": bindings,
            "servers": config.server.ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "journal": journal,
        });
        return output.json(&summary);
    }
    let ok = output.paint(Colour::Green, "ok");
    output.line(format_args!(
        "{ok}: {}, {}, {}",
        count(networks, "network"),
        count(ports, "port"),
        count(bindings, "binding")
    ));
    match journal {
        Some(Journal { loads: Some(bindings), words: Some(words), .. }) => {
            output.line(format_args!("{words}; with it {}", count(*bindings, "binding")));
        }
        Some(Journal { words: Some(words), .. }) => output.line(words),
        _ => {}
    }
}

/// Prints every mistake: `file:line:column: message`, or JSON.
pub(super) fn show_mistakes(mistakes: &[Mistake], output: &mut Output) {
    if output.is_json() {
        let errors: Vec<_> = mistakes
            .iter()
            .map(|mistake| {
                json!({
                    "file": mistake.file.display().to_string(),
                    "line": mistake.at.map(|at| at.line),
                    "column": mistake.at.map(|at| at.column),
                    "message": mistake.message,
                })
            })
            .collect();
        return output.json(&json!({"ok": false, "errors": errors}));
    }
    for mistake in mistakes {
        output.line(mistake);
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
