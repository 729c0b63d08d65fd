//! Packets larger than a link: real kernels' fragments, in order and not, and packets that the engine has to cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use etherparse::PacketBuilder;

use crate::gateway;
use crate::lab::capture::Capture;
use crate::lab::namespace::Namespace;
use crate::lab::peers::{PATIENCE, Parrot};
use crate::lab::raw::{Injector, Random, mac};
use crate::lab::{Lab, OUTSIDE, SOON, server_ip, server_ip6, until};
use crate::parts::fragments;
use crate::six;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// DNS with EDNS, and what it may be at most; NFS over UDP.
const SIZES: [usize; 4] = [1473, 4096, 8192, 32768];

/// A UDP socket at `place` that talks to `to` and gives up after a while.
fn talker(place: &Namespace, to: SocketAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = place.within(|| UdpSocket::bind((any, 0)).expect("a free port"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    place.within(|| socket.connect(to).expect("a route"));
    socket
}

/// Sends a datagram of `len` bytes and has it come back.
fn comes_back(socket: &UdpSocket, len: usize) {
    let mut random = Random(len as u64 + 1);
    let words: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    let sent = socket.send(&words).expect("it is sent");
    assert_eq!(sent, len);
    let mut answer = vec![0; 65536];
    let got = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{len} bytes do not come back: {error}"));
    assert!(answer[..got] == words, "{len} bytes came back as {got}");
}

/// Echoes datagrams on a socket for as long as the story lasts.
fn echo(socket: UdpSocket) {
    thread::spawn(move || {
        let mut bytes = vec![0; 65536];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..len], from);
        }
    });
}

fn assert_no_fragment_was_dropped(lab: &mut Lab, servers: &[u8]) {
    for &server in servers {
        let drops = lab.engine(server).all_drops();
        assert!(!drops.contains("fragment"), "s{server}:\n{drops}");
    }
}

/// Between containers on two servers, by native and by default-mode blocks, and to the next door.
#[test]
fn large_datagrams_pass_between_containers() {
    let mut lab = Lab::running();
    let _web = Parrot::start(lab.at("web"), 7);
    let wire = Capture::start(lab.at("wire"), "br0", "udp or (ip[6:2] & 0x1fff != 0)");
    for name in ["alice", "carol", "dave"] {
        let socket = talker(lab.at(name), (WEB, 7).into());
        for len in SIZES {
            comes_back(&socket, len);
        }
    }
    assert!(wire.frames().len() > 100, "in fragments");
    assert_no_fragment_was_dropped(&mut lab, &[1, 2]);
}

/// The same where first fragments and later ones come to different workers.
#[test]
fn large_datagrams_pass_between_workers() {
    let mut lab = Lab::new();
    lab.with_two_workers();
    lab.start(1);
    lab.start(2);
    let _web = Parrot::start(lab.at("web"), 7);
    for _ in 0..8 {
        let socket = talker(lab.at("alice"), (WEB, 7).into());
        SIZES.iter().for_each(|&len| comes_back(&socket, len));
    }
    assert_no_fragment_was_dropped(&mut lab, &[1, 2]);
}

#[test]
fn large_datagrams_pass_over_ipv6() {
    let mut lab = six::lab(true);
    echo(lab.at("web").within(|| UdpSocket::bind((six::WEB, 7)).expect("a free port")));
    for name in ["alice", "carol"] {
        let socket = talker(lab.at(name), (six::WEB, 7).into());
        for len in SIZES {
            comes_back(&socket, len);
        }
        lab.at(name).run("ping", &["-6", "-c2", "-i0.05", "-W2", "-s", "4000", &six::WEB.to_string()]);
    }
    assert_no_fragment_was_dropped(&mut lab, &[1, 2]);
}

/// Pings of 4000 bytes: to a container and to the gateway, which the sender's engine answers, to a server's kernel and to
/// the outside.
#[test]
fn large_pings_come_back() {
    let mut lab = Lab::running();
    let (server, outside) = (server_ip(2).to_string(), OUTSIDE.to_string());
    for client in ["alice", "carol"] {
        for target in ["10.0.0.10", "169.254.1.1", &server, &outside] {
            let answer = lab.at(client).run("ping", &["-c3", "-i0.05", "-W2", "-s", "4000", "-p", "a55a", target]);
            assert!(answer.contains(" 0% packet loss") && !answer.contains("wrong data"), "{client}:\n{answer}");
        }
    }
    assert_no_fragment_was_dropped(&mut lab, &[1, 2]);
}

