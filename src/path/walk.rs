//! The walk of a packet: parse, look up, decide, rewrite, send.

use super::decision::{Plan, Stop, To};
use super::observe::{Observer, Step};
use super::port::{Port, Role, Surroundings};
use super::recent::Recent;
use super::verdict::{Answer, Reason, Verdict};
use super::worker_state::WorkerState;
use super::{arp, egress, ingress, reply};
use crate::flow::State;
use crate::frame::{self, ChecksumWork, Fragment, Frame, Packet, Parsed, Rewrite};
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
    pub observer: &'w mut O,
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
    let parsed = frame::parse(frame);
    walk_parsed(cx, local, port, &Recent::default(), frame, &parsed, observer)
}

/// As [`walk`], of a frame that has been parsed before; `recent` is of this view and this port.
pub(super) fn walk_parsed<'g, O: Observer>(
    cx: &Context<'g>,
    local: &mut WorkerState,
    port: PortId,
    recent: &Recent<'g>,
    frame: &mut Frame<'_>,
    parsed: &Result<Parsed, frame::Malformed>,
    observer: &mut O,
) -> Verdict {
    let mut walk = Walk { cx, local, port, recent, observer };
    let verdict = match (cx.around.port(port), parsed) {
        (None, _) => Verdict::Drop(Reason::NoPort),
        (Some(_), Err(why)) => Verdict::Drop((*why).into()),
        (Some(own), Ok(Parsed::Ip(packet))) => ip(&mut walk, own, frame, packet),
        (Some(own), Ok(Parsed::Arp(arp))) => arp::answer(&mut walk, own, frame, arp),
        (Some(_), Ok(Parsed::Other { .. })) => Verdict::Drop(Reason::NotIp),
    };
    walk.step(Step::Decided(verdict));
    verdict
}

fn ip<O: Observer>(walk: &mut Walk<'_, '_, O>, own: &Port, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
    walk.step(Step::Parsed {
        src: packet.src_endpoint(),
        dst: packet.dst_endpoint(),
        ttl: packet.ttl,
        length: packet.ip_len(),
    });
    if packet.eth_dst != own.mac && own.mac != Mac::ZERO {
        let reason = if packet.eth_dst.is_group() { Reason::Multicast } else { Reason::OtherMac };
        return Verdict::Drop(reason);
    }
    if packet.source_route {
        return Verdict::Drop(Reason::SourceRoute);
    }
    if packet.fragment != Fragment::Whole {
        return Verdict::Drop(Reason::Fragment);
    }
    let decision = match &own.role {
        Role::Access(access) => egress::decide(walk, access, packet),
        Role::Uplink { .. } | Role::External => ingress::decide(walk, packet),
    };
    match decision.and_then(|plan| on_the_way(walk, packet, plan)) {
        Ok((plan, out)) => send(walk, frame, packet, &plan, &out),
        Err(stop) => reply::carry_out(walk, frame, packet, stop),
    }
}

/// The port that a packet leaves by, and the MAC that it leaves for.
struct Out<'g> {
    id: PortId,
    port: &'g Port,
    hop: NextHop,
}

/// Finds the way out and whether the packet fits it.
fn on_the_way<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    packet: &Packet,
    plan: Plan,
) -> Result<(Plan, Out<'g>), Stop> {
    let around = walk.cx.around;
    let (id, hop) = match plan.to {
        To::Container { port, mac } => (port, NextHop::Ready { mac, uplink: None, mtu: None }),
        To::Underlay { ip, mac } => {
            let uplink = around.uplink.ok_or(Stop::Drop(Reason::NoUplink))?;
            let hop = walk.cx.hops.resolve(ip, mac);
            walk.step(Step::NextHop { ip, mac: if let NextHop::Ready { mac, .. } = hop { Some(mac) } else { None } });
            (uplink, hop)
        }
    };
    let port = around.port(id).ok_or(Stop::Drop(Reason::NoPort))?;
    let mtu = match hop {
        NextHop::Ready { mtu: Some(of_route), .. } => port.mtu.min(u32::from(of_route)),
        _ => port.mtu,
    };
    if packet.ip_len() > mtu {
        return Err(Stop::too_big(packet, mtu));
    }
    Ok((plan, Out { id, port, hop }))
}

fn send<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    plan: &Plan,
    out: &Out<'_>,
) -> Verdict {
    let atomic = packet.dont_fragment || !packet.src.is_v4();
    let to_underlay = matches!(plan.to, To::Underlay { .. });
    let ip_id = (to_underlay && !atomic).then(|| walk.local.next_ident(plan.src.ip, plan.dst.ip, packet.proto));
    let headers = Rewrite {
        src: Some((plan.src.ip, plan.src.port)),
        dst: Some((plan.dst.ip, plan.dst.port)),
        decrement_ttl: true,
        ip_id,
    };
    let checksum = match plan.error_source {
        None => frame::rewrite(frame, packet, &headers),
        Some(source) => {
            // An error travels against the flow that it embeds.
            let outer = Rewrite { src: Some((source, 0)), dst: Some((plan.dst.ip, 0)), ..headers };
            let embedded = Rewrite { src: headers.dst, dst: headers.src, decrement_ttl: false, ip_id: None };
            frame::rewrite_error(frame, packet, &outer, &embedded);
            ChecksumWork::Incremental
        }
    };
    walk.step(Step::Rewritten { ttl: packet.ttl - 1, ip_id, checksum });
    match out.hop {
        NextHop::Ready { mac, .. } => {
            frame::set_macs(frame, mac, out.port.mac);
            Verdict::Forward { port: out.id }
        }
        NextHop::Unresolved { hop } => {
            frame::set_macs(frame, Mac::ZERO, out.port.mac);
            Verdict::Hold { port: out.id, hop }
        }
        NextHop::NoRoute => Verdict::Drop(Reason::NoRoute),
    }
}

/// The answer that went out by the port that the frame came in by.
pub(super) fn answered(port: PortId, answer: Answer) -> Verdict {
    Verdict::Answer { port, answer }
}

/// True for addresses that no router may forward from or to (RFC 6890, RFC 1812 section 5.3.7).
pub(super) fn is_martian(ip: Ip) -> bool {
    if ip.is_v4() {
        let bits = ip.v4_bits();
        let (a, b) = (bits >> 24, (bits >> 16) & 0xff);
        a == 0 || a == 127 || a >= 224 || (a == 169 && b == 254)
    } else {
        let bits = ip.bits();
        bits <= 1 || bits >> 118 == 0xfe80 >> 6 || bits >> 120 == 0xff
    }
}

/// True for multicast and limited-broadcast destinations.
pub(super) fn is_multicast(ip: Ip) -> bool {
    if ip.is_v4() {
        (224..240).contains(&(ip.v4_bits() >> 24)) || ip.v4_bits() == u32::MAX
    } else {
        ip.bits() >> 120 == 0xff
    }
}
