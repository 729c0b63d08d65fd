//! Two servers, A (192.168.50.1) and B (192.168.50.2), their containers, and a router towards the outside.
//!
//! ```text
//! network   on A                                on B
//! blue      native 10.1.0.2   plain 10.1.0.3    far 10.2.0.2
//!           public 10.1.0.4   small 10.1.0.5
//!           twin-a, twin-b: both 10.1.0.9
//! red       red 10.1.0.2 (blue's address)       red-far 10.2.0.2 (the same)
//! green     green 172.20.0.1                    green-far 172.20.0.2      blue may reach it, one way
//! ops       ops 172.21.0.1                      may use servers' services, not the outside
//! ```

use crate::packet::Packet;
use crate::world::World;

pub const A: &str = "192.168.50.1";
pub const B: &str = "192.168.50.2";
pub const MAC_A: &str = "02:00:00:00:00:01";
pub const MAC_B: &str = "02:00:00:00:00:02";
pub const MAC_ROUTER: &str = "02:00:00:00:00:fe";
pub const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";
pub const NOBODY: &str = "00:00:00:00:00:00";

/// Access ports: their names, their own MACs, their networks and the MACs of the containers behind them.
const PORTS: &[(&str, &str, &str, &str)] = &[
    ("native", "02:0a:00:00:00:01", "blue", "02:42:0a:01:00:02"),
    ("plain", "02:0a:00:00:00:02", "blue", "02:42:0a:01:00:03"),
    ("public", "02:0a:00:00:00:03", "blue", "02:42:0a:01:00:04"),
    ("small", "02:0a:00:00:00:04", "blue", "02:42:0a:01:00:05"),
    ("twin-a", "02:0a:00:00:00:05", "blue", "02:42:0a:01:00:09"),
    ("twin-b", "02:0a:00:00:00:06", "blue", "02:42:0a:01:00:19"),
    ("red", "02:0a:00:00:00:07", "red", "02:42:0b:01:00:02"),
    ("green", "02:0a:00:00:00:08", "green", "02:42:0c:01:00:01"),
    ("ops", "02:0a:00:00:00:09", "ops", "02:42:0d:01:00:01"),
    ("far", "02:0b:00:00:00:01", "blue", "02:42:0a:02:00:02"),
    ("red-far", "02:0b:00:00:00:02", "red", "02:42:0b:02:00:02"),
    ("green-far", "02:0b:00:00:00:03", "green", "02:42:0c:02:00:02"),
];

/// Every port of server A.
pub const PORTS_A: &[&str] =
    &["uplink", "native", "plain", "public", "small", "twin-a", "twin-b", "red", "green", "ops"];

pub const MAPPING: &str = "
blue   any  02:00:00:00:00:01  192.168.50.1:20736-20991  02:42:0a:01:00:02  10.1.0.2:*           native
blue   tcp  02:00:00:00:00:01  192.168.50.1:20480        02:42:0a:01:00:02  10.1.0.2:80
blue   any  02:00:00:00:00:01  192.168.50.1:21248-21503  02:42:0a:01:00:03  10.1.0.3:*
blue   udp  02:00:00:00:00:01  192.168.50.1:20483        02:42:0a:01:00:04  10.1.0.4:4500        public=203.0.113.9:4500
blue   tcp  02:00:00:00:00:01  192.168.50.1:20484        02:42:0a:01:00:04  10.1.0.4:443
blue   any  02:00:00:00:00:01  192.168.50.1:21504-21511  02:42:0a:01:00:04  10.1.0.4:*
blue   esp  02:00:00:00:00:01  192.168.50.1              02:42:0a:01:00:04  10.1.0.4             public=203.0.113.9
blue   tcp  02:00:00:00:00:01  192.168.50.1:20485        02:42:0a:01:00:05  10.1.0.5:80
blue   any  02:00:00:00:00:01  192.168.50.1:21512-21513  02:42:0a:01:00:05  10.1.0.5:*
blue   tcp  02:00:00:00:00:01  192.168.50.1:20489        02:42:0a:01:00:07  10.1.0.7:80
blue   tcp  02:00:00:00:00:01  192.168.50.1:20490        02:42:0a:01:00:08  10.1.0.8:80          drain
blue   tcp  02:00:00:00:00:01  192.168.50.1:20491        02:42:0a:01:00:09  10.1.0.9:80
blue   tcp  02:00:00:00:00:01  192.168.50.1:20492        02:42:0a:01:00:19  10.1.0.9:8080
blue   any  02:00:00:00:00:01  192.168.50.1:22784-22791  02:42:0a:01:00:09  10.1.0.9:*           native
red    any  02:00:00:00:00:01  192.168.50.1:21760-22015  02:42:0b:01:00:02  10.1.0.2:*
red    tcp  02:00:00:00:00:01  192.168.50.1:20486        02:42:0b:01:00:02  10.1.0.2:80
green  tcp  02:00:00:00:00:01  192.168.50.1:20487        02:42:0c:01:00:01  172.20.0.1:443
green  any  02:00:00:00:00:01  192.168.50.1:22016-22271  02:42:0c:01:00:01  172.20.0.1:*
ops    any  02:00:00:00:00:01  192.168.50.1:22528-22783  02:42:0d:01:00:01  172.21.0.1:*
blue   any  02:00:00:00:00:02  192.168.50.2:20736-20991  02:42:0a:02:00:02  10.2.0.2:*           native
blue   tcp  02:00:00:00:00:02  192.168.50.2:20480        02:42:0a:02:00:02  10.2.0.2:80
blue   udp  02:00:00:00:00:02  192.168.50.2:20481        02:42:0a:02:00:02  10.2.0.2:53
blue   esp  02:00:00:00:00:02  192.168.50.2              02:42:0a:02:00:02  10.2.0.2
red    any  02:00:00:00:00:02  192.168.50.2:20992-21247  02:42:0b:02:00:02  10.2.0.2:*
red    tcp  02:00:00:00:00:02  192.168.50.2:20482        02:42:0b:02:00:02  10.2.0.2:80
green  tcp  02:00:00:00:00:02  192.168.50.2:20483        02:42:0c:02:00:02  172.20.0.2:443
green  any  02:00:00:00:00:02  192.168.50.2:21248-21503  02:42:0c:02:00:02  172.20.0.2:*
blue   tcp  -                  192.168.50.3:20480        02:42:0a:03:00:02  10.3.0.2:80
";

