//! Packets that leave in pieces, since they are larger than the way out takes.

use std::mem;

use super::crossing::Sent;
use super::settle::HEADROOM;
use super::worker::Worker;
use crate::afxdp::{CHUNK_SIZE, MAX_SEGMENTS, Segment, Umem};
use crate::frame::{self, Frame};
use crate::path::Reason;
use crate::units::PortId;

/// Frames that the pieces of one packet may take: the largest packet in pieces of 576 bytes, as every host takes them
/// (RFC 791 section 3.1).
pub(super) const MOST: usize = 128;
/// Bytes that a frame holds behind its headroom.
const ROOM: usize = CHUNK_SIZE - HEADROOM as usize;

impl Worker {
    /// Cuts a packet into pieces of at most `mtu` bytes and sends them all, or drops it. It counts as one packet, by the
    /// fate of its last piece. `chain` is empty afterwards.
    pub(super) fn send_in_pieces(&mut self, chain: &mut Vec<Segment>, from: PortId, to: PortId, mtu: u32) {
        let mut pieces = mem::take(&mut self.scratch.pieces);
        match self.cut(chain, mtu, &mut pieces) {
            Ok(()) => {
                self.release(chain);
                let mut pieces = pieces.drain(..).peekable();
                while let Some(segment) = pieces.next() {
                    let ends = !segment.more;
                    chain.push(segment);
                    if ends {
                        let sent = if pieces.peek().is_some() { Sent::Part } else { Sent::Forwarded };
                        self.send(chain, from, to, sent);
                    }
                }
            }
            Err(reason) => {
                self.release(&mut pieces);
                self.discard(chain, from, reason);
            }
        }
        self.scratch.pieces = pieces;
    }

    /// Copies the pieces of a packet into frames of their own.
    fn cut(&mut self, chain: &mut [Segment], mtu: u32, pieces: &mut Vec<Segment>) -> Result<(), Reason> {
        let mut rest = [&[][..]; MAX_SEGMENTS];
        let cut = view(&self.umem, chain, &mut rest).and_then(|frame| frame::cut(&frame, mtu));
        let cut = cut.ok_or(Reason::TooBig)?;
        for piece in cut.clone() {
            let mut left = piece.len();
            while left > 0 {
                if pieces.len() == MOST {
                    return Err(Reason::TooBig);
                }
                let len = left.min(ROOM);
                left -= len;
                let buffer = self.umem.take().ok_or(Reason::NoRoom)?;
                pieces.push(Segment { buffer, offset: HEADROOM, len: len as u16, more: left > 0 });
            }
        }
        let mut rest = [&[][..]; MAX_SEGMENTS];
        let frame = view(&self.umem, chain, &mut rest).ok_or(Reason::TooBig)?;
        let mut segments = pieces.iter_mut();
        for piece in cut {
            let mut done = 0;
            while done < piece.len() {
                let Some(segment) = segments.next() else { return Err(Reason::TooBig) };
                let bounds = usize::from(segment.offset)..usize::from(segment.offset) + usize::from(segment.len);
                let place = self.umem.bytes(&mut segment.buffer).get_mut(bounds).unwrap_or_default();
                let copied = piece.copy(&frame, done, place);
                if copied == 0 {
                    return Err(Reason::TooBig);
                }
                done += copied;
            }
        }
        Ok(())
    }
}

/// A packet in its segments. `rest` is room for all but the first.
pub(super) fn view<'a>(
    umem: &'a Umem,
    chain: &'a mut [Segment],
    rest: &'a mut [&'a [u8]; MAX_SEGMENTS],
) -> Option<Frame<'a>> {
    let (first, others) = chain.split_first_mut()?;
    let count = others.len();
    for (place, segment) in rest.iter_mut().zip(others) {
        let bounds = usize::from(segment.offset)..usize::from(segment.offset) + usize::from(segment.len);
        *place = umem.bytes(&mut segment.buffer).get(bounds)?;
    }
    let (start, len) = (usize::from(first.offset), usize::from(first.len));
    Some(Frame::with_rest(umem.bytes(&mut first.buffer), start, len, rest.get(..count)?))
}
