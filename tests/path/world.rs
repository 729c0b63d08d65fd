//! Servers in memory: everything that an engine has but the interfaces.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sixway::control::assemble::{Assembly, fixed_hops};
use sixway::control::config::Config;
use sixway::flow::{Geometry, Holding, Side, Signal, State};
use sixway::frame::{Frame, Piece, cut};
use sixway::naming::{Health, HealthReport, Located, ReplicaId, Wire, parse_key};
use sixway::neighbour::NextHops;
use sixway::path::{
    Claim, Claimant, Context, Observer, Silent, Verdict, WorkerState, claims, hold_pinned, walk, walk_burst,
};
use sixway::table;
use sixway::units::{Endpoint, Ip, PortId, Proto, Tick};

/// Room before and behind every frame, as drivers leave it.
const ROOM: usize = 256;

/// One server.
pub struct World {
    pub assembly: Assembly,
    pub state: State,
    pub hops: NextHops,
    pub local: WorkerState,
    pub now: Tick,
}

/// What became of a frame: the bytes are what leaves, if anything does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub out: Option<Vec<u8>>,
    /// The pieces that it leaves in, if it is larger than what leaves.
    pub pieces: Vec<Vec<u8>>,
}

impl World {
    pub fn new(config: &str, mapping: &str) -> World {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("sixway-path-{}-{nth}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let world = World::from_directory(&directory, config, mapping);
        fs::remove_dir_all(&directory).unwrap();
        world
    }

    fn from_directory(directory: &Path, config: &str, mapping: &str) -> World {
        fs::write(directory.join("mapping.sixway"), mapping).unwrap();
        let config =
            Config::parse(&directory.join("sixway.toml"), config).unwrap_or_else(|errors| panic!("{errors:?}"));
        let assembly = Assembly::new(&config, |_| None).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let around = &assembly.around;
        let geometry = Geometry { servers: around.servers.clone(), ports: around.owned };
        let state = State::memory(&geometry).unwrap().with_timers(assembly.timers);
        let local = WorkerState::new(0, 1, around.ports.len());
        let hops = fixed_hops(&config).next_hops();
        let mut world = World { assembly, state, hops, local, now: Tick(1_000_000) };
        world.settle();
        world
    }

    /// Takes a changed mapping in: who holds which wire name, and which ports hold whom.
    pub fn settle(&mut self) {
        let guard = table::pin();
        let names = self.assembly.names.view(&guard);
        let mut holdings = Vec::new();
        for binding in names.local_bindings() {
            let server = names.server_of(binding).unwrap().ip;
            for proto in binding.proto().each(server) {
                holdings.push(Holding { server, proto, ports: binding.wire_ports(), owner: names.owner(binding) });
            }
        }
        self.state.settle(&holdings, self.now);
        hold_pinned(&names, &self.assembly.around);
    }

    /// Replaces the whole mapping.
    pub fn remap(&mut self, mapping: &str) {
        let (bindings, mistakes) = sixway::naming::read_mapping(mapping.as_bytes());
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let change = self.assembly.writer.replace(&bindings).unwrap_or_else(|errors| panic!("{errors:?}"));
        self.state.affinity().forget_replicas(|id| change.replicas_gone.binary_search(&id).is_err());
        self.settle();
    }

    /// Somebody says what he knows of the binding of this line.
    pub fn judge(&mut self, line: &str, state: Health) {
        let report = HealthReport::new(parse_key(line).unwrap(), state);
        let prepared = self.assembly.writer.prepare_with_health(&[], &[], &[Located { line: 1, value: report }]);
        prepared.unwrap_or_else(|errors| panic!("{errors:?}")).commit();
    }

    /// Replaces the policy by that of another configuration of the same networks.
    pub fn govern(&mut self, config: &str) {
        let config = Config::parse(Path::new("sixway.toml"), config).unwrap_or_else(|errors| panic!("{errors:?}"));
        self.assembly.around.networks = Arc::new(config.build_networks().unwrap());
    }

    pub fn later(&mut self, seconds: u64) {
        self.now = self.now.after_ms(seconds * 1000);
    }

    pub fn port(&self, name: &str) -> PortId {
        let at = self.assembly.around.port_called(name);
        at.unwrap_or_else(|| panic!("no port {name}"))
    }

    pub fn port_name(&self, id: PortId) -> &str {
        &self.assembly.around.port(id).unwrap().name
    }

    pub fn receive(&mut self, port: &str, frame: &[u8]) -> Outcome {
        self.observe(port, frame, false, &mut Silent)
    }

    /// As [`World::receive`], with somebody who listens; a dry run leaves everything as it was.
    pub fn observe(&mut self, port: &str, came: &[u8], dry_run: bool, observer: &mut impl Observer) -> Outcome {
        let port = self.port(port);
        let guard = table::pin();
        let World { assembly, state, hops, local, now } = self;
        let names = assembly.names.view(&guard);
        let cx = Context { names, around: &assembly.around, state, hops, now: *now, dry_run };
        let mut buffer = buffer(came);
        let mut frame = Frame::new(&mut buffer, ROOM, came.len());
        let verdict = walk(&cx, local, port, &mut frame, observer);
        let is_as_it_came = || frame.bytes() == came;
        assert!(!matches!(verdict, Verdict::Await { .. }) || is_as_it_came(), "it is to be walked again");
        outcome(verdict, &frame)
    }

    /// What can be asked between packets.
    pub fn ask<T>(&self, question: impl FnOnce(&Context<'_>) -> T) -> T {
        let guard = table::pin();
        let World { assembly, state, hops, now, .. } = self;
        let names = assembly.names.view(&guard);
        question(&Context { names, around: &assembly.around, state, hops, now: *now, dry_run: true })
    }

    /// True if the XDP program would hand the frame to the engine.
    pub fn claims(&self, port: &str, frame: &[u8]) -> bool {
        let mut buffer = buffer(frame);
        let port = self.assembly.around.port(self.port(port)).unwrap();
        self.ask(|cx| claims(cx, port, &Frame::new(&mut buffer, ROOM, frame.len())))
    }

    /// Whose the XDP program would say that a frame is which comes after those that `claimant` has seen.
    pub fn claim(&self, claimant: &mut Claimant, port: &str, frame: &[u8]) -> Claim {
        let mut buffer = buffer(frame);
        let id = self.port(port);
        let port = self.assembly.around.port(id).unwrap();
        self.ask(|cx| claimant.claim(cx, id, port, &Frame::new(&mut buffer, ROOM, frame.len())))
    }

    /// Whole bursts, as the engine walks them.
    pub fn receive_burst(&mut self, port: &str, frames: &[Vec<u8>]) -> Vec<Outcome> {
        let port = self.port(port);
        let guard = table::pin();
        let World { assembly, state, hops, local, now } = self;
        let names = assembly.names.view(&guard);
        let cx = Context { names, around: &assembly.around, state, hops, now: *now, dry_run: false };
        let mut outcomes = Vec::new();
        for burst in frames.chunks(sixway::path::BURST) {
            let mut buffers: Vec<Vec<u8>> = burst.iter().map(|frame| buffer(frame)).collect();
            let mut views: Vec<Frame<'_>> =
                buffers.iter_mut().zip(burst).map(|(buffer, frame)| Frame::new(buffer, ROOM, frame.len())).collect();
            let mut verdicts = vec![Verdict::Consume; views.len()];
            assert_eq!(walk_burst(&cx, local, port, &mut views, &mut verdicts), burst.len());
            outcomes.extend(views.iter().zip(&verdicts).map(|(frame, &verdict)| outcome(verdict, frame)));
        }
        outcomes
    }

    /// The verdict in one line: `forward uplink`, `answer web reset`, `drop no_binding`, `hold uplink 192.168.50.9`.
    pub fn words(&self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Forward { port } => format!("forward {}", self.port_name(port)),
            Verdict::Answer { port, answer } => format!("answer {} {answer}", self.port_name(port)),
            Verdict::Drop(reason) => format!("drop {reason}"),
            Verdict::Consume => "consume".to_owned(),
            Verdict::Heard => "heard".to_owned(),
            Verdict::Host => "host".to_owned(),
            Verdict::Hold { port, hop } => format!("hold {} {hop}", self.port_name(port)),
            Verdict::Cut { port, mtu } => format!("cut {} {mtu}", self.port_name(port)),
            Verdict::Await { .. } => "await".to_owned(),
        }
    }

    /// Everything that the state remembers of our own wire names, and who is held where, one fact a line. Clocks:
    /// `tcp 192.168.50.1:21248 open outside`; entries: `tcp 192.168.50.1:21248 -> 40000`.
    pub fn remembered(&self) -> Vec<String> {
        let guard = table::pin();
        let names = self.assembly.names.view(&guard);
        let nowhere = |proto| Endpoint { proto, ip: "198.51.100.1".parse::<Ip>().unwrap(), port: 9 };
        let mut facts = Vec::new();
        for binding in names.local_bindings() {
            let server = names.server_of(binding).unwrap().ip;
            let ports = binding.wire_ports();
            for proto in binding.proto().each(server) {
                let pool = self.state.pool(server, ports, binding.is_native(), names.owner(binding));
                for port in ports.first..=ports.last {
                    let Some(slot) = self.state.slot(server, proto, port) else { continue };
                    let name = Wire(Endpoint { proto, ip: server, port }).0;
                    for (side, word) in [(Side::Outside, "outside"), (Side::Peers, "peers")] {
                        let signal = if proto == Proto::TCP { Signal::Segment } else { Signal::Datagram };
                        if self.state.admits(slot, side, signal, self.now) {
                            facts.push(format!("{proto} {}:{} open {word}", name.ip, name.port));
                        }
                    }
                    let pool = pool.filter(|_| binding.is_block());
                    let pools =
                        pool.into_iter().flat_map(|pool| [(pool, ""), (pool.for_public_names(), ", public names")]);
                    for (pool, calls) in pools {
                        if let Some(to) = self.state.peek_in(&pool, port, &nowhere(proto), self.now) {
                            facts.push(format!("{proto} {}:{} -> {to}{calls}", name.ip, name.port));
                        }
                    }
                }
            }
        }
        for id in self.state.affinity().flows(self.now) {
            let on = |binding: &&_| ReplicaId::of(names.identity(binding)) == id;
            let on = names.bindings().find(on).map_or("nobody".to_owned(), |binding| {
                let ports = binding.wire_ports();
                let last = if ports.count() > 1 { format!("-{}", ports.last) } else { String::new() };
                format!("{}:{}{last}", names.server_of(binding).unwrap().ip, ports.first)
            });
            facts.push(format!("a flow stays on {on}"));
        }
        for (_, container) in names.all_containers() {
            if let Some((port, mac)) = container.held_by().map(|held| (held.port(), held.mac())) {
                let network = self.assembly.around.networks.name(container.network());
                facts.push(format!("{network} {mac} {} behind {}", container.ip(), self.port_name(port)));
            }
        }
        facts.sort();
        facts
    }
}

fn buffer(frame: &[u8]) -> Vec<u8> {
    [&[0xaa; ROOM][..], frame, &[0xbb; ROOM]].concat()
}

fn outcome(verdict: Verdict, frame: &Frame<'_>) -> Outcome {
    let out = leaves(verdict).then(|| frame.bytes().to_vec());
    let pieces = match verdict {
        Verdict::Cut { mtu, .. } => {
            cut(frame, mtu).expect("it can be cut").map(|piece| copied(&piece, frame)).collect()
        }
        _ => Vec::new(),
    };
    Outcome { verdict, out, pieces }
}

fn copied(piece: &Piece, frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; piece.len()];
    assert_eq!(piece.copy(frame, 0, &mut bytes), bytes.len());
    bytes
}

fn leaves(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Forward { .. } | Verdict::Answer { .. } | Verdict::Hold { .. })
}
