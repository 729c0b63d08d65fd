//! Packets in words, and their bytes with every length and checksum worked out by etherparse.

use etherparse::{EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, TcpHeader, UdpHeader};
use sixway::units::Mac;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// An IPv4 packet in an Ethernet frame. Atomic and of TTL 64, unless told otherwise.
#[derive(Clone, Debug)]
pub struct Packet {
    pub eth: (Mac, Mac),
    pub src: ([u8; 4], u16),
    pub dst: ([u8; 4], u16),
    pub ttl: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    pub fragment_offset: u16,
    pub tos: u8,
    pub options: Vec<u8>,
    pub l4: Transport,
    pub payload: Vec<u8>,
    /// What is left of the bytes when a stack has left the checksum to its NIC: the pseudo header's sum alone.
    partial: bool,
    /// Turns bits of the transport checksum: no longer the right one.
    bad_by: u16,
    /// The transport checksum, whatever it should be.
    checksum: Option<u16>,
    tail: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Transport {
    Tcp { flags: u8, seq: u32, ack: u32 },
    Udp { has_checksum: bool },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Other(u8),
}

/// `10.1.0.2:80`, or an address alone.
fn endpoint(text: &str) -> ([u8; 4], u16) {
    let (ip, port) = text.split_once(':').unwrap_or((text, "0"));
    (ip.parse::<std::net::Ipv4Addr>().unwrap().octets(), port.parse().unwrap())
}

pub fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

impl Packet {
    fn new(src: &str, dst: &str, l4: Transport) -> Packet {
        Packet {
            eth: (Mac::ZERO, Mac::ZERO),
            src: endpoint(src),
            dst: endpoint(dst),
            ttl: 64,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            tos: 0,
            options: Vec::new(),
            l4,
            payload: b"six ways".to_vec(),
            partial: false,
            bad_by: 0,
            checksum: None,
            tail: Vec::new(),
        }
    }

    /// From one station to another.
    pub fn eth(mut self, from: &str, to: &str) -> Packet {
        self.eth = (mac(from), mac(to));
        self
    }

    pub fn ttl(mut self, ttl: u8) -> Packet {
        self.ttl = ttl;
        self
    }

    /// May be fragmented, and is told from others by its identification.
    pub fn id(mut self, id: u16) -> Packet {
        self.id = id;
        self.dont_fragment = false;
        self
    }

    pub fn fragment(mut self, offset: u16, more: bool) -> Packet {
        self = self.id(7);
        self.fragment_offset = offset;
        self.more_fragments = more;
        self
    }

    pub fn tos(mut self, tos: u8) -> Packet {
        self.tos = tos;
        self
    }

    pub fn options(mut self, options: &[u8]) -> Packet {
        self.options = options.to_vec();
        self
    }

    pub fn payload(mut self, payload: &[u8]) -> Packet {
        self.payload = payload.to_vec();
        self
    }

    pub fn sequence(mut self, to_seq: u32, to_ack: u32) -> Packet {
        if let Transport::Tcp { seq, ack, .. } = &mut self.l4 {
            (*seq, *ack) = (to_seq, to_ack);
        }
        self
    }

    pub fn partial_checksum(mut self) -> Packet {
        self.partial = true;
        self
    }

    pub fn bad_checksum(mut self) -> Packet {
        self.bad_by = 0x1234;
        self
    }

    pub fn checksum(mut self, checksum: u16) -> Packet {
        self.checksum = Some(checksum);
        self
    }

    /// Its checksum is off by as much as the other packet's: the sums of both, checksum included, are the same.
    pub fn checksum_off_like(self, other: &Packet) -> Packet {
        let right = Packet { bad_by: 0, checksum: None, ..other.clone() };
        let sum = |words: [u16; 3]| words.iter().map(|&word| u32::from(word)).fold(0, |a, b| (a + b) % 0xffff);
        let off = [self.transport_checksum(), other.transport_checksum(), !right.transport_checksum()];
        let checksum = sum(off) as u16;
        self.checksum(checksum)
    }

