//! What the running server tells over its control socket.

use std::collections::HashMap;
use std::fs;

use super::{Appliance, state_file};
use crate::afxdp::program::Mode;
use crate::control::explanation;
use crate::control::journal::Journal;
use crate::control::question::question;
use crate::control::server::{
    AffinityReport, DropCount, End, ExplainRequest, Flow, FragmentsReport, Observed, PortReport, Probe, Probing,
    Problem, ProcessReport, Quarantined, QueueReport, Status, TablesReport, Traffic, WorkerReport,
};
use crate::engine::explain::explain;
use crate::engine::{BoundQueue, PortCounters, QueueCounters};
use crate::flow::{AFFINITY_ENTRIES, FRAGMENTED_PACKETS};
use crate::naming::Wire;
use crate::path::{Answer, Reason, Role};
use crate::table;
use crate::units::{Endpoint, PortId, PortRange};

impl Observed for Appliance {
    fn status(&self) -> Status {
        let guard = table::pin();
        let view = self.tables.names.view(&guard);
        let now = state_file::now();
        let resting = self.tables.state.quarantine(now).into_iter().map(|resting| Quarantined {
            proto: resting.wire.proto.to_string(),
            server: resting.wire.ip.to_string(),
            ports: ports_text(resting.ports),
            remaining_s: u64::from(resting.until.seconds().saturating_sub(now.seconds())),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.stages.elapsed().as_secs(),
            generation: view.generation(),
            bindings: self.tables.names.len() as u64,
            pinned: self.on_host().values().all(|port| port.program.pinned().is_ok()),
            holder: self.succession().is_provided(),
            quarantine: resting.collect(),
            affinity: AffinityReport {
                used: self.tables.state.affinity().flows(now).count() as u64,
                capacity: AFFINITY_ENTRIES as u64,
                full: self.engine.load().counters().workers.iter().map(|worker| worker.unkept).sum(),
            },
            fragments: FragmentsReport {
                used: self.tables.state.fragments().under_way(now) as u64,
                capacity: FRAGMENTED_PACKETS as u64,
                forgotten: self.tables.state.fragments().forgotten(),
                ways_back: self.tables.back.count() as u64,
            },
            tables: TablesReport {
                records: self.tables.names.records() as u64,
                retired: self.tables.names.retired() as u64,
                grace_periods: self.tables.names.grace_periods(),
                bytes: (self.tables.names.memory_bytes() + view.slots_bytes()) as u64,
            },
            process: process(),
            journal: self.journal().as_ref().map(Journal::report),
        }
    }

    fn ports(&self) -> Vec<PortReport> {
        self.reports_of(|_| true)
    }

    fn workers(&self) -> Vec<WorkerReport> {
        let workers = self.engine.load().counters().workers;
        let report = |(index, worker): (usize, crate::engine::WorkerCounters)| WorkerReport {
            worker: index as u32,
            core: worker.core.and_then(|core| u32::try_from(core).ok()),
            polls: worker.polls,
            busy_polls: worker.busy_polls,
            sleeps: worker.sleeps,
            packets: worker.packets,
            frames: worker.frames,
            frames_free: worker.frames_free,
            spare_queues: worker.spare_queues,
        };
        workers.into_iter().enumerate().map(report).collect()
    }

    fn drops(&self) -> Vec<DropCount> {
        let counters = self.engine.load().counters();
        let guard = table::pin();
        let around = self.tables.around.load(&guard);
        let mut drops = Vec::new();
        for (id, port) in around.all_ports() {
            let Some(counted) = counters.ports.get(usize::from(id.0)) else { continue };
            for (&reason, &packets) in Reason::ALL.iter().zip(&counted.dropped).filter(|&(_, &packets)| packets > 0) {
                drops.push(DropCount { port: port.name.clone(), reason: reason.as_str().to_owned(), packets });
            }
        }
        drops
    }

    fn flows(&self, place: u32) -> (Vec<Flow>, Option<u32>) {
        /// Places that are looked at before others have their turn on the control thread.
        const AT_A_TIME: u32 = 16_384;
        let guard = table::pin();
        let view = self.tables.names.view(&guard);
        let (translated, next) = self.tables.state.translated(place, AT_A_TIME, state_file::now());
        let end = |name: Endpoint| End { ip: name.ip.to_string(), port: name.port };
        let flows = translated.into_iter().filter_map(|found| {
            let binding = view.inner(Wire(found.wire))?.binding;
            Some(Flow {
                proto: found.wire.proto.to_string(),
                wire: end(found.wire),
                network: view.network_name(binding).to_string(),
                container: End { ip: binding.ip().to_string(), port: found.inside_port },
                remote: found.remote.map(end),
                state: found.state.to_owned(),
                idle_s: found.idle,
            })
        });
        (flows.collect(), next)
    }

    fn probing(&self) -> Probing {
        let prober = self.prober();
        let mut by_binding: HashMap<u64, Vec<Probe>> = HashMap::new();
        for (identity, check, tally) in prober.tallies() {
            let probe = Probe { proto: check.proto.to_string(), kind: check.kind.as_str().to_owned(), tally };
            by_binding.entry(identity).or_default().push(probe);
        }
        by_binding.values_mut().for_each(|probes| probes.sort_by(|a, b| a.proto.cmp(&b.proto)));
        Probing { totals: prober.totals(), by_binding }
    }

    fn explain(&self, request: &ExplainRequest) -> Result<serde_json::Value, Problem> {
        let guard = table::pin();
        let mut cx = self.tables.context(&guard, state_file::now());
        cx.dry_run = true;
        let question = question(request, cx.around)?;
        let explanation = explain(&cx, &question).map_err(Problem::malformed)?;
        Ok(explanation::to_json(&explanation, cx.around))
    }
}

impl Appliance {
    /// What the port of this id counts; none if there is no such port.
    pub(super) fn report_of(&self, id: PortId) -> Option<PortReport> {
        self.reports_of(|found| found == id).pop()
    }

