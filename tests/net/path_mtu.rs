//! Path MTU discovery from end to end, over links that are narrower than every interface of servers and containers: between
//! servers, behind a gateway, and outside.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover};

use crate::lab::dual::{OUTSIDE6, six_of};
use crate::lab::namespace::Namespace;
use crate::lab::peers::Parrot;
use crate::lab::programs::{Download, Nginx};
use crate::lab::{Lab, MAPPING, OUTSIDE, SOON, server_ip, server_ip6, until};

const ALICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CAROL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 80));
const PUBLIC6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x80));
const NARROW: u16 = 1400;

/// The names of IPv6 of three containers; `dave` has none.
const SIX: &str = "\
blue   tcp  -  [fd50::2]:20480        02:42:0a:00:00:0a  [fd10::a]:80  public=[2001:db8:51::80]:80
blue   udp  -  [fd50::2]:20481        02:42:0a:00:00:0a  [fd10::a]:7   public=[2001:db8:51::80]:7
blue   any  -  [fd50::1]:32768-40959  02:42:0a:00:00:01  [fd10::1]:*   native
blue   any  -  [fd50::1]:49152-57343  02:42:0a:00:00:03  [fd10::3]:*
blue   any  -  [fd50::2]:32768-33791  02:42:0a:00:00:0a  [fd10::a]:*
";

/// Servers are found by the kernel's routes, and web is published.
fn mapping() -> String {
    let routed = MAPPING.replace("02:00:00:00:00:01", "-").replace("02:00:00:00:00:02", "-");
    let publish = |text: String, port: u16| {
        text.replace(&format!("  10.0.0.10:{port}\n"), &format!("  10.0.0.10:{port}  public=198.51.100.80:{port}\n"))
    };
    let published =
        routed.lines().filter(|line| line.starts_with("blue")).fold(String::new(), |all, line| all + line + "\n");
    publish(publish(published, 80), 7) + SIX
}

/// web behind a narrow link.
fn between_servers() -> Lab {
    let mut lab = Lab::new();
    lab.add_ipv6();
    lab.put_behind_a_narrow_link(2, u32::from(NARROW), 254);
    lab.set_mapping(&mapping());
    lab.start(1);
    lab.start(2);
    lab
}

/// web behind a gateway and a narrow link. What is for the outside passes the gateway, whose kernel is a router.
fn behind_a_gateway() -> Lab {
    let mut lab = Lab::new();
    lab.add_gateway(6);
    lab.add_ipv6();
    lab.put_behind_a_narrow_link(2, u32::from(NARROW), 6);
    let gateway = lab.at("s6");
    gateway.set("net.ipv4.ip_forward", "1");
    gateway.set("net.ipv6.conf.all.forwarding", "1");
    // Its way to clients is its own NIC towards them.
    gateway.ip(&format!("route add {OUTSIDE}/32 via 198.18.6.2 dev wan"));
    gateway.ip(&format!("-6 route add {OUTSIDE6}/128 via fd18:6::2 dev wan"));
    lab.set_mapping(&mapping());
    lab.start(2);
    lab.start(6);
    lab
}

/// What a place has learnt of the way to an address.
fn path_mtu(place: &Namespace, to: IpAddr) -> Option<u16> {
    let route = place.ip(&format!("route get {to}"));
    route.split_whitespace().skip_while(|word| *word != "mtu").nth(1).map(|mtu| mtu.parse().expect("a number"))
}

/// A place forgets what it has learnt of all ways.
fn forget(place: &Namespace) {
    place.ip("route flush cache");
    place.ip("-6 route flush cache");
}

/// Sends datagrams that must not be fragmented, each as long as its kernel allows by now, until one comes back. Its size
/// with headers.
fn longest_datagram(from: &Namespace, to: SocketAddr) -> u16 {
    let socket = from.within(|| {
        let own: IpAddr = if to.is_ipv4() { "0.0.0.0".parse() } else { "::".parse() }.expect("an address");
        let socket = UdpSocket::bind((own, 0)).expect("a free port");
        socket.connect(to).expect("a route");
        socket
    });
    match to {
        SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO),
        SocketAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO),
    }
    .expect("a socket option");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
    let headers: u16 = if to.is_ipv4() { 28 } else { 48 };
    let mut size = 1500 - headers;
    let mut answer = [0; 1500];
    let is_too_big = |error: &std::io::Error| error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error());
    let send = |size: u16| socket.send(&vec![7; usize::from(size)]);
    // The first refusal may be an error that came late, about a longer one.
    until("a datagram of some size comes back", SOON, || match send(size).or_else(|_| send(size)) {
        Ok(_) => matches!(socket.recv(&mut answer), Ok(len) if len == usize::from(size)).then_some(size + headers),
        Err(error) if is_too_big(&error) => {
            size -= 4;
            None
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("to {to}: {error}"),
    })
}

fn both(v4: Ipv4Addr) -> [IpAddr; 2] {
    [v4.into(), six_of(v4).into()]
}

fn url(ip: IpAddr) -> String {
    format!("http://{}/file", SocketAddr::new(ip, 80))
}

