//! Neighbour discovery for Ethernet (RFC 4861, RFC 2464).

use super::answer::{self, Header};
use super::checksum;
use super::parse::ETHERNET_LEN;
use super::rewrite::{set_macs, write_u16};
use super::{Fragment, Frame, L4, Malformed, Packet, ipv6};
use crate::units::{Ip, Mac, Proto};

/// What a neighbour or router says, or wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ndp {
    /// Who is my router?
    RouterSolicitation,
    /// Who has `target`? From `::` while the sender makes sure that nobody else has it (RFC 4862 section 5.4).
    NeighbourSolicitation { target: Ip },
    /// I have `target`.
    NeighbourAdvertisement { target: Ip },
    /// Router advertisements and redirects: not for those who are no hosts.
    Other,
}

/// The hop limit of all these messages: proof that no router has passed them on (RFC 4861 section 3.1).
const HOP_LIMIT: u8 = 255;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// Types of options (RFC 4861 section 4.6).
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
const MTU: u8 = 5;
/// From a frame's first byte to the ICMPv6 message that we make.
const MESSAGE_AT: usize = ETHERNET_LEN + ipv6::HEADER_LEN;
/// A neighbour's message with the one option that we give it, and a router's with two.
const NEIGHBOUR_LEN: usize = 32;
const ROUTER_LEN: usize = 32;
/// All nodes of a link (RFC 4291 section 2.7.1), and their MAC (RFC 2464 section 7).
const ALL_NODES: Ip = Ip::from_v6_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// Lengths of the solicitation and of the router advertisement to all that we make.
pub const SOLICITATION_FRAME_LEN: usize = MESSAGE_AT + NEIGHBOUR_LEN;
pub const ADVERTISEMENT_FRAME_LEN: usize = MESSAGE_AT + ROUTER_LEN;

/// What a router tells hosts of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Router {
    /// A link-local address.
    pub ip: Ip,
    pub mac: Mac,
    /// The MTU of the link, in bytes of IP.
    pub mtu: u32,
}

/// True if the packet is a message of neighbour discovery, whatever it may be worth.
#[inline]
#[must_use]
pub fn is_ndp(packet: &Packet) -> bool {
    matches!(packet.l4, L4::Icmp { kind: ROUTER_SOLICITATION..=REDIRECT, .. }) && !packet.is_v4()
}

/// Reads a message of neighbour discovery, and checks all that RFC 4861 sections 6.1.1, 7.1.1 and 7.1.2 ask for.
///
/// # Errors
/// It is one that must be ignored.
pub fn parse_ndp(frame: &Frame, packet: &Packet) -> Result<Ndp, Malformed> {
    let L4::Icmp { kind, code } = packet.l4 else { return Err(Malformed::Ndp) };
    let end = (packet.l3_end as usize).min(frame.len());
    let message = frame.bytes().get(usize::from(packet.l4_at)..end).ok_or(Malformed::Ndp)?;
    let pseudo = checksum::pseudo_header(packet.src, packet.dst, packet.proto, message.len() as u32);
    let is_sound = is_ndp(packet)
        && packet.fragment == Fragment::Whole
        && packet.ttl == HOP_LIMIT
        && code == 0
        && frame.rest().is_empty()
        && pseudo.plus(checksum::of(message)).fold() == 0xffff;
    if !is_sound {
        return Err(Malformed::Ndp);
    }
    let target = || {
        let octets = message.get(8..24).and_then(|target| target.first_chunk::<16>()).ok_or(Malformed::Ndp)?;
        let target = Ip::from_v6_octets(*octets);
        if answer::is_one_target(target) && !target.is_v4() { Ok(target) } else { Err(Malformed::Ndp) }
    };
    let (said, options_at) = match kind {
        ROUTER_SOLICITATION => (Ndp::RouterSolicitation, 8),
        NEIGHBOUR_SOLICITATION => (Ndp::NeighbourSolicitation { target: target()? }, 24),
        NEIGHBOUR_ADVERTISEMENT => (Ndp::NeighbourAdvertisement { target: target()? }, 24),
        _ => return Ok(Ndp::Other),
    };
    let mut options = message.get(options_at..).ok_or(Malformed::Ndp)?;
    while let [_, len, ..] = *options {
        options = options.get(usize::from(len) * 8..).filter(|_| len > 0).ok_or(Malformed::Ndp)?;
    }
    if options.is_empty() { Ok(said) } else { Err(Malformed::Ndp) }
}

