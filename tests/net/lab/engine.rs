//! An engine as an operator sees it: a process, a configuration, a control socket.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::namespace::Namespace;
use super::{SOON, until};

/// The engine of one server.
pub struct Engine {
    command: Box<dyn Fn() -> Command + Send>,
    dir: PathBuf,
    /// More arguments of `sixway run`.
    arguments: Vec<&'static str>,
    child: Option<Child>,
}

/// The binary under test: this build's, or the one that `SIXWAY` names (a release build, say).
pub fn binary() -> String {
    std::env::var("SIXWAY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sixway").to_owned())
}

impl Engine {
    pub fn new(server: &Namespace, dir: PathBuf) -> Engine {
        let name = format!("--net=/run/netns/{}", server.name());
        let command = {
            let dir = dir.clone();
            move || {
                let log = File::options().append(true).create(true).open(dir.join("log")).expect("a log file");
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "nsenter", &name, &binary(), "run", "--config"]);
                command.arg(dir.join("sixway.toml")).stdout(log.try_clone().expect("a log file")).stderr(log);
                command
            }
        };
        Engine { command: Box::new(command), dir, arguments: Vec::new(), child: None }
    }

    /// From its next start on it has a holder.
    pub fn with_holder(&mut self) {
        self.arguments.push("--holder");
    }

    /// Starts another one of the same configuration, to its end: true if it ended well, and what it printed is in the log.
    pub fn second(&self, more: &[&str]) -> bool {
        (self.command)().args(&self.arguments).args(more).status().expect("a second engine starts").success()
    }

    /// Another one takes its place while it runs; it must end well by itself.
    pub fn take_over(&mut self) {
        let mut former = self.child.take().expect("an engine that was started");
        self.child = Some((self.command)().args(&self.arguments).arg("--takeover").spawn().expect("the engine starts"));
        let status = until("the former engine ends", SOON, || former.try_wait().expect("a child"));
        assert!(status.success(), "a clean end: {status}\n{}", self.log());
        self.wait_until_ready();
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("an engine that was started").id()
    }

    /// Starts it and waits for the control socket to answer.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    /// Starts it; when this returns, exec has begun.
    pub fn spawn(&mut self) -> Instant {
        let began = Instant::now();
        self.child = Some((self.command)().args(&self.arguments).spawn().expect("the engine starts"));
        began
    }

    pub fn wait_until_ready(&mut self) {
        let (socket, log) = (self.socket(), self.dir.join("log"));
        let child = self.child.as_mut().expect("an engine that was started");
        until("the engine answers on its control socket", SOON, || {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("the engine ended with {status}:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            get(&socket, "/v1/status")
        });
    }

    /// It was started, and neither killed nor stopped since.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL: no last word.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// SIGTERM, and it must end well.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("an engine that was started");
        let status = until("the engine stops", SOON, || child.try_wait().expect("a child"));
        assert!(status.success(), "a clean stop: {status}\n{}", self.log());
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("an engine that was started");
        kill_process(Pid::from_child(child), signal).expect("our own child");
    }

    /// GET over the control socket, as JSON.
    pub fn get(&self, path: &str) -> Value {
        get(&self.socket(), path).unwrap_or_else(|| panic!("GET {path} gave nothing"))
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Where its holder listens.
    pub fn holder(&self) -> PathBuf {
        self.dir.join("control.sock.holder")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("sixway.toml")
    }

    /// Packets dropped for a reason, on all ports or on one.
    pub fn drops(&self, port: Option<&str>, reason: &str) -> u64 {
        let drops = self.get("/v1/drops");
        let drops = drops.as_array().expect("/v1/drops is a list");
        drops
            .iter()
            .filter(|drop| drop["reason"] == reason && port.is_none_or(|port| drop["port"] == port))
            .map(|drop| drop["packets"].as_u64().expect("a count"))
            .sum()
    }

    /// Packets dropped so far, for whatever reason but one: containers' kernels ask for IPv6 routers now and then.
    pub fn dropped_but_multicast(&self) -> u64 {
        let drops = self.get("/v1/drops");
        let drops = drops.as_array().expect("/v1/drops is a list").iter();
        drops.filter(|drop| drop["reason"] != "multicast").filter_map(|drop| drop["packets"].as_u64()).sum()
    }

    /// All drops as `port reason packets` lines: what a failed story shows.
    pub fn all_drops(&self) -> String {
        self.get("/v1/drops").as_array().expect("a list").iter().fold(String::new(), |text, drop| {
            text + &format!("{} {} {}\n", drop["port"], drop["reason"], drop["packets"])
        })
    }

    /// What it says of the port of that name.
    pub fn port(&self, name: &str) -> Value {
        let ports = self.get("/v1/ports");
        let port = ports.as_array().expect("a list").iter().find(|port| port["name"] == name);
        port.unwrap_or_else(|| panic!("no port {name} in {ports}")).clone()
    }

    /// Each received frame has exactly one verdict, on every port.
    pub fn counters_add_up(&self) -> bool {
        let ports = self.get("/v1/ports");
        ports.as_array().expect("/v1/ports is a list").iter().all(|port| {
            let count = |name: &str| port[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {port}"));
            let verdicts = ["forwarded", "answered", "drops", "consumed", "host", "held"];
            count("rx_packets") == verdicts.map(count).iter().sum::<u64>()
        })
    }

    /// What the engine printed so far.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        format!("--- {} ---\n{log}", self.dir.display())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// HTTP/1.0, so that the body is simply what follows the head.
fn get(socket: &Path, path: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: sixway\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    head.split_whitespace().nth(1).filter(|status| *status == "200")?;
    serde_json::from_str(body).ok()
}
