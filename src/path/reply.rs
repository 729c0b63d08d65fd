//! Answers: built in place of the packet that caused them, and sent back by the port that it came in by.

use super::decision::{Flow, Stop};
use super::egress::gateway_of;
use super::observe::{Observer, Step};
use super::port::Role;
use super::verdict::{Answer, Reason, Verdict};
use super::walk::{Context, Walk, answered};
use crate::frame::{self, Fragment, Frame, IcmpError, L4, Packet, Rewrite, TcpFlags};
use crate::naming::{Midstream, Public, Wire};
use crate::neighbour::NextHop;
use crate::units::{Ip, Mac, PortId};

/// Ends a walk that goes no further.
pub(super) fn carry_out<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    stop: Stop,
) -> Verdict {
    match stop {
        Stop::Drop(reason) => Verdict::Drop(reason),
        Stop::Echo => answered(walk.port, Answer::Echo, frame::echo_reply(frame, packet)),
        // No more than answers, so that nobody keeps the control side busy.
        Stop::Heard if walk.local.may_answer(walk.port, walk.cx.now) => Verdict::Heard,
        Stop::Heard => Verdict::Drop(Reason::RateLimited),
        Stop::Refuse { reason, bound } => refuse(walk, frame, packet, reason, bound),
        Stop::Error { error, reason } => {
            let from = own_address(walk, packet);
            tell(walk, frame, packet, from, error, reason)
        }
    }
}

/// Refuses a packet that nobody holds the destination of: a SYN gets a reset, other new traffic ICMP unreachable, and
/// segments in mid-connection nothing, unless the network is configured otherwise.
fn refuse<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    reason: Reason,
    bound: bool,
) -> Verdict {
    let L4::Tcp { flags, .. } = packet.l4 else {
        return if bound {
            let error =
                if packet.proto.has_ports() { IcmpError::PortUnreachable } else { IcmpError::ProtocolUnreachable };
            tell(walk, frame, packet, Some(packet.dst), error, reason)
        } else {
            let from = own_address(walk, packet);
            tell(walk, frame, packet, from, IcmpError::HostUnreachable, reason)
        };
    };
    let is_answerable = !flags.has(TcpFlags::RST) && packet.fragment == Fragment::Whole;
    if !is_answerable || !(flags.opens() || midstream(walk) == Midstream::Reset) {
        return Verdict::Drop(reason);
    }
    walk.step(Step::AnswerDue { reason });
    if !walk.local.may_answer(walk.port, walk.cx.now) {
        return Verdict::Drop(Reason::RateLimited);
    }
    answered(walk.port, Answer::Reset, frame::tcp_reset(frame, packet))
}

fn midstream<O>(walk: &Walk<'_, '_, O>) -> Midstream {
    match walk.cx.around.port(walk.port).map(|port| &port.role) {
        Some(Role::Access(access)) => {
            walk.cx.around.networks.get(access.network).map_or(Midstream::Drop, |n| n.midstream)
        }
        _ => Midstream::Drop,
    }
}

/// Sends an ICMP error about the packet, if one may be sent; otherwise drops it for `reason`.
fn tell<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    from: Option<Ip>,
    error: IcmpError,
    reason: Reason,
) -> Verdict {
    // Somebody who sends as us is not told.
    let Some(from) = from.filter(|&from| from != packet.src) else { return Verdict::Drop(reason) };
    if !frame::may_answer_with_error(packet) {
        return Verdict::Drop(reason);
    }
    walk.step(Step::AnswerDue { reason });
    if !walk.local.may_answer(walk.port, walk.cx.now) {
        return Verdict::Drop(Reason::RateLimited);
    }
    let answer = match error {
        IcmpError::TimeExceeded => Answer::TimeExceeded,
        IcmpError::NetUnreachable
        | IcmpError::HostUnreachable
        | IcmpError::ProtocolUnreachable
        | IcmpError::PortUnreachable => Answer::Unreachable,
        IcmpError::AdminProhibited => Answer::Prohibited,
        IcmpError::FragmentationNeeded { .. } => Answer::FragmentationNeeded,
        IcmpError::ParameterProblem { .. } => Answer::ParameterProblem,
    };
    if let Some((public, way)) = as_called(walk, frame, packet) {
        let is_built = frame::icmp_error(frame, packet, public, error);
        frame::set_macs(frame, way.to, way.from);
        return answered(way.port, answer, is_built);
    }
    // On a gateway, what has to arrive outside comes from where it was sent to: addresses of the underlay are filtered there
    // (RFC 2827).
    let has_to_arrive = matches!(error, IcmpError::FragmentationNeeded { .. });
    let from = if has_to_arrive && walk.cx.names.is_public_ip(packet.dst) { packet.dst } else { from };
    answered(walk.port, answer, frame::icmp_error(frame, packet, from, error))
}

/// The next station, and the port towards it.
struct Way {
    port: PortId,
    from: Mac,
    to: Mac,
}

/// On the container's server, a client outside is told under the public name that it called, and by the way that the
/// container's answers go: the name takes the place of the wire name that the packet came with. Gives the address to speak
/// from. Where the way is not known, the packet stays as it is: a gateway will see to it.
#[cold]
fn as_called<O>(walk: &Walk<'_, '_, O>, frame: &mut Frame<'_>, packet: &Packet) -> Option<(Ip, Way)> {
    let Context { names, around, hops, .. } = walk.cx;
    if matches!(around.port(walk.port)?.role, Role::Access(_)) || names.server(packet.src).is_some() {
        return None;
    }
    let flow = Flow::of(packet);
    let at = names.inner(Wire(flow.dst)).filter(|at| at.server.local)?;
    let Public(name) = names.public_name(at.binding, flow.dst.proto)?;
    if name.ip == packet.src {
        return None;
    }
    let answers = Flow { src: at.inside_of(flow.dst.proto, flow.dst.port).0, dst: flow.src, ..flow };
    let towards = gateway_of(walk, &answers).unwrap_or(packet.src);
    let NextHop::Ready { mac: to, port, .. } = hops.resolve(towards, None) else { return None };
    let port = port.or_else(|| around.uplinks.first().copied())?;
    let from = around.port(port)?.mac;
    let called = Rewrite { src: None, dst: Some((name.ip, name.port)), decrement_ttl: false, ip_id: None };
    frame::rewrite(frame, packet, &called);
    Some((name.ip, Way { port, from, to }))
}

/// The address that the engine speaks from: the network's gateway on an access port; where the port leads out, the
/// one that was addressed if this host has it, else one of the port's own (RFC 1812 section 4.3.2.4, RFC 4443 section 2.2),
/// else, where its interface has none, our ServerIP.
fn own_address<O>(walk: &Walk<'_, '_, O>, packet: &Packet) -> Option<Ip> {
    let around = walk.cx.around;
    match &around.port(walk.port)?.role {
        Role::Access(access) => around.networks.get(access.network)?.gateway_beside(packet.src),
        Role::Uplink { .. } | Role::External if around.is_of_host(packet.dst) => Some(packet.dst),
        Role::Uplink { .. } | Role::External => {
            around.port(walk.port)?.own.beside(packet.src).or_else(|| server_address(walk, packet))
        }
    }
}

/// The ServerIP that was addressed, else our first one of the packet's family.
pub(super) fn server_address<O>(walk: &Walk<'_, '_, O>, packet: &Packet) -> Option<Ip> {
    let own = walk.cx.around.servers.iter().copied();
    own.clone().find(|&ip| ip == packet.dst).or_else(|| own.clone().find(|ip| ip.is_v4() == packet.src.is_v4()))
}