/// Turns a neighbour solicitation for `target` into the advertisement that claims it for `our` MAC, in place. False, and
/// nothing is changed, if its sender has no address of its own, or the buffer has no room.
pub fn neighbour_advertisement(frame: &mut Frame, asked: &Packet, target: Ip, our: Mac, is_router: bool) -> bool {
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    let mut message = [0; NEIGHBOUR_LEN];
    message[..8].copy_from_slice(&[
        NEIGHBOUR_ADVERTISEMENT,
        0,
        0,
        0,
        SOLICITED | if is_router { ROUTER } else { 0 },
        0,
        0,
        0,
    ]);
    message[8..24].copy_from_slice(&target.bits().to_be_bytes());
    message[24..].copy_from_slice(&address_option(TARGET_ADDRESS, our));
    answer(frame, asked, target, our, &mut message)
}

/// Turns a router solicitation into the advertisement of `router` for its sender. In place; false, and nothing is changed,
/// as with [`neighbour_advertisement`].
pub fn router_advertisement(frame: &mut Frame, asked: &Packet, router: &Router) -> bool {
    answer(frame, asked, router.ip, router.mac, &mut router_message(router))
}

/// Writes the advertisement of `router` that goes to all hosts of the link unasked (RFC 4861 section 6.2.4) to the start of
/// `buf`; gives its length, or 0 if `buf` is too short.
pub fn unsolicited_advertisement(buf: &mut [u8], router: &Router) -> usize {
    let Some(bytes) = buf.get_mut(..ADVERTISEMENT_FRAME_LEN) else { return 0 };
    let (src, dst) = (router.ip, ALL_NODES);
    let header = Header { src, dst, proto: Proto::ICMPV6, dscp_ecn: 0, payload_len: ROUTER_LEN };
    header.write_between(ALL_NODES_MAC, router.mac, bytes);
    complete(bytes, src, dst, &mut router_message(router));
    ADVERTISEMENT_FRAME_LEN
}

/// For hosts that have their addresses already: it tells of no prefix.
fn router_message(router: &Router) -> [u8; ROUTER_LEN] {
    const CURRENT_HOP_LIMIT: u8 = 64;
    /// The longest that RFC 4861 section 6.2.1 allows, in seconds.
    const LIFETIME_S: [u8; 2] = 9000u16.to_be_bytes();
    let [m0, m1, m2, m3] = router.mtu.to_be_bytes();
    let mut message = [0; ROUTER_LEN];
    message[..8].copy_from_slice(&[ROUTER_ADVERTISEMENT, 0, 0, 0, CURRENT_HOP_LIMIT, 0, LIFETIME_S[0], LIFETIME_S[1]]);
    // Reachable time and retransmit timer: unspecified.
    message[16..24].copy_from_slice(&address_option(SOURCE_ADDRESS, router.mac));
    message[24..].copy_from_slice(&[MTU, 1, 0, 0, m0, m1, m2, m3]);
    message
}

/// Writes a solicitation for `target`, from `from`, to the start of `buf`; gives its length, or 0 if `buf` is too short.
/// It goes to the group of the target (RFC 4291 section 2.7.1), and to `to` on the link or, without that, to the group's
/// MAC (RFC 2464 section 7).
pub fn neighbour_solicitation(buf: &mut [u8], (our, from): (Mac, Ip), target: Ip, to: Option<Mac>) -> usize {
    let Some(bytes) = buf.get_mut(..SOLICITATION_FRAME_LEN) else { return 0 };
    let [.., x, y, z] = target.bits().to_be_bytes();
    let group = Ip::from_v6_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
    let mut message = [0; NEIGHBOUR_LEN];
    message[0] = NEIGHBOUR_SOLICITATION;
    message[8..24].copy_from_slice(&target.bits().to_be_bytes());
    message[24..].copy_from_slice(&address_option(SOURCE_ADDRESS, our));
    let header = Header { src: from, dst: group, proto: Proto::ICMPV6, dscp_ecn: 0, payload_len: NEIGHBOUR_LEN };
    header.write_between(to.unwrap_or(Mac([0x33, 0x33, 0xff, x, y, z])), our, bytes);
    complete(bytes, from, group, &mut message);
    SOLICITATION_FRAME_LEN
}

