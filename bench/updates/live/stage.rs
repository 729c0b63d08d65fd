//! Namespaces, and an engine between them.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sixway::naming::{BindingSpec, Located, parse_mapping};

use super::namespace::{self, Namespace};
use super::{SOON, until};
use crate::world::{NATIVE_BLOCK, OWNED, Place};

/// What the stream goes to; the same port inside and on the wire, so that the far server's own socket gets it.
pub const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 200, 0, 1), 20480);
const FAR: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 9);
const FAR_MAC: &str = "02:00:00:00:00:09";

/// A container, a server with an engine, and a far server.
pub struct Stage {
    server: Namespace,
    pub container: Namespace,
    pub far: Namespace,
    dir: PathBuf,
    engine: Child,
}

/// The binding of the stream: no change is of it.
pub fn service() -> BindingSpec {
    let (ip, port) = SERVICE;
    let line = format!("blue udp {FAR_MAC} {FAR}:{port} 02:42:0a:c8:00:01 {ip}:{port}\n");
    parse_mapping(line).expect("a binding").remove(0).value
}

impl Stage {
    /// Starts the engine, with a journal if it is to keep what is changed; how long it took until its control socket
    /// answers.
    pub fn set(mapping: &[Located<BindingSpec>], keeps: bool) -> (Stage, Duration) {
        namespace::remove_abandoned();
        let name = format!("sixway-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(dir.join("bpf")).expect("a directory");
        let create = |part: &str| Namespace::create(&format!("{name}-{part}"));
        let (server, container, far) = (create("server"), create("container"), create("far"));
        namespace::quietly("mount", &["-t", "bpf", "bpf", &dir.join("bpf").to_string_lossy()]);
        for place in [&server, &container, &far] {
            place.quiet();
        }
        let (us, client) = (Place { server: 0, container: 0 }, Place::NATIVE_CLIENT);
        server.set("net.ipv4.ip_local_reserved_ports", &OWNED.to_string());
        container.set("net.ipv4.ip_local_port_range", &format!("{} {}", NATIVE_BLOCK.first, NATIVE_BLOCK.last));
        server.ip(&format!(
            "link add veth-c type veth peer name eth0 address {} netns {}",
            client.mac(),
            container.name()
        ));
        server.ip(&format!(
            "link add eth1 address {} type veth peer name eth1 address {FAR_MAC} netns {}",
            us.server_mac(),
            far.name()
        ));
        server.ip(&format!("addr add {}/12 dev eth1", us.server_ip()));
        far.ip(&format!("addr add {FAR}/12 dev eth1"));
        container.ip(&format!("addr add {}/32 dev eth0", client.ip()));
        for (place, interface) in [(&server, "veth-c"), (&server, "eth1"), (&container, "eth0"), (&far, "eth1")] {
            place.ip(&format!("link set {interface} up"));
        }
        container.ip("route add default via 169.254.1.1 dev eth0 onlink");
        let mut text = Vec::new();
        for binding in mapping.iter().map(|located| &located.value).chain([&service()]) {
            writeln!(text, "{binding}").expect("memory");
        }
        fs::write(dir.join("mapping.sixway"), text).expect("a file");
        fs::write(dir.join("sixway.toml"), config(&dir, keeps)).expect("a file");
        let (engine, booted) = start(&server, &dir);
        (Stage { server, container, far, dir, engine }, booted)
    }

    /// Stops the engine, and starts it again; how long that took, from its start to its first answer.
    pub fn restart(&mut self) -> Duration {
        self.stop();
        let booted;
        (self.engine, booted) = start(&self.server, &self.dir);
        booted
    }

    fn stop(&mut self) {
        kill_process(Pid::from_child(&self.engine), Signal::TERM).expect("our own child");
        self.engine.wait().expect("our own child");
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Ends the engine and takes its XDP programs away.
    pub fn end(mut self) {
        self.stop();
        self.server.run(&binary(), &["detach", "--config", &self.dir.join("sixway.toml").to_string_lossy()]);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.engine.kill();
        namespace::quietly("umount", &["-l", &self.dir.join("bpf").to_string_lossy()]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn start(server: &Namespace, dir: &Path) -> (Child, Duration) {
    let log = fs::File::create(dir.join("log")).expect("a file");
    let mut command = server.command(&binary());
    command.args(["run", "--config"]).arg(dir.join("sixway.toml"));
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    let began = Instant::now();
    let mut engine = command.spawn().expect("sixway starts");
    until("the engine answers", SOON, || {
        let ended = engine.try_wait().expect("our own child");
        assert!(ended.is_none(), "{}", fs::read_to_string(dir.join("log")).unwrap_or_default());
        status(&dir.join("control.sock"))
    });
    (engine, began.elapsed())
}

/// What the engine says of itself. It listens before it is ready, and answers when it is.
pub fn status(socket: &Path) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"GET /v1/status HTTP/1.0\r\nHost: sixway\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains(" 200 ").then_some(answer)
}

/// The binary that is measured: this build's, or the one that `SIXWAY` names.
fn binary() -> String {
    std::env::var("SIXWAY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sixway").to_owned())
}

fn config(dir: &Path, keeps: bool) -> String {
    let journal = if keeps { dir.join("journal").display().to_string() } else { "none".to_owned() };
    let (dir, ip, mac) = (dir.display(), Place::NATIVE_CLIENT.server_ip(), Place::NATIVE_CLIENT.mac());
    format!(
        r#"[server]
ip = "{ip}"
ports = "{OWNED}"
mapping = "mapping.sixway"
[engine]
cores = [1]
pin_dir = "{dir}/bpf"
state = "{dir}/state"
[control]
socket = "{dir}/control.sock"
journal = "{journal}"
[[network]]
name = "blue"
prefixes = ["10.0.0.0/8"]
gateway = "169.254.1.1"
[[port]]
name = "uplink"
interface = "eth1"
role = "uplink"
[[port]]
name = "client"
interface = "veth-c"
role = "access"
mac = "{mac}"
network = "blue"
"#
    )
}
