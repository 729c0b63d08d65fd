//! Protocols, ports and endpoints.

use std::fmt;
use std::str::FromStr;

use super::{Ip, ParseAddressError};

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Proto(pub u8);

impl Proto {
    pub const ICMP: Proto = Proto(1);
    pub const TCP: Proto = Proto(6);
    pub const UDP: Proto = Proto(17);
    pub const GRE: Proto = Proto(47);
    pub const ESP: Proto = Proto(50);
    pub const AH: Proto = Proto(51);
    pub const ICMPV6: Proto = Proto(58);
    pub const SCTP: Proto = Proto(132);

    /// True for the protocols whose endpoints have ports: TCP, UDP and ICMP echo (its identifier is the port).
    #[inline]
    #[must_use]
    pub const fn has_ports(self) -> bool {
        // One test of a bit instead of four comparisons.
        const THEY: u64 = 1 << Proto::TCP.0 | 1 << Proto::UDP.0 | 1 << Proto::ICMP.0 | 1 << Proto::ICMPV6.0;
        self.0 < 64 && THEY >> self.0 & 1 == 1
    }

    /// True for ICMP of either family, whose echo messages are the only ones with an endpoint.
    #[inline]
    #[must_use]
    pub fn is_echo(self) -> bool {
        matches!(self, Proto::ICMP | Proto::ICMPV6)
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Proto::ICMP => f.write_str("icmp"),
            Proto::TCP => f.write_str("tcp"),
            Proto::UDP => f.write_str("udp"),
            Proto::GRE => f.write_str("gre"),
            Proto::ESP => f.write_str("esp"),
            Proto::AH => f.write_str("ah"),
            Proto::ICMPV6 => f.write_str("icmpv6"),
            Proto::SCTP => f.write_str("sctp"),
            Proto(other) => write!(f, "proto-{other}"),
        }
    }
}

impl fmt::Debug for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One end of a conversation: protocol, address and port. The port is the identifier for ICMP echo, and 0 for
/// portless protocols.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    pub proto: Proto,
    pub ip: Ip,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { proto, ip, port } = self;
        match (proto.has_ports(), ip.is_v4()) {
            (false, _) => write!(f, "{proto} {ip}"),
            (true, true) => write!(f, "{proto} {ip}:{port}"),
            (true, false) => write!(f, "{proto} [{ip}]:{port}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An inclusive range of ports, never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// True if `port` lies in the range.
    #[inline]
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// How many ports: 1 to 65536.
    #[inline]
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// The exponent, if the range is an aligned power of two: 256 ports from a multiple of 256 give 8.
    #[inline]
    #[must_use]
    pub fn aligned_log2(self) -> Option<u8> {
        let count = self.count();
        (count.is_power_of_two() && u32::from(self.first) % count == 0).then(|| count.trailing_zeros() as u8)
    }

    /// True if some port lies in both.
    #[must_use]
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<PortRange, ParseAddressError> {
        const EXPECTED: ParseAddressError = ParseAddressError("expected a port range like 20480-59903");
        let (first, last) = text.split_once('-').ok_or(EXPECTED)?;
        let (first, last) = (first.parse().map_err(|_| EXPECTED)?, last.parse().map_err(|_| EXPECTED)?);
        if first <= last {
            Ok(PortRange { first, last })
        } else {
            Err(ParseAddressError("the range ends before it starts"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_is_by_size() {
        let range = |text: &str| text.parse::<PortRange>().unwrap();
        assert_eq!(range("20736-20991").aligned_log2(), Some(8));
        assert_eq!(range("20737-20992").aligned_log2(), None);
        assert_eq!(range("20736-20990").aligned_log2(), None);
        assert_eq!(range("0-65535").aligned_log2(), Some(16));
        assert_eq!(range("7-7").aligned_log2(), Some(0));
        assert!("9-8".parse::<PortRange>().is_err());
    }
}
