//! `sixway port`: the ports of a running engine, attached and detached.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Exit;
use super::arguments::RunningEngine;
use super::client::{Client, ClientError};
use super::output::{Output, complain};
use super::stats::{port_table, read, show_table};
use crate::control::server::PortReport;

#[derive(Args, Debug)]
pub struct Port {
    #[command(flatten)]
    engine: RunningEngine,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Show every port
    List,
    /// Attach an access port; the engine attaches it again whenever it starts, as long as the interface is there
    Attach(Attach),
    /// Detach a port that was attached so
    Detach {
        /// Its name
        name: String,
    },
}

#[derive(Args, Debug)]
struct Attach {
    /// What to call it
    name: String,
    /// The host end of the container's veth
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// The container's network
    #[arg(long)]
    network: String,
    /// The container's MAC, if no other shall be there
    #[arg(long)]
    mac: Option<String>,
    /// The `id` of its bindings, where several containers share MAC and IP
    #[arg(long)]
    id: Option<String>,
}

pub(super) fn run(arguments: &Port, output: &mut Output) -> Exit {
    let Some(client) = Client::of(&arguments.engine, output) else { return Exit::No };
    let outcome = match &arguments.what {
        What::List => client.get("/v1/ports"),
        What::Attach(attach) => client.post("/v1/ports", &form(attach)).map(|port| Value::Array(vec![port])),
        What::Detach { name } => client.delete(&format!("/v1/ports/{}", escaped(name))).map(|()| Value::Null),
    };
    match outcome.and_then(|ports| show(ports, output)) {
        Ok(()) => Exit::Done,
        Err(ClientError::Refused(problem)) if problem.errors.len() > 1 => {
            problem.errors.iter().for_each(|fault| complain(&fault.detail));
            Exit::No
        }
        Err(error) => {
            complain(error);
            Exit::No
        }
    }
}

fn show(ports: Value, output: &mut Output) -> Result<(), ClientError> {
    match ports {
        Value::Null => {}
        ports if output.is_json() => output.json(&ports),
        ports => show_table("ports", &port_table(&read::<Vec<PortReport>>(ports)?), output),
    }
    Ok(())
}

fn form(attach: &Attach) -> Value {
    let Attach { name, interface, network, mac, id } = attach;
    json!({ "name": name, "interface": interface, "network": network, "mac": mac, "id": id })
}

/// A segment of a path (RFC 3986 section 3.3).
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
