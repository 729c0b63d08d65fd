//! `sixway doctor`: will this host do, and what must be changed where it will not?

mod finding;
mod host;
mod interface;
mod ports;

use serde_json::json;

use crate::control::config::Config;

use super::Exit;
use super::arguments::ConfigFile;
use super::check::show_mistakes;
use super::output::{Colour, Output};
use finding::{Finding, Level};

pub(super) fn run(arguments: &ConfigFile, output: &mut Output) -> Exit {
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => {
            show_mistakes(&mistakes, output);
            return Exit::No;
        }
    };
    let mut findings = host::examine(&config);
    findings.extend(ports::examine(config.server.ports));
    findings.extend(interface::examine(&config));
    let fails = findings.iter().any(|finding| finding.level == Level::Fail);
    if output.is_json() {
        output.json(&json!({"ok": !fails, "findings": findings}));
    } else {
        findings.iter().for_each(|finding| show(finding, output));
    }
    if fails { Exit::No } else { Exit::Done }
}

fn show(finding: &Finding, output: &mut Output) {
    let (word, colour) = match finding.level {
        Level::Ok => ("ok  ", Colour::Green),
        Level::Warn => ("warn", Colour::Yellow),
        Level::Fail => ("fail", Colour::Red),
    };
    let word = output.paint(colour, word);
    output.line(format_args!("{word}  {}: {}", finding.subject, finding.found));
    if let Some(advice) = &finding.advice {
        output.line(format_args!("      -> {advice}"));
    }
}
