//! `sixway check`: is everything right that a person wrote?

use serde_json::json;

use crate::control::assemble::Assembly;
use crate::control::config::{Config, Mistake};
use crate::table;

use super::Exit;
use super::arguments::ConfigFile;
use super::output::{Colour, Output};

pub(super) fn run(arguments: &ConfigFile, output: &mut Output) -> Exit {
    let checked = Config::load(&arguments.config).and_then(|config| {
        let assembly = Assembly::new(&config, |_| None)?;
        let bindings = assembly.names.view(&table::pin()).bindings().count();
        Ok((config, bindings))
    });
    match checked {
        Ok((config, bindings)) => {
            show_summary(&config, bindings, output);
            Exit::Done
        }
        Err(mistakes) => {
            show_mistakes(&mistakes, output);
            Exit::No
        }
    }
}

fn show_summary(config: &Config, bindings: usize, output: &mut Output) {
    let (networks, ports) = (config.networks.len(), config.ports.len());
    if output.is_json() {
        let summary = json!({
            "ok": true, "errors": [], "networks": networks, "ports": ports, "bindings": bindings,
            "servers": config.server.ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
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
