//! SCTP's checksum, a CRC-32C over the packet with the field itself zero (RFC 9260 section 6.8 and appendix A). No address
//! is part of it, so a rewrite leaves it as it is; but containers' kernels leave it to their NIC (`NETIF_F_SCTP_CRC`), with
//! zero in its place.

/// Where the checksum lies in the common header, and the header's length.
const CHECKSUM_AT: usize = 8;
const HEADER_LEN: usize = 12;

/// Computes the checksum where there is none, over further buffers too, as far as `len` bytes. True if it did. A sender that
/// means zero (RFC 9653) has told its peer to take the right sum as well.
#[cold]
pub(super) fn complete(l4: &mut [u8], rest: &[&[u8]], len: usize) -> bool {
    let is_missing = l4.get(CHECKSUM_AT..HEADER_LEN) == Some(&[0; 4]);
    if !is_missing {
        return false;
    }
    let (mut crc, mut left) = (!0, len);
    for piece in std::iter::once(&*l4).chain(rest.iter().copied()) {
        let piece = piece.get(..left).unwrap_or(piece);
        left -= piece.len();
        crc = piece.iter().fold(crc, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8);
    }
    if let Some(field) = l4.get_mut(CHECKSUM_AT..HEADER_LEN) {
        field.copy_from_slice(&(!crc).to_le_bytes());
    }
    true
}

/// The CRC of each byte, bits reflected.
const TABLE: [u32; 256] = {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// From RFC 3720 appendix B.4, whose digest is the same: 32 bytes of zeroes. Here 12 are the header.
    #[test]
    fn zeroes_have_the_known_sum() {
        let mut packet = [0; 32];
        assert!(complete(&mut packet, &[], 32));
        assert_eq!(packet[8..12], [0xaa, 0x36, 0x91, 0x8a]);
    }

    #[test]
    fn a_sum_that_is_there_stays() {
        let mut packet = [7; 32];
        assert!(!complete(&mut packet, &[], 32));
        assert_eq!(packet, [7; 32]);
        assert!(!complete(&mut [0; 11], &[], 11), "no whole header");
    }

    #[test]
    fn further_buffers_count_and_padding_does_not() {
        let mut whole: Vec<u8> = (0..100).collect();
        whole[8..12].fill(0);
        let mut first = whole[..40].to_vec();
        let (second, third) = (whole[40..80].to_vec(), [&whole[80..], &[0xee; 9]].concat());
        assert!(complete(&mut whole, &[], 100));
        assert!(complete(&mut first, &[&second, &third], 100));
        assert_eq!(first[8..12], whole[8..12]);
    }
}
