//! The walk of a packet: parse, look up, decide, rewrite, send.

use super::ahead::Ahead;
use super::decision::{Plan, Stop, To};
use super::observe::{Observer, Step};
use super::port::{Port, Role, Surroundings};
use super::recent::Recent;
use super::verdict::{Answer, Reason, Verdict};
use super::worker_state::WorkerState;
use super::{arp, client_error, egress, fragments, gateway, ingress, ndp, problem, reply, tags};
use crate::flow::State;
use crate::frame::{self, ChecksumWork, Fragment, Frame, L4, Packet, Parsed, Rewrite, TcpFlags};
use crate::naming::View;
use crate::neighbour::{NextHop, NextHops};
use crate::units::{Ip, Mac, PortId, Tick};

/// All that a walk reads: one consistent view for a whole burst.
pub struct Context<'g> {
    pub names: View<'g>,
    pub around: &'g Surroundings,
    pub state: &'g State,
    pub hops: &'g NextHops,
    pub now: Tick,
    /// Nothing is noted: no entry made, no clock touched, no container held. For `explain`.
    pub dry_run: bool,
}

/// One walk under way.
pub(super) struct Walk<'w, 'g, O> {
    pub cx: &'w Context<'g>,
    pub local: &'w mut WorkerState,
    pub port: PortId,
    pub recent: &'w Recent<'g>,
    pub ahead: &'w Ahead,
    pub observer: &'w mut O,
    /// The identification that the fragments of the packet leave under, once there is one.
    pub ident: Option<u32>,
}

impl<O: Observer> Walk<'_, '_, O> {
    pub fn step(&mut self, step: Step) {
        self.observer.step(step);
    }
}

/// Walks one frame that came in by `port`. On [`Verdict::Forward`], [`Verdict::Answer`] and [`Verdict::Hold`] the frame
/// holds what is to be sent.
pub fn walk<O: Observer>(
    cx: &Context<'_>,
    local: &mut WorkerState,
    port: PortId,
    frame: &mut Frame<'_>,
    observer: &mut O,
) -> Verdict {
    let is_ours = tags::take_off(frame, tags::of(cx, port));
    let parsed = if is_ours { frame::parse(frame) } else { Err(frame::Malformed::VlanTagged) };
    let ahead = match (cx.around.port(port), &parsed) {
        (Some(own), Ok(Parsed::Ip(packet))) => Ahead::begin(cx, &own.role, packet),
        _ => Ahead::default(),
    };
    let mut walk = Walk { cx, local, port, recent: &Recent::default(), ahead: &ahead, observer, ident: None };
    let mut verdict = Verdict::Consume;
    walk_parsed(&mut walk, frame, &parsed, &mut verdict);
    if cx.around.has_tags {
        tags::put_on(cx, port, frame, &mut verdict);
    }
    verdict
}

/// The walk of a frame that has been parsed. Its verdict is written in place, as the packet was.
#[inline(always)]
pub(super) fn walk_parsed<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    frame: &mut Frame<'_>,
    parsed: &Result<Parsed, frame::Malformed>,
    verdict: &mut Verdict,
) {
    match (walk.cx.around.port(walk.port), parsed) {
        (None, _) => *verdict = Verdict::Drop(Reason::NoPort),
        (Some(own), Err(why)) => *verdict = problem::end(walk, own, frame, *why),
        (Some(own), Ok(Parsed::Ip(packet))) => ip(walk, own, frame, packet, verdict),
        (Some(own), Ok(Parsed::Arp(arp))) => *verdict = arp::answer(walk, own, frame, arp),
        (Some(_), Ok(Parsed::Other { .. })) => *verdict = Verdict::Drop(Reason::NotIp),
    }
    walk.step(Step::Decided(*verdict));
}

#[inline(always)]
fn ip<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    frame: &mut Frame<'_>,
    packet: &Packet,
    verdict: &mut Verdict,
) {
    walk.step(Step::Parsed {
        src: packet.src_endpoint(),
        dst: packet.dst_endpoint(),
        ttl: packet.ttl,
        length: packet.ip_len(),
    });
    if frame::is_ndp(packet) {
        *verdict = ndp::answer(walk, own, frame, packet);
        return;
    }
    if packet.eth_dst != own.mac && own.mac != Mac::ZERO {
        let reason = if packet.eth_dst.is_group() { Reason::Multicast } else { Reason::OtherMac };
        *verdict = Verdict::Drop(reason);
        return;
    }
    if packet.source_route {
        *verdict = Verdict::Drop(Reason::SourceRoute);
        return;
    }
    if packet.fragment != Fragment::Whole {
        *verdict = fragments::walk(walk, own, frame, packet);
        return;
    }
    by_role_of_port(walk, own, frame, packet, verdict);
}

/// As the walk of a whole packet goes on, for fragments.
#[inline(never)]
pub(super) fn by_role<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    frame: &mut Frame<'_>,
    packet: &Packet,
    verdict: &mut Verdict,
) {
    by_role_of_port(walk, own, frame, packet, verdict);
}