/// To the outside and back through blocks of both kinds, and from outside by a gateway to a public name.
#[test]
fn large_datagrams_go_out_and_come_in() {
    let mut lab = gateway::lab();
    lab.route_public_by(&[6]);
    let _outside = Parrot::start(lab.at("outside"), 53);
    for name in ["alice", "carol"] {
        let socket = talker(lab.at(name), (OUTSIDE, 53).into());
        SIZES.iter().for_each(|&len| comes_back(&socket, len));
    }
    let web = Parrot::start(lab.at("web"), 53);
    let client = talker(lab.at("outside"), (gateway::WEB, 53).into());
    SIZES.iter().for_each(|&len| comes_back(&client, len));
    assert_eq!(web.last().map(|peer| peer.ip()), Some(OUTSIDE.into()), "the client is seen as who it is");
    assert_no_fragment_was_dropped(&mut lab, &[1, 2, 6]);
}

/// A container whose link takes 9000 bytes sends packets that may be fragmented over an underlay of 1500.
#[test]
fn packets_of_a_wide_link_are_cut_for_the_wire() {
    let mut lab = Lab::new();
    lab.at("s1").ip("link set veth-alice mtu 9000");
    lab.at("alice").ip("link set eth0 mtu 9000");
    // Without path MTU discovery packets go without DF.
    lab.at("alice").set("net.ipv4.ip_no_pmtu_disc", "1");
    lab.start(1);
    lab.start(2);
    let _web = Parrot::start(lab.at("web"), 7);
    let wire = Capture::start(lab.at("wire"), "br0", "udp or (ip[6:2] & 0x1fff != 0)");
    let socket = talker(lab.at("alice"), (WEB, 7).into());
    for len in [2000, 8000, 8972] {
        comes_back(&socket, len);
    }
    // Larger than this link, too: its fragments are cut again.
    comes_back(&socket, 30_000);
    assert!(wire.frames().iter().all(|frame| frame.len() <= 1514));
    assert_no_fragment_was_dropped(&mut lab, &[1, 2]);
}

/// The MAC of an interface of s1.
fn port_mac(lab: &Lab, interface: &str) -> [u8; 6] {
    let shown = lab.at("s1").ip(&format!("-o link show {interface}"));
    let words: Vec<&str> = shown.split_whitespace().collect();
    let at = words.iter().position(|&word| word == "link/ether").expect("an Ethernet interface");
    mac(words[at + 1])
}

/// A UDP packet in fragments, the last one first.
fn backwards(frame: &[u8], id: u32) -> Vec<Vec<u8>> {
    fragments(frame, 1448, id).into_iter().rev().collect()
}

fn datagram(macs: ([u8; 6], [u8; 6]), from: SocketAddr, to: SocketAddr, len: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0, macs.1);
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => builder.ipv4(src.octets(), dst.octets(), 64),
        (IpAddr::V6(src), IpAddr::V6(dst)) => builder.ipv6(src.octets(), dst.octets(), 64),
        _ => panic!("of one family"),
    };
    let mut frame = Vec::new();
    builder.udp(from.port(), to.port()).write(&mut frame, &vec![6; len]).expect("it fits");
    frame
}

/// What a container sends in any order arrives.
#[test]
fn a_container_may_send_fragments_in_any_order() {
    let mut lab = Lab::running();
    let web = lab.at("web").within(|| UdpSocket::bind(("0.0.0.0", 7)).expect("a free port"));
    web.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let macs = (mac("02:42:0a:00:00:01"), port_mac(&lab, "veth-alice"));
    let mut alice = Injector::new(lab.at("alice"), "eth0");
    let from = SocketAddr::from(([10, 0, 0, 1], 33000));
    for id in 0..20 {
        backwards(&datagram(macs, from, (WEB, 7).into(), 6000), id).iter().for_each(|frame| alice.send(frame));
        let mut bytes = [0; 8000];
        let (len, peer) = web.recv_from(&mut bytes).expect("it arrives");
        assert_eq!((len, peer), (6000, from));
    }
    assert_no_fragment_was_dropped(&mut lab, &[1, 2]);
}

/// Fragments that nobody claims wait for a tenth of a second in bounded memory, and are counted.
#[test]
fn a_flood_of_fragments_without_a_first_does_no_harm() {
    let mut lab = Lab::running();
    let _web = Parrot::start(lab.at("web"), 7);
    let macs = (mac("02:42:0a:00:00:01"), port_mac(&lab, "veth-alice"));
    let mut alice = Injector::new(lab.at("alice"), "eth0");
    let frame = datagram(macs, SocketAddr::from(([10, 0, 0, 1], 33000)), (WEB, 7).into(), 6000);
    let socket = talker(lab.at("carol"), (WEB, 7).into());
    for round in 0..20 {
        for id in 0..200 {
            alice.send(&fragments(&frame, 1480, round * 200 + id)[1]);
        }
        comes_back(&socket, 4096);
    }
    let engine = lab.engine(1);
    until("all are counted", SOON, || (engine.drops(Some("alice"), "fragment_unclaimed") == 4000).then_some(()));
}

