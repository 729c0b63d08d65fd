//! What the lookups decided, before a byte is touched.

use super::verdict::Reason;
use crate::flow::Signal;
use crate::frame::{EmbeddedL4, IcmpError, L4, Packet};
use crate::naming::{Address, Held, Server};
use crate::units::{Endpoint, Ip};

/// The conversation that a packet belongs to, from its sender's side, under the names that it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub src: Endpoint,
    pub dst: Endpoint,
    /// What the packet says to clocks and entries.
    pub signal: Signal,
    pub kind: Kind,
}

/// How a packet relates to its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It is one of the flow's own.
    Own,
    /// It asks for an echo.
    EchoRequest,
    /// It answers one.
    EchoReply,
    /// No flow accounts for it.
    Unrelated,
    /// It is an ICMP error about the flow, which stands here turned round. State is read, never changed.
    Error,
}

impl Flow {
    /// The flow of a packet.
    #[inline(always)]
    pub fn of(packet: &Packet) -> Flow {
        let own = |src, dst, signal, kind| {
            let end = |ip, port| Endpoint { proto: packet.proto, ip, port };
            Flow { src: end(packet.src, src), dst: end(packet.dst, dst), signal, kind }
        };
        match packet.l4 {
            L4::Tcp { src, dst, flags } => own(src, dst, Signal::tcp(flags.0), Kind::Own),
            L4::Udp { src, dst } => own(src, dst, Signal::Datagram, Kind::Own),
            L4::Portless => own(0, 0, Signal::Datagram, Kind::Own),
            L4::EchoRequest { id } => own(id, id, Signal::Datagram, Kind::EchoRequest),
            L4::EchoReply { id } => own(id, id, Signal::Datagram, Kind::EchoReply),
            L4::IcmpError { embedded, .. } => {
                // Errors are admitted as mid-connection packets of the flow that they embed.
                let signal = if embedded.l4 == EmbeddedL4::Tcp { Signal::Segment } else { Signal::Datagram };
                Flow { src: embedded.dst, dst: embedded.src, signal, kind: Kind::Error }
            }
            L4::Icmp { .. } | L4::Later => own(0, 0, Signal::Datagram, Kind::Unrelated),
        }
    }

    /// True if this packet opens a TCP connection.
    pub fn opens(&self) -> bool {
        self.signal == Signal::Syn && self.kind == Kind::Own
    }

    /// True for an ICMP error about the flow.
    pub fn is_error(&self) -> bool {
        self.kind == Kind::Error
    }
}

/// Where a packet goes and the names that it goes under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'g> {
    pub src: Endpoint,
    pub dst: Endpoint,
    /// For ICMP errors: the address that the error itself comes from; `src` and `dst` are the flow's.
    pub error_source: Option<Ip>,
    pub to: To<'g>,
}

/// The next station.
#[derive(Clone, Copy, Debug)]
pub(super) enum To<'g> {
    Container(Held),
    Server(&'g Server),
    /// Whoever leads to the destination, or to this gateway.
    Outside {
        by: Option<Ip>,
    },
}

/// Why a packet goes no further, and whether its sender is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    Drop(Reason),
    /// It may be the answer to a probe.
    Heard,
    /// The engine answers an echo request itself.
    Echo,
    /// Nobody holds the destination: a reset, or unreachable (design section 1).
    Refuse {
        reason: Reason,
        bound: bool,
    },
    /// An ICMP error.
    Error {
        error: IcmpError,
        reason: Reason,
    },
}

impl Stop {
    /// What becomes of an echo request to an address that has bindings: it is answered while one of them takes new
    /// connections.
    pub fn echo(address: Address) -> Stop {
        if address.has_active { Stop::Echo } else { Stop::Refuse { reason: Reason::NoReplica, bound: false } }
    }

    /// An answer for a packet that is larger than `mtu` and must not be cut.
    pub fn too_big(packet: &Packet, mtu: u32) -> Stop {
        if packet.dont_fragment {
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            Stop::Error { error: IcmpError::FragmentationNeeded { mtu }, reason: Reason::TooBig }
        } else {
            Stop::Drop(Reason::TooBig)
        }
    }
}