/// A router between two servers says that its link is narrow: the containers at both ends hear of it, in their own names.
#[test]
fn a_narrow_link_between_servers_is_found() {
    let lab = between_servers();
    let nginx = Nginx::start(&lab, "web");
    let sum = nginx.serve_random("file", 1);
    let (web, alice) = (lab.at("web"), lab.at("alice"));
    for (from, to) in both(ALICE).into_iter().zip(both(WEB)) {
        let _parrot = Parrot::on(web, SocketAddr::new(to, 7));
        assert_eq!(Download::start(alice, &url(to)).finish(|_| ()), sum, "{to}");
        assert_eq!(path_mtu(web, from), Some(NARROW), "who sends much learns it: {to} -> {from}");
        assert_eq!(longest_datagram(alice, SocketAddr::new(to, 7)), NARROW, "{from} -> {to}");
        assert_eq!(path_mtu(alice, to), Some(NARROW), "{from} -> {to}");
    }
    for (from, to) in both(CAROL).into_iter().zip(both(WEB)) {
        let _parrot = Parrot::on(web, SocketAddr::new(to, 7));
        assert_eq!(longest_datagram(lab.at("carol"), SocketAddr::new(to, 7)), NARROW, "translated: {from} -> {to}");
    }
}

/// A narrow link in the world outside.
#[test]
fn a_narrow_link_outside_is_found() {
    let mut lab = Lab::new();
    lab.add_ipv6();
    lab.at("router").ip(&format!("link set east mtu {NARROW}"));
    lab.set_mapping(&mapping());
    lab.start(1);
    lab.start(2);
    for to in [IpAddr::from(OUTSIDE), IpAddr::from(OUTSIDE6)] {
        let _parrot = Parrot::on(lab.at("outside"), SocketAddr::new(to, 7));
        for client in ["alice", "carol"] {
            let place = lab.at(client);
            assert_eq!(longest_datagram(place, SocketAddr::new(to, 7)), NARROW, "{client} -> {to}");
            assert_eq!(path_mtu(place, to), Some(NARROW), "{client} -> {to}");
        }
    }
}

/// Connections over such a link offer segments that it does not carry, and both ends send some megabytes: what a service
/// sends to a client outside under its public name, and what containers and a server outside send each other. The routers
/// at both ends of the link say that it is narrow, and whoever has sent too much hears it.
#[test]
fn connections_fit_a_narrow_link_outside() {
    let mut lab = Lab::new();
    lab.add_gateway(6);
    lab.add_ipv6();
    lab.put_the_outside_behind_a_narrow_link(u32::from(NARROW));
    lab.set_mapping(&mapping());
    [1, 2, 6].into_iter().for_each(|server| lab.start(server));
    let (web_nginx, world_nginx) = (Nginx::start(&lab, "web"), Nginx::start(&lab, "outside"));
    let (web_sum, world_sum) = (web_nginx.serve_random("file", 4), world_nginx.serve_random("file", 4));
    let (web, outside) = (lab.at("web"), lab.at("outside"));
    let names =
        [(IpAddr::from(OUTSIDE), PUBLIC, IpAddr::from(server_ip(1))), (OUTSIDE6.into(), PUBLIC6, server_ip6(1).into())];
    for (world, public, wire) in names {
        assert_eq!(path_mtu(web, world), None, "nobody knows yet: {world}");
        assert_eq!(Download::start(outside, &url(public)).finish(|_| ()), web_sum, "{public} -> {world}");
        assert_eq!(path_mtu(web, world), Some(NARROW), "the service has heard: {public} -> {world}");
        for client in ["alice", "carol"] {
            let place = lab.at(client);
            // Who knows offers segments that fit.
            [place, outside].into_iter().for_each(forget);
            world_nginx.receive(place, world, "copy", &web_nginx.directory().join("file"));
            assert_eq!(world_nginx.sum("copy"), web_sum, "{client} -> {world}");
            assert_eq!(path_mtu(place, world), Some(NARROW), "the client has heard: {client} -> {world}");
            [place, outside].into_iter().for_each(forget);
            assert_eq!(Download::start(place, &url(world)).finish(|_| ()), world_sum, "{world} -> {client}");
            assert_eq!(path_mtu(outside, wire), Some(NARROW), "the server has heard: {world} -> {client}");
        }
    }
    for server in [1, 2, 6] {
        assert_eq!(lab.engine(server).drops(None, "icmp_unrelated"), 0, "{}", lab.engine(server).all_drops());
    }
}

/// A router between a gateway and the server tells both: the container, of what it answers under its public name, and the
/// client, of what it has sent to that.
#[test]
fn a_narrow_link_behind_a_gateway_is_found() {
    let mut lab = behind_a_gateway();
    let nginx = Nginx::start(&lab, "web");
    let sum = nginx.serve_random("file", 1);
    let (web, outside) = (lab.at("web"), lab.at("outside"));
    let names = [(IpAddr::from(OUTSIDE), PUBLIC, WEB.into()), (OUTSIDE6.into(), PUBLIC6, six_of(WEB).into())];
    for (client, public, own) in names {
        let _parrot = Parrot::on(web, SocketAddr::new(own, 7));
        assert_eq!(Download::start(outside, &url(public)).finish(|_| ()), sum, "{public}");
        assert_eq!(path_mtu(web, client), Some(NARROW), "who sends much learns it: {public} -> {client}");
        assert_eq!(longest_datagram(outside, SocketAddr::new(public, 7)), NARROW, "{client} -> {public}");
        assert_eq!(path_mtu(outside, public), Some(NARROW), "{client} -> {public}");
    }
    assert_eq!(lab.engine(6).drops(None, "icmp_unrelated"), 0, "{}", lab.engine(6).all_drops());
}
