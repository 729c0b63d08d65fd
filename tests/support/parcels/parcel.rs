//! A packet of either family and any protocol, and its bytes. Whatever it says, the checksums are worked out anew from its
//! fields by etherparse: what comes out of the walk is held against a packet that was never rewritten.

use std::net::IpAddr;

use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use etherparse::{Icmpv6Header, Ipv6FlowLabel, NetSlice, SlicedPacket, TransportSlice};

use super::{ACK, FIN, RST, SYN};

pub type End = (IpAddr, u16);

#[derive(Clone, PartialEq, Debug)]
pub struct Parcel {
    pub src: End,
    pub dst: End,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 identification.
    pub id: u16,
    pub dont_fragment: bool,
    /// Type of service or traffic class.
    pub class: u8,
    pub flow_label: u32,
    pub extras: Extras,
    pub l4: L4,
    pub checksum: Checksum,
    pub payload: Vec<u8>,
    /// As an error quotes a long packet: no more than this of the whole packet.
    pub cut: Option<usize>,
}

/// IPv4 options, or IPv6 extension headers as (number, bytes from the second on).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Extras {
    pub options: Vec<u8>,
    pub headers: Vec<(u8, Vec<u8>)>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum L4 {
    Tcp {
        flags: u8,
        numbers: (u32, u32),
        /// At an even or at an odd place of the header.
        mss: Option<(u16, bool)>,
    },
    Udp,
    /// Its identifier is the port of the source of a request, of the destination of a reply.
    Echo {
        is_reply: bool,
        sequence: u16,
    },
    Error {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        quoted: Box<Parcel>,
    },
    Other(u8),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Checksum {
    Right,
    /// As a stack leaves it that has a NIC to complete it: the pseudo header's sum alone.
    Partial,
    /// UDP over IPv4 without.
    None,
    /// Off by so much, in ones' complement.
    Wrong(u16),
}

impl Parcel {
    pub fn is_v4(&self) -> bool {
        self.src.0.is_ipv4()
    }

    /// The same between others.
    pub fn between(&self, src: End, dst: End) -> Parcel {
        Parcel { src, dst, ..self.clone() }
    }

    /// Where its transport header begins, from the first byte of the IP header.
    pub fn header_len(&self) -> usize {
        let headers = self.extras.headers.iter().map(|(_, body)| 1 + body.len()).sum::<usize>();
        if self.is_v4() { 20 + self.extras.options.len() } else { 40 + headers }
    }

    /// The endpoints that a frame of this packet's form bears. An echo's identifier is the port of the side that asks.
    pub fn ends_in(&self, frame: &[u8]) -> (End, End) {
        let at = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let l4 = 14 + self.header_len();
        let (src, dst) = match self.l4 {
            L4::Tcp { .. } | L4::Udp => (at(l4), at(l4 + 2)),
            L4::Echo { is_reply: false, .. } => (at(l4 + 4), 0),
            L4::Echo { is_reply: true, .. } => (0, at(l4 + 4)),
            L4::Error { .. } | L4::Other(_) => (0, 0),
        };
        let address = |v4: usize, v6: usize| -> IpAddr {
            if self.is_v4() {
                <[u8; 4]>::try_from(&frame[v4..v4 + 4]).unwrap().into()
            } else {
                <[u8; 16]>::try_from(&frame[v6..v6 + 16]).unwrap().into()
            }
        };
        ((address(26, 22), src), (address(30, 38), dst))
    }

    /// As the receiver of `self` quotes it, or a router on its way.
    pub fn quoted(&self, cut: Option<usize>) -> Box<Parcel> {
        let checksum = if self.checksum == Checksum::Partial { Checksum::Right } else { self.checksum };
        Box::new(Parcel { checksum, cut, ..self.clone() })
    }

    /// The frame from station to station.
    pub fn frame(&self, from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
        let ethertype: [u8; 2] = if self.is_v4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        let mut bytes = Vec::with_capacity(1600);
        bytes.extend(to);
        bytes.extend(from);
        bytes.extend(ethertype);
        self.write(&mut bytes);
        bytes
    }

    pub fn packet(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1600);
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let begin = bytes.len();
        match (self.src.0, self.dst.0) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.write_v4(bytes, src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.write_v6(bytes, src.octets(), dst.octets()),
            _ => panic!("two families: {self:?}"),
        }
        if let Some(cut) = self.cut {
            bytes.truncate(begin + cut);
        }
    }

    fn protocol(&self) -> u8 {
        match self.l4 {
            L4::Tcp { .. } => 6,
            L4::Udp => 17,
            L4::Echo { .. } | L4::Error { .. } => {
                if self.is_v4() {
                    1
                } else {
                    58
                }
            }
            L4::Other(proto) => proto,
        }
    }

    fn write_v4(&self, bytes: &mut Vec<u8>, src: [u8; 4], dst: [u8; 4]) {
        let (header, payload) = self.transport(&Pseudo::V4(src, dst));
        let mut ip = Ipv4Header {
            time_to_live: self.ttl,
            identification: self.id,
            dont_fragment: self.dont_fragment,
            source: src,
            destination: dst,
            protocol: IpNumber(self.protocol()),
            options: self.extras.options.as_slice().try_into().unwrap(),
            ..Ipv4Header::default()
        };
        ip.dscp = (self.class >> 2).try_into().unwrap();
        ip.ecn = (self.class & 3).try_into().unwrap();
        ip.set_payload_len(header.len() + payload.len()).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        bytes.extend(ip.to_bytes());
        bytes.extend(header);
        bytes.extend(payload);
    }

    fn write_v6(&self, bytes: &mut Vec<u8>, src: [u8; 16], dst: [u8; 16]) {
        let (header, payload) = self.transport(&Pseudo::V6(src, dst));
        let mut extras = Vec::new();
        let followers = self.extras.headers.iter().skip(1).map(|(number, _)| *number).chain([self.protocol()]);
        for ((_, body), next) in self.extras.headers.iter().zip(followers) {
            extras.push(next);
            extras.extend(body);
        }
        let ip = Ipv6Header {
            traffic_class: self.class,
            flow_label: Ipv6FlowLabel::try_new(self.flow_label).unwrap(),
            payload_length: (extras.len() + header.len() + payload.len()) as u16,
            next_header: IpNumber(self.extras.headers.first().map_or(self.protocol(), |(number, _)| *number)),
            hop_limit: self.ttl,
            source: src,
            destination: dst,
        };
        bytes.extend(ip.to_bytes());
        bytes.extend(extras);
        bytes.extend(header);
        bytes.extend(payload);
    }

    /// The transport header with its checksum, and what follows it.
    fn transport(&self, pseudo: &Pseudo) -> (Vec<u8>, Vec<u8>) {
        match &self.l4 {
            L4::Tcp { flags, numbers: (sequence_number, acknowledgment_number), mss } => {
                let mut tcp = TcpHeader {
                    source_port: self.src.1,
                    destination_port: self.dst.1,
                    sequence_number: *sequence_number,
                    acknowledgment_number: *acknowledgment_number,
                    fin: flags & FIN != 0,
                    syn: flags & SYN != 0,
                    rst: flags & RST != 0,
                    ack: flags & ACK != 0,
                    window_size: 8192,
                    ..TcpHeader::default()
                };
                if let Some((mss, is_odd)) = mss {
                    let [a, b] = mss.to_be_bytes();
                    let options: &[u8] = if *is_odd { &[1, 2, 4, a, b, 1, 1, 0] } else { &[2, 4, a, b] };
                    tcp.set_options_raw(options).unwrap();
                }
                let right = match pseudo {
                    Pseudo::V4(src, dst) => tcp.calc_checksum_ipv4_raw(*src, *dst, &self.payload).unwrap(),
                    Pseudo::V6(src, dst) => tcp.calc_checksum_ipv6_raw(*src, *dst, &self.payload).unwrap(),
                };
                tcp.checksum = self.stated(right, pseudo, 6, tcp.header_len() + self.payload.len());
                (tcp.to_bytes().to_vec(), self.payload.clone())
            }
            L4::Udp => {
                let len = 8 + self.payload.len();
                let mut udp = UdpHeader {
                    source_port: self.src.1,
                    destination_port: self.dst.1,
                    length: len as u16,
                    checksum: 0,
                };
                let right = match pseudo {
                    Pseudo::V4(src, dst) => udp.calc_checksum_ipv4_raw(*src, *dst, &self.payload).unwrap(),
                    Pseudo::V6(src, dst) => udp.calc_checksum_ipv6_raw(*src, *dst, &self.payload).unwrap(),
                };
                udp.checksum = self.stated(right, pseudo, 17, len);
                // Zero says that there is none (RFC 768).
                if udp.checksum == 0 && self.checksum != Checksum::None {
                    udp.checksum = 0xffff;
                }
                (udp.to_bytes().to_vec(), self.payload.clone())
            }
            L4::Echo { is_reply, sequence } => {
                let [a, b] = if *is_reply { self.dst.1 } else { self.src.1 }.to_be_bytes();
                let [c, d] = sequence.to_be_bytes();
                let kind = match (self.is_v4(), is_reply) {
                    (true, false) => 8,
                    (true, true) => 0,
                    (false, false) => 128,
                    (false, true) => 129,
                };
                (self.icmp(pseudo, (kind, 0), [a, b, c, d], &self.payload), self.payload.clone())
            }
            L4::Error { kind, code, rest, quoted } => {
                let quoted = quoted.packet();
                (self.icmp(pseudo, (*kind, *code), *rest, &quoted), quoted)
            }
            L4::Other(132) if self.payload.len() >= 12 => (Vec::new(), self.sctp()),
            L4::Other(_) => (Vec::new(), self.payload.clone()),
        }
    }

    fn icmp(&self, pseudo: &Pseudo, (type_u8, code_u8): (u8, u8), bytes5to8: [u8; 4], payload: &[u8]) -> Vec<u8> {
        match pseudo {
            Pseudo::V4(..) => {
                let mut icmp =
                    Icmpv4Header::with_checksum(Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 }, payload);
                icmp.checksum = self.stated(icmp.checksum, pseudo, 1, 8 + payload.len());
                icmp.to_bytes().to_vec()
            }
            Pseudo::V6(src, dst) => {
                let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
                let mut icmp = Icmpv6Header::with_checksum(kind, *src, *dst, payload).unwrap();
                icmp.checksum = self.stated(icmp.checksum, pseudo, 58, 8 + payload.len());
                icmp.to_bytes().to_vec()
            }
        }
    }

    /// A packet of SCTP with its CRC-32C, or with zero where that is left to a NIC.
    fn sctp(&self) -> Vec<u8> {
        let mut bytes = self.payload.clone();
        bytes[8..12].fill(0);
        if self.checksum != Checksum::Partial {
            let wrong = if let Checksum::Wrong(by) = self.checksum { u32::from(by) } else { 0 };
            let crc = !bytes.iter().fold(u32::MAX, |crc, &byte| {
                let odd = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
                (0..8).fold(crc ^ u32::from(byte), |crc, _| odd(crc))
            });
            bytes[8..12].copy_from_slice(&(crc ^ wrong).to_le_bytes());
        }
        bytes
    }

    /// The checksum that the packet bears, where `right` would be the right one.
    fn stated(&self, right: u16, pseudo: &Pseudo, proto: u8, len: usize) -> u16 {
        match self.checksum {
            Checksum::Right => right,
            Checksum::Partial => pseudo.sum(proto, len),
            Checksum::None => 0,
            // Of the two zeros of ones' complement, the one that sums have.
            Checksum::Wrong(by) => ((u32::from(right) + u32::from(by)) % 0xffff) as u16,
        }
    }
}

