//! What is compared.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bare;
use crate::stage::Stage;
use crate::traffic::{SERVICES, service_ip};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The engine, with its full rewrite.
    Sixway,
    /// Our own driver without an engine ([`bare`]): moves frames, touches no byte.
    Bare,
    /// `dpdk-testpmd --forward-mode=io` over its own AF_XDP driver: moves frames, touches no byte.
    Testpmd,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Sixway => "sixway",
            Kind::Bare => "the bare forwarder",
            Kind::Testpmd => "testpmd",
        })
    }
}

/// A running forwarder on core 1.
pub struct Forwarder<'a> {
    kind: Kind,
    child: Child,
    _stdin: Option<ChildStdin>,
    stage: &'a Stage,
}

impl<'a> Forwarder<'a> {
    /// Starts it and waits until it forwards.
    pub fn start(kind: Kind, stage: &'a Stage) -> Forwarder<'a> {
        match kind {
            Kind::Sixway => start_sixway(stage),
            Kind::Bare => start_bare(stage),
            Kind::Testpmd => start_testpmd(stage),
        }
    }

    /// CPU time that its threads have had so far, in nanoseconds. Softirqs that ran on their time are in it.
    pub fn cpu_ns(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("our own child");
        let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let times = tasks.flatten().map(of).filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok());
        times.sum()
    }

    /// Ends it and takes its XDP programs away.
    pub fn end(mut self) {
        let signal = if self.kind == Kind::Testpmd { Signal::INT } else { Signal::TERM };
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
        self.child.wait().expect("our own child");
        if self.kind == Kind::Sixway {
            let config = self.stage.dir.join("sixway.toml");
            self.stage.server.run(&sixway(), &["detach", "--config", &config.to_string_lossy()]);
        }
    }
}

impl Drop for Forwarder<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// The binary that is measured: this build's, or the one that `SIXWAY` names.
fn sixway() -> String {
    std::env::var("SIXWAY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sixway").to_owned())
}

fn start_sixway(stage: &Stage) -> Forwarder<'_> {
    let dir = stage.dir.display();
    let config = format!(
        r#"[server]
ip = "192.168.50.1"
ports = "20480-59903"
mapping = "mapping.sixway"
[engine]
cores = [1]
poll = "busy"
pin_dir = "{dir}/bpf"
state = "{dir}/state"
[control]
socket = "{dir}/control.sock"
journal = "none"
[[network]]
name = "blue"
prefixes = ["10.0.0.0/8"]
gateway = "169.254.1.1"
[[port]]
name = "uplink"
interface = "eth1"
role = "uplink"
[[port]]
name = "alice"
interface = "veth-c"
role = "access"
mac = "02:42:0a:00:00:01"
network = "blue"
"#
    );
    fs::write(stage.dir.join("sixway.toml"), config).expect("a file");
    fs::write(stage.dir.join("mapping.sixway"), mapping()).expect("a file");
    let socket = stage.dir.join("control.sock");
    let _ = fs::remove_file(&socket);
    let log = fs::File::create(stage.dir.join("log")).expect("a file");
    let mut command = stage.server.command(&sixway());
    command.args(["run", "--config"]).arg(stage.dir.join("sixway.toml"));
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    let mut child = command.spawn().expect("sixway starts");
    let began = Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        let ended = child.try_wait().expect("our own child").is_some() || began.elapsed() > Duration::from_secs(10);
        assert!(!ended, "{}", fs::read_to_string(stage.dir.join("log")).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    Forwarder { kind: Kind::Sixway, child, _stdin: None, stage }
}

/// alice's client block, and a service of each of her peers on the far server.
fn mapping() -> String {
    let block = "blue any 02:00:00:00:00:01 192.168.50.1:32768-40959 02:42:0a:00:00:01 10.0.0.1:* native\n".to_owned();
    (0..SERVICES).fold(block, |text, n| {
        let (ip, port, [high, low]) = (service_ip(n), 20480 + n, (n as u16).to_be_bytes());
        text + &format!("blue udp 02:00:00:00:00:02 192.168.50.2:{port} 02:42:0a:01:{high:02x}:{low:02x} {ip}:7\n")
    })
}

/// This program again, told to be the bare forwarder.
fn start_bare(stage: &Stage) -> Forwarder<'_> {
    let program = std::env::current_exe().expect("a path");
    let mut command = stage.server.command(&program.to_string_lossy());
    command.args(["bare", "veth-c", "eth1"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let said = lines.next().and_then(Result::ok);
    assert_eq!(said.as_deref(), Some(bare::READY), "the bare forwarder forwards");
    Forwarder { kind: Kind::Bare, child, _stdin: None, stage }
}

fn start_testpmd(stage: &Stage) -> Forwarder<'_> {
    let mut command = stage.server.command("stdbuf");
    command.args(["-oL", "dpdk-testpmd"]);
    command.args(["-l", "0,1", "--main-lcore", "0", "--no-pci", "--no-huge", "-m", "512", "--no-telemetry"]);
    command.args(["--file-prefix", "sixway-bench", "--vdev", "net_af_xdp0,iface=veth-c"]);
    command.args(["--vdev", "net_af_xdp1,iface=eth1", "--", "--forward-mode=io", "--nb-cores=1"]);
    command.args(["--total-num-mbufs=32768", "--auto-start"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("dpdk-testpmd starts");
    let stdin = child.stdin.take();
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut said = String::new();
    let forwards = lines.by_ref().map_while(Result::ok).any(|line| {
        said += &line;
        said.push('\n');
        line.contains("Press enter to exit")
    });
    assert!(forwards, "dpdk-testpmd forwards:\n{said}");
    std::thread::spawn(move || lines.for_each(drop)); // keeps the pipe empty
    Forwarder { kind: Kind::Testpmd, child, _stdin: stdin, stage }
}
