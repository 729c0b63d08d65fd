//! Where packets get lost that no engine drops.

use serde_json::Value;

use super::Lab;

/// What counts packets that get lost between a client and web: interfaces, and web's UDP sockets.
pub struct Way {
    kernel: Vec<(String, u64)>,
    pub dropped_by_engines: u64,
}

impl Way {
    const INTERFACES: [(&str, &str); 6] =
        [("s1", "eth1"), ("wire", "to-s1"), ("wire", "to-s2"), ("s2", "eth1"), ("s2", "veth-web"), ("web", "eth0")];

    /// Reads all counters.
    pub fn look(lab: &mut Lab, client: &str) -> Way {
        let mut kernel = Vec::new();
        let server = if client == "dave" { "s2" } else { "s1" };
        let access = format!("veth-{client}");
        let own = [(client, "eth0"), (server, access.as_str())];
        for (place, interface) in own.into_iter().chain(Way::INTERFACES) {
            let links = lab.at(place).run("ip", &["-j", "-s", "link", "show", "dev", interface]);
            let links: Value = serde_json::from_str(&links).expect("ip prints JSON");
            for direction in ["tx", "rx"] {
                let dropped = links[0]["stats64"][direction]["dropped"].as_u64().expect("a count");
                kernel.push((format!("{interface} of {place}, {direction}"), dropped));
            }
        }
        let udp = lab.at("web").run("nstat", &["-asz", "--json", "UdpRcvbufErrors"]);
        let udp: Value = serde_json::from_str(&udp).expect("nstat prints JSON");
        kernel.push(("web's socket".to_owned(), udp["kernel"]["UdpRcvbufErrors"].as_u64().expect("a count")));
        let dropped_by_engines = [1, 2].map(|server| lab.engine(server).dropped_but_multicast()).iter().sum();
        Way { kernel, dropped_by_engines }
    }

    /// The counters that moved.
    pub fn losses_since(&self, before: &Way) -> Vec<(&str, u64)> {
        let moved = self.kernel.iter().zip(&before.kernel).map(|((name, now), (_, then))| (name.as_str(), now - then));
        moved.filter(|(_, packets)| *packets > 0).collect()
    }

    /// How many packets they count.
    pub fn lost_since(&self, before: &Way) -> u64 {
        self.losses_since(before).iter().map(|(_, packets)| packets).sum()
    }
}
