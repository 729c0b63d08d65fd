//! Servers of real programs, all that a place needs to be called by their clients: on both families, until this value ends.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::namespace::{Namespace, succeed};
use super::peers::Parrot;
use super::programs::{Nginx, Program, iperf_server};
use super::tunnel::TunnelEnd;
use super::{Lab, SOON, until};

/// The protocols and ports that the servers listen to; FTP's data connections come from port 20.
pub const PORTS: [(&str, u16); 11] = [
    ("udp", 7),
    ("tcp", 20),
    ("tcp", 21),
    ("tcp", 22),
    ("udp", 53),
    ("tcp", 53),
    ("tcp", 80),
    ("udp", 5060),
    ("tcp", 5201),
    ("udp", 5201),
    ("udp", TUNNEL),
];
/// WireGuard's usual port.
pub const TUNNEL: u16 = 51820;

/// DNS: an address, and texts whose answers are as long as their names say, in bytes.
pub const DNS_ADDRESS: (&str, &str) = ("six.example", "192.0.2.66");
pub const DNS_TEXTS: [(&str, usize); 2] = [("t1100.six.example", 1100), ("t3000.six.example", 3000)];

/// Everything that runs at one place.
pub struct Services {
    /// SHA-256 of `/file` by HTTP and FTP.
    pub file_sum: String,
    key: PathBuf,
    _programs: Vec<Program>,
    _nginx: Nginx,
    _parrots: Vec<Parrot>,
    _tunnels: Vec<TunnelEnd>,
}

impl Services {
    /// Starts them at a place that has these two addresses.
    pub fn start(lab: &Lab, place: &str, own: [IpAddr; 2]) -> Services {
        let dir = lab.dir().join(format!("services-{place}"));
        fs::create_dir_all(&dir).expect("a directory");
        let nginx = Nginx::start(lab, place);
        let file_sum = nginx.serve_random("file", 1);
        let key = keys(&dir);
        let at = lab.at(place);
        let mut programs = vec![iperf_server(at), sshd(at, &dir), dnsmasq(at), vsftpd(at, &dir, &nginx.directory())];
        programs.extend(own.map(|ip| sip_server(at, &dir, ip)));
        for (proto, port) in PORTS.into_iter().filter(|&(proto, port)| is_program(proto, port)) {
            listens(at, proto, port);
        }
        Services {
            file_sum,
            key,
            _programs: programs,
            _nginx: nginx,
            _parrots: own.map(|ip| Parrot::on(at, SocketAddr::new(ip, 7))).into(),
            _tunnels: own.map(|ip| TunnelEnd::start(at, SocketAddr::new(ip, TUNNEL))).into(),
        }
    }

    /// The key that opens the SSH server.
    pub fn key(&self) -> &Path {
        &self.key
    }
}

/// Ours listen before they are returned; nobody listens to port 20, and iperf3 to UDP only while it is called.
fn is_program(proto: &str, port: u16) -> bool {
    !matches!((proto, port), ("udp", 7 | 5201 | TUNNEL) | ("tcp", 20))
}

fn listens(at: &Namespace, proto: &str, port: u16) {
    let sockets = if proto == "tcp" { "-Hltn" } else { "-Hlun" };
    until(&format!("somebody listens to {proto} {port}"), SOON, || {
        let listening = at.run("ss", &[sockets, "sport", "=", &port.to_string()]);
        (!listening.trim().is_empty()).then_some(())
    });
}

fn run(mut command: Command, dir: &Path, name: &str) -> Program {
    let log = fs::File::create(dir.join(name)).expect("a log");
    command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
    Program(command.spawn().unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// A host key and a user key.
fn keys(dir: &Path) -> PathBuf {
    for name in ["host", "user"] {
        let file = dir.join(name);
        succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file));
    }
    dir.join("user")
}

/// sshd wants a directory of its own under `/run`: it sees a `/run` of its own.
fn sshd(at: &Namespace, dir: &Path) -> Program {
    let shown = dir.display();
    let config = format!(
        "HostKey {shown}/host\nAuthorizedKeysFile {shown}/user.pub\nPidFile none\nUsePAM yes\nStrictModes no\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\nPrintMotd no\n"
    );
    fs::write(dir.join("sshd_config"), config).expect("a configuration");
    let mut command = at.command("unshare");
    let script = "mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f";
    command.args(["--mount", "sh", "-c"]).arg(format!("{script} {shown}/sshd_config"));
    run(command, dir, "sshd.log")
}

fn dnsmasq(at: &Namespace) -> Program {
    let mut command = at.command("dnsmasq");
    command.args([
        "-k",
        "-C",
        "/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file",
        "--edns-packet-max=4096",
    ]);
    command.arg(format!("--address=/{}/{}", DNS_ADDRESS.0, DNS_ADDRESS.1));
    for (name, bytes) in DNS_TEXTS {
        let texts = (0..bytes.div_ceil(200)).map(|nth| format!(",{}", text(nth)));
        command.arg(format!("--txt-record={name}{}", texts.collect::<String>()));
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Program(command.spawn().expect("dnsmasq starts"))
}

/// One string of 199 bytes of a text record; with its length 200.
fn text(nth: usize) -> String {
    format!("{nth:03}").repeat(70)[..199].to_owned()
}

/// Active mode only, data from port 20, for anybody.
fn vsftpd(at: &Namespace, dir: &Path, root: &Path) -> Program {
    let empty = dir.join("empty");
    fs::create_dir_all(&empty).expect("a directory");
    let config = format!(
        "listen_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\n\
         nopriv_user=nobody\nsecure_chroot_dir={}\nport_enable=YES\npasv_enable=NO\nconnect_from_port_20=YES\n\
         seccomp_sandbox=NO\nxferlog_enable=NO\n",
        root.display(),
        empty.display()
    );
    let file = dir.join("vsftpd.conf");
    fs::write(&file, config).expect("a configuration");
    let mut command = at.command("vsftpd");
    command.arg(file);
    run(command, dir, "vsftpd.log")
}

/// SIPp's own server.
fn sip_server(at: &Namespace, dir: &Path, own: IpAddr) -> Program {
    let mut command = at.command("sipp");
    let own = if own.is_ipv4() { own.to_string() } else { format!("[{own}]") };
    command.args(["-sn", "uas", "-i", &own, "-p", "5060", "-nostdin"]).current_dir(dir).env("TERM", "dumb");
    run(command, dir, "sipp.log")
}
