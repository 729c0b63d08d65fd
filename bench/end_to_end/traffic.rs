//! The generator and the sink.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use aya::maps::{MapData, PerCpuArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use etherparse::PacketBuilder;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::namespace::Namespace;
use crate::stage::{Sink, inside};

/// Destinations, each the inside name of a binding. Odd, so that every source meets every destination.
pub const SERVICES: u32 = 999;
/// Source ports, in alice's block.
pub const SOURCES: u32 = 1024;
/// Frames that the kernel keeps in hand: its own default.
const BATCH: u32 = 64;

/// Loaded programs of one run; they end with this value.
pub struct Traffic<'a> {
    generator: Ebpf,
    _sink: Ebpf,
    container: &'a Namespace,
    far: &'a Namespace,
    counted_by: Option<PerCpuArray<MapData, u64>>,
}

impl<'a> Traffic<'a> {
    pub fn load(container: &'a Namespace, far: &'a Namespace, sink: Sink) -> Traffic<'a> {
        let object = compile();
        let mut generator = inside(container, || {
            let index = index_of(container, "eth0");
            let mut loaded = EbpfLoader::new()
                .override_global("packet", &packet(), true)
                .override_global("interface", &index, true)
                .override_global("sources", &SOURCES, true)
                .override_global("destinations", &SERVICES, true)
                .load(&object)
                .expect("the kernel takes the generator");
            attach(&mut loaded, "pass", "eth0");
            loaded
        });
        program(&mut generator, "generate").load().expect("the verifier takes the generator");
        let mut ending = Ebpf::load(&object).expect("the kernel takes the sink");
        let counted_by = (sink == Sink::Xdp).then(|| {
            inside(far, || attach(&mut ending, "sink", "eth1"));
            PerCpuArray::try_from(ending.take_map("arrived").expect("the sink counts")).expect("in such a map")
        });
        Traffic { generator, _sink: ending, container, far, counted_by }
    }

    /// Sends so many packets as fast as core 0 can.
    pub fn send(&mut self, packets: u32) -> Duration {
        let mut core = CpuSet::new();
        core.set(0);
        sched_setaffinity(None, &core).expect("core 0 is ours");
        let frame = packet();
        let program: &Xdp = self.generator.program("generate").expect("it is there").try_into().expect("XDP");
        inside(self.container, || {
            let began = Instant::now();
            let options = TestRunOptions {
                data_in: Some(&frame),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            };
            program.test_run(options).expect("live frames");
            began.elapsed()
        })
    }

    /// Packets that reached the far server so far.
    pub fn arrived(&self) -> u64 {
        match &self.counted_by {
            Some(counts) => counts.get(&0, 0).expect("a count").iter().sum(),
            None => {
                let links = self.far.run("ip", &["-j", "-s", "link", "show", "dev", "eth1"]);
                let links: serde_json::Value = serde_json::from_str(&links).expect("ip prints JSON");
                links[0]["stats64"]["rx"]["packets"].as_u64().expect("a count")
            }
        }
    }
}

/// Time that a core has spent, in the kernel's ticks.
pub struct Ticks {
    pub idle: u64,
    pub all: u64,
}

pub fn cpu_ticks(core: usize) -> Ticks {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = stat.lines().find(|line| line.starts_with(&format!("cpu{core} "))).expect("this core");
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(|word| word.parse().expect("a number")).collect();
    Ticks { idle: ticks[3] + ticks[4], all: ticks.iter().sum() }
}

/// Inside address of a service: 10.0.1.0 and those that follow.
pub fn service_ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 1, 0).to_bits() + n)
}

/// From alice's first port to the first service, 60 bytes.
fn packet() -> [u8; 60] {
    let builder = PacketBuilder::ethernet2([2, 0x42, 0x0a, 0, 0, 1], [2, 0, 0, 0, 0, 0x0c])
        .ipv4([10, 0, 0, 1], service_ip(0).octets(), 64)
        .udp(32768, 7);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0x5a; 18]).expect("it fits");
    frame.try_into().expect("60 bytes")
}

fn compile() -> Vec<u8> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/end_to_end/generator.bpf.c");
    let object = std::env::temp_dir().join(format!("sixway-generator-{}.o", std::process::id()));
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-idirafter"]);
    clang.arg(format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH)).args(["-c", source, "-o"]).arg(&object);
    assert!(clang.status().expect("clang starts").success(), "clang compiles {source}");
    let bytes = fs::read(&object).expect("an object file");
    let _ = fs::remove_file(&object);
    bytes
}

fn program<'a>(loaded: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    loaded.program_mut(name).expect("it is there").try_into().expect("XDP")
}

fn attach(loaded: &mut Ebpf, name: &str, interface: &str) {
    let program = program(loaded, name);
    program.load().expect("the verifier takes it");
    program.attach(interface, XdpMode::Driver).expect("veth runs XDP");
}

fn index_of(place: &Namespace, interface: &str) -> u32 {
    let links: serde_json::Value =
        serde_json::from_str(&place.run("ip", &["-j", "link", "show", "dev", interface])).expect("ip prints JSON");
    links[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok()).expect("an index")
}
