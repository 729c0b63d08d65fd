//! Two servers are transparent: what one container sends arrives at the other as it was, but for what a router changes,
//! and the answer and any error about it come back in the sender's own words.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::packet::{ACK, Packet, SYN, error, tcp, udp};
use crate::underlay::Underlay;

/// A client and a server that it may call.
#[derive(Clone, Copy, Debug)]
struct Pair {
    client: &'static str,
    client_ip: &'static str,
    /// What the server sees: the inside name, or the wire name of a peer's client.
    seen_ip: &'static str,
    /// Its source ports pass unchanged.
    native: bool,
    server: &'static str,
    server_ip: &'static str,
    port: u16,
    is_tcp: bool,
}

const PAIRS: &[Pair] = &[
    pair(("native", "10.1.0.2"), "10.1.0.2", true, ("far", "10.2.0.2", 80), true),
    pair(("native", "10.1.0.2"), "10.1.0.2", true, ("far", "10.2.0.2", 53), false),
    pair(("plain", "10.1.0.3"), "10.1.0.3", false, ("far", "10.2.0.2", 80), true),
    pair(("plain", "10.1.0.3"), "10.1.0.3", false, ("far", "10.2.0.2", 53), false),
    pair(("red", "10.1.0.2"), "10.1.0.2", false, ("red-far", "10.2.0.2", 80), true),
    pair(("native", "10.1.0.2"), "192.168.50.1", true, ("green-far", "172.20.0.2", 443), true),
    pair(("plain", "10.1.0.3"), "192.168.50.1", false, ("green-far", "172.20.0.2", 443), true),
    pair(("far", "10.2.0.2"), "10.2.0.2", true, ("native", "10.1.0.2", 80), true),
    pair(("far", "10.2.0.2"), "10.2.0.2", true, ("public", "10.1.0.4", 4500), false),
    pair(("red-far", "10.2.0.2"), "10.2.0.2", false, ("red", "10.1.0.2", 80), true),
];

const fn pair(
    (client, client_ip): (&'static str, &'static str),
    seen_ip: &'static str,
    native: bool,
    (server, server_ip, port): (&'static str, &'static str, u16),
    is_tcp: bool,
) -> Pair {
    Pair { client, client_ip, seen_ip, native, server, server_ip, port, is_tcp }
}

/// What a sender chooses.
#[derive(Clone, Debug)]
struct Shape {
    ttl: u8,
    id: Option<u16>,
    tos: u8,
    options: bool,
    partial: bool,
    checksum: bool,
    payload: Vec<u8>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let payload = prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), 1300..1440)];
    (3..=255u8, any::<Option<u16>>(), any::<u8>(), any::<bool>(), any::<bool>(), any::<bool>(), payload).prop_map(
        |(ttl, id, tos, options, partial, checksum, payload)| Shape {
            ttl,
            id,
            tos,
            options,
            partial,
            checksum,
            payload,
        },
    )
}

impl Shape {
    fn packet(&self, from: &str, to: &str, tcp_flags: Option<u8>) -> Packet {
        let packet = match tcp_flags {
            Some(flags) => tcp(from, to, flags),
            None => udp(from, to),
        };
        let packet = packet.ttl(self.ttl).tos(self.tos).payload(&self.payload);
        let packet = if self.options { packet.options(&[0x94, 4, 0, 0]) } else { packet };
        let packet = self.id.map_or(packet.clone(), |id| packet.id(id));
        if tcp_flags.is_none() && !self.checksum { packet.no_checksum() } else { packet }
    }

    /// As a stack with offload hands it over.
    fn sent(&self, packet: &Packet) -> Packet {
        if self.partial && self.checksum { packet.clone().partial_checksum() } else { packet.clone() }
    }
}

/// After two servers, under the identification that it had on the wire.
fn routed(packet: Packet, wire: &[u8]) -> Packet {
    let ttl = packet.ttl - 2;
    let packet = packet.ttl(ttl);
    if packet.dont_fragment { packet } else { packet.id(u16::from_be_bytes([wire[18], wire[19]])) }
}

