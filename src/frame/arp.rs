//! ARP for Ethernet and IPv4 (RFC 826).

use super::parse::ETHERNET_LEN;
use super::{Frame, Malformed};
use crate::units::{Ip, Mac};

/// Length of the ARP frames that we make, without padding.
pub const ARP_FRAME_LEN: usize = ETHERNET_LEN + ARP_LEN;

const ARP_LEN: usize = 28;
const ETHERTYPE: [u8; 2] = [0x08, 0x06];
/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// An ARP packet. A probe has sender 0.0.0.0; an announcement has the same sender and target IP (RFC 5227).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    pub operation: ArpOperation,
    pub sender_mac: Mac,
    pub sender_ip: Ip,
    pub target_mac: Mac,
    pub target_ip: Ip,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpOperation {
    Request,
    Reply,
    Other,
}

/// Parses what follows the Ethernet header.
pub(super) fn parse(arp: &[u8]) -> Result<Arp, Malformed> {
    let arp = arp.first_chunk::<ARP_LEN>().ok_or(Malformed::Arp)?;
    let (kind, body) = arp.split_at(6);
    let &[o0, o1, m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, n0, n1, n2, n3, n4, n5, t0, t1, t2, t3] = body else {
        return Err(Malformed::Arp);
    };
    if kind != ETHERNET_IPV4 {
        return Err(Malformed::Arp);
    }
    let operation = match u16::from_be_bytes([o0, o1]) {
        1 => ArpOperation::Request,
        2 => ArpOperation::Reply,
        _ => ArpOperation::Other,
    };
    Ok(Arp {
        operation,
        sender_mac: Mac([m0, m1, m2, m3, m4, m5]),
        sender_ip: Ip::from_v4_octets([s0, s1, s2, s3]),
        target_mac: Mac([n0, n1, n2, n3, n4, n5]),
        target_ip: Ip::from_v4_octets([t0, t1, t2, t3]),
    })
}

/// Turns a request into the reply that claims its target address for `our` MAC, in place. False, and nothing is
/// changed, if it is no request or its sender has no MAC of one station.
pub fn arp_reply(frame: &mut Frame, request: &Arp, our: Mac) -> bool {
    let Arp { operation, sender_mac, sender_ip, target_ip, .. } = *request;
    if operation != ArpOperation::Request || sender_mac.is_group() || sender_mac == Mac::ZERO {
        return false;
    }
    if !frame.set_bounds(frame.start(), ARP_FRAME_LEN) {
        return false;
    }
    write(frame.bytes_mut(), sender_mac, our, 2, (our, target_ip), (sender_mac, sender_ip))
}

/// Writes a broadcast request for `target_ip` to the start of `buf`; gives its length, or 0 if `buf` is too short. A
/// probe has `from_ip` 0.0.0.0 (RFC 5227 section 2.1.1).
pub fn arp_request(buf: &mut [u8], from_mac: Mac, from_ip: Ip, target_ip: Ip) -> usize {
    let is_written = write(buf, Mac::BROADCAST, from_mac, 1, (from_mac, from_ip), (Mac::ZERO, target_ip));
    if is_written { ARP_FRAME_LEN } else { 0 }
}

fn write(buf: &mut [u8], eth_dst: Mac, eth_src: Mac, operation: u8, sender: (Mac, Ip), target: (Mac, Ip)) -> bool {
    let Some(frame) = buf.first_chunk_mut::<ARP_FRAME_LEN>() else { return false };
    let (sender_ip, target_ip) = (sender.1.v4_octets(), target.1.v4_octets());
    let fields: [&[u8]; 9] = [
        &eth_dst.0,
        &eth_src.0,
        &ETHERTYPE,
        &ETHERNET_IPV4,
        &[0, operation],
        &sender.0.0,
        &sender_ip,
        &target.0.0,
        &target_ip,
    ];
    for (byte, &value) in frame.iter_mut().zip(fields.into_iter().flatten()) {
        *byte = value;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Parsed, parse};

    /// Who has 169.254.1.1? Tell 10.1.0.2.
    const REQUEST: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 1, 0, 2, 0, 0, 0, 0, 0, 0, 169, 254, 1, 1,
    ];
    const OUR: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn ip(text: &str) -> Ip {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_is_written_as_it_is_read() {
        let mut buf = [0xee; 60];
        let len = arp_request(&mut buf, Mac([2, 0, 0, 0, 0, 2]), ip("10.1.0.2"), ip("169.254.1.1"));
        assert_eq!(buf[..len], REQUEST);
        assert_eq!(arp_request(&mut buf[..41], OUR, Ip::UNSPECIFIED_V4, ip("10.1.0.2")), 0);
    }

    #[test]
    fn the_reply_claims_the_target_for_our_mac() {
        let mut buf = REQUEST.to_vec();
        buf.resize(60, 0);
        let mut frame = Frame::new(&mut buf, 0, 60);
        let Ok(Parsed::Arp(request)) = parse(&frame) else { panic!() };
        assert_eq!((request.operation, request.sender_ip), (ArpOperation::Request, ip("10.1.0.2")));
        assert!(arp_reply(&mut frame, &request, OUR));
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9, 169, 254, 1, 1, 2, 0, 0, 0, 0, 2, 10, 1, 0, 2,
        ];
        assert_eq!(frame.bytes(), expected);
        let Ok(Parsed::Arp(reply)) = parse(&frame) else { panic!() };
        assert_eq!((reply.operation, reply.sender_mac, reply.sender_ip), (ArpOperation::Reply, OUR, ip("169.254.1.1")));
        assert!(!arp_reply(&mut frame, &reply, OUR), "a reply is not answered");
    }

    #[test]
    fn what_is_not_ethernet_and_ipv4_is_malformed() {
        for (at, value) in [(15, 6), (16, 9), (18, 8), (19, 16)] {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert_eq!(parse(&Frame::new(&mut bytes, 0, 42)), Err(Malformed::Arp));
        }
        assert_eq!(parse(&Frame::new(&mut REQUEST.clone(), 0, 41)), Err(Malformed::Arp));
    }

    #[test]
    fn no_reply_goes_to_a_group_or_to_nobody() {
        let mut bytes = REQUEST;
        let mut frame = Frame::new(&mut bytes, 0, 42);
        let Ok(Parsed::Arp(request)) = parse(&frame) else { panic!() };
        for sender_mac in [Mac::BROADCAST, Mac::ZERO] {
            assert!(!arp_reply(&mut frame, &Arp { sender_mac, ..request }, OUR));
        }
        assert_eq!(frame.bytes(), REQUEST);
    }
}
