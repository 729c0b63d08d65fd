//! The engine over real interfaces, between containers whose kernels know nothing of it. Needs root.
//!
//! ```text
//!   red (10.1.0.2) ── veth-red ▶ engine ▶ veth-blue ── blue (10.2.0.2)
//! ```
//! Every network namespace here is nameless and lives no longer than its test.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};
use sixway::afxdp::program::{Attached, Kind, Want, attach};
use sixway::afxdp::{Copying, Parts};
use sixway::control::assemble::{Assembly, Interface, state_in_memory};
use sixway::control::config::Config;
use sixway::engine::{Engine, EngineConfig, Poll, PortConfig, PortCounters, Stopped, Tables, WaysBack};
use sixway::neighbour::NextHops;
use sixway::path::{Answer, Reason, hold_pinned};
use sixway::table::{self, Swap};
use sixway::units::{Mac, PortId, Tick};

const CONFIG: &str = r#"
[server]
ip = "192.168.50.1"
ports = "20480-59903"
mapping = "mapping.sixway"

[[network]]
name = "green"
prefixes = ["10.0.0.0/8"]
gateway = "169.254.1.1"

[[port]]
name = "red"
interface = "veth-red"
role = "access"
network = "green"
mac = "02:42:0a:01:00:02"

[[port]]
name = "blue"
interface = "veth-blue"
role = "access"
network = "green"
mac = "02:42:0a:02:00:02"
"#;

const MAPPING: &str = "
green any 02:00:00:00:00:01 192.168.50.1:20736-20991 02:42:0a:01:00:02 10.1.0.2:*
green any 02:00:00:00:00:01 192.168.50.1:20992-21247 02:42:0a:02:00:02 10.2.0.2:*
green tcp 02:00:00:00:00:01 192.168.50.1:20480 02:42:0a:02:00:02 10.2.0.2:80
green udp 02:00:00:00:00:01 192.168.50.1:20480 02:42:0a:02:00:02 10.2.0.2:53
";

/// A thread in a network namespace of its own, which does what it is told.
struct Place {
    orders: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    /// Where other processes find the namespace.
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let (orders, receiver) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            // SAFETY: NEWNET changes the network namespace of this thread alone; nothing else refers to the old one.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("these tests need root");
            std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
            run("ip link set lo up");
            let task = gettid().as_raw_nonzero();
            tell.send(PathBuf::from(format!("/proc/{}/task/{task}/ns/net", std::process::id()))).unwrap();
            receiver.iter().for_each(|order| order());
        });
        let path = told.recv().unwrap();
        Place { orders, path }
    }

    /// Starts something there.
    fn start<T: Send + 'static>(&self, order: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
        let (tell, told) = mpsc::channel();
        let order = Box::new(move || tell.send(order()).unwrap_or_default());
        self.orders.send(order).unwrap();
        told
    }

    /// Does something there.
    fn run<T: Send + 'static>(&self, order: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(order).recv().expect("what was done there failed")
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A container behind `veth`, with its address as a /32 and a default route to the gateway.
fn container(veth: &str, mac: &str, ip: &str) -> Place {
    let place = Place::new();
    run(&format!("ip link add {veth} type veth peer name eth0 netns {}", place.path.display()));
    run(&format!("ip link set {veth} up"));
    let (mac, ip) = (mac.to_owned(), ip.to_owned());
    place.run(move || {
        run(&format!("ip link set eth0 address {mac} up"));
        run(&format!("ip addr add {ip}/32 dev eth0"));
        run("ip route add 169.254.1.1 dev eth0");
        run("ip route add default via 169.254.1.1");
    });
    place
}

