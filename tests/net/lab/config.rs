//! Configuration files for the lab's engines: only what the design's contract says.

use std::fmt::Write;
use std::path::Path;

use super::{Member, OWNED, server_ip, server_ip6};

/// The two tenants.
pub const NETWORKS: &str = r#"
[[network]]
name = "blue"
prefixes = ["10.0.0.0/8", "fd10::/16"]
gateway = ["169.254.1.1", "fe80::1"]
outside = true

[[network]]
name = "green"
prefixes = ["10.0.0.0/8"]
gateway = "169.254.1.1"
outside = true
"#;

/// `sixway.toml` of a server with an access port for each member.
pub fn text<'a>(
    server: u8,
    dir: &Path,
    networks: &str,
    pinned: bool,
    workers: usize,
    members: impl Iterator<Item = &'a Member>,
) -> String {
    let dir = dir.display();
    let (ip, six) = (server_ip(server), server_ip6(server));
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let cores: Vec<usize> = (0..workers).map(|worker| (usize::from(server - 1) + worker) % machine).collect();
    let mut text = format!(
        r#"[server]
ips = ["{ip}", "{six}"]
ports = "{OWNED}"
mapping = "mapping.sixway"

[engine]
cores = {cores:?}
poll = "adaptive"
pin_dir = "{dir}/bpf"
state = "{dir}/state"

[control]
socket = "{dir}/control.sock"
journal = "{dir}/journal"
{networks}
[[port]]
name = "uplink"
interface = "eth1"
role = "uplink"
"#
    );
    for Member { name, network, mac, .. } in members {
        let _ = write!(
            text,
            r#"
[[port]]
name = "{name}"
interface = "veth-{name}"
role = "access"
network = "{network}"
"#
        );
        if pinned {
            let _ = writeln!(text, "mac = \"{mac}\"");
        }
    }
    text
}