/// The source port of a frame.
fn source_port(frame: &[u8]) -> u16 {
    let l4 = 14 + usize::from(frame[14] & 15) * 4;
    u16::from_be_bytes([frame[l4], frame[l4 + 1]])
}

#[test]
fn what_is_sent_arrives_and_answers_and_errors_come_back() {
    let underlay = RefCell::new(Underlay::new());
    let native_port = 20736..20960u16;
    let shapes = (shape(), shape());
    proptest!(ProptestConfig::with_cases(600), |(
        pair in select(PAIRS), native_port in native_port, any_port in 1024..20000u16, (call, answer) in shapes,
    )| {
        let underlay = &mut *underlay.borrow_mut();
        for world in [&mut underlay.a, &mut underlay.b] {
            // Long enough for every entry to end: blocks do not fill up.
            world.later(8000);
        }
        underlay.wire.clear();
        let port = if pair.native { native_port } else { any_port };
        let (client, server) = (format!("{}:{port}", pair.client_ip), format!("{}:{}", pair.server_ip, pair.port));
        let flags = |flags| pair.is_tcp.then_some(flags);

        let sent = call.packet(&client, &server, flags(SYN));
        let arrived = underlay.send(pair.client, &call.sent(&sent).from(pair.client).bytes());
        prop_assert_eq!(&arrived.verdict, &format!("forward {}", pair.server));
        let out = arrived.out.unwrap();
        let seen_port = source_port(&out);
        prop_assert!(!pair.native || seen_port == port);
        let seen = format!("{}:{seen_port}", pair.seen_ip);
        let expected = routed(call.packet(&seen, &server, flags(SYN)), &underlay.wire[0]).to(pair.server);
        prop_assert_eq!(out, expected.bytes());

        let reply = answer.packet(&server, &seen, flags(SYN | ACK));
        let back = underlay.send(pair.server, &answer.sent(&reply).from(pair.server).bytes());
        prop_assert_eq!(&back.verdict, &format!("forward {}", pair.client));
        let expected = routed(answer.packet(&server, &client, flags(SYN | ACK)), &underlay.wire[1]).to(pair.client);
        prop_assert_eq!(back.out.unwrap(), expected.bytes());

        // The server's kernel quotes the packet as it saw it; the client gets it as it sent it, routed.
        let as_seen = routed(call.packet(&seen, &server, flags(SYN)), &underlay.wire[0]);
        let as_sent = routed(sent, &underlay.wire[0]);
        let refusal = |quoted: &Packet, to: &str| {
            let packet = error(pair.server_ip, to, 3, 3, quoted);
            if packet.ip_bytes().len() > 576 { packet.truncated(576) } else { packet }
        };
        let told = underlay.send(pair.server, &refusal(&as_seen, pair.seen_ip).from(pair.server).bytes());
        prop_assert_eq!(&told.verdict, &format!("forward {}", pair.client));
        prop_assert_eq!(told.out.unwrap(), refusal(&as_sent, pair.client_ip).ttl(62).to(pair.client).bytes());

        for frame in &underlay.wire {
            prop_assert_eq!(&frame[26..28], &[192, 168], "only servers' addresses are on the wire");
            prop_assert_eq!(&frame[30..32], &[192, 168]);
        }
    });
}

#[test]
fn a_traceroute_shows_gateway_server_and_container() {
    let mut underlay = Underlay::new();
    let mut hop = |ttl: u8| {
        let probe = udp("10.1.0.3:40000", "10.2.0.2:53").ttl(ttl).from("plain");
        let told = underlay.send("plain", &probe.bytes());
        (told.verdict, told.out)
    };
    let (verdict, out) = hop(1);
    assert_eq!(verdict, "answer plain time_exceeded");
    assert_eq!(out.unwrap()[26..30], [169, 254, 1, 1]);
    let (verdict, out) = hop(2);
    assert_eq!(verdict, "forward plain");
    assert_eq!(out.unwrap()[26..30], [192, 168, 50, 2]);
    let (verdict, out) = hop(3);
    assert_eq!(verdict, "forward far");
    assert_eq!(out.unwrap()[22], 1);
}
