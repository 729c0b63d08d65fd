//! `sixway map`: a running engine's mapping, shown and changed over its control socket.

mod apply;
mod change;
mod file;
mod health;
mod list;
mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::Exit;
use super::arguments::RunningEngine;
use super::client::{Client, ClientError};
use super::output::{Output, complain};
use super::table::thousands;
use crate::control::server::{Changed, Fault, Problem};
use crate::naming::{BindingKey, BindingSpec, Health};

#[derive(Args, Debug)]
pub struct Map {
    #[command(flatten)]
    pub engine: RunningEngine,
    #[command(subcommand)]
    pub command: MapCommand,
}

#[derive(Subcommand, Debug)]
pub enum MapCommand {
    /// Print the bindings as lines of a mapping file
    List(List),
    /// Add a binding, or put it in the place of the one of its identity
    Add(Add),
    /// Remove a binding
    Remove(Remove),
    /// Make a file the whole mapping: show the difference, then put it in force as one change set
    Apply(Apply),
    /// Make a file the whole mapping without a look at the difference, however large
    Load(Load),
    /// Print changes as they are made
    Watch(Watch),
    /// Which containers answer: list it, say it, or pass on what another server has found out
    Health {
        #[command(subcommand)]
        command: HealthCommand,
    },
}

#[derive(Args, Debug)]
pub struct List {
    /// Only those of a network
    #[arg(long)]
    pub network: Option<String>,
    /// Only those of an inside address
    #[arg(long)]
    pub ip: Option<String>,
    /// Only those of an inside port, blocks that hold it included
    #[arg(long)]
    pub port: Option<u16>,
    /// Only those of a ServerIP
    #[arg(long)]
    pub server: Option<String>,
}

#[derive(Args, Debug)]
pub struct Condition {
    /// Only if the mapping is of this generation
    #[arg(long, value_name = "N")]
    pub if_generation: Option<u64>,
    /// Wire names that change hands do not rest. What other servers still send to the former owner reaches the new one
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct Add {
    #[command(flatten)]
    pub condition: Condition,
    /// A line of a mapping file: net proto server-mac server-ip:port mac ip:port [options]
    #[arg(required = true, value_name = "BINDING")]
    pub binding: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Remove {
    #[command(flatten)]
    pub condition: Condition,
    /// What names the binding: net proto mac ip:port [id=WORD], or its whole line
    #[arg(required = true, value_name = "KEY")]
    pub key: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Apply {
    #[command(flatten)]
    pub condition: Condition,
    /// Only show the difference
    #[arg(long)]
    pub dry_run: bool,
    /// The mapping, as lines or as NDJSON; - for the standard input
    pub file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Load {
    #[command(flatten)]
    pub condition: Condition,
    /// The mapping, as lines or as NDJSON; - for the standard input
    pub file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Watch {
    /// From what came after this generation; without, from now on
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
    /// Only what the server finds out of its own containers' health, beginning with what it knows: for `health apply`
    #[arg(long)]
    pub health: bool,
}

#[derive(Subcommand, Debug)]
pub enum HealthCommand {
    /// Print what is known of bindings, and what probes say
    List,
    /// Say that a container answers, or that it does not
    Set(SetHealth),
    /// Say what a file says, or the standard input as it comes: lines of `map watch --health --json` or `health list --json`
    Apply(ApplyHealth),
}

#[derive(Args, Debug)]
pub struct SetHealth {
    /// What names the binding: net proto mac ip:port [id=WORD], or its whole line
    #[arg(required = true, value_name = "KEY")]
    pub key: Vec<String>,
    #[arg(required = true, value_name = "healthy|unhealthy|unknown", value_parser = health::state)]
    pub state: Health,
}

#[derive(Args, Debug)]
pub struct ApplyHealth {
    /// The file; - for the standard input
    pub file: PathBuf,
}

/// Why a command came to no good end. It has been told if nothing is in here.
enum Failure {
    Engine(ClientError),
    /// Mistakes, ready to be shown.
    Mistakes(Vec<String>),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Engine(error)
    }
}

pub(super) fn run(map: &Map, output: &mut Output) -> Exit {
    let Some(client) = Client::of(&map.engine, output) else { return Exit::No };
    let done = match &map.command {
        MapCommand::List(list) => list::run(&client, list, output),
        MapCommand::Add(add) => change::add(&client, add, output),
        MapCommand::Remove(remove) => change::remove(&client, remove, output),
        MapCommand::Apply(apply) => apply::run(&client, apply, output),
        MapCommand::Load(load) => file::load(&client, load, output),
        MapCommand::Watch(watch) => watch::run(&client, watch, output),
        MapCommand::Health { command } => health::run(&client, command, output),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(Failure::Mistakes(mistakes)) => {
            mistakes.iter().for_each(complain);
            Exit::No
        }
        Err(Failure::Engine(ClientError::Refused(problem))) => {
            show_problem(&problem, output);
            Exit::No
        }
        Err(Failure::Engine(error)) => {
            complain(error);
            Exit::No
        }
    }
}

/// What a change set did.
fn show_changed(changed: Changed, output: &mut Output) {
    if output.is_json() {
        return output.json(&changed);
    }
    let Changed { generation, added, replaced, removed, .. } = changed;
    let [added, replaced, removed] = [added, replaced, removed].map(|count| thousands(count as u64));
    output.line(format_args!("generation {generation}: {added} added, {replaced} replaced, {removed} removed"));
}

/// Why the engine refused, with every binding that is to blame; on the standard output as JSON where that is asked for.
fn show_problem(problem: &Problem, output: &mut Output) {
    if output.is_json() {
        output.json(problem);
    }
    let Problem { title, detail, errors, .. } = problem;
    if errors.is_empty() {
        return complain(format_args!("{title}: {detail}"));
    }
    for Fault { detail, line, binding, other, other_line } in errors {
        let text = binding.as_ref().map(in_words);
        match (line, text) {
            (Some(line), Some(text)) => complain(format_args!("{title}: {line}: {text}: {detail}")),
            (Some(line), None) => complain(format_args!("{title}: {line}: {detail}")),
            (None, text) => complain(format_args!("{title}: {}{detail}", text.unwrap_or_default())),
        }
        if let Some(other) = other {
            let line = other_line.map_or("in force".to_owned(), |line| line.to_string());
            complain(format_args!("    {line}: {}", in_words(other)));
        }
    }
}

/// A binding or a key, from JSON to a line.
fn in_words(json: &serde_json::Value) -> String {
    let binding = BindingSpec::deserialize(json).map(|binding| binding.to_string());
    let key = || BindingKey::deserialize(json).map(|key| key.to_string());
    binding.or_else(|_| key()).unwrap_or_else(|_| json.to_string())
}
