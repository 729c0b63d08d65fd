//! The description of a packet, and its bytes.

use etherparse::{
    IpEcn, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, Ipv6RawExtHeader, PacketBuilder,
    TcpHeader, TcpOptions,
};
use proptest::collection::vec;
use proptest::prelude::*;
use sixway::frame::{Frame, Packet, Parsed, Rewrite, parse};
use sixway::units::{Ip, Proto};

pub const CONTAINER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0a];
pub const PORT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0b];

/// A packet in words. `options` are IPv4 options in units of four bytes, or one IPv6 hop-by-hop header if not 0.
#[derive(Clone, Debug)]
pub struct Spec {
    pub src: Ip,
    pub dst: Ip,
    pub ttl: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub dscp_ecn: u8,
    pub options: usize,
    pub l4: Transport,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Transport {
    Tcp { src: u16, dst: u16, seq: u32, ack: u32, flags: u8, options: usize },
    Udp { src: u16, dst: u16, has_checksum: bool },
    Echo { is_request: bool, id: u16, seq: u16 },
    Error { kind: u8, code: u8, parameter: u32 },
    Portless { proto: u8 },
}

impl Spec {
    /// The Ethernet frame, from the container to its port, with every checksum computed by etherparse.
    pub fn build(&self) -> Vec<u8> {
        self.build_between(CONTAINER_MAC, PORT_MAC)
    }

    pub fn build_between(&self, eth_src: [u8; 6], eth_dst: [u8; 6]) -> Vec<u8> {
        let ip = PacketBuilder::ethernet2(eth_src, eth_dst).ip(self.ip_headers());
        let mut bytes = Vec::new();
        let payload = &self.payload;
        match self.l4 {
            Transport::Tcp { src, dst, seq, ack, flags, options } => {
                let header = TcpHeader {
                    source_port: src,
                    destination_port: dst,
                    sequence_number: seq,
                    acknowledgment_number: ack,
                    fin: flags & 1 != 0,
                    syn: flags & 2 != 0,
                    rst: flags & 4 != 0,
                    psh: flags & 8 != 0,
                    ack: flags & 16 != 0,
                    window_size: if flags & 4 != 0 { 0 } else { 8192 },
                    options: TcpOptions::try_from_slice(&vec![1; options * 4]).unwrap(),
                    ..TcpHeader::default()
                };
                ip.tcp_header(header).write(&mut bytes, payload).unwrap();
            }
            Transport::Udp { src, dst, has_checksum } => {
                ip.udp(src, dst).write(&mut bytes, payload).unwrap();
                if !has_checksum {
                    let at = self.l4_at() + 6;
                    bytes[at..at + 2].fill(0);
                }
            }
            Transport::Echo { is_request, id, seq } => match (self.is_v4(), is_request) {
                (true, true) => ip.icmpv4_echo_request(id, seq).write(&mut bytes, payload).unwrap(),
                (true, false) => ip.icmpv4_echo_reply(id, seq).write(&mut bytes, payload).unwrap(),
                (false, true) => ip.icmpv6_echo_request(id, seq).write(&mut bytes, payload).unwrap(),
                (false, false) => ip.icmpv6_echo_reply(id, seq).write(&mut bytes, payload).unwrap(),
            },
            Transport::Error { kind, code, parameter } => {
                let parameter = parameter.to_be_bytes();
                if self.is_v4() {
                    ip.icmpv4_raw(kind, code, parameter).write(&mut bytes, payload).unwrap();
                } else {
                    ip.icmpv6_raw(kind, code, parameter).write(&mut bytes, payload).unwrap();
                }
            }
            Transport::Portless { proto } => ip.write(&mut bytes, IpNumber(proto), payload).unwrap(),
        }
        bytes
    }

