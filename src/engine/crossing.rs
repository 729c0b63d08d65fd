//! Frames that leave by another worker's port: descriptors over a single-producer ring, copied at the far end into that
//! worker's UMEM, and the empty buffers back over another ring.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::wake::Wake;
use crate::afxdp::{Buffer, Segment, Umem, Window};
use crate::path::Answer;
use crate::units::PortId;

/// Segments that may be on their way from one worker to another.
pub(super) const DEPTH: usize = 1024;

/// What a packet that is being sent is counted as, once it is in a tx ring.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent {
    Forwarded,
    Answered(Answer),
    /// Nothing: it is a piece of a packet, and not the last one, which counts for all.
    Part,
}

/// One segment on its way. Its verdict is counted at the far end, where it is known whether it could be sent.
pub(super) struct Crosser {
    pub segment: Segment,
    /// The port that the packet came in by.
    pub from: PortId,
    /// The port that it is to leave by.
    pub to: PortId,
    pub sent: Sent,
}

/// The near end: towards one other worker.
pub(super) struct Outgoing {
    crossers: Producer<Crosser>,
    returned: Consumer<Buffer>,
    wake: Arc<Wake>,
    pushed: bool,
}

/// The far end: from one other worker.
pub(super) struct Incoming {
    crossers: Consumer<Crosser>,
    give_back: Producer<Buffer>,
    window: Window,
    /// A segment of the packet that is arriving found no frame.
    cut: bool,
}

/// A packet that has arrived whole.
pub(super) struct Arrival {
    pub from: PortId,
    pub to: PortId,
    pub sent: Sent,
    /// False if this worker had too few free frames to copy all of it.
    pub copied: bool,
}

/// Both ends of the way from the worker with `umem` to the one that `wake` wakes.
pub(super) fn crossing(umem: &Umem, wake: &Arc<Wake>) -> (Outgoing, Incoming) {
    let (there, from_here) = RingBuffer::new(DEPTH);
    let (back, returned) = RingBuffer::new(DEPTH);
    let outgoing = Outgoing { crossers: there, returned, wake: Arc::clone(wake), pushed: false };
    (outgoing, Incoming { crossers: from_here, give_back: back, window: umem.window(), cut: false })
}

impl Outgoing {
    /// Puts a packet on its way, whole or not at all; `chain` is empty if it went.
    pub fn push(&mut self, chain: &mut Vec<Segment>, from: PortId, to: PortId, sent: Sent) -> bool {
        if self.crossers.slots() < chain.len() {
            return false;
        }
        let last = chain.len().saturating_sub(1);
        for (n, mut segment) in chain.drain(..).enumerate() {
            segment.more = n < last;
            if self.crossers.push(Crosser { segment, from, to, sent }).is_err() {
                debug_assert!(false, "room was checked, and only we take it");
            }
        }
        self.pushed = true;
        true
    }

    /// Wakes the other worker if there is something new for it.
    pub fn announce(&mut self) {
        if std::mem::take(&mut self.pushed) {
            self.wake.up();
        }
    }

    /// Takes back the buffers that the other worker has copied.
    pub fn take_returned(&mut self, umem: &mut Umem) {
        while let Ok(buffer) = self.returned.pop() {
            umem.release(buffer);
        }
    }
}

