//! ARP on access ports: the engine is every neighbour that a container can have (design section 3).

use super::holder;
use super::observe::Observer;
use super::port::{Port, Role};
use super::verdict::{Answer, Reason, Verdict};
use super::walk::{Walk, answered};
use crate::frame::{self, Arp, ArpOperation, Frame};
use crate::units::Ip;

/// Answers a request with the port's own MAC, whatever address is asked for, and learns from every packet who is
/// behind the port.
pub(super) fn answer<O: Observer>(walk: &mut Walk<'_, '_, O>, own: &Port, frame: &mut Frame<'_>, arp: &Arp) -> Verdict {
    let access = match &own.role {
        Role::Access(access) => access,
        Role::Uplink { external: true } | Role::External => return for_public(walk, own, frame, arp),
        // The kernel answers for its NIC; the XDP program never hands such a frame over.
        Role::Uplink { external: false } => return Verdict::Host,
    };
    // What it says of its sender must be true: ports learn from it.
    if frame.bytes().get(6..12) != Some(&arp.sender_mac.0[..]) {
        return Verdict::Drop(Reason::SpoofedSource);
    }
    let probe = arp.sender_ip == Ip::UNSPECIFIED_V4;
    if !probe && let Err(reason) = holder::identify(walk, access, arp.sender_mac, arp.sender_ip) {
        return Verdict::Drop(reason);
    }
    if arp.operation != ArpOperation::Request {
        return Verdict::Consume;
    }
    // Duplicate address detection (RFC 5227) asks for the container's own address: it must get no answer. Nor must
    // gratuitous announcements.
    let own_address = arp.sender_ip == arp.target_ip
        || walk.cx.names.sender(access.network, arp.sender_mac, arp.target_ip, access.id).is_some();
    if own_address {
        return Verdict::Consume;
    }
    answered(walk.port, Answer::Arp, frame::arp_reply(frame, arp, own.mac))
}

/// Clients outside ask who has a public address. The XDP program hands over such requests alone, and only where the
/// configuration has the engine answer (`arp = true`).
fn for_public<O: Observer>(walk: &Walk<'_, '_, O>, own: &Port, frame: &mut Frame<'_>, arp: &Arp) -> Verdict {
    let asked = arp.operation == ArpOperation::Request && arp.sender_ip != arp.target_ip;
    if !asked || !walk.cx.names.is_public_ip(arp.target_ip) || walk.cx.around.servers.contains(&arp.target_ip) {
        return Verdict::Host;
    }
    answered(walk.port, Answer::Arp, frame::arp_reply(frame, arp, own.mac))
}
