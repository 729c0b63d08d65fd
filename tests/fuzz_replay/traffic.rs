//! Random frames that are often meant for somebody, and answers and errors about frames that have come out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::estate::{Estate, OWN, ROUTER, server_ip, server_mac};
use crate::fragments;
use crate::parcels::{ACK, Checksum, End, FIN, Parcel, RST, Random, SYN, Shape};
use crate::reader;

/// A frame, and the port that it comes in by.
#[derive(Clone, Debug)]
pub struct Sent {
    pub port: usize,
    pub bytes: Vec<u8>,
}

/// Addresses that nobody has, that no packet may bear, and of hosts outside.
const ODD_V4: [[u8; 4]; 9] = [
    [198, 51, 100, 7],
    [198, 51, 100, 8],
    [169, 254, 1, 1],
    [10, 9, 9, 9],
    [127, 0, 0, 1],
    [224, 0, 0, 1],
    [255, 255, 255, 255],
    [0, 0, 0, 0],
    [240, 0, 0, 1],
];
const ODD_V6: [u128; 8] = [
    0x2620 << 112 | 7,
    0x2620 << 112 | 8,
    0xfe80 << 112 | 1,
    0xfd00 << 112 | 0x9999,
    1,
    0,
    0xff02 << 112 | 1,
    0xffff_0a01_0001,
];

fn odd(random: &mut Random, v4: bool) -> IpAddr {
    // The first ones are more likely.
    let nth =
        if random.once_in(2) { random.below(2) } else { random.below(if v4 { ODD_V4.len() } else { ODD_V6.len() }) };
    if v4 { Ipv4Addr::from(ODD_V4[nth]).into() } else { Ipv6Addr::from(ODD_V6[nth]).into() }
}

fn number(random: &mut Random) -> u16 {
    match random.below(4) {
        0 => random.pick(&[53, 80, 443, 500, 4500, 22]),
        1 => random.within(20480, 20800),
        _ => random.word() as u16,
    }
}

/// An end that somebody may have, of the estate or not.
fn end(random: &mut Random, estate: &Estate, v4: bool) -> End {
    let services: Vec<_> = estate.services.iter().filter(|service| service.name.0.is_ipv4() == v4).collect();
    let containers: Vec<_> = estate.containers.iter().filter(|container| container.ip.is_ipv4() == v4).collect();
    let port = number(random);
    match random.below(10) {
        0..=3 if !services.is_empty() => services[random.below(services.len())].name,
        4..=5 if !services.is_empty() => services[random.below(services.len())].wire,
        6 if !services.is_empty() => services[random.below(services.len())].public.unwrap_or((odd(random, v4), port)),
        7 if !containers.is_empty() => (containers[random.below(containers.len())].ip, port),
        8 => (server_ip(random.within(1, 4) as u8, v4), port),
        _ => (odd(random, v4), port),
    }
}

/// The wire name of a client block, or that of a service.
fn wire_end(random: &mut Random, estate: &Estate, v4: bool, own: bool) -> Option<End> {
    let mut ends: Vec<End> = Vec::new();
    for container in estate.containers.iter().filter(|container| container.ip.is_ipv4() == v4) {
        if let Some((first, _, size)) = container.block.filter(|_| (container.server == OWN) == own) {
            ends.push((server_ip(container.server, v4), random.within(first, first + size - 1)));
        }
    }
    let is_asked = |end: &&End| end.0.is_ipv4() == v4 && (end.0 == server_ip(OWN, v4)) == own;
    ends.extend(estate.services.iter().map(|service| &service.wire).filter(is_asked));
    (!ends.is_empty()).then(|| random.pick(&ends))
}

/// A frame that somebody may well send, mostly, or any frame.
pub fn next(random: &mut Random, estate: &Estate) -> Vec<Sent> {
    let call = if random.once_in(3) { None } else { call(random, estate) };
    match call {
        Some(call) if random.once_in(10) => in_fragments(random, &call).unwrap_or_else(|| vec![call]),
        Some(call) => vec![call],
        None => vec![any(random, estate)],
    }
}

/// The packet cut in two or more, in any order, one of them perhaps missing; `None` if there is not enough of it.
fn in_fragments(random: &mut Random, whole: &Sent) -> Option<Vec<Sent>> {
    const FIRST: usize = 24;
    let has_extensions = whole.bytes[12..14] != [8, 0] && matches!(whole.bytes[20], 0 | 43 | 60);
    if has_extensions || whole.bytes.len() < 14 + 60 + 2 * FIRST {
        return None;
    }
    let step = random.pick(&[FIRST, 64, 256, 512]);
    let mut parts = fragments::fragments(&whole.bytes, step, random.word() as u16 as u32);
    for nth in 1..parts.len() {
        if random.once_in(4) {
            parts.swap(nth - 1, nth);
        }
    }
    if random.once_in(8) {
        parts.remove(random.below(parts.len()));
    }
    Some(parts.into_iter().map(|bytes| Sent { port: whole.port, bytes }).collect())
}

