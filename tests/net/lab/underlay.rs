//! A second underlay: another bridge, `br1`, and another NIC, `eth2`, of each server.
//!
//! ```text
//!        ┌ eth1 192.168.50.1 ── br0 ── 192.168.50.2 eth1 ┐
//!   s1 ──┤                                               ├── s2
//!        └ eth2 192.168.60.1 ── br1 ── 192.168.60.2 eth2 ┘
//! ```

use std::net::Ipv4Addr;

use super::{Lab, server_ip};

/// A server's second ServerIP.
pub const fn western_ip(server: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 60, server)
}

impl Lab {
    /// Lays the second underlay; engines that start from now on have an uplink more, `west`, and a ServerIP on it.
    pub fn lay_a_second_wire(&mut self) {
        let wire = self.at("wire");
        wire.ip("link add br1 type bridge forward_delay 0 mcast_snooping 0");
        wire.ip("link set br1 up");
        for server in [1, 2] {
            let (name, ip) = (format!("s{server}"), western_ip(server));
            let (wire, host) = (self.at("wire"), self.at(&name));
            let mac = format!("02:00:00:00:00:6{server}");
            wire.ip(&format!("link add west-{name} type veth peer name eth2 address {mac} netns {}", host.name()));
            wire.ip(&format!("link set west-{name} master br1 up"));
            host.ip(&format!("addr add {ip}/24 dev eth2"));
            host.ip("link set eth2 up");
            self.amend_config(
                server,
                &format!("ips = [\"{}\"", server_ip(server)),
                &format!("ips = [\"{}\", \"{ip}\"", server_ip(server)),
            );
            self.amend_config(server, "[[port]]\nname = \"uplink\"", WEST);
        }
    }
}

const WEST: &str = r#"[[port]]
name = "west"
interface = "eth2"
role = "uplink"

[[port]]
name = "uplink""#;
