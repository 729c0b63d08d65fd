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
    let (ethernet, l3) = frame.bytes().split_first_chunk::<ETHERNET_LEN>().ok_or(Malformed::Truncated)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *ethernet;
    let macs = Macs { dst: Mac([d0, d1, d2, d3, d4, d5]), src: Mac([s0, s1, s2, s3, s4, s5]) };
    match u16::from_be_bytes([t0, t1]) {
        0x0800 => ipv4::parse(l3, frame.rest_len(), macs).map(Parsed::Ip),
        0x86dd => ipv6::parse(l3, frame.rest_len(), macs).map(Parsed::Ip),
        0x0806 => arp::parse(l3).map(Parsed::Arp),
        0x8100 | 0x88a8 | 0x9100 => Err(Malformed::VlanTagged),
        ethertype => Ok(Parsed::Other { ethertype }),
    }
}

/// The two addresses of the Ethernet header.
#[derive(Clone, Copy)]
pub(super) struct Macs {
    pub dst: Mac,
    pub src: Mac,
}
