//! Packets as a sane sender has them, and what is wrong with some.

use sixway::units::{Ip, VlanTags};

pub const SERVER: &str = "192.168.50.1";
pub const SERVER6: &str = "fd00:50::1";
pub const PUBLIC: &str = "203.0.113.9";
pub const PUBLIC6: &str = "2001:db8::9";
pub const HOST_PUBLIC: &str = "203.0.113.10";
pub const PEER: &str = "192.168.50.2";
pub const PEER6: &str = "fd00:50::2";
pub const ROUTER: &str = "198.51.100.7";
pub const ROUTER6: &str = "2001:db8:7::7";
pub const ELSEWHERE: &str = "192.168.50.9";

pub fn ip(text: &str) -> Ip {
    text.parse().unwrap()
}

/// An IP packet to be: protocol, addresses and payload; the rest as a sane sender has it.
#[derive(Clone)]
pub struct Packet {
    pub proto: u8,
    pub src: &'static str,
    pub dst: &'static str,
    pub payload: Vec<u8>,
    options: Vec<u8>,
    /// In the units of the header field: flags and offset.
    fragment: u16,
    id: u16,
    /// What the length field says more than there is.
    longer: i32,
    /// IPv6 extension headers, chained: kind and bytes (their first byte is written here).
    extensions: Vec<(u8, Vec<u8>)>,
}

impl Packet {
    pub fn new(proto: u8, src: &'static str, dst: &'static str, payload: Vec<u8>) -> Packet {
        let (options, extensions) = (Vec::new(), Vec::new());
        Packet { proto, src, dst, payload, options, fragment: 0, id: 7, longer: 0, extensions }
    }

    pub fn options(mut self, options: &[u8]) -> Packet {
        self.options = options.to_vec();
        self
    }

    pub fn fragment(mut self, id: u16, offset_in_8: u16, more: bool) -> Packet {
        self.id = id;
        self.fragment = offset_in_8 | if more { 0x2000 } else { 0 };
        self
    }

    pub fn longer(mut self, by: i32) -> Packet {
        self.longer = by;
        self
    }

    pub fn extension(mut self, kind: u8, bytes: &[u8]) -> Packet {
        self.extensions.push((kind, bytes.to_vec()));
        self
    }

    /// IPv6 fragment header: offset in units of 8 bytes.
    pub fn fragment6(self, id: u32, offset_in_8: u16, more: bool) -> Packet {
        let mut header = [0; 8];
        header[2..4].copy_from_slice(&(offset_in_8 << 3 | u16::from(more)).to_be_bytes());
        header[4..].copy_from_slice(&id.to_be_bytes());
        self.extension(44, &header)
    }

    pub fn ip_bytes(&self) -> Vec<u8> {
        let (src, dst) = (ip(self.src), ip(self.dst));
        if src.is_v4() { self.v4(src, dst) } else { self.v6(src, dst) }
    }

    fn v4(&self, src: Ip, dst: Ip) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = (header + self.payload.len()) as i32 + self.longer;
        let mut bytes = vec![0x40 | (header / 4) as u8, 0];
        bytes.extend((total as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([64, self.proto, 0, 0]);
        bytes.extend(src.v4_octets());
        bytes.extend(dst.v4_octets());
        bytes.extend(&self.options);
        bytes.extend(&self.payload);
        bytes
    }

    fn v6(&self, src: Ip, dst: Ip) -> Vec<u8> {
        let mut after = self.payload.clone();
        let mut next = self.proto;
        for (kind, extension) in self.extensions.iter().rev() {
            let mut header = extension.clone();
            header[0] = next;
            next = *kind;
            header.extend(after);
            after = header;
        }
        let length = (after.len() as i32 + self.longer) as u16;
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([next, 64]);
        bytes.extend(src.bits().to_be_bytes());
        bytes.extend(dst.bits().to_be_bytes());
        bytes.extend(after);
        bytes
    }

    pub fn frame(&self) -> Vec<u8> {
        ethernet(if ip(self.src).is_v4() { 0x0800 } else { 0x86dd }, &self.ip_bytes())
    }
}

pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn ports(src: u16, dst: u16) -> Vec<u8> {
    let mut bytes = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    bytes.extend([0; 16]);
    bytes
}

pub fn tcp(src: &'static str, dst: &'static str, port: u16) -> Packet {
    Packet::new(6, src, dst, ports(1024, port))
}

pub fn udp(src: &'static str, dst: &'static str, port: u16) -> Packet {
    Packet::new(17, src, dst, ports(1024, port))
}

pub fn icmp(src: &'static str, dst: &'static str, kind: u8, id: u16, rest: &[u8]) -> Packet {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(rest);
    Packet::new(if ip(src).is_v4() { 1 } else { 58 }, src, dst, bytes)
}

/// An ICMP error about a packet, of which it holds the IP header and 8 bytes more.
pub fn error(kind: u8, about: &Packet) -> Packet {
    let mut embedded = about.ip_bytes();
    embedded.truncate(embedded.len() - about.payload.len() + 8);
    let router = if ip(about.src).is_v4() { ROUTER } else { ROUTER6 };
    icmp(router, about.src, kind, 0, &embedded)
}

/// A packet that we sent, from one of our ports.
pub fn sent(proto: u8, src: &'static str, port: u16) -> Packet {
    Packet::new(proto, src, if ip(src).is_v4() { ROUTER } else { ROUTER6 }, ports(port, 53))
}

pub fn truncated(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

pub fn mapped_v6(src: &str, dst: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    bytes.extend(ip(src).bits().to_be_bytes());
    bytes.extend(ip(dst).bits().to_be_bytes());
    bytes.extend(ports(1024, port));
    ethernet(0x86dd, &bytes)
}

pub fn arp_request(target: &str) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend(ip(PEER).v4_octets());
    bytes.extend([0; 6]);
    bytes.extend(ip(target).v4_octets());
    ethernet(0x0806, &bytes)
}

pub fn solicitation(target: &str) -> Vec<u8> {
    let mut bytes = vec![135, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(ip(target).bits().to_be_bytes());
    Packet::new(58, PEER6, "ff02::1:ff00:9", bytes).frame()
}

/// The frame with these VLAN tags.
pub fn tagged(frame: &[u8], vlan: &[u16]) -> Vec<u8> {
    let tags = VlanTags::new(vlan).unwrap();
    let octets = tags.iter().flat_map(|(kind, id)| [kind, id]).flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    [&frame[..12], &octets, &frame[12..]].concat()
}
