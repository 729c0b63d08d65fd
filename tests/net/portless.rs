//! Protocols without ports on live traffic: ESP, AH, GRE and SCTP cross servers and a gateway, and nothing of them changes
//! but addresses and TTL. SCTP's checksum is completed where the sender has left it to its NIC.

use std::net::Ipv4Addr;

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header};

use crate::lab::capture::{Capture, Seen};
use crate::lab::{Lab, MAPPING, Member, OUTSIDE, gateway_mac, raw};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 6, 1);
const CAROL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const SEALED: Member =
    Member { name: "sealed", server: 2, network: "blue", mac: "02:42:c6:12:06:01", ip: GATEWAY, local_ports: None };
const SCTP: u8 = 132;
/// Each with a name in the mapping.
const PROTOCOLS: [(&str, u8); 4] = [("gre", 47), ("esp", 50), ("ah", 51), ("sctp", SCTP)];

/// Every protocol is bound once on each server; `sealed` is published under the gateway's own address.
fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.add_gateway(6);
    lab.add_container(SEALED);
    let names = PROTOCOLS.iter().fold(String::new(), |text, (name, _)| {
        text + &format!("blue {name} 02:00:00:00:00:01 192.168.50.1 02:42:0a:00:00:03 {CAROL}\n")
            + &format!("blue {name} 02:00:00:00:00:02 192.168.50.2 {} {GATEWAY} public={GATEWAY}\n", SEALED.mac)
    });
    lab.set_mapping(&(MAPPING.to_owned() + &names));
    for server in [1, 2, 6] {
        lab.start(server);
    }
    lab
}

/// A packet that may be fragmented, so that its identification counts.
fn packet(macs: ([u8; 6], [u8; 6]), from: Ipv4Addr, to: Ipv4Addr, proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = Ethernet2Header { source: macs.0, destination: macs.1, ether_type: EtherType::IPV4 };
    ethernet.write(&mut frame).expect("room");
    let mut ip =
        Ipv4Header::new(payload.len() as u16, 64, IpNumber(proto), from.octets(), to.octets()).expect("it fits");
    (ip.identification, ip.dont_fragment) = (4711 + u16::from(proto), false);
    ip.header_checksum = ip.calc_header_checksum();
    ip.write(&mut frame).expect("room");
    frame.extend(payload);
    frame
}

/// CRC-32C bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let crc = bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    (!crc).to_le_bytes()
}

/// What crosses: ports, tag and a chunk in SCTP, with or without the checksum; anything in others.
fn payload(proto: u8, with_checksum: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..999u16).map(|at| (at * 7) as u8).collect();
    if proto == SCTP {
        bytes[8..12].fill(0);
        let crc = crc32c(&bytes);
        bytes[8..12].copy_from_slice(if with_checksum { &crc } else { &[0; 4] });
    }
    bytes
}

struct End<'a> {
    place: &'a str,
    interface: &'a str,
    /// Its own MAC, and that of the next station.
    macs: ([u8; 6], [u8; 6]),
}

/// Sends each protocol's packet, and gives what arrives of it.
fn cross(lab: &Lab, from: &End<'_>, (src, dst): (Ipv4Addr, Ipv4Addr), to: (&str, &str)) -> Vec<Seen> {
    let capture = Capture::start(lab.at(to.0), to.1, &format!("ip and not icmp and src {src}"));
    let mut injector = raw::Injector::new(lab.at(from.place), from.interface);
    let arrived = |proto: u8, with_checksum: bool| {
        let sent = packet(from.macs, src, dst, proto, &payload(proto, with_checksum));
        injector.send(&sent);
        let whole = payload(proto, true);
        let what = format!("protocol {proto} from {src} at {}", to.0);
        let seen = capture.until(&what, |seen| seen.proto == proto && seen.bytes[34..] == whole);
        assert_eq!((seen.src, seen.dst), (src, dst), "{what}");
        assert_eq!(seen.bytes[18..20], sent[18..20], "its identification is its sender's: {what}");
        assert!(seen.checksums_right, "{what}");
        seen
    };
    let mut all = Vec::new();
    let mut arrived = arrived;
    for (_, proto) in PROTOCOLS {
        all.push(arrived(proto, true));
        all.push(arrived(proto, false));
    }
    all
}

#[test]
fn protocols_without_ports_cross_as_they_are() {
    let lab = lab();
    let own = |name: &str| {
        let link = lab.at(name).ip("link show dev eth0");
        raw::mac(link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a MAC"))
    };
    let container = |place| End { place, interface: "eth0", macs: (own(place), gateway_mac(&lab, place)) };
    let (carol, sealed) = (container("carol"), container("sealed"));
    cross(&lab, &carol, (CAROL, GATEWAY), ("sealed", "eth0")).iter().for_each(|seen| assert_eq!(seen.ttl, 62));
    cross(&lab, &sealed, (GATEWAY, CAROL), ("carol", "eth0")).iter().for_each(|seen| assert_eq!(seen.ttl, 62));

    // From outside by the gateway, and back from the server to whom it concerns.
    let link = |place: &str, interface: &str| {
        let link = lab.at(place).ip(&format!("link show dev {interface}"));
        raw::mac(link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a MAC"))
    };
    let client = End { place: "outside", interface: "gw6", macs: (link("outside", "gw6"), link("s6", "wan")) };
    cross(&lab, &client, (OUTSIDE, GATEWAY), ("sealed", "eth0")).iter().for_each(|seen| assert_eq!(seen.ttl, 62));
    cross(&lab, &sealed, (GATEWAY, OUTSIDE), ("outside", "eth0")).iter().for_each(|seen| assert_eq!(seen.ttl, 62));
}
