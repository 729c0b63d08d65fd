//! Ethernet and IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A 48-bit Ethernet address, in wire order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// 00:00:00:00:00:00, which no station may have.
    pub const ZERO: Mac = Mac([0; 6]);

    /// True for group addresses, broadcast included (IEEE 802.3 section 3.2.3: the I/G bit).
    #[must_use]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One text instead of six numbers: mappings of a million bindings are written.
        let mut text = [b':'; 17];
        for (octet, digits) in self.0.iter().zip(text.chunks_mut(3)) {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
            (digits[0], digits[1]) = (digit(octet >> 4), digit(*octet));
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseAddressError(pub &'static str);

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ParseAddressError {}

impl FromStr for Mac {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Mac, ParseAddressError> {
        const EXPECTED: ParseAddressError = ParseAddressError("expected a MAC address like 02:42:0a:01:00:02");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(EXPECTED)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(EXPECTED);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| EXPECTED)?;
        }
        if parts.next().is_some() { Err(EXPECTED) } else { Ok(Mac(octets)) }
    }
}

/// An IPv4 or IPv6 address in 128 bits; IPv4 is held as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), so that both
/// families share one walk and one table. An IPv6 packet that carries such an address is malformed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ip {
    // Halves, not a `u128`, whose alignment would make every endpoint a third larger.
    high: u64,
    low: u64,
}

const V4_MAPPED: u64 = 0xffff_0000_0000;

impl Ip {
    /// 0.0.0.0
    pub const UNSPECIFIED_V4: Ip = Ip::from_v4_bits(0);

    /// An IPv4 address from its 32 bits.
    #[must_use]
    pub const fn from_v4_bits(bits: u32) -> Ip {
        Ip { high: 0, low: V4_MAPPED | bits as u64 }
    }

    /// An IPv4 address from its four octets in wire order.
    #[must_use]
    pub const fn from_v4_octets(octets: [u8; 4]) -> Ip {
        Ip::from_v4_bits(u32::from_be_bytes(octets))
    }

    /// An IPv6 address from its sixteen octets in wire order.
    #[must_use]
    pub const fn from_v6_octets(octets: [u8; 16]) -> Ip {
        Ip::from_bits(u128::from_be_bytes(octets))
    }

    const fn from_bits(bits: u128) -> Ip {
        Ip { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// True if this is an IPv4 address.
    #[inline]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == V4_MAPPED >> 32
    }

    /// The low 32 bits: the whole address, if it is IPv4.
    #[must_use]
    pub const fn v4_bits(self) -> u32 {
        self.low as u32
    }

    /// The four octets of an IPv4 address, in wire order.
    #[must_use]
    pub const fn v4_octets(self) -> [u8; 4] {
        self.v4_bits().to_be_bytes()
    }

    /// All 128 bits, IPv4 in its mapped form.
    #[must_use]
    pub const fn bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// The upper and the lower 64 bits.
    #[inline]
    #[must_use]
    pub const fn halves(self) -> (u64, u64) {
        (self.high, self.low)
    }

    /// The standard library's form.
    #[must_use]
    pub fn to_std(self) -> IpAddr {
        if self.is_v4() { IpAddr::V4(Ipv4Addr::from(self.v4_bits())) } else { IpAddr::V6(Ipv6Addr::from(self.bits())) }
    }
}

impl From<Ipv4Addr> for Ip {
    fn from(ip: Ipv4Addr) -> Ip {
        Ip::from_v4_bits(u32::from(ip))
    }
}

impl From<Ipv6Addr> for Ip {
    fn from(ip: Ipv6Addr) -> Ip {
        Ip::from_bits(u128::from(ip))
    }
}

impl From<IpAddr> for Ip {
    fn from(ip: IpAddr) -> Ip {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_v4() {
            return fmt::Display::fmt(&self.to_std(), f);
        }
        // As the standard library writes it, in one piece.
        let (mut text, mut len) = ([b'.'; 15], 0);
        for (nth, octet) in self.v4_octets().into_iter().enumerate() {
            len += usize::from(nth > 0);
            for (unit, digit) in [(100, octet / 100), (10, octet / 10 % 10), (1, octet % 10)] {
                if octet >= unit || unit == 1 {
                    text[len] = b'0' + digit;
                    len += 1;
                }
            }
        }
        f.pad(std::str::from_utf8(&text[..len]).unwrap_or_default())
    }
}

impl fmt::Debug for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ip {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Ip, ParseAddressError> {
        text.parse::<IpAddr>().map(Ip::from).map_err(|_| ParseAddressError("expected an IP address"))
    }
}

/// An address prefix. Both families count their own bits: `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    ip: Ip,
    /// Prefix length within the 128-bit form: 96 more than written for IPv4.
    bits: u8,
}

