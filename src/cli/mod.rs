//! Floor 7: the commands: their arguments, what they print and how they exit.

mod arguments;
mod check;
mod client;
mod detach;
mod doctor;
mod explain;
mod holder;
mod map;
mod offline;
mod output;
mod port;
mod replay;
mod run;
mod stats;
mod table;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use output::Output;

/// How a command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It is done.
    Done,
    /// The answer is no: the check failed, the engine is not there.
    No,
    /// It was asked for something that is not there. Clap finds most bad usage before.
    BadUsage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::BadUsage => 2,
        })
    }
}

/// Runs the command that the process was started with. Bad usage exits with 2, by clap's hand.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Output::new(arguments.json);
    let exit = match &arguments.command {
        Command::Check(check) => check::run(check, &mut output),
        Command::Doctor(doctor) => doctor::run(doctor, &mut output),
        Command::Map(map) => map::run(map, &mut output),
        Command::Port(port) => port::run(port, &mut output),
        Command::Stats(stats) => stats::run(stats, &mut output),
        Command::Replay(replay) => replay::run(replay, &mut output),
        Command::Detach(detach) => detach::run(detach, &mut output),
        Command::Explain(explain) => explain::run(explain, &mut output),
        Command::Holder(holder) => holder::run(holder),
        Command::Run(run) => run::run(run, &mut output),
    };
    exit.into()
}