    /// The transport checksum as it stands in the bytes.
    pub fn transport_checksum(&self) -> u16 {
        let bytes = self.ip_bytes();
        let at = 20
            + self.options.len()
            + match self.l4 {
                Transport::Tcp { .. } => 16,
                Transport::Udp { .. } => 6,
                Transport::Icmp { .. } | Transport::Other(_) => 2,
            };
        u16::from_be_bytes([bytes[at], bytes[at + 1]])
    }

    pub fn no_checksum(mut self) -> Packet {
        self.l4 = Transport::Udp { has_checksum: false };
        self
    }

    /// Cuts the payload so that the IP packet has this length: as an error quotes a long packet.
    pub fn truncated(mut self, ip_len: usize) -> Packet {
        let over = self.ip_bytes().len() - ip_len;
        self.payload.truncate(self.payload.len() - over);
        self
    }

    /// Ethernet padding behind the packet.
    pub fn padding(mut self, bytes: usize) -> Packet {
        self.tail = vec![0xee; bytes];
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (from, to) = self.eth;
        let ethernet = Ethernet2Header { source: from.0, destination: to.0, ether_type: EtherType::IPV4 };
        ethernet.write(&mut bytes).unwrap();
        bytes.extend(self.ip_bytes());
        bytes.extend(&self.tail);
        bytes
    }

    /// Without Ethernet: as an ICMP error quotes it.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let mut ip = Ipv4Header {
            time_to_live: self.ttl,
            identification: self.id,
            dont_fragment: self.dont_fragment,
            more_fragments: self.more_fragments,
            fragment_offset: self.fragment_offset.try_into().unwrap(),
            source: self.src.0,
            destination: self.dst.0,
            options: self.options.as_slice().try_into().unwrap(),
            ..Ipv4Header::default()
        };
        ip.dscp = (self.tos >> 2).try_into().unwrap();
        ip.ecn = (self.tos & 3).try_into().unwrap();
        let l4 = match self.l4 {
            Transport::Tcp { .. } => self.tcp(&mut ip),
            Transport::Udp { .. } => self.udp(&mut ip),
            Transport::Icmp { kind, code, rest } => {
                ip.protocol = IpNumber::ICMP;
                let icmp_type = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
                let mut icmp = Icmpv4Header::with_checksum(icmp_type, &self.payload);
                icmp.checksum = self.checksum.unwrap_or(icmp.checksum ^ self.bad_by);
                [&icmp.to_bytes()[..], &self.payload].concat()
            }
            Transport::Other(proto) => {
                ip.protocol = IpNumber(proto);
                self.payload.clone()
            }
        };
        ip.set_payload_len(l4.len()).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        [&ip.to_bytes()[..], &l4].concat()
    }

    fn tcp(&self, ip: &mut Ipv4Header) -> Vec<u8> {
        let Transport::Tcp { flags, seq, ack } = self.l4 else { unreachable!() };
        ip.protocol = IpNumber::TCP;
        let mut tcp = TcpHeader {
            source_port: self.src.1,
            destination_port: self.dst.1,
            sequence_number: seq,
            acknowledgment_number: ack,
            fin: flags & FIN != 0,
            syn: flags & SYN != 0,
            rst: flags & RST != 0,
            ack: flags & ACK != 0,
            window_size: if flags & RST != 0 { 0 } else { 8192 },
            ..TcpHeader::default()
        };
        let right = tcp.calc_checksum_ipv4(ip, &self.payload).unwrap();
        tcp.checksum = self.checksum.unwrap_or(right ^ self.bad_by);
        if self.partial {
            tcp.checksum = self.pseudo_sum(6, 20 + self.payload.len());
        }
        [&tcp.to_bytes()[..], &self.payload].concat()
    }

    fn udp(&self, ip: &mut Ipv4Header) -> Vec<u8> {
        let Transport::Udp { has_checksum } = self.l4 else { unreachable!() };
        ip.protocol = IpNumber::UDP;
        let mut udp = UdpHeader::with_ipv4_checksum(self.src.1, self.dst.1, ip, &self.payload).unwrap();
        udp.checksum = self.checksum.unwrap_or(udp.checksum ^ self.bad_by);
        if self.partial {
            udp.checksum = self.pseudo_sum(17, 8 + self.payload.len());
        }
        if !has_checksum {
            udp.checksum = 0;
        }
        [&udp.to_bytes()[..], &self.payload].concat()
    }

    /// The folded sum of the pseudo header, as Linux leaves it for offloading NICs.
    fn pseudo_sum(&self, proto: u8, len: usize) -> u16 {
        let mut checksum = etherparse::checksum::Sum16BitWords::new();
        checksum = checksum.add_4bytes(self.src.0).add_4bytes(self.dst.0);
        checksum = checksum.add_2bytes([0, proto]).add_2bytes((len as u16).to_be_bytes());
        !checksum.ones_complement().to_be()
    }
}

