//! Gateways: servers with a second NIC, `wan`, towards the host outside. That knows public addresses to be behind all of
//! them, and spreads its connections.
//!
//! ```text
//!   s1, s2 ─── wire ─┬─ s6 ── 198.18.6.0/24 ─┬─ outside
//!                    └─ s7 ── 198.18.7.0/24 ─┘     │ 203.0.113.9
//!                    router ───────────────────────┘
//! ```
//! Answers reach the host outside by way of the router, as they leave servers for it directly.

use std::net::Ipv4Addr;

use super::{Lab, OUTSIDE, server_ip};

/// The prefix of public addresses.
pub const PUBLIC: &str = "198.51.100.0/24";

impl Lab {
    /// A gateway, whose engine is started as that of any other server.
    pub fn add_gateway(&mut self, server: u8) {
        self.add_server(server);
        let (gateway, outside) = (self.at(&format!("s{server}")), self.at("outside"));
        gateway.ip(&format!("link add wan type veth peer name gw{server} netns {}", outside.name()));
        gateway.ip(&format!("addr add {}/24 dev wan", wan_ip(server)));
        gateway.ip("link set wan up");
        outside.ip(&format!("addr add 198.18.{server}.2/24 dev gw{server}"));
        outside.ip(&format!("link set gw{server} up"));
        // Answers come by another way than requests leave.
        for place in ["router", "outside"] {
            self.at(place).set("net.ipv4.conf.all.rp_filter", "0");
            self.at(place).set("net.ipv4.conf.default.rp_filter", "0");
        }
        for interface in ["eth0", &format!("gw{server}")] {
            outside.set(&format!("net.ipv4.conf.{interface}.rp_filter"), "0");
        }
        // Connections are spread by addresses and ports.
        outside.set("net.ipv4.fib_multipath_hash_policy", "1");
        self.gateways.push(server);
        self.route_public_by(&self.gateways.clone());
    }

    /// The host outside reaches public addresses by these gateways from now on.
    pub fn route_public_by(&self, gateways: &[u8]) {
        let hops = gateways.iter().map(|&server| format!(" nexthop via {} dev gw{server}", wan_ip(server)));
        self.at("outside").ip(&format!("route replace {PUBLIC} src {OUTSIDE}{}", hops.collect::<String>()));
    }

    /// True for a server that is a gateway.
    pub(super) fn is_gateway(&self, server: u8) -> bool {
        self.gateways.contains(&server)
    }
}

fn wan_ip(server: u8) -> Ipv4Addr {
    let [_, _, _, last] = server_ip(server).octets();
    Ipv4Addr::new(198, 18, last, 1)
}

/// The port of a gateway's configuration that other servers do not have.
pub const EXTERNAL_PORT: &str = r#"
[[port]]
name = "wan"
interface = "wan"
role = "external"
"#;