fn address_option(kind: u8, Mac([a, b, c, d, e, f]): Mac) -> [u8; 8] {
    [kind, 1, a, b, c, d, e, f]
}

fn answer(frame: &mut Frame, asked: &Packet, from: Ip, our: Mac, message: &mut [u8]) -> bool {
    if from.is_v4() || !answer::is_single_host(asked.src) || asked.eth_src.is_group() {
        return false;
    }
    if !frame.set_bounds(frame.start(), MESSAGE_AT + message.len()) {
        return false;
    }
    let (to, payload_len) = (asked.src, message.len());
    let header = Header { src: from, dst: to, proto: Proto::ICMPV6, dscp_ecn: 0, payload_len };
    if !header.write(asked, frame.bytes_mut()) {
        return false;
    }
    set_macs(frame, asked.eth_src, our);
    complete(frame.bytes_mut(), from, to, message);
    true
}

/// Puts the message behind its headers, which say how far it has come: nowhere.
fn complete(bytes: &mut [u8], from: Ip, to: Ip, message: &mut [u8]) {
    let pseudo = checksum::pseudo_header(from, to, Proto::ICMPV6, message.len() as u32);
    write_u16(message, 2, pseudo.plus(checksum::of(message)).checksum());
    if let Some(hop_limit) = bytes.get_mut(ETHERNET_LEN + 7) {
        *hop_limit = HOP_LIMIT;
    }
    if let Some(place) = bytes.get_mut(MESSAGE_AT..MESSAGE_AT + message.len()) {
        place.copy_from_slice(message);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{
        EthernetFrame, Icmpv6Packet, Icmpv6Repr, Ipv6Packet, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
    };

    use super::super::{Parsed, parse};
    use super::*;

    const OUR: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const SENDER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn ip(text: &str) -> Ip {
        text.parse().unwrap()
    }

    fn octets(text: &str) -> core::net::Ipv6Addr {
        text.parse().unwrap()
    }

    fn mac(Mac(octets): Mac) -> RawHardwareAddress {
        RawHardwareAddress::from_bytes(&octets)
    }

    /// What smoltcp sends, in a buffer with room behind it.
    fn sent(src: &str, dst: &str, said: NdiscRepr<'_>) -> (Vec<u8>, usize) {
        let said = Icmpv6Repr::Ndisc(said);
        let len = MESSAGE_AT + said.buffer_len();
        let mut bytes = vec![0; len + 64];
        let mut ethernet = EthernetFrame::new_unchecked(&mut bytes[..]);
        ethernet.set_dst_addr(smoltcp::wire::EthernetAddress([0x33, 0x33, 0, 0, 0, 1]));
        ethernet.set_src_addr(smoltcp::wire::EthernetAddress(SENDER.0));
        ethernet.set_ethertype(smoltcp::wire::EthernetProtocol::Ipv6);
        let mut ip = Ipv6Packet::new_unchecked(ethernet.payload_mut());
        ip.set_version(6);
        ip.set_next_header(smoltcp::wire::IpProtocol::Icmpv6);
        ip.set_hop_limit(255);
        ip.set_payload_len(said.buffer_len() as u16);
        ip.set_src_addr(octets(src));
        ip.set_dst_addr(octets(dst));
        let mut message = Icmpv6Packet::new_unchecked(ip.payload_mut());
        said.emit(&octets(src), &octets(dst), &mut message, &smoltcp::phy::ChecksumCapabilities::default());
        (bytes, len)
    }

    /// What a frame says in the words of smoltcp, which verifies it.
    fn read(bytes: &[u8]) -> (String, String, String) {
        let ethernet = EthernetFrame::new_checked(bytes).unwrap();
        let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
        assert_eq!(ip.hop_limit(), 255);
        let message = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        let said = Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &message, &Default::default()).unwrap();
        (
            format!("{} -> {}", ethernet.src_addr(), ethernet.dst_addr()),
            format!("{} -> {}", ip.src_addr(), ip.dst_addr()),
            format!("{said:?}"),
        )
    }

    fn parsed(bytes: &mut [u8], len: usize) -> (Packet, Result<Ndp, Malformed>) {
        let frame = Frame::new(bytes, 0, len);
        let Ok(Parsed::Ip(packet)) = parse(&frame) else { panic!("IP") };
        assert!(is_ndp(&packet));
        (packet, parse_ndp(&frame, &packet))
    }

    fn solicitation() -> (Vec<u8>, usize) {
        let target_addr = octets("fd00::1");
        sent("fd00::2", "ff02::1:ff00:1", NdiscRepr::NeighborSolicit { target_addr, lladdr: Some(mac(SENDER)) })
    }

    #[test]
    fn a_solicitation_is_answered_in_place() {
        let (mut bytes, len) = solicitation();
        let (packet, said) = parsed(&mut bytes, len);
        assert_eq!(said, Ok(Ndp::NeighbourSolicitation { target: ip("fd00::1") }));
        let mut frame = Frame::new(&mut bytes, 0, len);
        assert!(neighbour_advertisement(&mut frame, &packet, ip("fd00::1"), OUR, true));
        let expected = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
            flags: NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::SOLICITED,
            target_addr: octets("fd00::1"),
            lladdr: Some(mac(OUR)),
        });
        let (macs, ips, said) = read(frame.bytes());
        assert_eq!(macs, "02-00-00-00-00-09 -> 02-00-00-00-00-02");
        assert_eq!((ips, said), ("fd00::1 -> fd00::2".to_owned(), format!("{expected:?}")));
    }

    #[test]
    fn a_router_solicitation_is_answered_with_the_mtu() {
        let (mut bytes, len) = sent("fe80::2", "ff02::2", NdiscRepr::RouterSolicit { lladdr: None });
        let (packet, said) = parsed(&mut bytes, len);
        assert_eq!(said, Ok(Ndp::RouterSolicitation));
        let mut frame = Frame::new(&mut bytes, 0, len);
        let router = Router { ip: ip("fe80::1"), mac: OUR, mtu: 1480 };
        assert!(router_advertisement(&mut frame, &packet, &router));
        let (_, ips, told) = read(frame.bytes());
        assert_eq!(ips, "fe80::1 -> fe80::2");
        for part in [
            "mtu: Some(1480)",
            "router_lifetime: Duration { micros: 9000000000 }",
            "prefix_info: None",
            "hop_limit: 64",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }

        let mut unasked = [0; 14 + 40 + 32];
        assert_eq!(unsolicited_advertisement(&mut unasked, &router), unasked.len());
        let (macs, ips, same) = read(&unasked);
        assert_eq!(macs, "02-00-00-00-00-09 -> 33-33-00-00-00-01");
        assert_eq!((ips.as_str(), same), ("fe80::1 -> ff02::1", told), "all are told the same");
        assert_eq!(unsolicited_advertisement(&mut unasked[1..], &router), 0);
    }

    #[test]
    fn who_has_no_address_yet_gets_no_answer() {
        let target_addr = octets("fd00::2");
        let (mut bytes, len) = sent("::", "ff02::1:ff00:2", NdiscRepr::NeighborSolicit { target_addr, lladdr: None });
        let (packet, said) = parsed(&mut bytes, len);
        assert_eq!(said, Ok(Ndp::NeighbourSolicitation { target: ip("fd00::2") }));
        let before = bytes.clone();
        assert!(!neighbour_advertisement(&mut Frame::new(&mut bytes, 0, len), &packet, ip("fd00::2"), OUR, false));
        assert_eq!(bytes, before);
    }

    #[test]
    fn a_solicitation_of_ours_is_one_to_others() {
        let mut bytes = [0; 14 + 40 + 32];
        for (to, expected) in [(None, "33-33-ff-12-34-56"), (Some(SENDER), "02-00-00-00-00-02")] {
            assert_eq!(neighbour_solicitation(&mut bytes, (OUR, ip("fe80::9")), ip("fd00::12:3456"), to), bytes.len());
            let (macs, ips, said) = read(&bytes);
            assert_eq!(macs, format!("02-00-00-00-00-09 -> {expected}"));
            assert_eq!(ips, "fe80::9 -> ff02::1:ff12:3456");
            assert!(said.contains("NeighborSolicit { target_addr: fd00::12:3456"), "{said}");
        }
        assert_eq!(neighbour_solicitation(&mut [0; 40], (OUR, ip("fe80::9")), ip("fd00::1"), None), 0);
    }

    #[test]
    fn an_advertisement_says_who_has_the_target() {
        let (flags, target_addr) = (NdiscNeighborFlags::SOLICITED, octets("fd00::1"));
        let lladdr = Some(mac(SENDER));
        let (mut bytes, len) = sent("fd00::1", "fd00::9", NdiscRepr::NeighborAdvert { flags, target_addr, lladdr });
        assert_eq!(parsed(&mut bytes, len).1, Ok(Ndp::NeighbourAdvertisement { target: ip("fd00::1") }));
    }

    #[test]
    fn nobody_asks_for_a_group_or_an_ipv4_address() {
        for target in ["ff02::1", "::ffff:10.1.0.2"] {
            let target_addr = octets(target);
            let (mut bytes, len) = sent("fd00::2", "fd00::1", NdiscRepr::NeighborSolicit { target_addr, lladdr: None });
            assert_eq!(parsed(&mut bytes, len).1, Err(Malformed::Ndp), "{target}");
        }
    }

    #[test]
    fn what_was_passed_on_is_ignored() {
        let (mut bytes, len) = solicitation();
        bytes[ETHERNET_LEN + 7] = 254;
        assert_eq!(parsed(&mut bytes, len).1, Err(Malformed::Ndp));
    }

    proptest! {
        /// Whatever is changed in it: it is refused, or one of its own addresses is another.
        #[test]
        fn changed_bytes_are_noticed(at in MESSAGE_AT + 1..SOLICITATION_FRAME_LEN, by in 1..=255u8) {
            let (mut bytes, len) = solicitation();
            bytes[at] ^= by;
            prop_assert_eq!(parsed(&mut bytes, len).1, Err(Malformed::Ndp));
        }

        /// Options of any length end the message or are refused.
        #[test]
        fn options_of_any_length_are_read_or_refused(options in proptest::collection::vec(any::<u8>(), 0..48)) {
            let (bytes, _) = solicitation();
            let mut bytes = [&bytes[..MESSAGE_AT + 24], &options].concat();
            let len = bytes.len();
            bytes[ETHERNET_LEN + 4..ETHERNET_LEN + 6].copy_from_slice(&((24 + options.len()) as u16).to_be_bytes());
            write_u16(&mut bytes, MESSAGE_AT + 2, 0);
            let pseudo = checksum::pseudo_header(ip("fd00::2"), ip("ff02::1:ff00:1"), Proto::ICMPV6, (24 + options.len()) as u32);
            let sum = pseudo.plus(checksum::of(&bytes[MESSAGE_AT..])).checksum();
            write_u16(&mut bytes, MESSAGE_AT + 2, sum);
            let fits = {
                let mut rest = &options[..];
                loop {
                    match rest {
                        [] => break true,
                        [_, len, ..] if *len > 0 && usize::from(*len) * 8 <= rest.len() => rest = &rest[usize::from(*len) * 8..],
                        _ => break false,
                    }
                }
            };
            prop_assert_eq!(parsed(&mut bytes, len).1.is_ok(), fits);
        }
    }
}
