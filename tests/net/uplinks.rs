//! Servers with several uplinks, several ServerIPs and NICs towards clients: the kernel's routes say which port a packet
//! leaves by, and what a route says changes under traffic.

use std::net::{IpAddr, Ipv4Addr, TcpStream};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};

use crate::lab::capture::Capture;
use crate::lab::load::Load;
use crate::lab::peers::{Greeter, Parrot, connect, greeting, says_back, udp, udp_echo};
use crate::lab::raw::{self, Injector};
use crate::lab::underlay::western_ip;
use crate::lab::{Lab, MAPPING, Member, OUTSIDE, SOON, server_ip, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// A count of a port.
fn count(lab: &mut Lab, server: u8, port: &str, what: &str) -> u64 {
    let ports = lab.engine(server).get("/v1/ports");
    let port = ports.as_array().expect("a list").iter().find(|at| at["name"] == port).expect("a port of that name");
    port[what].as_u64().unwrap_or_else(|| panic!("no {what} in {port}"))
}

/// No binding names a MAC, since a server's is another on each link.
fn any_link(mapping: &str) -> String {
    mapping.replace("02:00:00:00:00:01", "-").replace("02:00:00:00:00:02", "-")
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.lay_a_second_wire();
    lab.set_mapping(&any_link(MAPPING));
    lab
}

/// A route moves to the other uplink and back, and an uplink goes down, while a stream and a connection go on. Each step
/// is seen on the wire that it should be on.
#[test]
fn routes_that_change_move_traffic_live() {
    let mut lab = lab();
    lab.start(1);
    lab.start(2);
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("alice"), (WEB, 80)).expect("web is there");
    assert_eq!(greeting(&mut stream), "I am web, you are 10.0.0.1");
    let load = Load::start(lab.at("alice"), lab.at("web"), (WEB, 5201), 2000);
    let east = "192.168.50.2/32 via 192.168.60.2 dev eth2";
    for (step, change, by, not_by) in [
        ("all by the first uplink", None, "uplink", "west"),
        ("a host route by the second", Some(format!("route add {east}")), "west", "uplink"),
        ("it is gone", Some(format!("route del {east}")), "uplink", "west"),
        ("it is back, and then the first is down", Some(format!("route add {east}")), "west", "uplink"),
        ("down", Some("link set eth1 down".to_owned()), "west", "uplink"),
    ] {
        if let Some(change) = change {
            lab.at("s1").ip(&change);
        }
        let before = count(&mut lab, 1, by, "tx_packets");
        until(step, SOON, || (count(&mut lab, 1, by, "tx_packets") > before + 100).then_some(()));
        let (mark, others) = (load.mark(), count(&mut lab, 1, not_by, "tx_packets"));
        let before = count(&mut lab, 1, by, "tx_packets");
        until(step, SOON, || (count(&mut lab, 1, by, "tx_packets") > before + 500).then_some(()));
        let account = load.since(mark);
        assert_eq!((account.lost, account.doubled), (0, 0), "{step}: {account:?}");
        assert_eq!(count(&mut lab, 1, not_by, "tx_packets"), others, "{step}: nothing by {not_by}");
        if step != "down" {
            says_back(&mut stream, &[7; 20_000]).unwrap_or_else(|error| panic!("{step}: {error}"));
        }
        println!("{step}: {account:?}");
    }
    assert!(count(&mut lab, 2, "west", "forwarded") > 500, "s2 takes its names on either uplink");
    // Answers go by s2's own route, to an uplink of s1 that is down.
    lab.at("s2").ip("route add 192.168.50.1/32 via 192.168.60.1 dev eth2");
    says_back(&mut stream, &[7; 20_000]).expect("the connection goes on by the second uplink alone");
    for engine in [1, 2] {
        assert_eq!(lab.engine(engine).dropped_but_multicast(), 0, "{}", lab.engine(engine).all_drops());
    }
}

/// A container on each ServerIP of both servers: the binding says which address is on the wire, the link of the other
/// end's address where, and errors come from the address that was asked.
#[test]
fn several_server_ips_each_on_its_own_uplink() {
    let mut lab = lab();
    let western = MAPPING
        .replace("02:00:00:00:00:02  192.168.50.2:20482", "02:00:00:00:00:62  192.168.60.2:20482")
        .replace("02:00:00:00:00:01  192.168.50.1:49152", "02:00:00:00:00:61  192.168.60.1:49152");
    lab.set_mapping(&western);
    lab.start(1);
    lab.start(2);
    let (east, west) =
        (Capture::start(lab.at("wire"), "br0", "udp or icmp"), Capture::start(lab.at("wire"), "br1", "udp or icmp"));
    let parrot = Parrot::start(lab.at("web"), 7);
    // carol's block and the service at 10.0.0.10:7 are in the west, alice's block is in the east.
    for (caller, src) in [("carol", western_ip(1)), ("alice", server_ip(1))] {
        assert!(udp_echo(&udp(lab.at(caller), (WEB, 7)), caller.as_bytes(), 3), "{caller} and web");
        let seen = west.until("the question in the west", |seen| seen.src == src && seen.dst == western_ip(2));
        assert!(seen.checksums_right);
    }
    west.until("carol's answer in the west", |seen| seen.src == western_ip(2) && seen.dst == western_ip(1));
    east.until("alice's answer in the east", |seen| seen.src == western_ip(2) && seen.dst == server_ip(1));
    assert_eq!(parrot.last().map(|from| from.ip()), Some(IpAddr::from([10, 0, 0, 1])));
    assert!(count(&mut lab, 1, "west", "tx_packets") >= 2 && count(&mut lab, 2, "uplink", "tx_packets") >= 1);

    // The last hop of a traceroute to a western name is the western address.
    lab.at("carol").attempt("traceroute", &["-n", "-q1", "-w1", "-f2", "-m2", "-U", "-p7", &WEB.to_string()]);
    west.until("time exceeded", |seen| seen.proto == 1 && seen.src == western_ip(2) && seen.dst == western_ip(1));
    for engine in [1, 2] {
        assert_eq!(lab.engine(engine).drops(None, "spoofed_source"), 0, "{}", lab.engine(engine).all_drops());
    }
}