    fn ip_headers(&self) -> IpHeaders {
        if self.is_v4() {
            let mut header = Ipv4Header {
                identification: self.id,
                dont_fragment: self.dont_fragment,
                more_fragments: false,
                fragment_offset: IpFragOffset::ZERO,
                time_to_live: self.ttl,
                source: self.src.v4_octets(),
                destination: self.dst.v4_octets(),
                options: vec![1; self.options * 4].as_slice().try_into().unwrap(),
                ..Ipv4Header::default()
            };
            header.dscp = (self.dscp_ecn >> 2).try_into().unwrap();
            header.ecn = IpEcn::try_new(self.dscp_ecn & 3).unwrap();
            return IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
        }
        let header = Ipv6Header {
            traffic_class: self.dscp_ecn,
            flow_label: Ipv6FlowLabel::ZERO,
            hop_limit: self.ttl,
            source: self.src.bits().to_be_bytes(),
            destination: self.dst.bits().to_be_bytes(),
            ..Ipv6Header::default()
        };
        let pad = [1, 4, 0, 0, 0, 0];
        let extensions = etherparse::Ipv6Extensions {
            hop_by_hop_options: (self.options > 0).then(|| Ipv6RawExtHeader::new_raw(IpNumber(0), &pad).unwrap()),
            ..etherparse::Ipv6Extensions::default()
        };
        IpHeaders::Ipv6(header, extensions)
    }

    pub fn is_v4(&self) -> bool {
        self.src.is_v4()
    }

    pub fn l4_at(&self) -> usize {
        14 + if self.is_v4() { 20 + self.options * 4 } else { 40 + usize::from(self.options > 0) * 8 }
    }

    /// Where the transport checksum is in the frame, if there is one.
    pub fn checksum_at(&self) -> Option<usize> {
        match self.l4 {
            Transport::Tcp { .. } => Some(self.l4_at() + 16),
            Transport::Udp { has_checksum, .. } => has_checksum.then_some(self.l4_at() + 6),
            Transport::Echo { .. } | Transport::Error { .. } => Some(self.l4_at() + 2),
            Transport::Portless { .. } => None,
        }
    }

    pub fn proto(&self) -> Proto {
        match self.l4 {
            Transport::Tcp { .. } => Proto::TCP,
            Transport::Udp { .. } => Proto::UDP,
            Transport::Echo { .. } | Transport::Error { .. } if self.is_v4() => Proto::ICMP,
            Transport::Echo { .. } | Transport::Error { .. } => Proto::ICMPV6,
            Transport::Portless { proto } => Proto(proto),
        }
    }

    /// The packet that a rewrite should leave.
    pub fn rewritten(&self, with: &Rewrite) -> Spec {
        let mut spec = self.clone();
        spec.src = with.src.map_or(self.src, |(ip, _)| ip);
        spec.dst = with.dst.map_or(self.dst, |(ip, _)| ip);
        spec.ttl = self.ttl.saturating_sub(u8::from(with.decrement_ttl));
        spec.id = with.ip_id.unwrap_or(self.id);
        match &mut spec.l4 {
            Transport::Tcp { src, dst, .. } | Transport::Udp { src, dst, .. } => {
                *src = with.src.map_or(*src, |(_, port)| port);
                *dst = with.dst.map_or(*dst, |(_, port)| port);
            }
            Transport::Echo { id, .. } => *id = with.dst.or(with.src).map_or(*id, |(_, port)| port),
            Transport::Error { .. } | Transport::Portless { .. } => {}
        }
        spec
    }
}

/// The first fragment of an IPv4 packet: `keep` bytes of its transport part, a multiple of 8.
pub fn first_fragment(spec: &Spec, whole: &[u8], keep: usize) -> Vec<u8> {
    let mut fragment = whole[..spec.l4_at() + keep].to_vec();
    let (header, _) = Ipv4Header::from_slice(&fragment[14..]).unwrap();
    let mut header = Ipv4Header { more_fragments: true, dont_fragment: false, ..header };
    header.set_payload_len(keep).unwrap();
    header.header_checksum = header.calc_header_checksum();
    fragment[14..spec.l4_at()].copy_from_slice(&header.to_bytes());
    fragment
}

/// A plain packet 10.1.0.2:1024 -> 10.2.0.2:80, or the echo request 1024.
pub fn plain(proto: Proto, payload: &[u8]) -> Spec {
    let l4 = match proto {
        Proto::TCP => Transport::Tcp { src: 1024, dst: 80, seq: 7, ack: 9, flags: 0x10, options: 0 },
        Proto::UDP => Transport::Udp { src: 1024, dst: 80, has_checksum: true },
        _ => Transport::Echo { is_request: true, id: 1024, seq: 1 },
    };
    Spec {
        src: "10.1.0.2".parse().unwrap(),
        dst: "10.2.0.2".parse().unwrap(),
        ttl: 9,
        id: 1,
        dont_fragment: false,
        dscp_ecn: 0,
        options: 0,
        l4,
        payload: payload.to_vec(),
    }
}

/// The packet in `bytes`, which must be one.
pub fn packet_of(bytes: &mut [u8]) -> Packet {
    let len = bytes.len();
    match parse(&Frame::new(bytes, 0, len)) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("not an IP packet: {other:?}"),
    }
}

