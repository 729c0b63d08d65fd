//! Tags between the Ethernet addresses and the Ethernet type (IEEE 802.1Q clause 9). Nothing else here knows of them: they
//! are taken off before a frame is parsed, and put on once it is written.

use super::Frame;
use crate::units::VlanTags;

/// The two addresses, which tags follow.
const ADDRESSES: usize = 12;
/// The part of a tag that names the VLAN: the rest is priority.
const ID: u16 = 0x0fff;

/// True if the frame bears these tags outermost, whatever their priority. What follows them is not looked at.
#[must_use]
pub fn bears_tags(frame: &[u8], tags: VlanTags) -> bool {
    let (places, _) = frame.get(ADDRESSES..).unwrap_or_default().as_chunks::<4>();
    let is_tag = |(&[a, b, c, d], (kind, id)): (&[u8; 4], (u16, u16))| {
        u16::from_be_bytes([a, b]) == kind && u16::from_be_bytes([c, d]) & ID == id
    };
    places.len() >= tags.ids().len() && places.iter().zip(tags.iter()).all(is_tag)
}

/// Takes the tags off. False, and nothing is changed, if the frame does not bear them.
pub fn pop_tags(frame: &mut Frame<'_>, tags: VlanTags) -> bool {
    let (start, more) = (frame.start(), tags.byte_len());
    if !bears_tags(frame.bytes(), tags) || !frame.move_start(start + more) {
        return false;
    }
    frame.buffer_mut().copy_within(start..start + ADDRESSES, start + more);
    true
}

/// Puts the tags on, with priority 0. False, and nothing is changed, if there is no room before the frame, or no
/// Ethernet header.
pub fn push_tags(frame: &mut Frame<'_>, tags: VlanTags) -> bool {
    let start = frame.start();
    let Some(begin) = start.checked_sub(tags.byte_len()).filter(|_| frame.len() >= ADDRESSES) else { return false };
    if !frame.move_start(begin) {
        return false;
    }
    let bytes = frame.buffer_mut();
    bytes.copy_within(start..start + ADDRESSES, begin);
    let (places, _) = bytes.get_mut(begin + ADDRESSES..).unwrap_or_default().as_chunks_mut::<4>();
    for (place, (kind, id)) in places.iter_mut().zip(tags.iter()) {
        let ([a, b], [c, d]) = (kind.to_be_bytes(), id.to_be_bytes());
        *place = [a, b, c, d];
    }
    true
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket};

    use super::*;

    fn tags(ids: &[u16]) -> VlanTags {
        VlanTags::new(ids).unwrap()
    }

    fn bare() -> Vec<u8> {
        let mut bytes = Vec::new();
        let ip =
            PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        ip.udp(1, 2).write(&mut bytes, b"payload").unwrap();
        bytes
    }

    /// In a buffer with so many bytes before it, and a further buffer behind it.
    fn with_room<T>(frame: &[u8], room: usize, work: impl FnOnce(&mut Frame<'_>) -> T) -> T {
        let mut buffer = [vec![0xaa; room], frame.to_vec(), vec![0xbb; 16]].concat();
        work(&mut Frame::with_rest(&mut buffer, room, frame.len(), &[b"rest"]))
    }

    fn pushed(ids: &[u16]) -> Vec<u8> {
        with_room(&bare(), 16, |frame| {
            assert!(push_tags(frame, tags(ids)));
            assert_eq!(frame.rest_len(), 4, "what lies in further buffers stays");
            frame.bytes().to_vec()
        })
    }

    #[test]
    fn tags_are_what_etherparse_writes() {
        let (src, dst) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let built = |vlan: fn(
            etherparse::PacketBuilderStep<etherparse::Ethernet2Header>,
        ) -> etherparse::PacketBuilderStep<etherparse::VlanHeader>| {
            let mut bytes = Vec::new();
            let ip = vlan(PacketBuilder::ethernet2(src, dst)).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
            ip.udp(1, 2).write(&mut bytes, b"payload").unwrap();
            bytes
        };
        assert_eq!(pushed(&[]), bare());
        assert_eq!(pushed(&[100]), built(|link| link.single_vlan(100.try_into().unwrap())));
        let double = built(|link| link.double_vlan(200.try_into().unwrap(), 100.try_into().unwrap()));
        assert_eq!(pushed(&[200, 100]), double);
        assert!(SlicedPacket::from_ethernet(&double).is_ok());
    }

    #[test]
    fn what_is_put_on_comes_off_and_nothing_else() {
        for ids in [&[][..], &[100], &[200, 100]] {
            let mut tagged = pushed(ids);
            if let Some(priority) = tagged.get_mut(14).filter(|_| !ids.is_empty()) {
                *priority |= 0xe0;
            }
            with_room(&tagged, 0, |frame| {
                assert!(pop_tags(frame, tags(ids)), "{ids:?}, whatever the priority");
                assert_eq!((frame.bytes(), frame.rest_len()), (&bare()[..], 4));
            });
            for others in [&[101][..], &[100, 100], &[200, 101], &[201, 100]] {
                with_room(&tagged, 0, |frame| {
                    assert!(!pop_tags(frame, tags(others)), "{ids:?} are not {others:?}");
                    assert_eq!(frame.bytes(), tagged);
                });
            }
        }
        // The outer of two is no 802.1Q tag of that number.
        with_room(&pushed(&[200, 100]), 0, |frame| assert!(!pop_tags(frame, tags(&[200]))));
    }

    #[test]
    fn without_room_nothing_changes() {
        with_room(&bare(), 7, |frame| {
            assert!(!push_tags(frame, tags(&[200, 100])) && frame.bytes() == bare());
            assert!(push_tags(frame, tags(&[100])));
        });
        for len in 0..18 {
            let short = &pushed(&[100])[..len];
            with_room(short, 16, |frame| {
                assert_eq!(pop_tags(frame, tags(&[100])), len >= 16, "{len}");
                let bytes = frame.bytes().to_vec();
                assert_eq!(push_tags(frame, tags(&[100])), bytes.len() >= 12, "{len}");
            });
        }
    }
}