/// True if the checksum of a frame's transport header is the sum of its pseudo header: then it is partial, or wrong in a
/// way that nobody can tell from that.
#[must_use]
pub fn looks_partial(frame: &[u8]) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    let (stated, proto, len) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.checksum(), 6, tcp.slice().len()),
        Some(TransportSlice::Udp(udp)) => (udp.checksum(), 17, udp.slice().len()),
        // No stack leaves the checksums of errors to others.
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() >= 128 => (icmp.checksum(), 58, icmp.slice().len()),
        _ => return false,
    };
    let pseudo = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => Pseudo::V4(ip.header().source(), ip.header().destination()),
        Some(NetSlice::Ipv6(ip)) => Pseudo::V6(ip.header().source(), ip.header().destination()),
        _ => return false,
    };
    pseudo.sum(proto, len) == stated
}

enum Pseudo {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

impl Pseudo {
    /// The folded sum, as Linux leaves it for offloading NICs.
    fn sum(&self, proto: u8, len: usize) -> u16 {
        let mut sum = etherparse::checksum::Sum16BitWords::new();
        sum = match self {
            Pseudo::V4(src, dst) => sum.add_4bytes(*src).add_4bytes(*dst),
            Pseudo::V6(src, dst) => sum.add_16bytes(*src).add_16bytes(*dst),
        };
        sum = sum.add_2bytes([0, proto]).add_2bytes((len as u16).to_be_bytes());
        !sum.ones_complement().to_be()
    }
}
