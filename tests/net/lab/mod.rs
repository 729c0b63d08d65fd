//! The laboratory: two servers, an underlay, containers, a router and the world behind it, in network namespaces.
//!
//! ```text
//!   alice 10.0.0.1 (blue, native block)   ┐                       ┌ web    10.0.0.10:80 (blue)
//!   bob   10.0.0.1 (green, native block)  ├ s1 ─── wire ─── s2 ───┤ shop   10.0.0.10:80 (green)
//!   carol 10.0.0.3 (blue, default block)  ┘         │             └ dave   10.0.0.4 (blue, default block)
//!                                                 router ─── outside 203.0.113.9
//! ```
//! `s1` is 192.168.50.1, `s2` is 192.168.50.2, the router 192.168.50.254. `wire` is a bridge in a namespace of its own:
//! what it sees is what a switch between the servers would see.

pub mod api;
pub mod capture;
pub mod config;
pub mod dual;
pub mod engine;
pub mod gateway;
pub mod ipsec;
pub mod load;
pub mod namespace;
pub mod narrow;
pub mod peers;
pub mod programs;
pub mod raw;
pub mod services;
pub mod stack;
pub mod traffic;
pub mod tunnel;
pub mod underlay;
pub mod vitals;
pub mod way;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use engine::Engine;
use namespace::Namespace;

/// What containers use as default router.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The host in the outside world.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Its prefix.
pub const OUTSIDE_PREFIX: &str = "203.0.113.0/24";
/// The server ports that belong to the engines.
pub const OWNED: &str = "20480-59903";

/// The ServerIP of `s1` or `s2`.
pub const fn server_ip(server: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 50, server)
}

/// Its ServerIP of the other family; kernels have it only where a story says so.
pub const fn server_ip6(server: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd50, 0, 0, 0, 0, 0, 0, server as u16)
}

/// A container of the cast.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub name: &'static str,
    pub server: u8,
    pub network: &'static str,
    pub mac: &'static str,
    pub ip: Ipv4Addr,
    /// `net.ipv4.ip_local_port_range`, where its client block is native.
    pub local_ports: Option<&'static str>,
}

const fn member(name: &'static str, server: u8, network: &'static str, mac: &'static str, last: u8) -> Member {
    Member { name, server, network, mac, ip: Ipv4Addr::new(10, 0, 0, last), local_ports: None }
}

/// Who lives in the lab.
pub const CAST: [Member; 6] = [
    Member { local_ports: Some("32768 39935"), ..member("alice", 1, "blue", "02:42:0a:00:00:01", 1) },
    Member { local_ports: Some("40960 48127"), ..member("bob", 1, "green", "02:42:0a:00:01:01", 1) },
    member("carol", 1, "blue", "02:42:0a:00:00:03", 3),
    member("web", 2, "blue", "02:42:0a:00:00:0a", 10),
    member("shop", 2, "green", "02:42:0a:00:01:0a", 10),
    member("dave", 2, "blue", "02:42:0a:00:00:04", 4),
];

/// Their names: two services with one inside name each in its own network, and a client block each.
pub const MAPPING: &str = "\
blue   tcp  02:00:00:00:00:02  192.168.50.2:20480        02:42:0a:00:00:0a  10.0.0.10:80
green  tcp  02:00:00:00:00:02  192.168.50.2:20481        02:42:0a:00:01:0a  10.0.0.10:80
blue   tcp  02:00:00:00:00:02  192.168.50.2:20482        02:42:0a:00:00:0a  10.0.0.10:7
blue   udp  02:00:00:00:00:02  192.168.50.2:20482        02:42:0a:00:00:0a  10.0.0.10:7
blue   tcp  02:00:00:00:00:01  192.168.50.1:20483        02:42:0a:00:00:03  10.0.0.3:7
blue   udp  02:00:00:00:00:01  192.168.50.1:20483        02:42:0a:00:00:03  10.0.0.3:7
blue   tcp  02:00:00:00:00:02  192.168.50.2:20484        02:42:0a:00:00:0a  10.0.0.10:5201
blue   udp  02:00:00:00:00:02  192.168.50.2:20484        02:42:0a:00:00:0a  10.0.0.10:5201
blue   any  02:00:00:00:00:01  192.168.50.1:32768-40959  02:42:0a:00:00:01  10.0.0.1:*      native
green  any  02:00:00:00:00:01  192.168.50.1:40960-49151  02:42:0a:00:01:01  10.0.0.1:*      native
blue   any  02:00:00:00:00:01  192.168.50.1:49152-57343  02:42:0a:00:00:03  10.0.0.3:*
blue   any  02:00:00:00:00:02  192.168.50.2:32768-33791  02:42:0a:00:00:0a  10.0.0.10:*
green  any  02:00:00:00:00:02  192.168.50.2:33792-34815  02:42:0a:00:01:0a  10.0.0.10:*
blue   any  02:00:00:00:00:02  192.168.50.2:49152-57343  02:42:0a:00:00:04  10.0.0.4:*
";

