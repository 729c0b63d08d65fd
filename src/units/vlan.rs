//! VLAN tags.

/// The tags that frames bear on a port: none, one (IEEE 802.1Q), or two, a service tag (802.1ad) around an 802.1Q one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct VlanTags {
    /// Outermost first; zeros behind the last.
    ids: [u16; 2],
    count: u8,
}

impl VlanTags {
    /// Untagged.
    pub const NONE: VlanTags = VlanTags { ids: [0; 2], count: 0 };

    /// The tags with these identifiers, outermost first. `None` if they are more than two, or one is not between 1 and
    /// 4094 (IEEE 802.1Q table 9-2: 0 is no VLAN, 4095 is reserved).
    #[must_use]
    pub fn new(outermost_first: &[u16]) -> Option<VlanTags> {
        let mut ids = [0; 2];
        ids.get_mut(..outermost_first.len())?.copy_from_slice(outermost_first);
        let are_valid = outermost_first.iter().all(|id| (1..=4094).contains(id));
        are_valid.then_some(VlanTags { ids, count: outermost_first.len() as u8 })
    }

    /// True if there are none.
    #[inline]
    #[must_use]
    pub fn is_none(self) -> bool {
        self.count == 0
    }

    /// Their identifiers, outermost first.
    #[must_use]
    pub fn ids(&self) -> &[u16] {
        self.ids.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Each with its Ethernet type, outermost first: 0x88a8 around 0x8100.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        let service = usize::from(self.count.saturating_sub(1));
        self.ids().iter().enumerate().map(move |(nth, &id)| (if nth < service { 0x88a8 } else { 0x8100 }, id))
    }

    /// Bytes that they take in a frame.
    #[must_use]
    pub fn byte_len(self) -> usize {
        4 * usize::from(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_or_a_service_tag_around_it() {
        let tags = |ids: &[u16]| VlanTags::new(ids).map(|tags| tags.iter().collect::<Vec<_>>());
        assert_eq!(tags(&[]), Some(vec![]));
        assert_eq!(tags(&[100]), Some(vec![(0x8100, 100)]));
        assert_eq!(tags(&[200, 4094]), Some(vec![(0x88a8, 200), (0x8100, 4094)]));
        for wrong in [&[0][..], &[4095], &[100, 0], &[1, 2, 3]] {
            assert_eq!(tags(wrong), None, "{wrong:?}");
        }
        assert!(VlanTags::NONE.is_none() && VlanTags::new(&[]) == Some(VlanTags::NONE));
        assert_eq!(VlanTags::new(&[200, 100]).unwrap().byte_len(), 8);
    }
}
