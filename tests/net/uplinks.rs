//! Servers with several uplinks, several ServerIPs and NICs towards clients: the kernel's routes say which port a packet
//! leaves by, and what a route says changes under traffic.

use std::net::{IpAddr, Ipv4Addr, TcpStream};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};

use crate::lab::capture::Capture;
use crate::lab::load::Load;
use crate::lab::peers::{Greeter, Parrot, connect, greeting, says_back, udp, udp_echo};
use crate::lab::programs::{iperf, iperf_server};
use crate::lab::raw::{self, Injector};
use crate::lab::underlay::western_ip;
use crate::lab::{Lab, MAPPING, Member, OUTSIDE, SOON, server_ip, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// A count of a port.
fn count(lab: &mut Lab, server: u8, port: &str, what: &str) -> u64 {
    let port = lab.engine(server).port(port);
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
    // Known beforehand: of packets that wait to be told a MAC, only the first few are kept.
    for (server, other) in [(1, 2), (2, 1)] {
        let far = format!("{} lladdr 02:00:00:00:00:6{other} dev eth2 nud permanent", western_ip(other));
        lab.at(&format!("s{server}")).ip(&format!("neigh replace {far}"));
    }
    lab.start(1);
    lab.start(2);
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("alice"), (WEB, 80)).expect("web is there");
    assert_eq!(greeting(&mut stream), "I am web, you are 10.0.0.1");
    let load = Load::start(lab.at("alice"), lab.at("web"), (WEB, 5201), 500);
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
        until(step, SOON, || (count(&mut lab, 1, by, "tx_packets") > before + 50).then_some(()));
        let (mark, others) = (load.mark(), count(&mut lab, 1, not_by, "tx_packets"));
        let before = count(&mut lab, 1, by, "tx_packets");
        until(step, SOON, || (count(&mut lab, 1, by, "tx_packets") > before + 200).then_some(()));
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
    assert_eq!(lab.engine(1).port("uplink")["vlan"].to_string(), "[200,100]");
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

/// Every link of the lab, from container to container, carries packets of so many bytes.
fn widen(lab: &Lab, mtu: u32) {
    for server in ["s1", "s2"] {
        lab.at("wire").ip(&format!("link set to-{server} mtu {mtu}"));
        lab.at(server).ip(&format!("link set eth1 mtu {mtu}"));
    }
    lab.at("wire").ip(&format!("link set to-router mtu {mtu}"));
    lab.at("wire").ip(&format!("link set br0 mtu {mtu}"));
    for (place, interface) in [("router", "eth1"), ("router", "east"), ("outside", "eth0")] {
        lab.at(place).ip(&format!("link set {interface} mtu {mtu}"));
    }
    for (server, member) in [("s1", "alice"), ("s1", "carol"), ("s2", "web"), ("s2", "dave")] {
        lab.at(member).ip(&format!("link set eth0 mtu {mtu}"));
        lab.at(server).ip(&format!("link set veth-{member} mtu {mtu}"));
    }
}

/// Datagrams of all sizes around those of one buffer and several, and back.
fn all_sizes_are_echoed(lab: &Lab, from: &str) {
    let socket = udp(lab.at(from), (WEB, 7));
    set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO).expect("a socket option");
    for len in [100, 3440, 3472, 3500, 4096, 7000, 8971, 8972] {
        let datagram: Vec<u8> = (0..len).map(|at: u32| (at * 7 + len) as u8).collect();
        assert!(udp_echo(&socket, &datagram, 3), "{len} bytes from {from}");
    }
    socket.send(&[0; 8973]).expect_err("more than the container's own MTU");
}

/// Packets of 9000 bytes, in several buffers each, from container to container; and iperf3.
#[test]
fn jumbo_packets_cross_in_several_buffers() {
    let mut lab = Lab::new();
    widen(&lab, 9000);
    lab.start(1);
    lab.start(2);
    let wire = Capture::start(lab.at("wire"), "br0", "udp");
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _parrot = Parrot::start(lab.at("web"), 7);
    for from in ["alice", "carol", "dave"] {
        all_sizes_are_echoed(&lab, from);
    }
    let seen = wire.until("the largest", |seen| seen.len == 9000);
    assert!(seen.checksums_right, "completed over several buffers");
    says_back_after_greeting(&mut connect(lab.at("alice"), (WEB, 80)).expect("web"));
    // Answered by the engine, by the far side's router and by a container's neighbour: all in several buffers.
    for target in ["169.254.1.1", "10.0.0.10", "203.0.113.9"] {
        let ping = lab.at("alice").run("ping", &["-c2", "-i0.01", "-W5", "-M", "do", "-s", "8000", target]);
        assert!(ping.contains(" 0% packet loss"), "{target}: {ping}");
    }
    drop(wire);
    let _server = iperf_server(lab.at("web"));
    for direction in [&["-c", "10.0.0.10", "-t", "2"][..], &["-c", "10.0.0.10", "-t", "2", "-R"]] {
        let before = [count(&mut lab, 1, "uplink", "tx_bytes"), count(&mut lab, 1, "uplink", "tx_packets")];
        let report = iperf(lab.at("carol"), direction);
        let (sent, way) = (&report["end"]["sum_sent"], if direction.len() > 4 { "down" } else { "up" });
        let gigabits = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e9;
        println!("carol {way}, MTU 9000: {gigabits:.2} Gbit/s, {} retransmits", sent["retransmits"]);
        assert!(gigabits > 0.1, "{way}: {gigabits} Gbit/s is a flow that limps\n{report}");
        if way == "up" {
            let after = [count(&mut lab, 1, "uplink", "tx_bytes"), count(&mut lab, 1, "uplink", "tx_packets")];
            let mean = (after[0] - before[0]) / (after[1] - before[1]);
            assert!(mean > 6000, "{mean} bytes a packet are no jumbo packets");
        }
    }
    for engine in [1, 2] {
        assert_eq!(lab.engine(engine).dropped_but_multicast(), 0, "{}", lab.engine(engine).all_drops());
    }
}

