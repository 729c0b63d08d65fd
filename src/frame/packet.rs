//! What a parsed packet says.

use crate::units::{Endpoint, Ip, Mac, Proto};

/// An IP packet, parsed once: small, copied freely, and good for its frame's bytes as long as no header moves.
/// Offsets count from the frame's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    pub src: Ip,
    pub dst: Ip,
    pub l4: L4,
    /// Where the IP packet ends: trailing Ethernet padding lies beyond. It may lie in a further buffer.
    pub l3_end: u32,
    /// Where the IP header starts.
    pub l3_at: u16,
    /// Where the transport header starts: after IPv4 options or IPv6 extension headers.
    pub l4_at: u16,
    /// The IPv4 identification; 0 for IPv6.
    pub ip_id: u16,
    pub eth_dst: Mac,
    pub eth_src: Mac,
    /// The transport protocol: for IPv6 that of the last header.
    pub proto: Proto,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The whole byte: DSCP and ECN (RFC 2474, RFC 3168), or the IPv6 traffic class.
    pub dscp_ecn: u8,
    /// True for IPv6, where only hosts fragment.
    pub dont_fragment: bool,
    pub fragment: Fragment,
    /// True with IPv4 options or IPv6 extension headers.
    pub has_options: bool,
    /// True if the source chose the way: IPv4 LSRR or SSRR (RFC 7126 sections 4.3, 4.4), or an IPv6 routing header with
    /// segments left. Checksums of such packets cover another destination than the header's.
    pub source_route: bool,
}

impl Packet {
    /// The sender: port 0 where there is none, the identifier for echo.
    #[inline]
    #[must_use]
    pub fn src_endpoint(&self) -> Endpoint {
        Endpoint { proto: self.proto, ip: self.src, port: self.l4.ports().0 }
    }

    /// The receiver: port 0 where there is none, the identifier for echo.
    #[inline]
    #[must_use]
    pub fn dst_endpoint(&self) -> Endpoint {
        Endpoint { proto: self.proto, ip: self.dst, port: self.l4.ports().1 }
    }

    /// True for IPv4.
    #[inline]
    #[must_use]
    pub fn is_v4(&self) -> bool {
        self.src.is_v4()
    }

    /// Length of the IP packet, header included, in bytes.
    #[inline]
    #[must_use]
    pub fn ip_len(&self) -> u32 {
        self.l3_end.saturating_sub(u32::from(self.l3_at))
    }

    /// Length of the transport header and its payload, in bytes.
    #[inline]
    #[must_use]
    pub fn l4_len(&self) -> u32 {
        self.l3_end.saturating_sub(u32::from(self.l4_at))
    }
}

/// Which part of a fragmented packet this is (RFC 791 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// The packet is in one piece.
    Whole,
    /// The first fragment, which holds the transport header.
    First,
    /// A later fragment, which holds none.
    Later,
}

impl Fragment {
    /// By its offset, and whether more fragments follow.
    #[must_use]
    pub fn of(offset: u16, more: bool) -> Fragment {
        match (offset, more) {
            (0, false) => Fragment::Whole,
            (0, true) => Fragment::First,
            _ => Fragment::Later,
        }
    }
}

/// The transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4 {
    Tcp {
        src: u16,
        dst: u16,
        flags: TcpFlags,
    },
    Udp {
        src: u16,
        dst: u16,
    },
    EchoRequest {
        id: u16,
    },
    EchoReply {
        id: u16,
    },
    /// Destination unreachable, time exceeded, parameter problem, and ICMPv6's packet too big.
    IcmpError {
        kind: u8,
        code: u8,
        embedded: Embedded,
    },
    /// Any other ICMP message.
    Icmp {
        kind: u8,
        code: u8,
    },
    /// A protocol without ports.
    Portless,
    /// A later fragment: no header.
    Later,
}

impl L4 {
    /// Source and destination port. An echo's identifier is both: it is the port of the side that asked.
    #[inline]
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        match *self {
            L4::Tcp { src, dst, .. } | L4::Udp { src, dst } => (src, dst),
            L4::EchoRequest { id } | L4::EchoReply { id } => (id, id),
            L4::IcmpError { .. } | L4::Icmp { .. } | L4::Portless | L4::Later => (0, 0),
        }
    }
}

/// The low eight TCP control bits (RFC 9293 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub const FIN: TcpFlags = TcpFlags(0x01);
    pub const SYN: TcpFlags = TcpFlags(0x02);
    pub const RST: TcpFlags = TcpFlags(0x04);
    pub const PSH: TcpFlags = TcpFlags(0x08);
    pub const ACK: TcpFlags = TcpFlags(0x10);

    /// True if all of `other` are set.
    #[inline]
    #[must_use]
    pub const fn has(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// SYN without ACK or RST: somebody opens a connection.
    #[inline]
    #[must_use]
    pub const fn opens(self) -> bool {
        self.0 & (TcpFlags::SYN.0 | TcpFlags::ACK.0 | TcpFlags::RST.0) == TcpFlags::SYN.0
    }
}

/// The packet that an ICMP error is about, as far as the error quotes it. Offsets count from the frame's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Embedded {
    pub src: Endpoint,
    pub dst: Endpoint,
    pub l3_at: u16,
    pub l4_at: u16,
    pub l4: EmbeddedL4,
    /// True if the quote reaches the transport checksum and there is one (UDP may have none).
    pub has_l4_checksum: bool,
}

/// The transport header of an embedded packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmbeddedL4 {
    Tcp,
    Udp,
    EchoRequest,
    EchoReply,
    Portless,
}