/// Whoever calls a service where he may find it; `None` if there is nobody.
fn call(random: &mut Random, estate: &Estate) -> Option<Sent> {
    let port = random.below(estate.ports.len());
    let service = (!estate.services.is_empty()).then(|| &estate.services[random.below(estate.services.len())])?;
    let v4 = service.name.0.is_ipv4();
    let holder = &estate.containers[service.container];
    let host = if v4 { Ipv4Addr::from(ODD_V4[0]).into() } else { Ipv6Addr::from(ODD_V6[0]).into() };
    let (src, dst, from) = match estate.ports[port].network {
        Some(network) => {
            let is_behind =
                |container: &&crate::estate::Container| container.port == Some(port) && container.ip.is_ipv4() == v4;
            let client = estate.containers.iter().find(is_behind)?;
            let (_, first, size) = client.block?;
            let own =
                if random.once_in(2) { random.within(first, first + size - 1) } else { random.within(1024, 20000) };
            let called = match random.below(6) {
                0 => (host, 53),
                1 => service.public?,
                _ if holder.network != network && !random.once_in(4) => return None,
                _ => service.name,
            };
            ((client.ip, own), called, client.mac)
        }
        None if holder.server == OWN && !random.once_in(4) => {
            (wire_end(random, estate, v4, false)?, service.wire, server_mac(2))
        }
        None => ((host, random.within(1024, 65535)), service.public?, ROUTER),
    };
    let flags = random.pick(&[SYN, SYN, SYN, ACK, FIN | ACK, RST]);
    let shape = Shape::random(random);
    let parcel = shape.parcel((src, dst), service.proto, (flags, false), estate.ports[port].network.is_some());
    Some(Sent { port, bytes: parcel.frame(from, estate.ports[port].mac) })
}

/// A frame from anybody.
fn any(random: &mut Random, estate: &Estate) -> Sent {
    let port = random.below(estate.ports.len());
    let v4 = random.below(3) > 0;
    let is_access = estate.ports[port].network.is_some();
    let behind: Vec<_> = estate
        .containers
        .iter()
        .filter(|container| container.port == Some(port) && container.ip.is_ipv4() == v4)
        .collect();
    let (src, mac) = match (behind.is_empty(), is_access) {
        (false, _) if !random.once_in(12) => {
            let container = behind[random.below(behind.len())];
            let inside =
                container.block.map_or(number(random), |(_, first, size)| random.within(first, first + size - 1));
            let other = number(random);
            let from = random.pick(&[inside, other, 80, 53]);
            ((container.ip, from), container.mac)
        }
        (_, true) => (end(random, estate, v4), [2, 0x42, 0, OWN, 0, random.below(10) as u8]),
        (_, false) if random.once_in(2) => {
            (wire_end(random, estate, v4, false).unwrap_or((odd(random, v4), 53)), server_mac(2))
        }
        (_, false) => (end(random, estate, v4), ROUTER),
    };
    let dst = if is_access || random.once_in(3) {
        end(random, estate, v4)
    } else {
        wire_end(random, estate, v4, true).unwrap_or((server_ip(OWN, v4), number(random)))
    };
    let parcel = parcel(random, (src, dst), is_access);
    let to = if random.once_in(40) { [0xff; 6] } else { estate.ports[port].mac };
    Sent { port, bytes: spoiled(random, parcel.frame(mac, to)) }
}

fn parcel(random: &mut Random, ends: (End, End), is_access: bool) -> Parcel {
    let echo = if ends.0.0.is_ipv4() { 1 } else { 58 };
    let proto = random.pick(&[6, 6, 6, 17, 17, 17, echo, 50, 47, 132, 89]);
    let flags = random.pick(&[SYN, SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, 0]);
    let shape = Shape::random(random);
    let mut parcel = shape.parcel(ends, proto, (flags, random.below(2) == 0), is_access);
    if random.once_in(10) {
        parcel.ttl = random.pick(&[0, 1, 2]);
    }
    if random.once_in(12) {
        // A source that quotes what it has perhaps been sent.
        let quoted = Parcel { ttl: 60, checksum: Checksum::Right, ..parcel.between(ends.1, ends.0) };
        return shape.error(ends, &quoted);
    }
    parcel
}

