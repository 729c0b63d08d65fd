//! An engine that commands can talk to.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::support::Directory;
use serde_json::{Map, Value, json};
use sixway::control::changes::{Asked, History, carry_out};
use sixway::control::config::{Control, read_live_port};
use sixway::control::health::Tally;
use sixway::control::server::{
    AffinityReport, Attaching, Changing, ControlSocket, DropCount, End, ExplainRequest, Flow, Mapped, Observed,
    PortReport, Ports, Probe, Probing, Problem, Quarantined, Status, Traffic, WorkerReport, serve,
};
use sixway::naming::{Names, NamesWriter, Network, Networks};
use sixway::table;
use sixway::units::PortRange;

/// An engine of two ports, with a mapping that can be changed.
struct Engine {
    names: Arc<Names>,
    writer: Mutex<NamesWriter>,
    history: History,
}

impl Engine {
    fn new() -> Engine {
        let network = |name: &str| Network { name: name.to_owned(), ..Network::default() };
        let networks = Networks::new(vec![network("blue"), network("red")], &[]).unwrap();
        let owned = PortRange { first: 20480, last: 59903 };
        let (names, writer) = Names::new(Arc::new(networks), &["192.168.50.1".parse().unwrap()], owned);
        let history = History::new(names.view(&table::pin()).generation());
        Engine { names, writer: Mutex::new(writer), history }
    }
}

impl Mapped for Engine {
    fn names(&self) -> &Arc<Names> {
        &self.names
    }

    fn history(&self) -> &History {
        &self.history
    }

    fn change(self: Arc<Self>, asked: Asked) -> Changing {
        let mut writer = self.writer.lock().unwrap();
        let done = carry_out(&mut writer, &asked.wish(), &self.history, |prepared| Ok(prepared.commit()));
        Box::pin(std::future::ready(done))
    }
}

impl Ports for Engine {
    fn attach(self: Arc<Self>, form: Map<String, Value>) -> Attaching {
        Box::pin(async move {
            let port = read_live_port(&form).map_err(|mistakes| Problem::of_port(mistakes, true))?;
            if port.name == "uplink" {
                return Err(Problem::of_port(vec!["there is a port `uplink` already".into()], false));
            }
            Ok(PortReport { name: port.name, live: true, ..PortReport::default() })
        })
    }

    fn detach(&self, name: &str) -> Result<(), Problem> {
        match name {
            "web7" => Ok(()),
            "uplink" => Err(Problem::conflict("it is of the configuration")),
            _ => Err(Problem::not_found(format!("there is no port `{name}`"))),
        }
    }
}

impl Observed for Engine {
    /// Every service of this server is probed.
    fn probing(&self) -> Probing {
        let tally = Tally { sent: 1204, good: 1200, bad: 1, refused: 2, hints: 3 };
        let probe = Probe { proto: "tcp".into(), kind: "http".into(), tally };
        let guard = table::pin();
        let view = self.names.view(&guard);
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
        runtime.block_on(serve(socket, Arc::new(Engine::new()), async { drop(stopped.await) }))
    });
    story(&path);
    stop.send(()).unwrap();
    server.join().unwrap().unwrap();
}
