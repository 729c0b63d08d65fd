//! An engine that commands can talk to.

use std::path::Path;
use std::sync::Arc;

use crate::support::Directory;
use serde_json::{Map, Value, json};
use sixway::control::changes::{Asked, History};
use sixway::control::config::Control;
use sixway::control::health::Tally;
use sixway::control::server::{
    AffinityReport, Attaching, Changing, ControlSocket, DropCount, End, ExplainRequest, Flow, Mapped, Observed,
    PortReport, Ports, Probe, Probing, Problem, Quarantined, Status, Traffic, WorkerReport, serve,
};
use sixway::naming::Names;
use sixway::table;

#[path = "../support/mapping.rs"]
mod mapping;
use mapping::Mapping;

/// An engine of two ports, with a mapping that can be changed.
struct Engine {
    mapping: Mapping,
}

impl Mapped for Engine {
    fn names(&self) -> &Arc<Names> {
        &self.mapping.names
    }

    fn history(&self) -> &History {
        &self.mapping.history
    }

    fn change(self: Arc<Self>, asked: Asked) -> Changing {
        self.mapping.change(&asked)
    }
}

impl Ports for Engine {
    fn attach(self: Arc<Self>, form: Map<String, Value>) -> Attaching {
        mapping::attach(form)
    }

    fn detach(&self, name: &str) -> Result<(), Problem> {
        mapping::detach(name, "web7")
    }
}

impl Observed for Engine {
    /// Every service of this server is probed.
    fn probing(&self) -> Probing {
        let tally = Tally { sent: 1204, good: 1200, bad: 1, refused: 2, hints: 3 };
        let probe = Probe { proto: "tcp".into(), kind: "http".into(), tally };
        let guard = table::pin();
        let view = self.mapping.names.view(&guard);
        let services = view.local_bindings().filter(|binding| !binding.is_block());
        let by_binding = services.map(|binding| (view.identity(binding), vec![probe.clone()])).collect();
        Probing { totals: tally, by_binding }
    }

    fn status(&self) -> Status {
        let quarantine = vec![Quarantined {
            proto: "tcp".into(),
            server: "192.168.50.1".into(),
            ports: "20480".into(),
            remaining_s: 42,
        }];
        Status {
            version: "0.1.0".into(),
            pid: 7,
            uptime_s: 60,
            generation: 3,
            bindings: 1_000_000,
            quarantine,
            affinity: AffinityReport { used: 1_234, capacity: 131_072, full: 9 },
            ..Status::default()
        }
    }

    fn ports(&self) -> Vec<PortReport> {
        let traffic = Traffic { rx_packets: 1_234_567, rx_bytes: 99, tx_packets: 5, tx_bytes: 6, drops: 3 };
        let uplink = PortReport {
            name: "uplink".into(),
            interface: "eth1".into(),
            role: "uplink".into(),
            up: true,
            attach: "native".into(),
            mode: "copy".into(),
            traffic,
            ..PortReport::default()
        };
        let web1 = PortReport {
            name: "web1".into(),
            interface: "veth-web1".into(),
            role: "access".into(),
            network: Some("blue".into()),
            ..PortReport::default()
        };
        vec![uplink, web1]
    }

    fn workers(&self) -> Vec<WorkerReport> {
        vec![WorkerReport { core: Some(1), frames: 4096, frames_free: 100, ..WorkerReport::default() }]
    }

    fn drops(&self) -> Vec<DropCount> {
        vec![DropCount { port: "uplink".into(), reason: "not_public".into(), packets: 3 }]
    }

    fn flows(&self, place: u32) -> (Vec<Flow>, Option<u32>) {
        let end = |ip: &str, port| End { ip: ip.into(), port };
        let flow = Flow {
            proto: "tcp".into(),
            wire: end("192.168.50.1", 21504),
            network: "blue".into(),
            container: end("10.1.0.2", 40000 + place as u16),
            remote: None,
            state: "established".into(),
            idle_s: 3,
        };
        (vec![flow], (place < 2).then_some(place + 1))
    }

    fn explain(&self, _: &ExplainRequest) -> Result<Value, Problem> {
        Ok(json!({}))
    }
}

/// Runs `story` with the path of the engine's control socket.
pub fn with_engine(test: &str, story: impl FnOnce(&str)) {
    with_engine_for(test, &Control::default(), story);
}

/// The same, with groups that may read or write.
pub fn with_engine_for(test: &str, control: &Control, story: impl FnOnce(&str)) {
    let directory = Directory::new(test);
    let path = directory.path("control.sock");
    let socket = ControlSocket::bind(Path::new(&path), control).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(socket, Arc::new(Engine { mapping: Mapping::new() }), async { drop(stopped.await) }))
    });
    story(&path);
    stop.send(()).unwrap();
    server.join().unwrap().unwrap();
}