    fn reports_of(&self, wanted: impl Fn(PortId) -> bool) -> Vec<PortReport> {
        let engine = self.engine.load();
        let (counters, queues) = (engine.counters(), engine.queues());
        let guard = table::pin();
        let around = self.tables.around.load(&guard);
        let ports = self.on_host();
        let mut reports = Vec::new();
        for (id, port) in around.all_ports().filter(|(id, _)| wanted(*id)) {
            let Some(on_host) = ports.get(&id) else { continue };
            let own = queues.iter().zip(&counters.queues).filter(|(queue, _)| queue.port == id);
            let queues: Vec<QueueReport> = own.clone().map(|(queue, counted)| queue_report(queue, counted)).collect();
            let bound = own.map(|(queue, _)| queue).next();
            let mut report = PortReport {
                name: port.name.clone(),
                interface: on_host.link.name.clone(),
                role: role_word(&port.role).to_owned(),
                network: match &port.role {
                    Role::Access(access) => Some(around.networks.name(access.network).to_owned()),
                    Role::Uplink { .. } | Role::External => None,
                },
                vlan: port.tags.ids().to_vec(),
                mac: port.mac.to_string(),
                mtu: u16::try_from(port.mtu).unwrap_or(u16::MAX),
                up: on_host.link.up,
                live: on_host.live,
                attach: mode_word(on_host.program.mode()).to_owned(),
                mode: bound.map_or("", |queue| if queue.bound.zero_copy { "zero-copy" } else { "copy" }).to_owned(),
                traffic: sum(&queues),
                queues,
                ..PortReport::default()
            };
            if let Some(counted) = counters.ports.get(usize::from(id.0)) {
                count(&mut report, counted);
            }
            reports.push(report);
        }
        reports
    }
}

fn count(report: &mut PortReport, counted: &PortCounters) {
    report.traffic.rx_packets = counted.received;
    report.traffic.drops = counted.drops();
    report.forwarded = counted.forwarded;
    report.answered = counted.answered.iter().sum();
    let answers = Answer::ALL.iter().zip(counted.answered).filter(|&(_, count)| count > 0);
    report.answers = answers.map(|(answer, count)| (answer.as_str().to_owned(), count)).collect();
    report.consumed = counted.consumed;
    report.host = counted.host;
    report.held = counted.held;
}

/// What the kernel says of this process; zeros where it says nothing.
fn process() -> ProcessReport {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    // One of them is the directory that is being read.
    let open = fs::read_dir("/proc/self/fd").map_or(0, |files| (files.count() as u64).saturating_sub(1));
    ProcessReport { resident_bytes: pages * rustix::param::page_size() as u64, open_files: open }
}

fn queue_report(queue: &BoundQueue, counted: &QueueCounters) -> QueueReport {
    let statistics = queue.statistics().ok();
    QueueReport {
        queue: queue.queue.0,
        worker: queue.worker as u32,
        traffic: Traffic {
            rx_packets: counted.rx_packets,
            rx_bytes: counted.rx_bytes,
            tx_packets: counted.tx_packets,
            tx_bytes: counted.tx_bytes,
            drops: 0,
        },
        rx_ring_full: statistics.as_ref().map_or(0, |statistics| statistics.rx_ring_full),
        fill_ring_empty: statistics.as_ref().map_or(0, |statistics| statistics.fill_ring_empty),
    }
}

fn sum(queues: &[QueueReport]) -> Traffic {
    queues.iter().fold(Traffic::default(), |sum, queue| Traffic {
        rx_packets: sum.rx_packets + queue.traffic.rx_packets,
        rx_bytes: sum.rx_bytes + queue.traffic.rx_bytes,
        tx_packets: sum.tx_packets + queue.traffic.tx_packets,
        tx_bytes: sum.tx_bytes + queue.traffic.tx_bytes,
        drops: sum.drops,
    })
}

/// `20480`, or a range.
fn ports_text(ports: PortRange) -> String {
    if ports.first == ports.last { ports.first.to_string() } else { ports.to_string() }
}

fn role_word(role: &Role) -> &'static str {
    match role {
        Role::Uplink { .. } => "uplink",
        Role::External => "external",
        Role::Access(_) => "access",
    }
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
    }
}
