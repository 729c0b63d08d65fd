//! Namespaces, interfaces and one measured run.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;

use crate::forwarder::{Forwarder, Kind};
use crate::namespace::{self, Namespace};
use crate::traffic::{Traffic, cpu_ticks};

/// What ends the packets at the far server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// The kernel takes each frame as an skb and finds that it is for another host.
    Kernel,
    /// An XDP program drops it.
    Xdp,
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sink::Kernel => "without XDP",
            Sink::Xdp => "drops in XDP",
        })
    }
}

/// What one run gave.
pub struct Run {
    /// Packets that reached the sink, in millions a second.
    pub mpps: f64,
    /// Share of the time that the generator's core was idle.
    pub generator_idle: f64,
    /// CPU time of the forwarder for each packet that arrived, in nanoseconds.
    pub cpu_ns: f64,
}

/// A container, a server and a far server.
pub struct Stage {
    pub server: Namespace,
    container: Namespace,
    far: Namespace,
    pub dir: PathBuf,
}

const PACKETS: u32 = 8_000_000;

impl Stage {
    pub fn set() -> Stage {
        namespace::remove_abandoned();
        let name = format!("sixway-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(dir.join("bpf")).expect("a directory");
        let create = |part: &str| Namespace::create(&format!("{name}-{part}"));
        let stage = Stage { server: create("server"), container: create("container"), far: create("far"), dir };
        namespace::quietly("mount", &["-t", "bpf", "bpf", &stage.dir.join("bpf").to_string_lossy()]);
        let Stage { server, container, far, .. } = &stage;
        for place in [server, container, far] {
            place.quiet();
        }
        server.set("net.ipv4.ip_local_reserved_ports", "20480-59903");
        server.ip(&format!(
            "link add veth-c address 02:00:00:00:00:0c type veth peer name eth0 address 02:42:0a:00:00:01 netns {}",
            container.name()
        ));
        server.ip(&format!("link add eth1 address 02:00:00:00:00:01 type veth peer name eth1 netns {}", far.name()));
        server.ip("addr add 192.168.50.1/24 dev eth1");
        for (place, interface) in [(server, "veth-c"), (server, "eth1"), (container, "eth0"), (far, "eth1")] {
            place.ip(&format!("link set {interface} up"));
        }
        stage
    }

    /// Starts the forwarder, sends, counts, ends it.
    pub fn run(&self, kind: Kind, sink: Sink) -> Run {
        let forwarder = Forwarder::start(kind, self);
        let mut traffic = Traffic::load(&self.container, &self.far, sink);
        traffic.send(PACKETS / 20); // caches, neighbours, state
        let (before, ticks, cpu) = (traffic.arrived(), cpu_ticks(0), forwarder.cpu_ns());
        let elapsed = traffic.send(PACKETS);
        let (cpu, now) = (forwarder.cpu_ns() - cpu, cpu_ticks(0));
        let arrived = traffic.arrived() - before;
        assert!(arrived > 0, "{kind:?} forwarded nothing");
        let run = Run {
            mpps: arrived as f64 / elapsed.as_secs_f64() / 1e6,
            generator_idle: (now.idle - ticks.idle) as f64 / (now.all - ticks.all).max(1) as f64,
            cpu_ns: cpu as f64 / arrived as f64,
        };
        forwarder.end();
        run
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        namespace::quietly("umount", &["-l", &self.dir.join("bpf").to_string_lossy()]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Does `work` with the calling thread inside a namespace: what aya attaches belongs there.
pub fn inside<T>(place: &Namespace, work: impl FnOnce() -> T) -> T {
    let before = File::open("/proc/thread-self/ns/net").expect("this thread's network namespace");
    place.enter();
    let result = work();
    namespace::enter(&before);
    result
}