/// The same from worker to worker, where each packet is copied, and on a VLAN.
#[test]
fn jumbo_packets_cross_from_worker_to_worker_and_on_vlans() {
    let mut lab = on_vlan("[200, 100]");
    widen(&lab, 9004);
    for member in ["alice", "carol", "web", "dave"] {
        lab.at(member).ip("link set eth0 mtu 9000");
    }
    lab.with_two_workers();
    lab.start(1);
    lab.start(2);
    let _parrot = Parrot::start(lab.at("web"), 7);
    for from in ["alice", "carol", "dave"] {
        all_sizes_are_echoed(&lab, from);
    }
    assert_eq!(count(&mut lab, 1, "uplink", "mtu"), 9000);
    for engine in [1, 2] {
        assert_eq!(lab.engine(engine).dropped_but_multicast(), 0, "{}", lab.engine(engine).all_drops());
    }
}

/// Engines die and are replaced under jumbo packets; a holder keeps the sockets, and the frames of each packet are found
/// again.
#[test]
fn jumbo_packets_outlive_their_engines() {
    let mut lab = Lab::new();
    widen(&lab, 9000);
    for server in [1, 2] {
        lab.start(server);
        let engine = lab.engine(server);
        engine.stop();
        engine.with_holder();
        engine.start();
    }
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("web");
    greeting(&mut stream);
    for death in 0..4_u8 {
        let engine = lab.engine(death % 2 + 1);
        if death < 2 {
            engine.kill();
        } else {
            engine.stop();
        }
        engine.spawn();
        // Many frames are on their way in and out while it takes over.
        says_back(&mut stream, &vec![death; 3_000_000]).unwrap_or_else(|error| panic!("death {death}: {error}"));
        lab.engine(death % 2 + 1).wait_until_ready();
        let log = lab.engine(death % 2 + 1).log();
        assert!(log.contains("sockets were taken over from a former engine"), "{log}");
    }
    for server in [1, 2] {
        let workers = lab.engine(server).get("/v1/workers");
        println!("s{server}: {workers}");
    }
}

/// A wide container behind a narrow uplink is told, and so is a wide sender to a narrow container.
#[test]
fn jumbo_packets_are_refused_where_the_way_is_narrower() {
    let mut lab = Lab::new();
    widen(&lab, 9000);
    lab.at("s1").ip("link set eth1 mtu 4000");
    lab.at("s2").ip("link set veth-web mtu 2000");
    lab.at("web").ip("link set eth0 mtu 2000");
    lab.start(1);
    lab.start(2);
    let _parrot = Parrot::start(lab.at("web"), 7);
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let socket = udp(lab.at("carol"), (WEB, 7));
    set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO).expect("a socket option");
    // 9000 bytes are too many for s1's uplink, 4000 for the container that s2 has.
    for (size, server, port) in [(8972, 1, "carol"), (3972, 2, "uplink")] {
        until("it is answered with the MTU of the way", SOON, || {
            let _ = socket.send(&vec![7; size]);
            (count_answers(&mut lab, server, port) > 0).then_some(())
        });
    }
    until("carol's kernel knows", SOON, || udp_echo(&socket, &[7; 1972], 1).then_some(()));
    socket.send(&[7; 1973]).expect_err("more than fits everywhere");
    says_back_after_greeting(&mut connect(lab.at("alice"), (WEB, 80)).expect("segments are clamped"));
}

/// Packets that a port has answered with the MTU of the way.
fn count_answers(lab: &mut Lab, server: u8, port: &str) -> u64 {
    lab.engine(server).port(port)["answers"]["fragmentation_needed"].as_u64().unwrap_or(0)
}

/// An MTU that is raised under an engine whose sockets carry one buffer a packet counts as far as that goes, and in full
/// from the next start on.
#[test]
fn an_mtu_that_is_raised_is_used_in_full_by_the_next_engine() {
    let mut lab = Lab::new();
    lab.start(1);
    assert_eq!(count(&mut lab, 1, "uplink", "mtu"), 1500);
    lab.at("s1").ip("link set eth1 mtu 9000");
    until("as much as one buffer holds", SOON, || (count(&mut lab, 1, "uplink", "mtu") == 3498).then_some(()));
    lab.engine(1).stop();
    lab.engine(1).start();
    assert_eq!(count(&mut lab, 1, "uplink", "mtu"), 9000);
}
