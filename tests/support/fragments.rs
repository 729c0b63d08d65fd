//! Fragments by etherparse: cut from whole frames, and put together again.

use etherparse::defrag::IpDefragPool;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, SlicedPacket};

/// Cuts the packet in an Ethernet frame into fragments of `step` bytes of payload, a multiple of 8. IPv6 packets must have
/// no extension headers; IPv4 ones keep their options in every fragment.
pub fn fragments(whole: &[u8], step: usize, id: u32) -> Vec<Vec<u8>> {
    let is_v4 = whole[12..14] == [8, 0];
    let header_len = if is_v4 { usize::from(whole[14] & 15) * 4 } else { 40 };
    let total = u16::from_be_bytes([whole[16], whole[17]]);
    let end =
        if is_v4 { 14 + usize::from(total) } else { 54 + usize::from(u16::from_be_bytes([whole[18], whole[19]])) };
    let payload = &whole[14 + header_len..end];
    let count = payload.len().div_ceil(step);
    let piece = |(nth, piece)| fragment(whole, piece, nth * step / 8, nth + 1 < count, id);
    payload.chunks(step).enumerate().map(piece).collect()
}

/// One fragment of the packet: `piece` of its payload, from `offset` on, in units of eight bytes.
pub fn fragment(whole: &[u8], piece: &[u8], offset: usize, more: bool, id: u32) -> Vec<u8> {
    let fragment_offset = IpFragOffset::try_new(offset as u16).unwrap();
    let mut frame = whole[..14].to_vec();
    if whole[12..14] == [8, 0] {
        let (header, _) = Ipv4Header::from_slice(&whole[14..]).unwrap();
        let mut header = Ipv4Header {
            identification: id as u16,
            dont_fragment: false,
            more_fragments: more,
            fragment_offset,
            ..header
        };
        header.set_payload_len(piece.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        frame.extend(header.to_bytes());
    } else {
        let (mut header, _) = Ipv6Header::from_slice(&whole[14..]).unwrap();
        let next = header.next_header;
        header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
        header.payload_length = piece.len() as u16 + 8;
        frame.extend(header.to_bytes());
        frame.extend(Ipv6FragmentHeader::new(next, fragment_offset, more, id).to_bytes());
    }
    [&frame[..], piece].concat()
}

/// The payloads of packets, with their protocols, in the order in which they are complete.
pub fn reassembled<'a>(frames: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<(u8, Vec<u8>)> {
    let mut pool: IpDefragPool = IpDefragPool::new();
    let mut whole = Vec::new();
    for frame in frames {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
        if let Some(packet) = pool.process_sliced_packet(&sliced, (), ()).unwrap() {
            whole.push((packet.ip_number.0, packet.payload));
        }
    }
    whole
}

/// The payload of the IP packet in a whole frame without IPv6 extension headers.
pub fn payload(frame: &[u8]) -> (u8, &[u8]) {
    let total = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    if frame[12..14] == [8, 0] {
        (frame[23], &frame[14 + usize::from(frame[14] & 15) * 4..14 + total(16)])
    } else {
        (frame[20], &frame[54..54 + total(18)])
    }
}
