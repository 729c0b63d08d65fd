//! Narrow links between two routers: in the underlay, before a server, or in the world, before the host outside.
//!
//! ```text
//!   s1, gateways, router ─── wire ─── core ══ narrow ══ edge ─── s2
//!
//!   s1, s2 ─── wire ─── router ══ narrow ══ beyond ─── outside
//! ```
//! What the routers of the underlay have for nobody here goes the way that is chosen: to the router of the lab, or to a
//! gateway.

use super::dual::{OUTSIDE_PREFIX6, PUBLIC6, address};
use super::gateway::PUBLIC;
use super::namespace::Namespace;
use super::{Lab, OUTSIDE_PREFIX, server_ip, server_ip6};

impl Lab {
    /// Puts a server behind the routers; others must find it by their routes. What is for the outside goes to `exit` on
    /// the wire: the last number of an address there.
    pub fn put_behind_a_narrow_link(&mut self, server: u8, mtu: u32, exit: u8) {
        self.add_namespace("core");
        self.add_namespace("edge");
        self.plug_in("core", "02:00:00:00:00:c0", "192.168.50.253/24");
        let (core, edge) = (self.at("core"), self.at("edge"));
        let (host, ip, ip6) = (format!("s{server}"), server_ip(server), server_ip6(server));
        let interface = format!("to-{host}");

        address(core, "eth1", "fd50::fd/64");
        self.at("wire").ip(&format!("link set {interface} nomaster netns {}", edge.name()));
        join_by_a_narrow_link(core, edge, mtu);
        edge.ip(&format!("link set {interface} up"));
        edge.ip(&format!("addr add 192.168.52.1/32 dev {interface}"));
        address(edge, &interface, "fd52::1/64");
        edge.ip(&format!("route add {ip}/32 dev {interface}"));
        edge.ip(&format!("route add {ip6}/128 dev {interface}"));
        edge.ip("route add default via 192.168.53.1");
        edge.ip("-6 route add default via fd53::1");
        core.ip(&format!("route add {ip}/32 via 192.168.53.2"));
        core.ip(&format!("-6 route add {ip6}/128 via fd53::2"));
        core.ip(&format!("route add default via 192.168.50.{exit}"));
        core.ip(&format!("-6 route add default via fd50::{exit:x}"));

        let host = self.at(&host);
        host.ip(&format!("addr del {ip}/24 dev eth1"));
        host.ip(&format!("addr add {ip}/32 dev eth1"));
        host.ip("route add 192.168.52.1/32 dev eth1");
        host.ip("route replace default via 192.168.52.1");
        host.ip("-6 addr flush dev eth1 scope global");
        address(host, "eth1", &format!("{ip6}/128"));
        host.ip("-6 route add fd52::1/128 dev eth1");
        host.ip("-6 route replace default via fd52::1 dev eth1");
        for other in
            ["s1", "s2", "router"].into_iter().map(str::to_owned).chain(self.gateways.iter().map(|n| format!("s{n}")))
        {
            if other != format!("s{server}") {
                self.at(&other).ip(&format!("route add {ip}/32 via 192.168.50.253"));
                self.at(&other).ip(&format!("-6 route add {ip6}/128 via fd50::fd"));
            }
        }
    }

    /// Puts the host outside behind a router of its own, and whatever leads to public names behind the lab's. Everybody
    /// has the families that [`Lab::add_ipv6`] gives.
    pub fn put_the_outside_behind_a_narrow_link(&mut self, mtu: u32) {
        self.add_namespace("beyond");
        let (router, beyond, outside) = (self.at("router"), self.at("beyond"), self.at("outside"));
        router.ip(&format!("link set east netns {}", beyond.name()));
        beyond.ip("addr add 203.0.113.1/24 dev east");
        address(beyond, "east", "2001:db8:9::1/64");
        beyond.ip("link set east up");
        join_by_a_narrow_link(router, beyond, mtu);
        router.ip(&format!("route add {OUTSIDE_PREFIX} via 192.168.53.2"));
        router.ip(&format!("-6 route add {OUTSIDE_PREFIX6} via fd53::2"));
        beyond.ip("route add default via 192.168.53.1");
        beyond.ip("-6 route add default via fd53::1");
        for gateway in &self.gateways {
            let towards = format!("gw{gateway}");
            outside.ip(&format!("link set {towards} netns {}", router.name()));
            router.ip(&format!("addr add 198.18.{gateway}.2/24 dev {towards}"));
            address(router, &towards, &format!("fd18:{gateway}::2/64"));
            router.ip(&format!("link set {towards} up"));
            router.ip(&format!("route replace {PUBLIC} via 198.18.{gateway}.1"));
            router.ip(&format!("-6 route replace {PUBLIC6} via fd18:{gateway}::1"));
        }
    }
}

/// Makes two places routers, with a link between them that carries no more than `mtu`: 192.168.53.1 and .2.
fn join_by_a_narrow_link(one: &Namespace, other: &Namespace, mtu: u32) {
    one.ip(&format!("link add narrow mtu {mtu} type veth peer name narrow mtu {mtu} netns {}", other.name()));
    for (place, own) in [(one, 1), (other, 2)] {
        place.ip(&format!("addr add 192.168.53.{own}/24 dev narrow"));
        address(place, "narrow", &format!("fd53::{own}/64"));
        place.ip("link set narrow up");
        place.set("net.ipv4.ip_forward", "1");
        place.set("net.ipv6.conf.all.forwarding", "1");
    }
}
