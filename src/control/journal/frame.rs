//! Frames: what is on disk whole, or not at all. Pure functions over bytes.
//!
//! ```text
//! sixway journal 1 6b1f0c8e5d2a9347          the preamble: format and the file's own number
//! 0000000000000001 00000042 8c1d22f0         a frame: its number from 1, length of its text, checksum
//! …text…
//! ```
//!
//! One frame is written and synced at a time, so that only the last one can be torn: a frame counts if its length and
//! checksum are right, as in the journals of ext4 (`fs/jbd2/recovery.c`) and of databases (ARIES, Mohan et al. 1992). One
//! that is wrong and has right ones behind it was damaged later. The checksum is over the file's number too: blocks of
//! another file that shine through are no frames of this one.

use std::ops::Range;

use crc32fast::Hasher;

/// Length of a preamble.
pub const PREAMBLE: usize = 34;
/// Length of what stands before a frame's text.
pub const HEADER: usize = 35;
const FORMAT: &[u8] = b"sixway journal 1 ";

/// How a file ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With its last frame, and room for more.
    Clean,
    /// With something that is no whole frame.
    Torn,
    /// There are right frames behind a wrong one.
    Corrupt,
}

/// What is good in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frames {
    /// The file's number.
    pub id: u64,
    /// Where the text of each frame is.
    pub texts: Vec<Range<usize>>,
    /// Where the last good frame ends.
    pub good: usize,
    pub end: End,
}

/// The beginning of a file.
#[must_use]
pub fn preamble(id: u64) -> String {
    format!("sixway journal 1 {id:016x}\n")
}

/// Appends a frame to `bytes`. `text` ends with a newline.
pub fn put(bytes: &mut Vec<u8>, id: u64, seq: u64, text: &[u8]) {
    bytes.extend_from_slice(head(id, seq, [text].into_iter()).as_bytes());
    bytes.extend_from_slice(text);
}

/// What stands before a frame whose text is these, one after the other.
pub fn head<'a>(id: u64, seq: u64, texts: impl Iterator<Item = &'a [u8]> + Clone) -> String {
    let head = format!("{seq:016x} {:08x}", texts.clone().map(<[u8]>::len).sum::<usize>());
    let sum = checksum(id, head.as_bytes(), texts);
    format!("{head} {sum:08x}\n")
}

/// Finds the frames of a file.
#[must_use]
pub fn find(bytes: &[u8]) -> Frames {
    let id = bytes.strip_prefix(FORMAT).and_then(|rest| number(rest.get(..16)?));
    let Some(id) = id.filter(|_| bytes.get(PREAMBLE - 1) == Some(&b'\n')) else {
        let end = if is_room(bytes) { End::Clean } else { End::Torn };
        return Frames { id: 0, texts: Vec::new(), good: 0, end: if has_frames(bytes) { End::Corrupt } else { end } };
    };
    let mut frames = Frames { id, texts: Vec::new(), good: PREAMBLE, end: End::Clean };
    loop {
        let rest = &bytes[frames.good..];
        let Some((seq, len)) = frame(id, rest) else {
            frames.end = match () {
                () if is_room(rest) => End::Clean,
                // Damage may be to the file's number.
                () if frames.texts.is_empty() && has_frames(rest) => End::Corrupt,
                () if later(id, rest, frames.texts.len() as u64) => End::Corrupt,
                () => End::Torn,
            };
            return frames;
        };
        if seq != frames.texts.len() as u64 + 1 {
            frames.end = End::Corrupt;
            return frames;
        }
        let text = frames.good + HEADER;
        frames.texts.push(text..text + len);
        frames.good = text + len;
    }
}

/// Number and text length of the frame that `bytes` begin with.
fn frame(id: u64, bytes: &[u8]) -> Option<(u64, usize)> {
    let (seq, len, sum) = header(bytes)?;
    let text = bytes.get(HEADER..HEADER.checked_add(len)?)?;
    (checksum(id, &bytes[..25], [text].into_iter()) == sum).then_some((seq, len))
}

fn header(bytes: &[u8]) -> Option<(u64, usize, u32)> {
    let header = bytes.get(..HEADER)?;
    let is_parted = header[16] == b' ' && header[25] == b' ' && header[34] == b'\n';
    if !is_parted {
        return None;
    }
    let (seq, len, sum) = (number(&header[..16])?, number(&header[17..25])?, number(&header[26..34])?);
    Some((seq, len as usize, sum as u32))
}

/// Whether there is a right frame somewhere in `bytes` with a number after `seq`. Frames that were written lie side by
/// side: where there are heads whose texts are several times as long as the file, somebody has made them, and no more are
/// looked into.
fn later(id: u64, bytes: &[u8], seq: u64) -> bool {
    let mut left = 8 * bytes.len();
    (1..bytes.len()).any(|at| {
        let rest = &bytes[at..];
        let Some((_, len, _)) = header(rest).filter(|&(_, len, _)| rest.len() - HEADER >= len) else { return false };
        let is_too_much = left < len;
        left = left.saturating_sub(len);
        is_too_much || frame(id, rest).is_some_and(|(found, _)| found > seq)
    })
}

/// Whether there is what looks like a frame of whatever file, behind its first.
fn has_frames(bytes: &[u8]) -> bool {
    let looks_so = |at| header(&bytes[at..]).is_some_and(|(seq, len, _)| seq > 1 && bytes.len() - at >= HEADER + len);
    (0..bytes.len()).any(looks_so)
}

/// Nothing but reserved room.
fn is_room(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Lower-case digits only: every number has one form.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

fn checksum<'a>(id: u64, head: &[u8], texts: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&id.to_be_bytes());
    hasher.update(head);
    texts.for_each(|text| hasher.update(text));
    hasher.finalize()
}
