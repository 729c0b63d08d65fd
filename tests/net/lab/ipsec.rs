//! strongSwan: an IKE daemon with ESP in user space, in a network namespace and with a `/run` of its own.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::namespace::{Namespace, succeed};
use super::programs::Program;
use super::{Lab, SOON, until};

/// What carries ESP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Esp {
    /// A plugin of the daemon, by a TUN device. It claims to be behind NAT, as it can do nothing but UDP encapsulation.
    UserSpace,
    /// The kernel, which has none here: IKE comes up, the tunnel does not.
    Kernel,
}

/// One end of a tunnel: the daemon's own address, and the address that it protects.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub name: &'static str,
    pub ip: Ipv4Addr,
    pub inner: Ipv4Addr,
}

/// A running daemon; it ends with this value.
pub struct Charon {
    _program: Program,
    dir: PathBuf,
}

impl Charon {
    /// Starts a daemon that knows one connection, `tunnel`, with one child, `child`.
    pub fn start(lab: &Lab, place: &str, esp: Esp, own: End, peer: End) -> Charon {
        let dir = lab.dir().join(format!("charon-{place}"));
        fs::create_dir_all(dir.join("run")).expect("a directory");
        fs::write(dir.join("strongswan.conf"), daemon(&dir, esp)).expect("a configuration");
        fs::write(dir.join("swanctl.conf"), connection(own, peer)).expect("a configuration");
        let place = lab.at(place);
        let inner = own.inner;
        let known = place.ip("addr show dev lo").contains(&format!("{inner}/32"));
        if !known {
            place.ip(&format!("addr add {inner}/32 dev lo"));
        }
        let charon = Charon { _program: Program(launch(place, &dir)), dir };
        until("charon answers", SOON, || charon.swanctl(&["--stats"]).status.success().then_some(()));
        let config = charon.dir.join("swanctl.conf").display().to_string();
        charon.expect(&["--load-all", "--file", &config]);
        charon
    }

    /// Brings the tunnel up.
    pub fn initiate(&self) {
        self.expect(&["--initiate", "--child", "child", "--timeout", "10"]);
    }

    /// Brings IKE up, and nothing else.
    pub fn initiate_ike(&self) {
        self.expect(&["--initiate", "--ike", "tunnel", "--timeout", "10"]);
    }

    /// Ends IKE, and what it has keyed.
    pub fn terminate(&self) {
        self.expect(&["--terminate", "--ike", "tunnel", "--timeout", "10"]);
    }

    /// New keys for ESP.
    pub fn rekey_child(&self) {
        self.rekey(&["--rekey", "--child", "child"], "  child: #");
    }

    /// New keys for IKE.
    pub fn rekey_ike(&self) {
        self.rekey(&["--rekey", "--ike", "tunnel"], "tunnel: #");
    }

    /// Asks for new keys and waits for what has them: its number is another.
    fn rekey(&self, arguments: &[&str], what: &str) {
        let numbers = || {
            let all = self.expect(&["--list-sas"]);
            let own = all.lines().filter_map(|line| line.strip_prefix(what));
            own.filter_map(|rest| rest.split(',').next()?.parse::<u32>().ok()).max()
        };
        let before = numbers().expect("it is up");
        self.expect(arguments);
        until("new keys", SOON, || numbers().filter(|&now| now > before));
    }

    /// What the daemon says of its associations.
    pub fn associations(&self) -> String {
        self.expect(&["--list-sas"])
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn expect(&self, arguments: &[&str]) -> String {
        let output = self.swanctl(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "swanctl {arguments:?}: {said}\n{}", self.log());
        said
    }

    fn swanctl(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new("swanctl");
        command.env("STRONGSWAN_CONF", self.dir.join("strongswan.conf")).args(arguments);
        command.arg("--uri").arg(format!("unix://{}", self.dir.join("run/vici").display()));
        command.output().expect("swanctl starts")
    }
}

/// The daemon keeps files under `/run` whose names can't be configured: it sees a directory of its own there.
fn launch(place: &Namespace, dir: &Path) -> std::process::Child {
    let mut command = place.command("unshare");
    let run = dir.join("run");
    command
        .args(["--mount", "sh", "-c"])
        .arg(format!("mount --bind {} /run && exec /usr/lib/ipsec/charon", run.display()));
    command.env("STRONGSWAN_CONF", dir.join("strongswan.conf")).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("charon starts")
}

fn daemon(dir: &Path, esp: Esp) -> String {
    let plugin = if esp == Esp::UserSpace { "kernel-libipsec" } else { "" };
    let dir = dir.display();
    format!(
        "charon {{\n\
           load = random nonce drbg aes sha1 sha2 hmac gmp kdf {plugin} kernel-netlink socket-default vici\n\
           retransmit_timeout = 0.5\n\
           plugins {{\n vici {{\n socket = unix://{dir}/run/vici\n }}\n }}\n\
           filelog {{\n log {{\n path = {dir}/log\n default = 1\n flush_line = yes\n }}\n }}\n\
         }}\n"
    )
}

fn connection(own: End, peer: End) -> String {
    format!(
        "connections {{\n tunnel {{\n\
           version = 2\n proposals = aes128-sha256-modp2048\n\
           local_addrs = {}\n remote_addrs = {}\n\
           local {{\n auth = psk\n id = {}.example\n }}\n\
           remote {{\n auth = psk\n id = {}.example\n }}\n\
           children {{\n child {{\n\
             local_ts = {}/32\n remote_ts = {}/32\n esp_proposals = aes128-sha256\n }}\n }}\n }}\n }}\n\
         secrets {{\n ike-1 {{\n secret = \"six ways\"\n }}\n }}\n",
        own.ip, peer.ip, own.name, peer.name, own.inner, peer.inner
    )
}

/// SHA-1, by the program of that name.
pub fn sha1(bytes: &[u8]) -> Vec<u8> {
    let file = std::env::temp_dir().join(format!("sixway-{}-sha1", std::process::id()));
    fs::write(&file, bytes).expect("room for a file");
    let sum = succeed(Command::new("sha1sum").arg(&file));
    let _ = fs::remove_file(&file);
    let hex = sum.split_whitespace().next().expect("a sum");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}
