//! IPv6 packets, built by etherparse and smoltcp.

use std::net::Ipv6Addr;

use etherparse::{IpNumber, Ipv6FlowLabel, Ipv6Header, PacketBuilder, PacketBuilderStep};
use smoltcp::wire::{Icmpv6Packet, Icmpv6Repr, NdiscRepr, RawHardwareAddress};

use crate::packet::{ACK, FIN, RST, SYN, mac};

/// Every packet's payload.
const PAYLOAD: &[u8] = b"six ways";
const ICMPV6: IpNumber = IpNumber::IPV6_ICMP;

/// Two stations, and a hop limit.
#[derive(Clone, Copy)]
pub struct Hop<'a>(pub &'a str, pub &'a str, pub u8);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// `[fd00::1]:80`, or an address alone.
fn end(text: &str) -> (Ipv6Addr, u16) {
    match text.strip_prefix('[').and_then(|text| text.split_once("]:")) {
        Some((address, port)) => (ip(address), port.parse().unwrap()),
        None => (ip(text), 0),
    }
}

fn header(src: Ipv6Addr, dst: Ipv6Addr, next_header: IpNumber, hop_limit: u8) -> Ipv6Header {
    Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: 0,
        next_header,
        hop_limit,
        source: src.octets(),
        destination: dst.octets(),
    }
}

fn begin(hop: Hop<'_>, src: &str, dst: &str) -> PacketBuilderStep<etherparse::IpHeaders> {
    let Hop(from, to, hop_limit) = hop;
    let header = header(end(src).0, end(dst).0, IpNumber::UDP, hop_limit);
    PacketBuilder::ethernet2(mac(from).0, mac(to).0)
        .ip(etherparse::IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default()))
}

pub fn udp6(hop: Hop<'_>, src: &str, dst: &str) -> Vec<u8> {
    udp6_of(hop, src, dst, PAYLOAD)
}

pub fn udp6_of(hop: Hop<'_>, src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    begin(hop, src, dst).udp(end(src).1, end(dst).1).write(&mut bytes, payload).unwrap();
    bytes
}

pub fn tcp6(hop: Hop<'_>, src: &str, dst: &str, flags: u8) -> Vec<u8> {
    let mut tcp = begin(hop, src, dst).tcp(end(src).1, end(dst).1, 1000, 8192);
    for (flag, set) in
        [(SYN, PacketBuilderStep::syn as fn(_) -> _), (FIN, PacketBuilderStep::fin), (RST, PacketBuilderStep::rst)]
    {
        tcp = if flags & flag != 0 { set(tcp) } else { tcp };
    }
    tcp = if flags & ACK != 0 { tcp.ack(2000) } else { tcp };
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, PAYLOAD).unwrap();
    bytes
}

pub fn echo6(hop: Hop<'_>, src: &str, dst: &str, is_reply: bool, id: u16) -> Vec<u8> {
    echo6_of(hop, src, dst, is_reply, id, PAYLOAD)
}

pub fn echo6_of(hop: Hop<'_>, src: &str, dst: &str, is_reply: bool, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = begin(hop, src, dst);
    let icmp = if is_reply { ip.icmpv6_echo_reply(id, 1) } else { ip.icmpv6_echo_request(id, 1) };
    icmp.write(&mut bytes, payload).unwrap();
    bytes
}

/// An ICMPv6 error about `quoted`, a whole frame; `parameter` is the MTU or zero.
pub fn error6(hop: Hop<'_>, src: &str, dst: &str, (kind, code, parameter): (u8, u8, u32), quoted: &[u8]) -> Vec<u8> {
    let Hop(from, to, hop_limit) = hop;
    let [p0, p1, p2, p3] = parameter.to_be_bytes();
    let kind = etherparse::Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [p0, p1, p2, p3] };
    let header = header(ip(src), ip(dst), ICMPV6, hop_limit);
    let builder = PacketBuilder::ethernet2(mac(from).0, mac(to).0)
        .ip(etherparse::IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default()))
        .icmpv6(kind);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &quoted[14..]).unwrap();
    bytes
}

/// A message of neighbour discovery, with the hop limit that proves that it is a neighbour's.
pub fn ndp(from: &str, to: &str, src: &str, dst: &str, said: NdiscRepr<'_>) -> Vec<u8> {
    let (src, dst, said) = (ip(src), ip(dst), Icmpv6Repr::Ndisc(said));
    let mut message = vec![0; said.buffer_len()];
    said.emit(&src, &dst, &mut Icmpv6Packet::new_unchecked(&mut message[..]), &Default::default());
    let mut ip = header(src, dst, ICMPV6, 255);
    ip.payload_length = message.len() as u16;
    [&mac(to).0[..], &mac(from).0, &[0x86, 0xdd], &ip.to_bytes(), &message].concat()
}

/// A MAC as neighbours tell it.
pub fn station(text: &str) -> Option<RawHardwareAddress> {
    Some(RawHardwareAddress::from_bytes(&mac(text).0))
}