impl Incoming {
    /// Copies what has arrived into frames of this worker's, behind what is in `chain`, up to the end of a packet. None
    /// if that has not arrived yet: then the chain is kept for the next call.
    pub fn take(&mut self, umem: &mut Umem, chain: &mut Vec<Segment>) -> Option<Arrival> {
        loop {
            if self.give_back.is_full() {
                return None;
            }
            let Crosser { segment, from, to, sent } = self.crossers.pop().ok()?;
            match copy(umem, &self.window, &segment) {
                Some(copied) => chain.push(copied),
                None => self.cut = true,
            }
            let more = segment.more;
            if self.give_back.push(segment.buffer).is_err() {
                debug_assert!(false, "room was checked, and only we fill it");
            }
            if !more {
                return Some(Arrival { from, to, sent, copied: !std::mem::take(&mut self.cut) });
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.crossers.is_empty()
    }
}

fn copy(umem: &mut Umem, window: &Window, segment: &Segment) -> Option<Segment> {
    let bounds = usize::from(segment.offset)..usize::from(segment.offset) + usize::from(segment.len);
    let bytes = window.bytes(&segment.buffer).get(bounds.clone())?;
    let mut buffer = umem.take()?;
    if let Some(place) = umem.bytes(&mut buffer).get_mut(bounds) {
        place.copy_from_slice(bytes);
    }
    Some(Segment { buffer, offset: segment.offset, len: segment.len, more: segment.more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(umem: &mut Umem, fill: u8, more: bool) -> Segment {
        let mut buffer = umem.take().unwrap();
        umem.bytes(&mut buffer)[256..356].fill(fill);
        Segment { buffer, offset: 256, len: 100, more }
    }

    #[test]
    fn a_packet_crosses_by_one_copy_and_its_frames_come_home() {
        let (mut here, mut there) = (Umem::new(8).unwrap(), Umem::new(8).unwrap());
        let wake = Arc::new(Wake::new().unwrap());
        let (mut outgoing, mut incoming) = crossing(&here, &wake);
        let mut chain = vec![segment(&mut here, 1, true), segment(&mut here, 2, false)];
        assert!(outgoing.push(&mut chain, PortId(0), PortId(1), Sent::Forwarded) && chain.is_empty());
        outgoing.announce();

        let mut arrived = Vec::new();
        let arrival = incoming.take(&mut there, &mut arrived).unwrap();
        assert!((arrival.from, arrival.to, arrival.copied) == (PortId(0), PortId(1), true));
        assert!(incoming.take(&mut there, &mut Vec::new()).is_none() && incoming.is_empty());
        assert_eq!((here.held(), there.held()), (2, 2));
        for (mut segment, expected) in arrived.into_iter().zip([1, 2]) {
            assert_eq!((segment.offset, segment.len, segment.more), (256, 100, expected == 1));
            assert!(there.bytes(&mut segment.buffer)[256..356].iter().all(|&byte| byte == expected));
            there.release(segment.buffer);
        }
        outgoing.take_returned(&mut here);
        assert_eq!((here.free(), there.free()), (8, 8));
    }

    #[test]
    fn a_worker_without_free_frames_gives_the_buffers_back_all_the_same() {
        let (mut here, mut there) = (Umem::new(8).unwrap(), Umem::new(1).unwrap());
        let wake = Arc::new(Wake::new().unwrap());
        let (mut outgoing, mut incoming) = crossing(&here, &wake);
        for fill in 0..2 {
            let mut chain = vec![segment(&mut here, fill, true), segment(&mut here, fill, false)];
            assert!(outgoing.push(&mut chain, PortId(0), PortId(1), Sent::Forwarded));
        }
        for _ in 0..2 {
            let mut arrived = Vec::new();
            assert!(!incoming.take(&mut there, &mut arrived).unwrap().copied);
            arrived.into_iter().for_each(|segment| there.release(segment.buffer));
        }
        outgoing.take_returned(&mut here);
        assert_eq!((here.free(), there.free()), (8, 1));
    }

    #[test]
    fn a_full_crossing_takes_packets_whole_or_not_at_all() {
        let mut here = Umem::new(DEPTH as u32 + 2).unwrap();
        let wake = Arc::new(Wake::new().unwrap());
        let (mut outgoing, mut incoming) = crossing(&here, &wake);
        for _ in 0..DEPTH - 1 {
            let mut chain = vec![segment(&mut here, 0, false)];
            assert!(outgoing.push(&mut chain, PortId(0), PortId(1), Sent::Forwarded));
        }
        let mut two = vec![segment(&mut here, 0, true), segment(&mut here, 0, false)];
        assert!(!outgoing.push(&mut two, PortId(0), PortId(1), Sent::Forwarded));
        assert_eq!(two.len(), 2);
        two.into_iter().for_each(|segment| here.release(segment.buffer));
        let (mut there, mut arrived) = (Umem::new(1).unwrap(), Vec::new());
        while incoming.take(&mut there, &mut arrived).is_some() {
            arrived.drain(..).for_each(|segment| there.release(segment.buffer));
        }
        outgoing.take_returned(&mut here);
        assert_eq!(here.free(), here.frames());
    }
}
