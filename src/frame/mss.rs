//! The maximum segment size that a SYN offers.

use super::answer::Header;
use super::checksum::Sum;
use super::rewrite::{read_u16, update_at, write_u16};
use super::tcp_reset::TCP_LEN;
use super::{Fragment, Frame, L4, Packet};

/// Where a TCP header has its checksum.
const CHECKSUM_AT: usize = 16;
/// Kinds of TCP options (RFC 9293 section 3.1).
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;

/// Lowers the MSS that a TCP packet offers to what fits into IP packets of `mtu` bytes, and updates the checksum, which
/// must be in full. Only SYNs offer one; none is added, and a lower one stays. True if it was lowered.
#[inline(never)]
pub fn clamp_mss(frame: &mut Frame, packet: &Packet, mtu: u32) -> bool {
    if !matches!(packet.l4, L4::Tcp { .. }) || packet.fragment != Fragment::Whole {
        return false;
    }
    // An MSS counts neither header's options (RFC 9293 section 3.7.1, RFC 6691).
    let headers = (Header::len_of(packet.is_v4()) + TCP_LEN) as u32;
    let most = u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX);
    let Some(tcp) = frame.bytes_mut().get_mut(usize::from(packet.l4_at)..) else { return false };
    let Some(at) = find(tcp) else { return false };
    let offered = read_u16(tcp, at);
    if offered <= most {
        return false;
    }
    write_u16(tcp, at, most);
    // At an odd place its two bytes belong to two words, which comes to the value with its bytes swapped.
    let word = |value: u16| if at.is_multiple_of(2) { value } else { value.swap_bytes() };
    update_at(tcp, CHECKSUM_AT, Sum::ZERO.replace_u16(word(offered), word(most)));
    true
}

/// Where the value of the MSS option is, from the first byte of the TCP header.
fn find(tcp: &[u8]) -> Option<usize> {
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let options = tcp.get(..header)?;
    let mut at = TCP_LEN;
    loop {
        match *options.get(at..)? {
            [END, ..] => return None,
            [NOTHING, ..] => at += 1,
            [MSS, 4, _, _, ..] => return Some(at + 2),
            [_, len, ..] if len >= 2 => at += usize::from(len),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, TcpOptionElement};

    use super::super::{Parsed, parse};
    use super::*;

    /// A SYN with these options, and what a walk does to it.
    fn clamped(
        v6: bool,
        options: &[TcpOptionElement],
        raw: Option<&[u8]>,
        mtu: u32,
    ) -> (bool, etherparse::TcpHeader, bool) {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = if v6 { ethernet.ipv6([0x20; 16], [0x21; 16], 9) } else { ethernet.ipv4([10; 4], [11; 4], 9) };
        let tcp = ip.tcp(1, 2, 3, 4).syn();
        let tcp = match raw {
            Some(raw) => tcp.options_raw(raw).unwrap(),
            None => tcp.options(options).unwrap(),
        };
        let mut bytes = Vec::new();
        tcp.write(&mut bytes, b"early").unwrap();
        let len = bytes.len();
        let mut frame = Frame::new(&mut bytes, 0, len);
        let Ok(Parsed::Ip(packet)) = parse(&frame) else { panic!("it is well formed") };
        let lowered = clamp_mss(&mut frame, &packet, mtu);
        let read = etherparse::PacketHeaders::from_ethernet_slice(&bytes).unwrap();
        let etherparse::TransportHeader::Tcp(tcp) = read.transport.unwrap() else { panic!("TCP") };
        let sum = match read.net.unwrap() {
            etherparse::NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(&ip, b"early"),
            etherparse::NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(&ip, b"early"),
            etherparse::NetHeaders::Arp(_) => panic!("IP"),
        };
        let is_valid = sum.unwrap() == tcp.checksum;
        (lowered, tcp, is_valid)
    }

    fn mss(tcp: &etherparse::TcpHeader) -> Option<u16> {
        tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        })
    }

    #[test]
    fn an_offer_that_does_not_fit_is_lowered() {
        use TcpOptionElement::{MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, WindowScale};
        for (v6, mtu, expected) in [(false, 1400, 1360), (true, 1400, 1340), (false, 576, 536)] {
            for options in [
                &[MaximumSegmentSize(1460)][..],
                &[SelectiveAcknowledgementPermitted, WindowScale(7), Noop, MaximumSegmentSize(9000)],
                &[WindowScale(7), MaximumSegmentSize(1460)],
            ] {
                let (lowered, tcp, is_valid) = clamped(v6, options, None, mtu);
                assert!(lowered && is_valid, "{options:?}");
                assert_eq!(mss(&tcp), Some(expected), "{options:?}");
            }
        }
    }

    #[test]
    fn what_fits_stays_and_none_is_added() {
        let (lowered, tcp, is_valid) = clamped(false, &[TcpOptionElement::MaximumSegmentSize(1360)], None, 1400);
        assert!(!lowered && is_valid && mss(&tcp) == Some(1360));
        let (lowered, tcp, is_valid) = clamped(false, &[], None, 1400);
        assert!(!lowered && is_valid && mss(&tcp).is_none());
    }

    #[test]
    fn options_that_lead_nowhere_are_left_alone() {
        for raw in
            [&[1, 1, 2, 4][..], &[3, 0, 2, 4, 5, 180, 0, 0], &[8, 200, 2, 4], &[2, 3, 5, 180], &[0, 2, 2, 4, 5, 180]]
        {
            assert!(!clamped(false, &[], Some(raw), 576).0, "{raw:?}");
        }
    }

    #[test]
    fn what_is_no_whole_segment_is_left_alone() {
        let mut bytes = Vec::new();
        let ip = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10; 4], [11; 4], 9);
        let syn = ip.tcp(1, 2, 3, 4).syn().options(&[TcpOptionElement::MaximumSegmentSize(1460)]).unwrap();
        syn.write(&mut bytes, &[]).unwrap();
        let len = bytes.len();
        let mut frame = Frame::new(&mut bytes, 0, len);
        let Ok(Parsed::Ip(syn)) = parse(&frame) else { panic!("it is well formed") };
        let datagram = Packet { l4: L4::Udp { src: 1, dst: 2 }, ..syn };
        assert!(!clamp_mss(&mut frame, &datagram, 1400), "the same bytes in UDP");
        assert!(!clamp_mss(&mut frame, &Packet { fragment: Fragment::First, ..syn }, 1400));
        assert!(clamp_mss(&mut frame, &syn, 1400));
    }
}