/// Reads `ip -o link` of this thread's namespace.
fn link(name: &str) -> (u32, Interface) {
    let out = Command::new("ip").args(["-o", "link", "show", name]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let after = |word: &str| text.split(word).nth(1).unwrap().split(' ').find(|word| !word.is_empty()).unwrap();
    let index = text.split(':').next().unwrap().parse().unwrap();
    let mac: Mac = after("link/ether").parse().unwrap();
    (index, Interface { mac, mtu: after("mtu").parse().unwrap() })
}

/// A server with its engine, in the namespace of this thread.
struct Server {
    engine: Engine,
    tables: Arc<Tables>,
    programs: Vec<Attached>,
}

fn tables() -> Arc<Tables> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("engine-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("mapping.sixway"), MAPPING).unwrap();
    let config = Config::parse(&directory.join("config.toml"), CONFIG).unwrap();
    let assembly = Assembly::new(&config, |name| Some(link(name).1)).unwrap_or_else(|mistakes| {
        panic!("{}", mistakes.iter().map(|mistake| mistake.to_string() + "\n").collect::<String>())
    });
    std::fs::remove_dir_all(directory).unwrap();
    let state = state_in_memory(&assembly, Tick(0)).unwrap();
    hold_pinned(&assembly.names.view(&table::pin()), &assembly.around);
    Arc::new(Tables {
        names: assembly.names,
        around: Swap::new(assembly.around),
        state,
        hops: Swap::new(NextHops::default()),
        back: WaysBack::default(),
    })
}

fn start(tables: &Arc<Tables>, workers: usize, poll: Poll, inherited: Vec<Parts>) -> Engine {
    let port = |(id, name)| PortConfig {
        id: PortId(id),
        ifindex: link(name).0,
        queues: 1,
        multi_buffer: false,
        copying: Copying::AvoidIfPossible,
        live: false,
    };
    let config = EngineConfig {
        cores: vec![None; workers],
        poll,
        ports: [(0, "veth-red"), (1, "veth-blue")].map(port).to_vec(),
        spare: 1,
        ring_size: Some(512),
        inherited: inherited.into_iter().map(Some).collect(),
        memory: None,
        resolve: Arc::new(|_, _| false),
    };
    Engine::start(config, Arc::clone(tables)).unwrap()
}

impl Server {
    fn start(workers: usize, poll: Poll) -> Server {
        let tables = tables();
        let engine = start(&tables, workers, poll, Vec::new());
        let nowhere = Path::new("/nonexistent");
        let programs = ["veth-red", "veth-blue"]
            .map(|name| attach(name, Kind::Access, nowhere, Want::default()).expect("attaching"))
            .into_iter()
            .collect();
        let mut server = Server { engine, tables, programs };
        server.open();
        server
    }

    /// Lets the programs hand packets to the engine's sockets.
    fn open(&mut self) {
        for queue in self.engine.queues().iter() {
            self.programs[usize::from(queue.port.0)].set_socket(queue.queue, &queue.fd).unwrap();
        }
    }

    /// Stops the engine; whatever it did must add up.
    fn stop(self) -> Vec<PortCounters> {
        let started = Instant::now();
        loop {
            let counters = self.engine.counters();
            if counters.ports.iter().all(PortCounters::adds_up) {
                for Stopped { audit, .. } in self.engine.stop() {
                    assert!(audit.adds_up() && audit.held == 0, "{audit:#?}");
                }
                return counters.ports;
            }
            assert!(started.elapsed() < Duration::from_secs(5), "{:#?}", counters.ports);
        }
    }
}

fn topology() -> (Place, Place) {
    let red = container("veth-red", "02:42:0a:01:00:02", "10.1.0.2");
    let blue = container("veth-blue", "02:42:0a:02:00:02", "10.2.0.2");
    (red, blue)
}

/// Runs a story in the namespace of a server of its own.
fn on_a_server(story: impl FnOnce() + Send + 'static) {
    Place::new().run(story);
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

/// Blue sends `len` bytes to whoever connects to its port 80; red fetches them.
fn download(red: &Place, blue: &Place, len: usize) -> (Vec<u8>, String) {
    let (ready, listening) = mpsc::channel();
    let served = blue.start(move || {
        let listener = TcpListener::bind("10.2.0.2:80").unwrap();
        ready.send(()).unwrap();
        let (mut stream, client) = listener.accept().unwrap();
        stream.write_all(&pattern(len)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read(&mut [0; 1]);
        client.ip().to_string()
    });
    listening.recv().unwrap();
    let got = red.run(move || {
        let mut stream = TcpStream::connect_timeout(&"10.2.0.2:80".parse().unwrap(), Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    (got, served.recv().unwrap())
}

#[test]
fn two_containers_of_one_server_talk_and_every_frame_has_one_verdict() {
    for (workers, poll) in [(1, Poll::Busy), (1, Poll::Adaptive), (2, Poll::Adaptive)] {
        on_a_server(move || {
            let (red, blue) = topology();
            let server = Server::start(workers, poll);
            let len = 20_000_000;
            let started = Instant::now();
            let (got, client) = download(&red, &blue, len);
            println!("{workers} workers, {poll:?}: {:?}", started.elapsed());
            assert!(got == pattern(len));
            assert_eq!(client, "10.1.0.2", "the server application sees its client's inside name");

            let counters = server.stop();
            assert!(counters[0].forwarded > 100 && counters[1].forwarded > len as u64 / 1500);
            assert!(counters[0].answered[Answer::Arp.index()] >= 1);
        });
    }
}

#[test]
fn the_gateway_answers_and_strangers_are_dropped() {
    on_a_server(|| {
        let (red, _blue) = topology();
        let server = Server::start(1, Poll::Adaptive);
        red.run(|| {
            run("ping -q -c 3 -i 0.01 -W 2 169.254.1.1");
            run("ip addr add 10.9.9.9/32 dev eth0");
            let spoofed = UdpSocket::bind("10.9.9.9:5000").unwrap();
            spoofed.send_to(b"hello", "10.2.0.2:53").unwrap();
        });
        let started = Instant::now();
        while server.engine.counters().ports[0].dropped_for(Reason::SpoofedSource) == 0 {
            assert!(started.elapsed() < Duration::from_secs(5));
        }
        let counters = server.stop();
        assert_eq!(counters[0].answered[Answer::Echo.index()], 3);
        assert_eq!(counters[1].forwarded, 0);
    });
}

#[test]
fn a_connection_rides_through_an_engine_that_hands_over_and_one_that_starts_anew() {
    on_a_server(|| {
        let (red, blue) = topology();
        let mut server = Server::start(1, Poll::Busy);
        let (ready, listening) = mpsc::channel();
        let echoing = blue.start(move || {
            let listener = TcpListener::bind("10.2.0.2:80").unwrap();
            ready.send(()).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut copy = stream.try_clone().unwrap();
            std::io::copy(&mut stream, &mut copy).unwrap()
        });
        listening.recv().unwrap();
        let talk = |stream: TcpStream| {
            red.run(move || {
                let mut stream = stream;
                for n in 0..200_u32 {
                    stream.write_all(&n.to_be_bytes()).unwrap();
                    let mut back = [0; 4];
                    stream.read_exact(&mut back).unwrap();
                    assert_eq!(back, n.to_be_bytes());
                }
                stream
            })
        };
        let mut stream = red.run(|| {
            let stream = TcpStream::connect_timeout(&"10.2.0.2:80".parse().unwrap(), Duration::from_secs(5)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        });
        stream = talk(stream);

        // Handed over: the same sockets, nothing is lost.
        let stopped = server.engine.stop();
        let parts = stopped.into_iter().map(|worker| worker.umem.into_parts(worker.sockets).unwrap()).collect();
        let engine = start(&server.tables, 1, Poll::Busy, parts);
        assert!(engine.queues().iter().all(|queue| queue.inherited));
        server.engine = engine;
        stream = talk(stream);

        // Started anew: new sockets, which the maps must be told.
        drop(server.engine.stop());
        server.engine = start(&server.tables, 1, Poll::Busy, Vec::new());
        assert!(server.engine.queues().iter().all(|queue| !queue.inherited));
        server.open();
        stream = talk(stream);

        red.run(move || drop(stream));
        assert_eq!(echoing.recv().unwrap(), 3 * 200 * 4);
        server.stop();
    });
}

#[test]
fn what_the_control_side_injects_leaves_by_the_port_it_names() {
    on_a_server(|| {
        let (red, _blue) = topology();
        let server = Server::start(2, Poll::Adaptive);
        // An ARP request for red's address, as a probe has it: red's kernel answers.
        let (_, own) = link("veth-red");
        let mut probe = [0; 128];
        let address = |text: &str| text.parse().unwrap();
        let len = sixway::frame::arp_request(&mut probe, own.mac, address("169.254.1.1"), address("10.1.0.2"));
        assert!(server.engine.inject(PortId(0), &probe[..len]));
        assert!(!server.engine.inject(PortId(7), &probe[..len]) && !server.engine.inject(PortId(0), &[0; 591]));
        let started = Instant::now();
        while server.engine.counters().ports[0].consumed == 0 {
            assert!(started.elapsed() < Duration::from_secs(5), "red did not answer");
        }
        drop(red);
        server.stop();
    });
}
