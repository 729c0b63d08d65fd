//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use crate::units::{Ip, Proto};

/// A ones' complement sum of 16-bit words in network order, not yet folded. It holds 2^32 of them without overflow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// With one word more.
    #[inline]
    #[must_use]
    pub const fn plus_u16(self, word: u16) -> Sum {
        Sum(self.0 + word as u64)
    }

    /// With two words more.
    #[inline]
    #[must_use]
    pub const fn plus_u32(self, words: u32) -> Sum {
        Sum(self.0 + words as u64)
    }

    /// With an address more. An IPv4 address counts in its mapped form, whose extra word 0xffff is a ones' complement
    /// zero.
    #[inline]
    #[must_use]
    pub const fn plus_ip(self, ip: Ip) -> Sum {
        let (high, low) = ip.halves();
        Sum(self.0 + (low & 0xffff_ffff) + (low >> 32) + (high & 0xffff_ffff) + (high >> 32))
    }

    /// With all of another sum.
    #[inline]
    #[must_use]
    pub const fn plus(self, other: Sum) -> Sum {
        Sum(self.0 + other.0)
    }

    /// Without what `other` holds.
    #[inline]
    #[must_use]
    pub const fn minus(self, other: Sum) -> Sum {
        Sum(self.0 + !other.fold() as u64)
    }

    /// With word `old` replaced by `new`.
    #[inline]
    #[must_use]
    pub const fn replace_u16(self, old: u16, new: u16) -> Sum {
        Sum(self.0 + !old as u64 + new as u64)
    }

    /// The 16-bit sum, carries added in. It is 0 only if every word was 0.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        // A number and its two halves swapped, added: the upper half of that is the halves' sum with its carry.
        let sum = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The sum of bytes; an odd last byte is padded with a zero (RFC 1071 section 4.1).
#[inline]
#[must_use]
pub fn of(bytes: &[u8]) -> Sum {
    // Summed in the machine's order and swapped once at the end (RFC 1071 section 2 (B)).
    let (words, tail) = bytes.as_chunks::<4>();
    let sum = words.iter().map(|&word| u64::from(u32::from_ne_bytes(word))).sum::<u64>();
    let last = match *tail {
        [a] => u64::from(u16::from_ne_bytes([a, 0])),
        [a, b] => u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c] => u64::from(u16::from_ne_bytes([a, b])) + u64::from(u16::from_ne_bytes([c, 0])),
        _ => 0,
    };
    Sum(u64::from(u16::from_be(Sum(sum + last).fold())))
}

/// The sum of bytes that lie in several pieces, of odd lengths too: a piece that starts at an odd place is swapped
/// (RFC 1071 section 2 (B)).
#[must_use]
pub fn of_chain<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Sum {
    let mut total = Sum::ZERO;
    let mut is_odd = false;
    for piece in pieces {
        let sum = of(piece).fold();
        total = total.plus_u16(if is_odd { sum.swap_bytes() } else { sum });
        is_odd ^= piece.len() % 2 == 1;
    }
    total
}

/// The sum of the pseudo header before TCP, UDP or ICMPv6 (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1). `len`
/// is that of the transport header and its payload, in bytes.
#[inline]
#[must_use]
pub const fn pseudo_header(src: Ip, dst: Ip, proto: Proto, len: u32) -> Sum {
    Sum::ZERO.plus_ip(src).plus_ip(dst).plus_u16(proto.0 as u16).plus_u32(len)
}

/// What a stored checksum becomes when the words that it covers change by `delta` (RFC 1624 equation 3). A checksum
/// that was wrong stays wrong by as much.
#[inline]
#[must_use]
pub const fn update(stored: u16, delta: Sum) -> u16 {
    Sum(!stored as u64 + delta.0).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((sum.fold(), sum.checksum()), (0xddf2, 0x220d));
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: equation 2 would give 0xffff here.
        assert_eq!(update(0xdd2f, Sum::ZERO.replace_u16(0x5555, 0x3285)), 0x0000);
    }

    #[test]
    fn no_change_is_no_change() {
        for stored in [0, 1, 0x8000, 0xfffe, 0xffff] {
            assert_eq!(update(stored, Sum::ZERO), stored);
        }
        assert_eq!(Sum(u64::MAX).fold(), 0xffff);
        assert_eq!(Sum(0x1_fffe_0001_ffff).fold(), 1, "the last carry makes another");
    }
}