/// A container of a gateway whose default route leads by its NIC towards clients, where the world knows the ServerIP to be.
#[test]
fn a_gateways_containers_reach_the_outside_by_its_other_nic() {
    const EDGE: Member = Member {
        name: "edge",
        server: 6,
        network: "blue",
        mac: "02:42:0a:00:00:06",
        ip: Ipv4Addr::new(10, 0, 0, 6),
        local_ports: None,
    };
    let mut lab = Lab::new();
    lab.add_gateway(6);
    lab.add_container(EDGE);
    let wan = Ipv4Addr::new(198, 18, 6, 1);
    lab.amend_config(6, "ips = [\"192.168.50.6\"", "ips = [\"192.168.50.6\", \"198.18.6.1\"");
    let block = format!("blue any - {wan}:32768-33023 02:42:0a:00:00:06 10.0.0.6:*\n");
    let public = "blue udp - 192.168.50.6:20490 02:42:0a:00:00:06 10.0.0.6:4500 public=198.51.100.6:4500\n";
    lab.set_mapping(&(MAPPING.to_owned() + &block + public));
    lab.at("s6").ip("route replace default via 198.18.6.2 dev wan");
    lab.start(6);
    let (client_side, wire) =
        (Capture::start(lab.at("outside"), "gw6", "ip"), Capture::start(lab.at("wire"), "br0", "ip host 203.0.113.9"));
    let outside = Greeter::start(lab.at("outside"), "outside", 80);
    let mut stream = connect(lab.at("edge"), (OUTSIDE, 80)).expect("the outside by the other NIC");
    assert_eq!(greeting(&mut stream), format!("I am outside, you are {wan}"));
    says_back(&mut stream, &[7; 50_000]).expect("both directions");
    assert_eq!(outside.seen(), [IpAddr::from(wan)]);
    lab.at("edge").run("ping", &["-c3", "-i0.01", "-W5", &OUTSIDE.to_string()]);
    client_side.until("a SYN from the address there", |seen| seen.src == wan && seen.ports.is_some());
    assert_eq!(wire.packets().len(), 0, "nothing of it is on the underlay");
    assert!(count(&mut lab, 6, "wan", "tx_packets") > 5 && count(&mut lab, 6, "wan", "forwarded") > 5);
    assert_eq!(count(&mut lab, 6, "uplink", "tx_packets"), 0);

    // A client calls the container's public name; the answer leaves where the client is.
    lab.route_public_by(&[6]);
    let _parrot = Parrot::start(lab.at("edge"), 4500);
    assert!(udp_echo(&udp(lab.at("outside"), (Ipv4Addr::new(198, 51, 100, 6), 4500)), b"hello", 3));
    client_side.until("the answer", |seen| seen.src == Ipv4Addr::new(198, 51, 100, 6));
    assert_eq!(count(&mut lab, 6, "uplink", "tx_packets"), 0);

    // Nobody out there gets in by a wire name, and the host has its own ports.
    let _ssh = Greeter::start(lab.at("s6"), "host", 22);
    assert_eq!(
        greeting(&mut connect(lab.at("outside"), (wan, 22)).expect("the host")),
        "I am host, you are 198.18.6.2"
    );
    assert!(!udp_echo(&udp(lab.at("outside"), (wan, 20490)), b"in?", 1));
    assert!(lab.engine(6).drops(Some("wan"), "no_binding") > 0);
}

/// The lab's servers, with VLAN tags on their uplinks. What the wire hands on has its tags in the frame, as NICs are told
/// to leave them.
fn on_vlan(vlan: &str) -> Lab {
    let mut lab = Lab::new();
    for server in [1, 2] {
        lab.amend_config(server, "role = \"uplink\"", &format!("role = \"uplink\"\nvlan = {vlan}"));
        let peer = format!("to-s{server}");
        lab.at("wire").run("ethtool", &["-K", &peer, "txvlan", "off", "tx-vlan-stag-hw-insert", "off"]);
    }
    lab
}

