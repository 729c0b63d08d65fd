//! `sixway stats`: a running engine's counters.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::control::server::{AffinityReport, DropCount, PortReport, Status, WorkerReport};

use super::Exit;
use super::arguments::Stats;
use super::client::{Client, ClientError};
use super::output::{Colour, Output, complain};
use super::table::{Table, thousands};

pub(super) fn run(arguments: &Stats, output: &mut Output) -> Exit {
    let Some(client) = Client::of(&arguments.engine, output) else { return Exit::No };
    match show(&client, output) {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(error);
            Exit::No
        }
    }
}

fn show(client: &Client, output: &mut Output) -> Result<(), ClientError> {
    let [status, ports, workers, drops] =
        ["/v1/status", "/v1/ports", "/v1/workers", "/v1/drops"].map(|path| client.get(path));
    let (status, ports, workers, drops) = (status?, ports?, workers?, drops?);
    if output.is_json() {
        output.json(&json!({"status": status, "ports": ports, "workers": workers, "drops": drops}));
        return Ok(());
    }
    show_status(&read(status)?, output);
    show_table("ports", &port_table(&read::<Vec<PortReport>>(ports)?), output);
    show_table("workers", &worker_table(&read::<Vec<WorkerReport>>(workers)?), output);
    show_table("drops", &drop_table(&read::<Vec<DropCount>>(drops)?), output);
    Ok(())
}

pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, ClientError> {
    serde_json::from_value(value).map_err(|error| ClientError::Broken(error.to_string()))
}

fn show_status(status: &Status, output: &mut Output) {
    let Status { version, pid, uptime_s, generation, bindings, .. } = status;
    output.line(format_args!(
        "sixway {version}, process {pid}, up {uptime_s} s, generation {generation}, {} bindings",
        thousands(*bindings)
    ));
    if !status.pinned {
        let warning = output.paint(Colour::Yellow, "not pinned");
        output.line(format_args!("{warning}: without the engine, owned traffic is answered with resets"));
    }
    let AffinityReport { used, capacity, full } = status.affinity;
    if used > 0 || full > 0 {
        output.line(format_args!("flows kept on their replica: {} of {}", thousands(used), thousands(capacity)));
    }
    if full > 0 {
        let warning = output.paint(Colour::Yellow, "no room");
        output.line(format_args!("{warning} to keep flows on their replica for {} packets", thousands(full)));
    }
    for resting in &status.quarantine {
        let (proto, server, ports) = (&resting.proto, &resting.server, &resting.ports);
        output.line(format_args!("resting: {proto} {server}:{ports}, {} s more", resting.remaining_s));
    }
}

pub(super) fn show_table(title: &str, table: &Table, output: &mut Output) {
    output.line("");
    if table.is_empty() {
        return output.line(format_args!("no {title}"));
    }
    for (at, line) in table.lines().iter().enumerate() {
        let line = if at == 0 { output.paint(Colour::Bold, line) } else { line.clone() };
        output.line(line);
    }
}

pub(super) fn port_table(ports: &[PortReport]) -> Table {
    let head =
        ["port", "interface", "role", "network", "state", "rx packets", "rx bytes", "tx packets", "tx bytes", "drops"];
    let mut table = Table::new(&head);
    for port in ports {
        let state = if port.up { format!("{} {}", port.attach, port.mode) } else { "down".to_owned() };
        let traffic = &port.traffic;
        let network = port.network.as_deref().unwrap_or("-");
        let tags: String = port.vlan.iter().map(|id| format!(".{id}")).collect();
        let interface = port.interface.clone() + &tags;
        let words = [&port.name, &interface, &port.role, network, &state].map(str::to_owned);
        let numbers = [traffic.rx_packets, traffic.rx_bytes, traffic.tx_packets, traffic.tx_bytes, traffic.drops];
        table.row(words.into_iter().chain(numbers.map(thousands)));
    }
    table
}

fn worker_table(workers: &[WorkerReport]) -> Table {
    let mut table = Table::new(&["worker", "core", "polls", "busy polls", "sleeps", "packets", "frames", "free"]);
    for worker in workers {
        let core = worker.core.map_or("-".to_owned(), |core| core.to_string());
        let counts = [worker.polls, worker.busy_polls, worker.sleeps, worker.packets];
        let frames = [worker.frames, worker.frames_free].map(u64::from);
        let numbers = counts.into_iter().chain(frames).map(thousands);
        table.row([worker.worker.to_string(), core].into_iter().chain(numbers));
    }
    table
}

fn drop_table(drops: &[DropCount]) -> Table {
    let mut table = Table::new(&["port", "reason", "packets"]);
    for drop in drops {
        table.row([drop.port.clone(), drop.reason.clone(), thousands(drop.packets)]);
    }
    table
}