impl Prefix {
    /// The prefix of `ip` with `len` bits of its family. Errors if `len` is too long or bits below it are set.
    pub fn new(ip: Ip, len: u8) -> Result<Prefix, ParseAddressError> {
        let bits = if ip.is_v4() { len.checked_add(96) } else { Some(len) };
        let bits = bits.filter(|&b| b <= 128).ok_or(ParseAddressError("the prefix length is too long"))?;
        let prefix = Prefix { ip, bits };
        if ip.bits() & !prefix.mask() == 0 {
            Ok(prefix)
        } else {
            Err(ParseAddressError("the prefix has bits set below its length"))
        }
    }

    fn mask(self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0)
    }

    /// True if `ip` lies in the prefix.
    #[must_use]
    pub fn contains(self, ip: Ip) -> bool {
        // `::/0` and the like must not swallow IPv4's mapped form.
        ip.is_v4() == self.ip.is_v4() && ip.bits() & self.mask() == self.ip.bits()
    }

    /// The lowest address in the prefix: the one that it is written with.
    #[must_use]
    pub fn first(self) -> Ip {
        self.ip
    }

    /// The highest address in the prefix.
    #[must_use]
    pub fn last(self) -> Ip {
        Ip::from_bits(self.ip.bits() | !self.mask())
    }

    /// True if some address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Prefix) -> bool {
        self.contains(other.ip) || other.contains(self.ip)
    }

    /// The prefix length as its family writes it.
    #[must_use]
    pub fn family_len(self) -> u8 {
        if self.ip.is_v4() { self.bits - 96 } else { self.bits }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.family_len())
    }
}

impl FromStr for Prefix {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Prefix, ParseAddressError> {
        const EXPECTED: ParseAddressError = ParseAddressError("expected a prefix like 10.0.0.0/8");
        let (ip, len) = text.split_once('/').ok_or(EXPECTED)?;
        Prefix::new(ip.parse()?, len.parse().map_err(|_| EXPECTED)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ip {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_survives_its_text() {
        for text in ["10.1.0.2", "0.0.0.0", "100.20.3.255", "fd00::1", "::1"] {
            assert_eq!(ip(text).to_string(), text);
        }
        assert!(ip("10.1.0.2").is_v4() && !ip("::1").is_v4());
        assert_eq!("02:42:0a:01:00:02".parse::<Mac>().unwrap().to_string(), "02:42:0a:01:00:02");
        for bad in
            ["02:42:0a:01:00", "02:42:0a:01:00:02:03", "2:42:0a:01:00:02", "02-42-0a-01-00-02", "+2:42:0a:01:00:02"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_holds_its_family_only() {
        let ten: Prefix = "10.0.0.0/8".parse().unwrap();
        assert!(ten.contains(ip("10.255.0.1")) && !ten.contains(ip("11.0.0.1")));
        let all_v6: Prefix = "::/0".parse().unwrap();
        assert!(all_v6.contains(ip("fd00::1")) && !all_v6.contains(ip("10.0.0.1")));
        let all_v4: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(all_v4.contains(ip("10.0.0.1")) && !all_v4.contains(ip("fd00::1")));
        assert_eq!((ten.first(), ten.last()), (ip("10.0.0.0"), ip("10.255.255.255")));
        assert_eq!((all_v4.first(), all_v4.last()), (ip("0.0.0.0"), ip("255.255.255.255")));
        assert!(all_v4.overlaps(ten) && ten.overlaps(all_v4) && !all_v6.overlaps(ten));
        assert!("10.0.0.1/8".parse::<Prefix>().is_err() && "10.0.0.0/33".parse::<Prefix>().is_err());
    }
}