/// The kernel's own: datagrams of servers to servers, in order and backwards, over both families. Those that come
/// backwards go through the engine and back.
#[test]
fn a_servers_own_fragments_reach_its_kernel() {
    let mut lab = six::lab(true);
    // As distributions have it, strictly or loosely.
    lab.at("s2").set("net.ipv4.conf.all.rp_filter", "1");
    let host = |ip: IpAddr| lab.at("s2").within(|| UdpSocket::bind((ip, 9000)).expect("a free port"));
    let sockets: [UdpSocket; 2] = [host(server_ip(2).into()), host(server_ip6(2).into())];
    let talkers: Vec<UdpSocket> =
        sockets.iter().map(|socket| talker(lab.at("s1"), socket.local_addr().expect("bound"))).collect();
    for socket in &sockets {
        echo(socket.try_clone().expect("a descriptor"));
    }
    for socket in &talkers {
        SIZES.iter().for_each(|&len| comes_back(socket, len));
    }
    let before = given_back(&mut lab, 2);
    let macs = (mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02"));
    let mut s1 = Injector::new(lab.at("s1"), "eth1");
    for (id, socket) in (0..10).flat_map(|id| talkers.iter().map(move |socket| (id, socket))) {
        let (from, to) = (socket.local_addr().expect("bound"), socket.peer_addr().expect("connected"));
        let from = if from.ip().is_unspecified() { panic!("connected: {from}") } else { from };
        backwards(&datagram(macs, from, to, 5000), 0x7000 + id).iter().for_each(|frame| s1.send(frame));
        let mut answer = vec![0; 8000];
        let got =
            socket.recv(&mut answer).unwrap_or_else(|error| panic!("the kernel of {to} has not all of it: {error}"));
        assert_eq!(got, 5000);
    }
    // Three of four fragments came before their first. The kernel may answer before the last of them is counted.
    until("all are counted as given back", SOON, || (given_back(&mut lab, 2) - before == 20 * 3).then_some(()));
    let ping = lab.at("s1").run("ping", &["-c2", "-i0.05", "-W2", "-s", "4000", &server_ip(2).to_string()]);
    assert!(ping.contains(" 0% packet loss"), "{ping}");
}

/// What port `uplink` of a server has given back to the kernel.
fn given_back(lab: &mut Lab, server: u8) -> u64 {
    lab.engine(server).port("uplink")["host"].as_u64().expect("a count")
}

/// Without an engine the kernel has its fragments as ever; the next engine finds the way back as the last one left it,
/// and detaching removes it.
#[test]
fn the_way_back_outlives_the_engine_and_not_the_detaching() {
    let mut lab = Lab::running();
    let pair =
        |lab: &Lab| lab.at("s2").ip("-br link show type veth").lines().filter(|line| line.contains("six")).count();
    assert_eq!(pair(&lab), 2);
    let end = lab.at("s2").ip("-o link show sixk-eth1");
    let socket = lab.at("s2").within(|| UdpSocket::bind((server_ip(2), 9000)).expect("a free port"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let macs = (mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02"));
    let mut s1 = Injector::new(lab.at("s1"), "eth1");
    let (from, to) = ((server_ip(1), 9999).into(), (server_ip(2), 9000).into());
    let mut backwards_arrives = |id: u32| {
        backwards(&datagram(macs, from, to, 5000), id).iter().for_each(|frame| s1.send(frame));
        assert_eq!(socket.recv(&mut vec![0; 8000]).expect("the kernel had all of it"), 5000);
    };
    backwards_arrives(1);
    lab.engine(2).kill();
    backwards_arrives(2);
    lab.engine(2).start();
    backwards_arrives(3);
    lab.engine(2).take_over();
    backwards_arrives(4);
    assert_eq!(lab.at("s2").ip("-o link show sixk-eth1"), end);
    lab.engine(2).stop();
    let config = lab.engine(2).config();
    lab.at("s2").run(&crate::lab::engine::binary(), &["detach", "--config", &config.to_string_lossy()]);
    assert_eq!(pair(&lab), 0);
    backwards_arrives(5);
}
