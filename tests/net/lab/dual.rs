//! IPv6 beside IPv4, for everybody: servers are fd50::N, containers fd10::N with the last number of their IPv4 address,
//! the host outside is 2001:db8:9::9, and public addresses are of 2001:db8:51::/48.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::namespace::Namespace;
use super::{CAST, Lab, server_ip6};

/// The host in the outside world.
pub const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);
/// Its prefix.
pub const OUTSIDE_PREFIX6: &str = "2001:db8:9::/64";
/// The prefix of public addresses.
pub const PUBLIC6: &str = "2001:db8:51::/48";

/// The other address of the container that has this one.
pub const fn six_of(ip: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, ip.octets()[3] as u16)
}

impl Lab {
    /// Gives addresses and routes of IPv6 to servers, gateways, the router, the host outside and the cast.
    pub fn add_ipv6(&self) {
        for server in [1, 2].into_iter().chain(self.gateways.iter().copied()) {
            let host = self.at(&format!("s{server}"));
            address(host, "eth1", &format!("{}/64", server_ip6(server)));
            host.ip("route add default via fd50::fe dev eth1");
        }
        let (router, outside) = (self.at("router"), self.at("outside"));
        address(router, "eth1", "fd50::fe/64");
        address(router, "east", "2001:db8:9::1/64");
        router.set("net.ipv6.conf.all.forwarding", "1");
        address(outside, "eth0", &format!("{OUTSIDE6}/64"));
        outside.ip("route add default via 2001:db8:9::1 dev eth0");
        for &gateway in &self.gateways {
            address(self.at(&format!("s{gateway}")), "wan", &format!("fd18:{gateway}::1/64"));
            address(outside, &format!("gw{gateway}"), &format!("fd18:{gateway}::2/64"));
            outside.ip(&format!("route replace {PUBLIC6} via fd18:{gateway}::1 dev gw{gateway} src {OUTSIDE6}"));
        }
        for member in CAST {
            let container = self.at(member.name);
            address(container, "eth0", &format!("{}/128", six_of(member.ip)));
            container.ip("route add default via fe80::1 dev eth0");
        }
    }
}

/// One more address, at once. The link-local one that comes with the first is there at once too: without it the kernel
/// solicits no neighbour for packets that are not its own (`ndisc_solicit` of net/ipv6/ndisc.c).
pub fn address(place: &Namespace, interface: &str, address: &str) {
    place.set(&format!("net.ipv6.conf.{interface}.accept_dad"), "0");
    place.set(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "0");
    place.ip(&format!("addr add {address} dev {interface} nodad"));
}
