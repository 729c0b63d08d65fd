//! What a frame says, by etherparse alone.

use std::net::IpAddr;

use etherparse::{IpPayloadSlice, NetSlice, SlicedPacket, TransportSlice};

use crate::parcels::End;

/// Ends, protocol and checksums of an IP packet.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    pub src: End,
    pub dst: End,
    pub proto: u8,
    pub ttl: u8,
    pub is_fragment: bool,
    /// Of the IPv4 header; true for IPv6.
    pub has_right_header: bool,
    pub sum: Sum,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Sum {
    /// There is none, or it is not of this packet alone: UDP without, a fragment, another protocol.
    None,
    Right,
    /// The sum of the pseudo header alone.
    Partial,
    Wrong,
}

/// Reads a whole IP packet; `None` if it is not one.
pub fn read(frame: &[u8]) -> Option<Seen> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (src, dst, ttl, has_right_header, payload, pseudo): (IpAddr, IpAddr, u8, bool, &IpPayloadSlice<'_>, _) =
        match packet.net.as_ref()? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                // Over the bytes, since etherparse's header has no place for the reserved bit.
                let is_right = Plain.sum(header.slice()) == 0xffff;
                let addresses = (header.source(), header.destination());
                (addresses.0.into(), addresses.1.into(), header.ttl(), is_right, ip.payload(), Pseudo::V4(addresses))
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let addresses = (header.source(), header.destination());
                (addresses.0.into(), addresses.1.into(), header.hop_limit(), true, ip.payload(), Pseudo::V6(addresses))
            }
            NetSlice::Arp(_) => return None,
        };
    let proto = payload.ip_number.0;
    let l4 = payload.payload;
    let at = |at: usize| l4.get(at..at + 2).map_or(0, |word| u16::from_be_bytes([word[0], word[1]]));
    let (ports, sum) = match packet.transport.as_ref().filter(|_| !payload.fragmented) {
        Some(TransportSlice::Tcp(_)) => ((at(0), at(2)), pseudo.judge(proto, l4, 16)),
        Some(TransportSlice::Udp(_)) => {
            let datagram = &l4[..usize::from(at(4)).min(l4.len())];
            ((at(0), at(2)), if at(6) == 0 { Sum::None } else { pseudo.judge(proto, datagram, 6) })
        }
        Some(TransportSlice::Icmpv4(_)) => ((0, 0), if Plain.sum(l4) == 0xffff { Sum::Right } else { Sum::Wrong }),
        Some(TransportSlice::Icmpv6(_)) => ((0, 0), pseudo.judge(proto, l4, 2)),
        _ => ((0, 0), Sum::None),
    };
    Some(Seen {
        src: (src, ports.0),
        dst: (dst, ports.1),
        proto,
        ttl,
        is_fragment: payload.fragmented,
        has_right_header,
        sum,
    })
}

struct Plain;

impl Plain {
    fn sum(&self, bytes: &[u8]) -> u16 {
        !etherparse::checksum::Sum16BitWords::new().add_slice(bytes).ones_complement().to_be()
    }
}

enum Pseudo {
    V4(([u8; 4], [u8; 4])),
    V6(([u8; 16], [u8; 16])),
}

impl Pseudo {
    fn judge(&self, proto: u8, l4: &[u8], checksum_at: usize) -> Sum {
        let mut pseudo = etherparse::checksum::Sum16BitWords::new();
        pseudo = match self {
            Pseudo::V4((src, dst)) => pseudo.add_4bytes(*src).add_4bytes(*dst),
            Pseudo::V6((src, dst)) => pseudo.add_16bytes(*src).add_16bytes(*dst),
        };
        pseudo = pseudo.add_2bytes([0, proto]).add_4bytes((l4.len() as u32).to_be_bytes());
        let folded = !pseudo.ones_complement().to_be();
        // A UDP length that holds not even its header.
        let Some(&[high, low]) = l4.get(checksum_at..checksum_at + 2) else { return Sum::None };
        let stated = u16::from_be_bytes([high, low]);
        match pseudo.add_slice(l4).ones_complement() {
            0 => Sum::Right,
            _ if stated == folded => Sum::Partial,
            _ => Sum::Wrong,
        }
    }
}
