//! What the underlay carries: plain packets between servers, whole.

use std::net::Ipv4Addr;

use crate::lab::capture::{Capture, Seen};
use crate::lab::peers::{self, Greeter, Parrot, connect, greeting};
use crate::lab::programs::{Download, Nginx};
use crate::lab::{Lab, server_ip};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

fn between_servers(seen: &Seen) -> bool {
    [seen.src, seen.dst] == [server_ip(1), server_ip(2)] || [seen.src, seen.dst] == [server_ip(2), server_ip(1)]
}

/// A download crosses as server-to-server TCP in packets of up to 1500 bytes: no inside address, no header added.
#[test]
fn the_wire_carries_plain_packets_and_its_whole_mtu() {
    let lab = Lab::running();
    let nginx = Nginx::start(&lab, "web");
    let sum = nginx.serve_random("file", 1);
    for (client, block) in [("alice", 32768..40960), ("carol", 49152..57344)] {
        let capture = Capture::start(lab.at("wire"), "br0", "tcp");
        assert_eq!(Download::start(lab.at(client), "http://10.0.0.10/file").finish(|_| ()), sum, "{client}'s copy");
        capture.until("the end of the connection", |seen| seen.ports.is_some() && seen.bytes[47] & 1 == 1);
        let packets = capture.packets();
        for seen in &packets {
            assert!(between_servers(seen), "only servers speak on the wire: {seen:?}");
            assert!(seen.checksums_right, "a packet with a wrong checksum: {seen:?}");
            assert_eq!(seen.ttl, 63, "one server crossed: {seen:?}");
            assert!(seen.bytes.len() <= 1514, "larger than the wire: {}", seen.bytes.len());
            let (from, to) = seen.ports.expect("TCP");
            let (service, port) = if seen.src == server_ip(2) { (from, to) } else { (to, from) };
            assert_eq!(service, 20480, "web's wire name");
            assert!(block.contains(&port), "a port of {client}'s block: {port}");
        }
        assert!(packets.iter().any(|seen| seen.len == 1500), "full-sized packets use the whole MTU");
        println!("{client}: {} packets between servers, the largest {} bytes", packets.len(), largest(&packets));
    }
}

fn largest(packets: &[Seen]) -> u16 {
    packets.iter().map(|seen| seen.len).max().unwrap_or(0)
}

/// Datagrams of every size up to the MTU arrive as they were sent, partial checksums and all.
#[test]
fn datagrams_of_every_size_arrive_whole() {
    let lab = Lab::running();
    let _parrot = Parrot::start(lab.at("web"), 7);
    let capture = Capture::start(lab.at("wire"), "br0", "udp");
    for client in ["alice", "carol", "dave"] {
        let socket = peers::udp(lab.at(client), (WEB, 7));
        for size in [0, 1, 2, 22, 63, 64, 65, 127, 128, 512, 1000, 1023, 1024, 1399, 1471, 1472] {
            let payload: Vec<u8> = (0..size).map(|at| (at * 7 + size) as u8).collect();
            assert!(peers::udp_echo(&socket, &payload, 3), "{client}: {size} bytes there and back");
        }
    }
    capture.until("the largest datagram", |seen| seen.len == 1500);
    assert!(capture.packets().iter().all(|seen| seen.checksums_right && between_servers(seen)));
}

/// Offloads are as a plain veth has them; nobody ran `ethtool -K` in the container.
#[test]
fn tcp_works_with_offloads_untouched() {
    let lab = Lab::running();
    let features = lab.at("carol").run("ethtool", &["-k", "eth0"]);
    assert!(features.contains("tx-checksumming: on"), "the container leaves checksums to its NIC:\n{features}");
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut stream);
    for size in [1, 2, 3, 1447, 1448, 1449, 65_536, 1 << 20] {
        let words: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let mut reader = stream.try_clone().expect("a second handle");
        let mut answer = vec![0; size];
        std::thread::scope(|scope| {
            scope.spawn(|| std::io::Write::write_all(&mut stream, &words).expect("it is written"));
            std::io::Read::read_exact(&mut reader, &mut answer).expect("it comes back");
        });
        assert!(answer == words, "{size} bytes come back as they were");
    }
}