/// The other side's answer to a frame that has come out of a port, or an error about it.
pub fn answer(random: &mut Random, estate: &Estate, port: usize, out: &[u8]) -> Option<Sent> {
    let (to, from): ([u8; 6], [u8; 6]) = (out.get(6..12)?.try_into().ok()?, out.get(..6)?.try_into().ok()?);
    let seen = reader::read(out)?;
    let is_access = estate.ports[port].network.is_some();
    let (src, dst) = (seen.dst, seen.src);
    if random.once_in(3) {
        return Some(Sent { port, bytes: error_about(random, out, from, to) });
    }
    let shape = Shape::random(random);
    let flags = random.pick(&[SYN | ACK, SYN | ACK, ACK, FIN | ACK, RST | ACK]);
    let is_known = matches!(seen.proto, 1 | 6 | 17 | 58);
    let proto = if is_known { seen.proto } else { 50 };
    let parcel = shape.parcel((src, dst), proto, (flags, true), is_access);
    let bytes = parcel.frame(from, to);
    Some(Sent { port, bytes: if random.once_in(20) { spoiled(random, bytes) } else { bytes } })
}

/// An ICMP error of any type that quotes the packet as it is, from its destination or from a router.
fn error_about(random: &mut Random, out: &[u8], from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    let v4 = out[12..14] == [8, 0];
    let quoted = &out[14..out.len().min(14 + random.pick(&[28, 48, 68, 128, 576]))];
    let router = random.once_in(3);
    let mut bytes = Vec::new();
    let rest = [0, 0, 5, random.below(200) as u8];
    let ethernet = etherparse::PacketBuilder::ethernet2(from, to);
    if v4 {
        let src = if router { [198, 18, 0, 1] } else { out[30..34].try_into().expect("an address") };
        let (type_u8, code_u8) = random.pick(&[(3, 3), (3, 1), (3, 4), (3, 13), (11, 0), (12, 0), (5, 1)]);
        let kind = etherparse::Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8: rest };
        let packet = ethernet.ipv4(src, out[26..30].try_into().expect("an address"), 64).icmpv4(kind);
        packet.write(&mut bytes, quoted).expect("it fits");
    } else {
        let src = if router {
            Ipv6Addr::from(0x2620 << 112 | 99).octets()
        } else {
            out[38..54].try_into().expect("an address")
        };
        let (type_u8, code_u8) = random.pick(&[(1, 4), (1, 0), (2, 0), (3, 0), (4, 0), (137, 0)]);
        let kind = etherparse::Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8: rest };
        let packet = ethernet.ipv6(src, out[22..38].try_into().expect("an address"), 64).icmpv6(kind);
        packet.write(&mut bytes, quoted).expect("it fits");
    }
    bytes
}

/// One frame in five is not as it was: bytes turned, cut off or added, a fragment, a tag, or nothing but noise.
fn spoiled(random: &mut Random, mut frame: Vec<u8>) -> Vec<u8> {
    match random.below(25) {
        0 | 1 => {
            for _ in 0..random.within(1, 4) {
                let at = random.below(frame.len().min(90));
                frame[at] = random.word() as u8;
            }
            if random.once_in(2) {
                right_the_header(&mut frame);
            }
        }
        2 => frame.truncate(random.below(frame.len()) + 1),
        3 => frame.extend(vec![0xee; random.below(60)]),
        4 if frame[12..14] == [8, 0] => {
            frame[20] = random.pick(&[0x20, 0x20, 0, 0x1f, 0]);
            frame[21] = random.pick(&[0, 0, 1, 100, 0xff]);
            right_the_header(&mut frame);
        }
        5 => {
            frame.splice(12..12, [0x81, 0, 0, random.word() as u8]);
        }
        6 => {
            frame.truncate(14);
            frame[12..14].copy_from_slice(&random.pick(&[[8u8, 0], [0x86, 0xdd], [8, 6], [0x88, 0xcc]]));
            frame.extend((0..random.below(120)).map(|_| random.word() as u8));
        }
        _ => {}
    }
    frame
}

/// Makes the IPv4 header's checksum right again, as far as there is one.
fn right_the_header(frame: &mut [u8]) {
    let Some(len) = frame.get(14).map(|first| usize::from(first & 15) * 4).filter(|&len| len >= 20) else { return };
    let Some(header) = frame.get_mut(14..14 + len) else { return };
    header[10..12].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(header).ones_complement();
    header[10..12].copy_from_slice(&sum.to_ne_bytes());
}
