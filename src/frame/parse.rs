//! From bytes to a [`Packet`]: the Ethernet header.

use super::{Arp, Frame, Malformed, Packet, arp, ipv4, ipv6};
use crate::units::Mac;

/// Length of the Ethernet header in bytes: two addresses and the type.
pub const ETHERNET_LEN: usize = 14;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant)] // a packet is the rule, and lives on the stack
pub enum Parsed {
    Ip(Packet),
    Arp(Arp),
    /// Another Ethernet type, or an IEEE 802.3 length (below 0x600).
    Other {
        ethertype: u16,
    },
}

/// Reads a frame's headers and checks all that a router must check before it forwards (RFC 1812 section 5.2.2). The
/// transport checksum is not verified: a wrong one travels on and stays wrong.
#[inline]
pub fn parse(frame: &Frame) -> Result<Parsed, Malformed> {
    let mut parsed = Err(Malformed::Truncated);
    parse_into(frame, &mut parsed);
    parsed
}

/// As [`parse`], to where the outcome is to stay: a packet that is copied right after it was written, in larger pieces
/// than it was written in, waits until the stores have left the core.
#[inline(always)]
pub fn parse_into(frame: &Frame, into: &mut Result<Parsed, Malformed>) {
    if let Err(why) = parse_ethernet(frame, into) {
        *into = Err(why);
    }
}

#[inline(always)]
fn parse_ethernet(frame: &Frame, into: &mut Result<Parsed, Malformed>) -> Result<(), Malformed> {
    let (ethernet, l3) = frame.bytes().split_first_chunk::<ETHERNET_LEN>().ok_or(Malformed::Truncated)?;
    let (dst, tail) = ethernet.split_first_chunk::<6>().ok_or(Malformed::Truncated)?;
    let (src, ethertype) = tail.split_first_chunk::<6>().ok_or(Malformed::Truncated)?;
    let macs = Macs { dst: Mac(*dst), src: Mac(*src) };
    match *ethertype {
        [0x08, 0x00] => ipv4::parse(l3, frame, macs, into),
        [0x86, 0xdd] => ipv6::parse(l3, frame, macs, into),
        ref other => {
            *into = parse_other(other, l3);
            Ok(())
        }
    }
}

#[cold]
fn parse_other(ethertype: &[u8], l3: &[u8]) -> Result<Parsed, Malformed> {
    match *ethertype {
        [0x08, 0x06] => arp::parse(l3).map(Parsed::Arp),
        [0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00] => Err(Malformed::VlanTagged),
        [high, low] => Ok(Parsed::Other { ethertype: u16::from_be_bytes([high, low]) }),
        _ => Err(Malformed::Truncated),
    }
}

/// The two addresses of the Ethernet header.
#[derive(Clone, Copy)]
pub(super) struct Macs {
    pub dst: Mac,
    pub src: Mac,
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    #[test]
    fn a_packet_ends_within_the_last_buffer() {
        let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        for ip in [ethernet().ipv4([10; 4], [11; 4], 9), ethernet().ipv6([0x20; 16], [0x21; 16], 9)] {
            let mut whole = Vec::new();
            ip.udp(1, 2).write(&mut whole, &[7; 400]).unwrap();
            let (end, header) = (whole.len() as u32, whole[..100].to_vec());
            let parsed = |rest: &[&[u8]]| {
                let mut first = header.clone();
                match parse(&Frame::with_rest(&mut first, 0, 100, rest))? {
                    Parsed::Ip(packet) => Ok(packet.l3_end),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(parsed(&[&whole[100..200], &whole[200..]]), Ok(end));
            assert_eq!(parsed(&[&whole[100..], &[0; 9]]), Ok(end), "padding");
            assert_eq!(parsed(&[&whole[100..200], &whole[201..]]), Err(Malformed::BadTotalLength));
        }
    }
}
