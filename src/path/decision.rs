//! What the lookups decided, before a byte is touched.

use super::verdict::Reason;
use crate::flow::Segment;
use crate::frame::{IcmpError, L4, Packet, TcpFlags};
use crate::units::{Endpoint, Ip, Mac, PortId, Proto};

/// The conversation that a packet belongs to, from its sender's side, under the names that it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub src: Endpoint,
    pub dst: Endpoint,
    /// What the packet says to the flow's clocks and entries.
    pub segment: Segment,
    /// The packet is an ICMP error, and this the flow that it embeds, turned round: state is read, never changed.
    pub error: bool,
}

impl Flow {
    /// The flow of a packet. Errors if no flow accounts for it.
    #[inline]
    pub fn of(packet: &Packet) -> Result<Flow, Stop> {
        let segment = match packet.l4 {
            L4::Tcp { flags, .. } => tcp_segment(flags),
            L4::Udp { .. } => Segment::Udp,
            L4::EchoRequest { .. } | L4::EchoReply { .. } => Segment::Echo,
            L4::Portless => Segment::Portless,
            L4::IcmpError { embedded, .. } => {
                return Ok(Flow { src: embedded.dst, dst: embedded.src, segment: Segment::Error, error: true });
            }
            L4::Icmp { .. } => return Err(Stop::Drop(Reason::IcmpUnrelated)),
            L4::Later => return Err(Stop::Drop(Reason::Fragment)),
        };
        Ok(Flow { src: packet.src_endpoint(), dst: packet.dst_endpoint(), segment, error: false })
    }
}

fn tcp_segment(flags: TcpFlags) -> Segment {
    Segment::Tcp { syn: flags.syn(), ack: flags.ack(), fin: flags.fin(), rst: flags.rst() }
}

/// Where a packet goes and the names that it goes under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub src: Endpoint,
    pub dst: Endpoint,
    /// For ICMP errors: the address that the error itself comes from; `src` and `dst` are the flow's.
    pub error_source: Option<Ip>,
    pub to: To,
}

/// The next station.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum To {
    Container { port: PortId, mac: Mac },
    Underlay { ip: Ip, mac: Option<Mac> },
}

/// Why a packet goes no further, and whether its sender is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    Drop(Reason),
    /// The engine answers an echo request itself.
    Echo,
    /// Nobody holds the destination: a reset, or unreachable (design section 1).
    Refuse { reason: Reason, bound: bool },
    /// An ICMP error.
    Error { error: IcmpError, reason: Reason },
}

impl Stop {
    /// An answer for a packet that is larger than `mtu`.
    pub fn too_big(packet: &Packet, mtu: u32) -> Stop {
        if packet.dont_fragment && packet.src.is_v4() {
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            Stop::Error { error: IcmpError::FragmentationNeeded { mtu }, reason: Reason::TooBig }
        } else {
            Stop::Drop(Reason::TooBig)
        }
    }
}

/// True for what a client block serves: protocols with ports.
pub(super) fn block_serves(proto: Proto) -> bool {
    proto.has_ports()
}
