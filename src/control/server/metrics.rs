//! `GET /metrics`: what the engine counts, as OpenMetrics text (version 1.0.0).

use std::fmt::{self, Write};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Served;
use super::report::{PortReport, WorkerReport};
use super::routes::Engine;

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(engine): State<Engine>) -> Response {
    let mut text = Text(String::new());
    // Writing to a text does not fail.
    let _ = write(&mut text, &*engine);
    ([(header::CONTENT_TYPE, TYPE)], text.0).into_response()
}

struct Text(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        write!(self.0, "# TYPE sixway_{name} {kind}\n# HELP sixway_{name} {help}\n")
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl fmt::Display) -> fmt::Result {
        write!(self.0, "sixway_{name}")?;
        for (nth, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(self.0, "{}{label}=\"{value}\"", if nth == 0 { '{' } else { ',' })?;
        }
        writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" })
    }
}

fn write(text: &mut Text, engine: &dyn Served) -> fmt::Result {
    let status = engine.status();
    text.family("build", "info", "Which sixway this is.")?;
    text.sample("build_info", &[("version", &status.version)], 1)?;
    for (name, help, value) in [
        ("uptime_seconds", "Since the engine was started.", status.uptime_s),
        ("generation", "The change set of the mapping that packets see.", status.generation),
        ("bindings", "Bindings of the mapping.", status.bindings),
        ("pinned", "1 if the XDP programs outlive the process.", u64::from(status.pinned)),
        ("holder", "1 if somebody keeps the descriptors for the next engine.", u64::from(status.holder)),
        ("resting_names", "Runs of wire names that rest.", status.quarantine.len() as u64),
        ("affinity_entries", "Flows that stay on their replica.", status.affinity.used),
        ("affinity_capacity", "Flows that there is room for.", status.affinity.capacity),
        ("fragmented_packets", "Packets that are under way in fragments.", status.fragments.used),
        ("table_records", "Records of the mapping's tables.", status.tables.records),
        ("retired_records", "Records that are replaced and not yet freed.", status.tables.retired),
        ("table_bytes", "What the mapping's tables take.", status.tables.bytes),
        ("journal_bytes", "What is in the journal.", status.journal.as_ref().map_or(0, |journal| journal.bytes)),
        ("resident_bytes", "Memory that the process has.", status.process.resident_bytes),
        ("open_files", "Descriptors that the process has.", status.process.open_files),
    ] {
        text.family(name, "gauge", help)?;
        text.sample(name, &[], value)?;
    }
    for (name, help, value) in [
        ("affinity_full_packets", "Packets whose flow there was no room to keep on its replica.", status.affinity.full),
        (
            "fragmented_packets_forgotten",
            "Packets in fragments that lost their place to newer ones before they were complete.",
            status.fragments.forgotten,
        ),
        ("grace_periods", "Times that workers let go of what was retired.", status.tables.grace_periods),
    ] {
        text.family(name, "counter", help)?;
        text.sample(&format!("{name}_total"), &[], value)?;
    }
    write_ports(text, &engine.ports())?;
    text.family("drops", "counter", "Packets dropped, by port and reason.")?;
    for drop in engine.drops() {
        text.sample("drops_total", &[("port", &drop.port), ("reason", &drop.reason)], drop.packets)?;
    }
    let totals = engine.probing().totals;
    text.family("probes", "counter", "Health probes, by their outcome.")?;
    for (outcome, count) in [("good", totals.good), ("bad", totals.bad), ("refused", totals.refused)] {
        text.sample("probes_total", &[("outcome", outcome)], count)?;
    }
    text.family("health_hints", "counter", "Refusals by containers to others that had them probed sooner.")?;
    text.sample("health_hints_total", &[], totals.hints)?;
    write_workers(text, &engine.workers())?;
    text.0.write_str("# EOF\n")
}

type OfPort = fn(&PortReport) -> u64;

fn write_ports(text: &mut Text, ports: &[PortReport]) -> fmt::Result {
    text.family("port_up", "gauge", "1 if the interface is up.")?;
    for port in ports {
        let labels = [("port", &*port.name), ("interface", &*port.interface), ("role", &*port.role)];
        text.sample("port_up", &labels, u64::from(port.up))?;
    }
    let counters: [(&str, &str, OfPort); 9] = [
        ("received_packets", "Packets received.", |port| port.traffic.rx_packets),
        ("received_bytes", "Bytes received, with Ethernet header.", |port| port.traffic.rx_bytes),
        ("sent_packets", "Packets sent.", |port| port.traffic.tx_packets),
        ("sent_bytes", "Bytes sent, with Ethernet header.", |port| port.traffic.tx_bytes),
        ("forwarded_packets", "Received packets that left by another port.", |port| port.forwarded),
        ("consumed_packets", "Received packets that were meant for the engine.", |port| port.consumed),
        ("host_packets", "Received packets that were given to the kernel.", |port| port.host),
        ("held_packets", "Received packets that waited for a next hop.", |port| port.held),
        ("ring_full_packets", "Packets lost since the receive ring was full.", |port| {
            port.queues.iter().map(|queue| queue.rx_ring_full).sum()
        }),
    ];
    for (name, help, of) in counters {
        text.family(name, "counter", help)?;
        for port in ports {
            text.sample(&format!("{name}_total"), &[("port", &port.name)], of(port))?;
        }
    }
    text.family("answers", "counter", "Received packets that were answered, by port and answer.")?;
    for port in ports {
        for (answer, &count) in &port.answers {
            text.sample("answers_total", &[("port", &port.name), ("answer", answer)], count)?;
        }
    }
    Ok(())
}

type OfWorker = fn(&WorkerReport) -> u64;

fn write_workers(text: &mut Text, workers: &[WorkerReport]) -> fmt::Result {
    let counters: [(&str, &str, OfWorker); 4] = [
        ("worker_polls", "Turns of the worker's loop.", |worker| worker.polls),
        ("worker_busy_polls", "Turns that found packets.", |worker| worker.busy_polls),
        ("worker_sleeps", "Times that the worker slept.", |worker| worker.sleeps),
        ("worker_packets", "Packets that the worker took.", |worker| worker.packets),
    ];
    for (name, help, of) in counters {
        text.family(name, "counter", help)?;
        for worker in workers {
            text.sample(&format!("{name}_total"), &[("worker", &worker.worker.to_string())], of(worker))?;
        }
    }
    text.family("worker_free_frames", "gauge", "Frames of the worker's memory that are free.")?;
    for worker in workers {
        text.sample("worker_free_frames", &[("worker", &worker.worker.to_string())], worker.frames_free)?;
    }
    text.family("worker_spare_queues", "gauge", "Queues of ports to come that the worker has memory for.")?;
    for worker in workers {
        text.sample("worker_spare_queues", &[("worker", &worker.worker.to_string())], worker.spare_queues)?;
    }
    Ok(())
}
