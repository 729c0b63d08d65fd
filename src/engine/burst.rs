//! A burst of segments through the walk.

use std::{array, mem};

use crate::afxdp::{Segment, Umem};
use crate::frame::Frame;
use crate::path::{BURST, Context, Verdict, WorkerState, walk_burst};
use crate::units::PortId;

/// What became of the packets of a burst. Kept from burst to burst: filling it anew would cost more than writing the
/// places that are used.
pub(super) struct Fates {
    verdicts: [Verdict; BURST],
    shapes: [Shape; BURST],
}

/// The segments of a packet, and the bounds of its first one now.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Segments that it came in.
    pub segments: usize,
    pub start: u16,
    pub len: u16,
    /// Its further segments still belong to it: an answer takes the place of its first one alone.
    pub keeps_rest: bool,
}

impl Fates {
    pub fn new() -> Fates {
        let shape = Shape { segments: 0, start: 0, len: 0, keeps_rest: false };
        Fates { verdicts: [Verdict::Consume; BURST], shapes: [shape; BURST] }
    }

    /// The fate of packet `nth`, below [`BURST`].
    pub fn of(&self, nth: usize) -> (Verdict, Shape) {
        (self.verdicts[nth], self.shapes[nth])
    }

    /// Walks the packets of up to [`BURST`] segments that came in by `port`. Returns how many packets they were.
    pub fn walk(
        &mut self,
        cx: &Context<'_>,
        local: &mut WorkerState,
        umem: &Umem,
        port: PortId,
        segments: &mut [Segment],
    ) -> usize {
        let most = segments.len().min(BURST);
        let mut further: [&[u8]; BURST] = [&[]; BURST];
        let mut room = &mut further[..];
        let mut arrived = segments[..most].chunk_by_mut(|before, _| before.more);
        let mut packets = 0;
        let mut frames: [Frame<'_>; BURST] = array::from_fn(|nth| {
            let Some([first, others @ ..]) = arrived.next() else { return Frame::new(&mut [], 0, 0) };
            packets = nth + 1;
            self.shapes[nth].segments = 1 + others.len();
            let (rest, left) = mem::take(&mut room).split_at_mut(others.len());
            room = left;
            for (place, segment) in rest.iter_mut().zip(others) {
                let bounds = bounds(segment);
                *place = umem.bytes(&mut segment.buffer).get(bounds).unwrap_or_default();
            }
            let (start, len) = (usize::from(first.offset), usize::from(first.len));
            Frame::with_rest(umem.bytes(&mut first.buffer), start, len, rest)
        });
        walk_burst(cx, local, port, &mut frames[..packets], &mut self.verdicts[..packets]);
        for (shape, frame) in self.shapes.iter_mut().zip(&frames[..packets]) {
            (shape.start, shape.len) = (frame.start() as u16, frame.len() as u16);
            shape.keeps_rest = !frame.rest().is_empty();
        }
        packets
    }
}

fn bounds(segment: &Segment) -> std::ops::Range<usize> {
    let start = usize::from(segment.offset);
    start..start + usize::from(segment.len)
}