/// One laboratory. Dropping it, panicking or not, ends its programs and removes its namespaces, mounts and files. A story
/// that ended well has one condition more: the counters of engines that still run add up.
pub struct Lab {
    name: String,
    dir: PathBuf,
    mapping: String,
    networks: String,
    pinned: bool,
    workers: usize,
    namespaces: BTreeMap<String, Namespace>,
    members: Vec<Member>,
    engines: BTreeMap<u8, Engine>,
    gateways: Vec<u8>,
    /// By server: a text of its configuration, and what stands there instead.
    amendments: Vec<(u8, String, String)>,
    before: File,
    _turn: MutexGuard<'static, ()>,
}

/// Engines poll: stories of one process take turns.
static TURN: Mutex<()> = Mutex::new(());
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// The ground without engines: servers, wire, router, outside and the cast's containers.
    pub fn new() -> Lab {
        assert!(rustix::process::geteuid().is_root(), "network stories need root: run them with sudo");
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        namespace::remove_abandoned();
        let name = format!("sixway-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).expect("a directory for the lab");
        let before = File::open("/proc/thread-self/ns/net").expect("this thread's network namespace");
        let mut lab = Lab {
            name,
            dir,
            mapping: MAPPING.to_owned(),
            networks: config::NETWORKS.to_owned(),
            pinned: true,
            workers: 1,
            namespaces: BTreeMap::new(),
            members: Vec::new(),
            engines: BTreeMap::new(),
            gateways: Vec::new(),
            amendments: Vec::new(),
            before,
            _turn: turn,
        };
        lab.add_namespace("around").enter(); // from here on even a stray packet stays in the lab
        lab.lay_the_wire();
        lab.add_server(1);
        lab.add_server(2);
        lab.add_outside();
        for member in CAST {
            lab.add_container(member);
        }
        lab
    }

    /// The ground and a running engine on each server.
    pub fn running() -> Lab {
        let mut lab = Lab::new();
        lab.start(1);
        lab.start(2);
        lab
    }

    /// The ground and an engine on each server, each with a holder.
    pub fn running_with_holders() -> Lab {
        let mut lab = Lab::running();
        for server in [1, 2] {
            let engine = lab.engine(server);
            engine.stop();
            engine.with_holder();
            engine.start();
        }
        lab
    }

    /// The namespace of a server (`s1`, `s2`), a member of the cast, `wire`, `router` or `outside`.
    pub fn at(&self, name: &str) -> &Namespace {
        self.namespaces.get(name).unwrap_or_else(|| panic!("nobody is called {name} here"))
    }

    pub fn engine(&mut self, server: u8) -> &mut Engine {
        self.engines.get_mut(&server).unwrap_or_else(|| panic!("no engine was started on s{server}"))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Replaces the `[[network]]` tables of the configuration, and what follows them; a running engine sees it when it is
    /// told to.
    pub fn set_networks(&mut self, networks: &str) {
        networks.clone_into(&mut self.networks);
        for server in [1, 2] {
            self.write_config(server);
        }
    }

    /// Gives engines that start from now on two workers, and the links of servers two queues each way.
    pub fn with_two_workers(&mut self) {
        self.workers = 2;
        for server in ["s1", "s2"] {
            for (place, interface) in [(server, "eth1".to_owned()), ("wire", format!("to-{server}"))] {
                self.at(place).run("ethtool", &["-L", &interface, "rx", "2", "tx", "2"]);
            }
        }
    }

    /// Leaves `mac` out of the access ports: engines must find out who is behind them.
    pub fn leave_macs_to_the_engine(&mut self) {
        self.pinned = false;
    }

    /// Changes the mapping files of both servers; a running engine sees it when it is told to.
    pub fn set_mapping(&mut self, mapping: &str) {
        mapping.clone_into(&mut self.mapping);
        for server in [1, 2].into_iter().chain(self.gateways.iter().copied()) {
            self.write_config(server);
        }
    }

    /// Has something else stand in a server's configuration from its next start on.
    pub fn amend_config(&mut self, server: u8, text: &str, instead: &str) {
        self.amendments.push((server, text.to_owned(), instead.to_owned()));
    }

    pub fn mapping(&self) -> &str {
        &self.mapping
    }

    /// Starts the engine of a server and waits until it says that it is ready.
    pub fn start(&mut self, server: u8) {
        self.write_config(server);
        let dir = self.server_dir(server);
        let pins = dir.join("bpf");
        fs::create_dir_all(&pins).expect("a mount point for bpffs");
        run("mount", &["-t", "bpf", "bpf", &pins.to_string_lossy()]);
        let mut engine = Engine::new(self.at(&format!("s{server}")), dir);
        engine.start();
        self.engines.insert(server, engine);
    }

    /// Another container, known to engines that start from now on.
    pub fn add_container(&mut self, member: Member) {
        self.make_container(member);
        self.members.push(member);
    }

    /// A container that no configuration knows.
    pub fn make_container(&mut self, member: Member) {
        self.add_namespace(member.name);
        self.plug_container(member);
    }

    /// Gives a container an interface, and its server the other end.
    pub fn plug_container(&self, member: Member) {
        let Member { name, server, mac, ip, .. } = member;
        let inside = self.at(name);
        let host = self.at(&format!("s{server}"));
        host.ip(&format!("link add veth-{name} type veth peer name eth0 address {mac} netns {}", inside.name()));
        host.ip(&format!("link set veth-{name} up"));
        inside.ip(&format!("addr add {ip}/32 dev eth0"));
        inside.ip("link set eth0 up");
        inside.ip(&format!("route add default via {GATEWAY} dev eth0 onlink"));
        if let Some(range) = member.local_ports {
            inside.set("net.ipv4.ip_local_port_range", range);
        }
        inside.set("net.ipv4.ping_group_range", "0 2147483647");
    }

    fn server_dir(&self, server: u8) -> PathBuf {
        self.dir.join(format!("s{server}"))
    }

    fn write_config(&self, server: u8) {
        let dir = self.server_dir(server);
        fs::create_dir_all(&dir).expect("a directory for the server");
        fs::write(dir.join("mapping.sixway"), &self.mapping).expect("the mapping file");
        let members = self.members.iter().filter(|member| member.server == server);
        let mut text = config::text(server, &dir, &self.networks, self.pinned, self.workers, members);
        if self.is_gateway(server) {
            text += gateway::EXTERNAL_PORT;
        }
        for (_, old, new) in self.amendments.iter().filter(|(of, ..)| *of == server) {
            assert!(text.contains(old), "{old} is not in {text}");
            text = text.replace(old, new);
        }
        fs::write(dir.join("sixway.toml"), text).expect("the configuration");
    }

    fn lay_the_wire(&mut self) {
        self.add_namespace("wire");
        let wire = self.at("wire");
        wire.quiet();
        wire.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0");
        wire.ip("link set br0 up");
    }

    fn plug_in(&self, name: &str, mac: &str, address: &str) {
        let (wire, host) = (self.at("wire"), self.at(name));
        host.quiet();
        wire.ip(&format!("link add to-{name} type veth peer name eth1 address {mac} netns {}", host.name()));
        wire.ip(&format!("link set to-{name} master br0 up"));
        host.ip(&format!("addr add {address} dev eth1"));
        host.ip("link set eth1 up");
    }

    fn add_server(&mut self, server: u8) {
        let name = format!("s{server}");
        self.add_namespace(&name);
        self.plug_in(&name, &format!("02:00:00:00:00:0{server}"), &format!("{}/24", server_ip(server)));
        let host = self.at(&name);
        host.ip("route add default via 192.168.50.254");
        host.set("net.ipv4.ip_local_reserved_ports", OWNED);
    }

    fn add_outside(&mut self) {
        self.add_namespace("router");
        self.add_namespace("outside");
        self.plug_in("router", "02:00:00:00:00:fe", "192.168.50.254/24");
        let (router, outside) = (self.at("router"), self.at("outside"));
        outside.quiet();
        router.ip(&format!("link add east type veth peer name eth0 netns {}", outside.name()));
        router.ip("addr add 203.0.113.1/24 dev east");
        router.ip("link set east up");
        router.set("net.ipv4.ip_forward", "1");
        outside.ip(&format!("addr add {OUTSIDE}/24 dev eth0"));
        outside.ip("link set eth0 up");
        outside.ip("route add default via 203.0.113.1");
    }

    fn add_namespace(&mut self, name: &str) -> &Namespace {
        let namespace = Namespace::create(&format!("{}-{name}", self.name));
        namespace.ip("link set lo up");
        self.namespaces.entry(name.to_owned()).or_insert(namespace)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let servers: Vec<u8> = self.engines.keys().copied().collect();
        if std::thread::panicking() {
            for engine in self.engines.values() {
                eprintln!("{}", engine.log());
            }
        }
        let mut accounts = Ok(());
        for engine in self.engines.values().filter(|engine| engine.is_running() && !std::thread::panicking()) {
            // Packets may be under way still.
            let began = Instant::now();
            while !engine.counters_add_up() && began.elapsed() < SOON {
                std::thread::sleep(Duration::from_millis(2));
            }
            if !engine.counters_add_up() {
                accounts =
                    Err(format!("each frame has one verdict, but: {}\n{}", engine.get("/v1/ports"), engine.log()));
            }
        }
        self.engines.clear();
        for server in servers {
            namespace::quietly("umount", &["-l", &self.server_dir(server).join("bpf").to_string_lossy()]);
        }
        namespace::enter(&self.before);
        self.namespaces.clear();
        let _ = fs::remove_dir_all(&self.dir);
        accounts.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The MAC that the gateway address has for a container.
pub fn gateway_mac(lab: &Lab, member: &str) -> [u8; 6] {
    lab.at(member).run("ping", &["-c1", "-W2", &GATEWAY.to_string()]);
    let neighbours = lab.at(member).ip(&format!("neigh show {GATEWAY}"));
    let mac = neighbours.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
    raw::mac(mac.unwrap_or_else(|| panic!("no neighbour entry: {neighbours}")))
}

/// Runs a program on the machine itself (never one that sends packets), and expects it to succeed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    namespace::succeed(std::process::Command::new(program).args(arguments))
}

/// Looks again until `look` finds something: the only waiting that a story does.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Long enough for anything that ought to happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);
