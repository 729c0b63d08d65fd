//! Answers to the control side's probes: they come to the gateway address, which the probes have as their source.

use crate::frame::{L4, Packet};

/// First of the ports and echo identifiers that probes are sent from: beyond what systems choose for connections of
/// their own (`net.ipv4.ip_local_port_range`), so that few containers ever mean the gateway itself by one.
pub const FIRST_PROBE_PORT: u16 = 61_000;

/// True if a packet that a container sends to the gateway can be the answer to a probe. Whether it is one, only those
/// know who probe.
pub(super) fn may_be_answer(packet: &Packet) -> bool {
    let port = match packet.l4 {
        L4::Tcp { dst, flags, .. } if !flags.opens() => dst,
        L4::Udp { dst, .. } => dst,
        L4::EchoReply { id } => id,
        L4::IcmpError { embedded, .. } if embedded.src.ip == packet.dst => embedded.src.port,
        _ => return false,
    };
    port >= FIRST_PROBE_PORT
}
