//! `sixway run`: the engine, in the foreground.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::Exit;
use super::arguments::Run;
use super::check::show_mistakes;
use super::output::{Output, complain};
use crate::control::appliance;
use crate::control::config::Config;

/// Runs until SIGTERM or SIGINT. Logs go to the standard error; `RUST_LOG` chooses among them.
pub(super) fn run(arguments: &Run, output: &mut Output) -> Exit {
    let config = match Config::load(&arguments.config.config) {
        Ok(config) => config,
        Err(mistakes) => {
            show_mistakes(&mistakes, output);
            return Exit::No;
        }
    };
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("sixway=info"));
    tracing_subscriber::fmt()
        .with_env_filter(chosen)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let manner = appliance::Manner { holder: arguments.holder, takeover: arguments.takeover };
    match appliance::run(config, manner) {
        Ok(()) => Exit::Done,
        Err(err) => {
            complain(err);
            Exit::No
        }
    }
}