/// Connections, datagrams and full-size packets between servers bear the tag, and nothing else that arrives is taken.
#[test]
fn frames_on_the_wire_bear_the_tag_of_the_uplink() {
    let mut lab = on_vlan("100");
    lab.start(1);
    lab.start(2);
    let wire = Capture::start(lab.at("wire"), "br0", "");
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let parrot = Parrot::start(lab.at("web"), 7);
    let mut stream = connect(lab.at("alice"), (WEB, 80)).expect("web on its VLAN");
    assert_eq!(greeting(&mut stream), "I am web, you are 10.0.0.1");
    says_back(&mut stream, &[7; 300_000]).expect("both directions");
    let socket = udp(lab.at("carol"), (WEB, 7));
    assert!(udp_echo(&socket, &[7; 1472], 3), "1500 bytes of IP, and the tag");
    wire.until("the full-size packet", |seen| seen.len == 1500 && seen.proto == 17);
    let seen = wire.packets();
    assert!(seen.len() > 100, "{}", seen.len());
    for packet in &seen {
        assert_eq!(packet.vlans, [100], "{packet:?}");
        assert!(packet.checksums_right, "{packet:?}");
    }

    // The same datagram in other frames is the kernel's, and does not reach the engine.
    let macs = (raw::mac("02:00:00:00:00:fe"), raw::mac("02:00:00:00:00:02"));
    let bare = raw::udp(macs, (OUTSIDE, 9), (server_ip(2), 20482), b"hello");
    let mut injector = Injector::new(lab.at("router"), "eth1");
    injector.send(&bare);
    injector.send(&raw::tagged(&bare, &[101]));
    injector.send(&raw::tagged(&bare, &[100, 100]));
    injector.send(&raw::tagged(&bare, &[100]));
    until("the one with the tag", SOON, || (lab.engine(2).drops(Some("uplink"), "not_public") == 1).then_some(()));
    assert_eq!(lab.engine(2).dropped_but_multicast(), 1, "and no other: {}", lab.engine(2).all_drops());
    assert_eq!(parrot.last().map(|from| from.ip()), Some(IpAddr::from([10, 0, 0, 3])));
}

/// Two tags take four bytes of the MTU, and senders learn it.
#[test]
fn two_tags_go_around_each_frame() {
    let mut lab = on_vlan("[200, 100]");
    lab.start(1);
    lab.start(2);
    let wire = Capture::start(lab.at("wire"), "br0", "");
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _parrot = Parrot::start(lab.at("web"), 7);
    let mut stream = connect(lab.at("alice"), (WEB, 80)).expect("web on its VLANs");
    says_back_after_greeting(&mut stream);
    assert_eq!(count(&mut lab, 1, "uplink", "mtu"), 1496);
    let socket = udp(lab.at("carol"), (WEB, 7));
    // Whoever can't carry one says so, and then so does the kernel (RFC 1191).
    set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO).expect("a socket option");
    assert!(udp_echo(&socket, &[7; 1468], 3), "1496 bytes of IP, and the tags");
    let _ = socket.send(&[7; 1472]);
    until("carol is told", SOON, || socket.send(&[7; 1472]).is_err().then_some(()));
    wire.until("the full-size packet", |seen| seen.len == 1496 && seen.proto == 17);
    for packet in &wire.packets() {
        assert_eq!(packet.vlans, [200, 100], "{packet:?}");
    }
}

fn says_back_after_greeting(stream: &mut TcpStream) {
    greeting(stream);
    says_back(stream, &[7; 300_000]).expect("both directions");
}

/// Where the kernel has a device of its own for the VLAN, its routes and neighbours name that.
#[test]
fn the_kernels_device_for_a_vlan_has_the_routes() {
    let mut lab = on_vlan("100");
    lab.amend_config(1, "vlan = 100", "vlan = 100\nroutes = \"vlan100\"");
    lab.set_mapping(&any_link(MAPPING));
    let s1 = lab.at("s1");
    s1.ip("link add vlan100 type veth peer name vlan100-far");
    s1.ip("link set vlan100-far up");
    s1.ip("link set vlan100 up");
    s1.ip("addr flush dev eth1");
    s1.ip("addr add 192.168.50.1/24 dev vlan100");
    s1.ip("neigh add 192.168.50.2 lladdr 02:00:00:00:00:02 dev vlan100 nud permanent");
    lab.at("s2").ip("neigh add 192.168.50.1 lladdr 02:00:00:00:00:01 dev eth1 nud permanent");
    lab.start(1);
    lab.start(2);
    let wire = Capture::start(lab.at("wire"), "br0", "vlan 100 and tcp");
    let _web = Greeter::start(lab.at("web"), "web", 80);
    says_back_after_greeting(&mut connect(lab.at("alice"), (WEB, 80)).expect("by eth1, with the routes of vlan100"));
    let seen = wire.until("a segment", |seen| seen.dst == server_ip(2));
    assert_eq!(seen.vlans, [100]);
}