const COMMON: &str = r#"
[[network]]
name = "blue"
prefixes = ["10.0.0.0/8"]
gateway = "169.254.1.1"
outside = true
peers = ["green"]
[[network]]
name = "red"
prefixes = ["10.0.0.0/8"]
gateway = "169.254.1.1"
outside = false
midstream = "reset"
[[network]]
name = "green"
prefixes = ["172.20.0.0/16"]
gateway = "169.254.1.1"
outside = true
[[network]]
name = "ops"
prefixes = ["172.21.0.0/16"]
gateway = "169.254.1.1"
outside = false
services = true
"#;

/// The configuration of server A.
pub fn config_a() -> String {
    config(A, MAC_A, &PORTS[..9])
}

fn config(server: &str, uplink: &str, ports: &[(&str, &str, &str, &str)]) -> String {
    let mut text = format!(
        "[server]\nip = \"{server}\"\nports = \"20480-59903\"\nmapping = \"mapping.sixway\"\n\
         router = \"192.168.50.254\"\n\
         [[neighbour]]\nip = \"192.168.50.254\"\nmac = \"{MAC_ROUTER}\"\n{COMMON}\
         [[port]]\nname = \"uplink\"\nrole = \"uplink\"\naddress = \"{uplink}\"\nmtu = 1500\n"
    );
    for (name, address, network, mac) in ports {
        // The port `small` learns its container.
        let pin = if *name == "small" { String::new() } else { format!("mac = \"{mac}\"\n") };
        text += &format!(
            "[[port]]\nname = \"{name}\"\nrole = \"access\"\nnetwork = \"{network}\"\naddress = \"{address}\"\n{pin}"
        );
    }
    text
}

/// The configuration of server B.
pub fn config_b() -> String {
    config(B, MAC_B, &PORTS[9..])
}

pub fn server_a() -> World {
    World::new(&config_a(), MAPPING)
}

/// Server A with something in its configuration replaced.
pub fn server_a_with(from: &str, to: &str) -> World {
    let config = config_a();
    assert!(config.contains(from), "{config}");
    World::new(&config.replace(from, to), MAPPING)
}

/// Server A with more in its configuration.
pub fn server_a_and(more: &str) -> World {
    World::new(&(config_a() + more), MAPPING)
}

pub fn server_b() -> World {
    World::new(&config_b(), MAPPING)
}

/// Server B with a place for the container `native`.
pub fn server_b_with_a_berth() -> World {
    World::new(&config(B, MAC_B, &[&PORTS[9..], &PORTS[..1]].concat()), MAPPING)
}

impl Packet {
    /// From the container behind an access port to that port.
    pub fn from(self, port: &str) -> Packet {
        let (_, own, _, container) = named(port);
        self.eth(container, own)
    }

    /// From an access port to the container behind it.
    pub fn to(self, port: &str) -> Packet {
        let (_, own, _, container) = named(port);
        self.eth(own, container)
    }
}

fn named(port: &str) -> &'static (&'static str, &'static str, &'static str, &'static str) {
    PORTS.iter().find(|(name, ..)| *name == port).unwrap_or_else(|| panic!("no port {port}"))
}

/// The MAC of an access port.
pub fn port_mac(port: &str) -> &'static str {
    named(port).1
}

/// The MAC of the container behind an access port.
pub fn container_mac(port: &str) -> &'static str {
    named(port).3
}
