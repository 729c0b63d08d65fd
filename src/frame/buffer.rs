//! A packet in its buffer.

/// A packet in its buffer: the buffer is the whole chunk, the packet's bytes are `len` of them from `start` on. A
/// packet of several buffers has `rest`, which is read-only here: every header lies in the first buffer.
pub struct Frame<'a> {
    buf: &'a mut [u8],
    start: usize,
    end: usize,
    rest: &'a [&'a [u8]],
}

impl<'a> Frame<'a> {
    /// The packet at `start..start + len` of `buf`; bounds that do not fit are clamped.
    #[inline]
    #[must_use]
    pub fn new(buf: &'a mut [u8], start: usize, len: usize) -> Frame<'a> {
        Frame::with_rest(buf, start, len, &[])
    }

    /// As [`Frame::new`], for a packet that goes on in further buffers.
    #[inline]
    #[must_use]
    pub fn with_rest(buf: &'a mut [u8], start: usize, len: usize, rest: &'a [&'a [u8]]) -> Frame<'a> {
        let start = start.min(buf.len());
        let len = len.min(buf.len() - start);
        Frame { buf, start, end: start + len, rest }
    }

    /// The bytes in the first buffer.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes in the first buffer, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buf.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// How many bytes lie in the first buffer.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True if there is no byte in the first buffer.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where in the buffer the packet starts.
    #[inline]
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// The further buffers.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [&'a [u8]] {
        self.rest
    }

    /// How many bytes lie in further buffers.
    #[inline(never)]
    #[must_use]
    pub fn rest_len(&self) -> usize {
        self.rest.iter().map(|part| part.len()).sum()
    }

    /// How many bytes the packet has in all.
    #[inline]
    #[must_use]
    pub fn total_len(&self) -> usize {
        if self.rest.is_empty() { self.len() } else { self.len() + self.rest_len() }
    }

    /// Moves the packet's bounds within its buffer and drops what lies in further buffers. False, and nothing is
    /// changed, if the new bounds do not fit.
    #[inline]
    pub fn set_bounds(&mut self, start: usize, len: usize) -> bool {
        let Some(end) = start.checked_add(len).filter(|&end| end <= self.buf.len()) else { return false };
        (self.start, self.end, self.rest) = (start, end, &[]);
        true
    }

    /// Moves the packet's first byte within its buffer; its end stays, and so does what lies in further buffers. False,
    /// and nothing is changed, if it would come to lie behind the end.
    pub(super) fn move_start(&mut self, start: usize) -> bool {
        let fits = start <= self.end;
        if fits {
            self.start = start;
        }
        fits
    }

    /// The whole buffer, for answers that are built around the packet.
    #[inline]
    pub(super) fn buffer_mut(&mut self) -> &mut [u8] {
        self.buf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_do_not_fit_are_clamped_or_refused() {
        let mut buf = [7; 10];
        assert_eq!(Frame::new(&mut buf, 8, 5).bytes(), [7, 7]);
        assert!(!Frame::new(&mut buf, 8, 5).is_empty() && Frame::new(&mut buf, 11, 1).is_empty());
        assert_eq!(Frame::new(&mut buf, usize::MAX, usize::MAX).start(), 10);

        let rest: [&[u8]; 2] = [&[1, 2], &[3]];
        let mut frame = Frame::with_rest(&mut buf, 2, 8, &rest);
        assert_eq!((frame.len(), frame.rest_len(), frame.total_len()), (8, 3, 11));
        assert!(!frame.set_bounds(5, 6) && !frame.set_bounds(usize::MAX, 2));
        assert_eq!(frame.total_len(), 11, "a refused move changes nothing");
        assert!(frame.set_bounds(0, 10));
        assert_eq!((frame.start(), frame.len(), frame.total_len()), (0, 10, 10));
    }
}
