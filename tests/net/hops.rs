//! traceroute by every means that it has: each server on the way is a hop, and each hop says what it is called.

use std::net::{IpAddr, SocketAddr};

use crate::lab::dual::{OUTSIDE6, six_of};
use crate::lab::peers::{Greeter, Parrot};
use crate::lab::{CAST, Lab, MAPPING, OUTSIDE, SOON, until};

const SIX: &str = "\
blue   tcp  02:00:00:00:00:02  [fd50::2]:20480        02:42:0a:00:00:0a  [fd10::a]:80  public=[2001:db8:51::80]:80
blue   udp  02:00:00:00:00:02  [fd50::2]:20481        02:42:0a:00:00:0a  [fd10::a]:7   public=[2001:db8:51::80]:7
blue   any  02:00:00:00:00:01  [fd50::1]:32768-40959  02:42:0a:00:00:01  [fd10::1]:*   native
blue   any  02:00:00:00:00:01  [fd50::1]:49152-57343  02:42:0a:00:00:03  [fd10::3]:*
";

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.add_gateway(6);
    lab.add_ipv6();
    let publish = |text: String, port: u16| {
        let own = format!("02:42:0a:00:00:0a  10.0.0.10:{port}\n");
        text.replace(&own, &format!("{} public=198.51.100.80:{port}\n", own.trim_end()))
    };
    lab.set_mapping(&(publish(publish(MAPPING.to_owned(), 80), 7) + SIX));
    // Linux tells each peer of one error a second.
    for place in ["router", "outside"] {
        lab.at(place).set("net.ipv4.icmp_ratelimit", "0");
        lab.at(place).set("net.ipv6.icmp.ratelimit", "0");
    }
    for server in [1, 2, 6] {
        lab.start(server);
    }
    lab
}

/// The addresses that traceroute shows, in order; `*` for none.
fn hops(lab: &Lab, from: &str, how: &[&str], to: IpAddr) -> Vec<String> {
    let to = to.to_string();
    let arguments = [&["-n", "-q1", "-w2", "-m8"], how, &[&to]].concat();
    let route = lab.at(from).run("traceroute", &arguments);
    println!("{from} {}: {route}", how.join(" "));
    route.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).map(bare).collect()
}

/// By datagrams and by SYNs: the gateway address, the far server, the container. Echo is answered by the own server.
#[test]
fn traceroute_shows_both_servers_and_the_container() {
    let lab = lab();
    let web = CAST[3].ip;
    let six = six_of(web);
    let _parrots = [web.into(), six.into()].map(|ip: IpAddr| Parrot::on(lab.at("web"), SocketAddr::new(ip, 7)));
    let _greeter = Greeter::start(lab.at("web"), "web", 80);
    for client in ["alice", "carol"] {
        let across = ["169.254.1.1", "192.168.50.2", "10.0.0.10"];
        assert_eq!(hops(&lab, client, &["-U", "-p", "7"], web.into()), across, "{client}, UDP");
        assert_eq!(hops(&lab, client, &["-T", "-p", "80"], web.into()), across, "{client}, TCP");
        assert_eq!(hops(&lab, client, &["-I"], web.into()), ["169.254.1.1", "10.0.0.10"], "{client}, echo");
        let across = ["fe80::1", "fd50::2", "fd10::a"];
        assert_eq!(hops(&lab, client, &["-U", "-p", "7"], six.into()), across, "{client}, UDP over IPv6");
        assert_eq!(hops(&lab, client, &["-T", "-p", "80"], six.into()), across, "{client}, TCP over IPv6");
        assert_eq!(hops(&lab, client, &["-I"], six.into()), ["fe80::1", "fd10::a"], "{client}, echo over IPv6");
    }
}

/// To the outside: the gateway address, the router, the host.
#[test]
fn traceroute_shows_the_way_to_the_outside() {
    let lab = lab();
    let _greeter = Greeter::start(lab.at("outside"), "world", 443);
    for client in ["alice", "carol"] {
        for how in [&["-I"][..], &["-U", "-p", "9"], &["-T", "-p", "443"], &[]] {
            let outward = ["169.254.1.1", "192.168.50.254", "203.0.113.9"];
            assert_eq!(hops(&lab, client, how, OUTSIDE.into()), outward, "{client}, {how:?}");
            let outward = ["fe80::1", "fd50::fe", "2001:db8:9::9"];
            assert_eq!(hops(&lab, client, how, OUTSIDE6.into()), outward, "{client}, {how:?}");
        }
    }
}

/// From outside: the gateway by the address of its NIC there, the server of the replica, which shows the public address, and the
/// container, which does too. Echo is answered by the gateway.
#[test]
fn traceroute_from_outside_shows_the_gateway_and_the_server() {
    let lab = lab();
    let (web, six) = (CAST[3].ip, six_of(CAST[3].ip));
    let _parrots = [web.into(), six.into()].map(|ip: IpAddr| Parrot::on(lab.at("web"), SocketAddr::new(ip, 7)));
    let _greeter = Greeter::start(lab.at("web"), "web", 80);
    let publics = [
        ("198.51.100.80", ["198.18.6.1", "198.51.100.80", "198.51.100.80"]),
        ("2001:db8:51::80", ["fd18:6::1", "2001:db8:51::80", "2001:db8:51::80"]),
    ];
    for (public, inward) in publics {
        let to = public.parse().expect("an address");
        assert_eq!(hops(&lab, "outside", &["-U", "-p", "7"], to), inward, "UDP");
        assert_eq!(hops(&lab, "outside", &["-T", "-p", "80"], to), inward, "TCP");
        assert_eq!(hops(&lab, "outside", &["-I"], to), [public], "echo");
    }
}

/// The address of a gateway's NIC changes while it runs, and with it what clients see; without any, it is the ServerIP.
#[test]
fn a_gateway_shows_the_address_that_its_nic_has_now() {
    let lab = lab();
    let public = IpAddr::from([198, 51, 100, 80]);
    let first_hop = || hops(&lab, "outside", &["-U", "-p", "7", "-m1"], public).pop().unwrap_or_default();
    assert_eq!(first_hop(), "198.18.6.1");
    let (gateway, outside) = (lab.at("s6"), lab.at("outside"));
    gateway.ip("addr del 198.18.6.1/24 dev wan");
    gateway.ip("addr add 198.18.6.77/24 dev wan");
    outside.ip("route replace 198.51.100.0/24 via 198.18.6.77 dev gw6 src 203.0.113.9");
    until("the new address", SOON, || (first_hop() == "198.18.6.77").then_some(()));
    // The host outside has to find the way without asking for it.
    let wan = gateway.ip("-o link show dev wan");
    let mac = wan.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a MAC");
    outside.ip(&format!("neigh replace 198.18.6.77 lladdr {mac} dev gw6"));
    gateway.ip("addr del 198.18.6.77/24 dev wan");
    until("the ServerIP", SOON, || (first_hop() == "192.168.50.6").then_some(()));
}

/// An address without its interface.
fn bare(hop: &str) -> String {
    hop.split('%').next().unwrap_or_default().to_owned()
}