#[inline(always)]
fn by_role_of_port<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    frame: &mut Frame<'_>,
    packet: &Packet,
    verdict: &mut Verdict,
) {
    match &own.role {
        Role::Access(access) => {
            let decision = egress::decide(walk, access, packet);
            conclude(walk, frame, packet, decision, verdict);
        }
        Role::Uplink { external } if !gateway::concerns_clients(walk.cx, *external, packet) => {
            let decision = ingress::decide(walk, packet);
            conclude(walk, frame, packet, decision, verdict);
        }
        Role::Uplink { .. } if client_error::is_one(walk.cx, packet) => {
            let decision = client_error::decide(walk, packet);
            conclude(walk, frame, packet, decision, verdict);
        }
        Role::External if gateway::is_for_wire(walk.cx, packet) => {
            let decision = ingress::decide_from_outside(walk, packet);
            conclude(walk, frame, packet, decision, verdict);
        }
        Role::Uplink { .. } | Role::External => {
            let decision = gateway::decide(walk, packet);
            conclude(walk, frame, packet, decision, verdict);
        }
    }
}

#[inline(always)]
fn conclude<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    decision: Result<Plan<'g>, Stop>,
    verdict: &mut Verdict,
) {
    let stop = match decision {
        Err(stop) => stop,
        Ok(plan) => match send(walk, frame, packet, &plan) {
            Ok(Some(done)) => {
                *verdict = done;
                return;
            }
            Ok(None) => match by_route(walk, frame, packet, &plan) {
                Ok(done) => {
                    *verdict = done;
                    return;
                }
                Err(stop) => stop,
            },
            Err(stop) => stop,
        },
    };
    *verdict = reply::carry_out(walk, frame, packet, stop);
}

/// Sends a packet on its way, if the next station's MAC is part of the mapping and there is one way to it.
#[inline(always)]
fn send<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    plan: &Plan<'g>,
) -> Result<Option<Verdict>, Stop> {
    let (id, mac) = match plan.to {
        To::Container(held) => (held.port(), held.mac()),
        To::Server(server) => match (server.mac, walk.cx.around.only_uplink) {
            (Some(mac), Some(uplink)) => {
                walk.step(Step::NextHop { ip: server.ip, mac: Some(mac) });
                (uplink, mac)
            }
            _ => return Ok(None),
        },
        To::Outside { .. } => return Ok(None),
    };
    let port = walk.cx.around.port(id).ok_or(Stop::Drop(Reason::NoPort))?;
    let done = as_it_fits(packet, id, port.mtu)?;
    rewrite(walk, frame, packet, plan, port.mtu);
    frame::set_macs(frame, mac, port.mac);
    Ok(Some(done))
}

/// Every IPv4 link takes packets of this size (RFC 791 section 3.2).
const LEAST_MTU: u32 = 68;

/// Sends a packet to the station that the routes and neighbours lead to, by the port that they lead by.
#[inline(never)]
fn by_route<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    plan: &Plan<'g>,
) -> Result<Verdict, Stop> {
    let towards = match plan.to {
        To::Server(server) => server.ip,
        To::Outside { by: Some(gateway) } => gateway,
        To::Outside { by: None } | To::Container(_) => plan.dst.ip,
    };
    let server_mac = if let To::Server(server) = plan.to { server.mac } else { None };
    let around = walk.cx.around;
    let hop = walk.cx.hops.resolve(towards, server_mac);
    let (mac, by, route_mtu) = match hop {
        NextHop::Ready { mac, port, mtu } => (Some(mac), port, mtu),
        NextHop::Unresolved { port, .. } => (None, port, None),
        NextHop::NoRoute => (None, None, None),
    };
    walk.step(Step::NextHop { ip: towards, mac });
    let id = by.or_else(|| around.uplinks.first().copied()).ok_or(Stop::Drop(Reason::NoUplink))?;
    let port = around.port(id).ok_or(Stop::Drop(Reason::NoPort))?;
    let mtu = route_mtu.map_or(port.mtu, |mtu| port.mtu.min(u32::from(mtu)));
    let done = as_it_fits(packet, id, mtu)?;
    rewrite(walk, frame, packet, plan, mtu);
    frame::set_macs(frame, mac.unwrap_or(Mac::ZERO), port.mac);
    Ok(match hop {
        NextHop::Ready { .. } => done,
        NextHop::Unresolved { hop, .. } => Verdict::Hold { port: id, hop },
        NextHop::NoRoute => Verdict::Drop(Reason::NoRoute),
    })
}

/// In one piece, or in several where the packet is larger than `mtu` and may be cut.
#[inline(always)]
fn as_it_fits(packet: &Packet, port: PortId, mtu: u32) -> Result<Verdict, Stop> {
    if packet.ip_len() <= mtu {
        return Ok(Verdict::Forward { port });
    }
    if packet.dont_fragment || mtu < LEAST_MTU {
        return Err(Stop::too_big(packet, mtu));
    }
    Ok(Verdict::Cut { port, mtu })
}