/// The ones' complement sum of the pseudo header and the transport part, the slow and plain way. A right checksum gives
/// 0 (that is 0xffff), a wrong one its error.
pub fn residue(bytes: &[u8], packet: &Packet) -> u64 {
    let l4 = &bytes[usize::from(packet.l4_at)..packet.l3_end as usize];
    let mut sum = if packet.proto == Proto::ICMP { 0 } else { pseudo_sum(packet) };
    for (at, &byte) in l4.iter().enumerate() {
        sum += u64::from(byte) << (8 * ((at + 1) % 2));
    }
    sum % 0xffff
}

/// The sum of the pseudo header, the slow and plain way, modulo 0xffff.
pub fn pseudo_sum(packet: &Packet) -> u64 {
    let ip = |ip: Ip| (0..8).map(|word| (ip.bits() >> (16 * word)) as u64 & 0xffff).sum::<u64>();
    assert_ne!(packet.proto, Proto::ICMP, "ICMP has no pseudo header");
    (ip(packet.src) + ip(packet.dst) + u64::from(packet.proto.0) + u64::from(packet.l4_len())) % 0xffff
}

pub fn any_spec() -> impl Strategy<Value = Spec> {
    any::<bool>().prop_flat_map(|v4| {
        let header = (any_ip(v4), any_ip(v4), any::<u8>(), any::<u16>(), any::<bool>(), any::<u8>(), 0_usize..=10);
        (header, any_transport(), payload()).prop_map(move |(header, mut l4, payload)| {
            if let Transport::Udp { has_checksum, .. } = &mut l4 {
                *has_checksum |= !v4;
            }
            let (src, dst, ttl, id, dont_fragment, dscp_ecn, options) = header;
            Spec { src, dst, ttl, id, dont_fragment, dscp_ecn, options, l4, payload }
        })
    })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..80), vec(any::<u8>(), 1400..1481), vec(Just(0), 0..9), vec(Just(0xff), 0..9)]
}

pub fn any_transport() -> impl Strategy<Value = Transport> {
    prop_oneof![
        (any::<u16>(), any::<u16>(), any::<u32>(), any::<u32>(), 0_u8..32, 0_usize..=10)
            .prop_map(|(src, dst, seq, ack, flags, options)| Transport::Tcp { src, dst, seq, ack, flags, options }),
        (any::<u16>(), any::<u16>(), prop::bool::weighted(0.8)).prop_map(|(src, dst, has_checksum)| Transport::Udp {
            src,
            dst,
            has_checksum
        }),
        (any::<bool>(), any::<u16>(), any::<u16>()).prop_map(|(is_request, id, seq)| Transport::Echo {
            is_request,
            id,
            seq
        }),
        prop_oneof![Just(47), Just(50), Just(132), Just(200)].prop_map(|proto| Transport::Portless { proto }),
    ]
}

pub fn any_ip(v4: bool) -> BoxedStrategy<Ip> {
    if v4 {
        any::<u32>().prop_map(Ip::from_v4_bits).boxed()
    } else {
        // 2000::/3: never an IPv4-mapped address.
        any::<u128>().prop_map(|bits| Ip::from_v6_octets((bits >> 3 | 1 << 125).to_be_bytes())).boxed()
    }
}

/// Any rewrite of packets of this family.
pub fn any_rewrite(v4: bool) -> impl Strategy<Value = Rewrite> {
    let end = || prop::option::weighted(0.8, (any_ip(v4), any::<u16>()));
    (end(), end(), any::<bool>(), prop::option::of(any::<u16>())).prop_map(|(src, dst, decrement_ttl, ip_id)| Rewrite {
        src,
        dst,
        decrement_ttl,
        ip_id,
    })
}

/// Any packet with any rewrite of it.
pub fn any_spec_and_rewrite() -> impl Strategy<Value = (Spec, Rewrite)> {
    any_spec().prop_flat_map(|spec| {
        let v4 = spec.is_v4();
        (Just(spec), any_rewrite(v4))
    })
}