pub fn tcp(src: &str, dst: &str, flags: u8) -> Packet {
    Packet::new(src, dst, Transport::Tcp { flags, seq: 1000, ack: if flags & ACK != 0 { 2000 } else { 0 } })
}

pub fn udp(src: &str, dst: &str) -> Packet {
    Packet::new(src, dst, Transport::Udp { has_checksum: true })
}

pub fn echo_request(src: &str, dst: &str, id: u16) -> Packet {
    icmp(src, dst, 8, id)
}

pub fn echo_reply(src: &str, dst: &str, id: u16) -> Packet {
    icmp(src, dst, 0, id)
}

fn icmp(src: &str, dst: &str, kind: u8, id: u16) -> Packet {
    let [a, b] = id.to_be_bytes();
    Packet::new(src, dst, Transport::Icmp { kind, code: 0, rest: [a, b, 0, 1] })
}

/// Any ICMP message, without payload.
pub fn icmp_message(src: &str, dst: &str, kind: u8) -> Packet {
    Packet::new(src, dst, Transport::Icmp { kind, code: 0, rest: [0; 4] }).payload(&[])
}

/// A packet of another protocol.
pub fn other(src: &str, dst: &str, proto: u8) -> Packet {
    Packet::new(src, dst, Transport::Other(proto))
}

/// An ICMP error about `quoted`.
pub fn error(src: &str, dst: &str, kind: u8, code: u8, quoted: &Packet) -> Packet {
    Packet::new(src, dst, Transport::Icmp { kind, code, rest: [0; 4] }).payload(&quoted.ip_bytes())
}

/// An error that the engine makes: internetwork control, whatever else the packet's type of service was (RFC 1812
/// section 4.3.2.5).
pub fn our_error(src: &str, dst: &str, kind: u8, code: u8, quoted: &Packet) -> Packet {
    error(src, dst, kind, code, quoted).tos(0xc0)
}

/// The same, of code 4, with the MTU that it tells.
pub fn too_big(src: &str, dst: &str, mtu: u16, quoted: &Packet) -> Packet {
    let [a, b] = mtu.to_be_bytes();
    let mut packet = our_error(src, dst, 3, 4, quoted);
    packet.l4 = Transport::Icmp { kind: 3, code: 4, rest: [0, 0, a, b] };
    packet
}

/// The same, about an octet of a header that makes no sense, and what it quotes.
pub fn parameter_problem(src: &str, dst: &str, at: u8, quoted: &[u8]) -> Packet {
    Packet::new(src, dst, Transport::Icmp { kind: 12, code: 0, rest: [at, 0, 0, 0] }).payload(quoted).tos(0xc0)
}

/// An ARP packet: 1 asks, 2 tells.
pub fn arp(operation: u16, eth_dst: &str, sender: (&str, &str), target: (&str, &str)) -> Vec<u8> {
    let ip = |text: &str| endpoint(text).0;
    let mut bytes = [mac(eth_dst).0, mac(sender.0).0].concat();
    bytes.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4]);
    bytes.extend(operation.to_be_bytes());
    bytes.extend([&mac(sender.0).0[..], &ip(sender.1), &mac(target.0).0, &ip(target.1)].concat());
    bytes
}