/// Writes the names of the plan, and all that goes with them. A SYN offers no larger segments than go out by a port of
/// `mtu`.
#[inline(always)]
fn rewrite<O: Observer>(walk: &mut Walk<'_, '_, O>, frame: &mut Frame<'_>, packet: &Packet, plan: &Plan<'_>, mtu: u32) {
    let atomic = packet.dont_fragment || !packet.is_v4() || packet.fragment != Fragment::Whole;
    // What bears a ServerIP shares it with others that send to the same receiver. An error has a source of its own. A
    // protocol without ports is one container's on its server: nobody else draws from its numbers, which AH signs.
    let source = plan.error_source.unwrap_or(plan.src.ip);
    let is_shared = || !matches!(plan.to, To::Container(_)) || walk.cx.around.servers.contains(&source);
    let ip_id = (!atomic && packet.proto.has_ports() && is_shared())
        .then(|| walk.local.next_ident(source, plan.dst.ip, packet.proto));
    let headers = Rewrite {
        src: Some((plan.src.ip, plan.src.port)),
        dst: Some((plan.dst.ip, plan.dst.port)),
        decrement_ttl: true,
        ip_id,
    };
    let checksum = match plan.error_source {
        None if packet.fragment != Fragment::Whole => fragments::rewrite(walk, frame, packet, plan),
        None => frame::rewrite(frame, packet, &headers),
        Some(source) => {
            // An error travels against the flow that it embeds.
            let outer = Rewrite { src: Some((source, 0)), ..headers };
            let embedded = Rewrite { src: headers.dst, dst: headers.src, decrement_ttl: false, ip_id: None };
            frame::rewrite_error(frame, packet, &outer, &embedded);
            ChecksumWork::Incremental
        }
    };
    walk.step(Step::Rewritten { ttl: packet.ttl - 1, ip_id, checksum });
    if let L4::Tcp { flags, .. } = packet.l4
        && flags.has(TcpFlags::SYN)
        && frame::clamp_mss(frame, packet, mtu)
    {
        walk.step(Step::MssLowered { mtu });
    }
}

/// The answer goes out by the port that the frame came in by, if it `is_built`: the buffer may have had no room for it.
pub(super) fn answered(port: PortId, answer: Answer, is_built: bool) -> Verdict {
    if is_built { Verdict::Answer { port, answer } } else { Verdict::Drop(Reason::NoRoom) }
}

/// What comes from beyond this server must be from somebody and for somebody.
#[inline(always)]
pub(super) fn must_be_routable(packet: &Packet) -> Result<(), Stop> {
    if is_multicast(packet.dst) {
        return Err(Stop::Drop(Reason::Multicast));
    }
    if is_martian(packet.src) || is_martian(packet.dst) {
        return Err(Stop::Drop(Reason::Martian));
    }
    Ok(())
}

/// True for addresses that no router may forward from or to (RFC 6890, RFC 1812 section 5.3.7).
pub(super) fn is_martian(ip: Ip) -> bool {
    if ip.is_v4() {
        let bits = ip.v4_bits();
        let (a, b) = (bits >> 24, (bits >> 16) & 0xff);
        a == 0 || a == 127 || a >= 224 || (a == 169 && b == 254)
    } else {
        let bits = ip.bits();
        bits <= 1 || is_link_local(ip) || bits >> 120 == 0xff
    }
}

/// True for IPv6 addresses that mean something on one link alone (RFC 4291 section 2.5.6).
pub(super) fn is_link_local(ip: Ip) -> bool {
    !ip.is_v4() && ip.bits() >> 118 == 0xfe80 >> 6
}

/// True for multicast and limited-broadcast destinations.
pub(super) fn is_multicast(ip: Ip) -> bool {
    if ip.is_v4() {
        (224..240).contains(&(ip.v4_bits() >> 24)) || ip.v4_bits() == u32::MAX
    } else {
        ip.bits() >> 120 == 0xff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_of_a_host_is_martian() {
        let is = |text: &str| is_martian(text.parse().unwrap());
        let martians =
            ["0.0.0.1", "127.0.0.1", "169.254.0.1", "224.0.0.1", "240.0.0.1", "::", "::1", "fe80::1", "ff02::1"];
        assert!(martians.into_iter().all(is));
        let hosts =
            ["1.0.0.0", "10.254.0.1", "169.253.0.1", "169.255.0.1", "223.255.255.255", "::2", "fec0::1", "fd00::1"];
        assert!(!hosts.into_iter().any(is));
    }

    #[test]
    fn groups_and_the_limited_broadcast_are_for_many() {
        let is = |text: &str| is_multicast(text.parse().unwrap());
        assert!(["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff00::"].into_iter().all(is));
        assert!(!["223.0.0.1", "240.0.0.1", "255.255.255.254", "feff::1", "fd00::ff"].into_iter().any(is));
    }
}
