//! A burst of segments through the walk.

use std::array;

use crate::afxdp::{Segment, Umem};
use crate::frame::Frame;
use crate::path::{BURST, Context, Verdict, WorkerState, walk_burst};
use crate::units::PortId;

/// What became of one packet of a burst.
#[derive(Clone, Copy)]
pub(super) struct Fate {
    pub verdict: Verdict,
    /// Segments that it came in.
    pub segments: usize,
    /// Bytes that it came with.
    pub received: u64,
    /// Its first segment's bounds now.
    pub start: u16,
    pub len: u16,
    /// Its further segments still belong to it: an answer takes the place of its first one alone.
    pub keeps_rest: bool,
}

impl Fate {
    pub const NONE: Fate =
        Fate { verdict: Verdict::Consume, segments: 0, received: 0, start: 0, len: 0, keeps_rest: false };
}

/// Walks the packets of up to [`BURST`] segments that came in by `port`. Returns how many packets they were.
pub(super) fn walk(
    cx: &Context<'_>,
    local: &mut WorkerState,
    umem: &Umem,
    port: PortId,
    segments: &mut [Segment],
    fates: &mut [Fate; BURST],
) -> usize {
    struct Head<'a> {
        chunk: &'a mut [u8],
        start: usize,
        len: usize,
        /// Where its further segments are in `rest`.
        from: usize,
        to: usize,
    }
    let mut heads: [Head<'_>; BURST] = array::from_fn(|_| Head { chunk: &mut [], start: 0, len: 0, from: 0, to: 0 });
    let mut rest: [&[u8]; BURST] = [&[]; BURST];
    let (mut packets, mut rests, mut goes_on) = (0, 0, false);
    for segment in segments.iter_mut().take(BURST) {
        let (start, len) = (usize::from(segment.offset), usize::from(segment.len));
        let more = segment.more;
        let chunk = umem.bytes(&mut segment.buffer);
        if goes_on {
            rest[rests] = chunk.get(start..start + len).unwrap_or_default();
            rests += 1;
            heads[packets - 1].to = rests;
        } else {
            heads[packets] = Head { chunk, start, len, from: rests, to: rests };
            packets += 1;
        }
        goes_on = more;
    }
    let rest = &rest;
    let mut frames: [Frame<'_>; BURST] = heads.map(|head| {
        Frame::with_rest(head.chunk, head.start, head.len, rest.get(head.from..head.to).unwrap_or_default())
    });
    for (fate, frame) in fates.iter_mut().zip(&frames[..packets]) {
        fate.segments = 1 + frame.rest().len();
        fate.received = frame.total_len() as u64;
    }
    let mut verdicts = [Verdict::Consume; BURST];
    walk_burst(cx, local, port, &mut frames[..packets], &mut verdicts[..packets]);
    for ((fate, frame), verdict) in fates.iter_mut().zip(&frames[..packets]).zip(verdicts) {
        fate.verdict = verdict;
        fate.start = frame.start() as u16;
        fate.len = frame.len() as u16;
        fate.keeps_rest = !frame.rest().is_empty();
    }
    packets
}
