//! Fragments: a later one walks the way of its packet's first, which alone has the transport header. Nothing is put
//! together: each is forwarded as it came, under the new addresses and one new identification.
//!
//! A later fragment that comes before the first waits with the driver ([`Verdict::Await`]), which walks it again once the
//! first has come, or gives it up.

use super::observe::Observer;
use super::port::{Port, Role};
use super::verdict::{Answer, Reason, Verdict};
use super::walk::{Context, Walk, by_role};
use super::{ahead::Ahead, decision::Plan};
use crate::flow::{FragmentKey, Known, Origin, Parcel, Part, Told, Unfit, What};
use crate::frame::{self, ChecksumWork, Fragment, FragmentField, Frame, L4, Packet, Rewrite, TcpFlags};
use crate::units::PortId;

/// How long a later fragment waits for its first, in milliseconds. Networks put packets out of order by less, and what is
/// the kernel's is late by no more than this.
pub const PATIENCE_MS: u64 = 100;

/// True if the first fragment of a packet has come.
#[must_use]
pub fn has_come(cx: &Context<'_>, key: FragmentKey) -> bool {
    cx.state.fragments().find(key, cx.now).is_some()
}

/// What becomes of a fragment that came in by `port` and whose first did not come in time, or that there is no room for.
/// From beyond, it may be the kernel's.
#[must_use]
pub fn given_up(cx: &Context<'_>, port: PortId) -> Verdict {
    match cx.around.port(port) {
        Some(port) if port.role.leads_out() => Verdict::Host,
        _ => Verdict::Drop(Reason::FragmentUnclaimed),
    }
}

/// Walks a fragment.
#[cold]
#[inline(never)]
pub(super) fn walk<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    frame: &mut Frame<'_>,
    packet: &Packet,
) -> Verdict {
    let Some(field) = frame::fragment_field(frame, packet) else { return Verdict::Drop(Reason::BadFragment) };
    let origin = match own.role {
        Role::Access(_) => Origin::Station(walk.port, packet.eth_src),
        Role::Uplink { .. } | Role::External => Origin::Beyond,
    };
    let parcel = Parcel { src: packet.src, dst: packet.dst, proto: packet.proto, id: field.id };
    let table = walk.cx.state.fragments();
    let key = table.key(origin, &parcel);
    let known = table.find(key, walk.cx.now);
    match (packet.fragment, known) {
        (Fragment::Later, None) => Verdict::Await { key },
        (Fragment::Later, Some(known)) => later(walk, own, frame, packet, &field, &known),
        (_, Some(known)) if table.is_under_way(&known, walk.cx.now) => copy_of_first(walk, &field, &known),
        _ => first(walk, own, frame, packet, &field, key),
    }
}

/// The first fragment is walked as a whole packet would be, and what it says is noted whatever becomes of it: the others
/// are to end the same way.
fn first<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    frame: &mut Frame<'_>,
    packet: &Packet,
    field: &FragmentField,
    key: FragmentKey,
) -> Verdict {
    let what = what_of(packet);
    walk.ident = None;
    let verdict = match what {
        What::Other => Verdict::Drop(Reason::Fragment),
        _ => walk_as(walk, own, frame, packet),
    };
    let told = Told { proto: packet.proto, what, ports: packet.l4.ports(), id: walk.ident.unwrap_or(field.id) };
    if !walk.cx.dry_run {
        walk.cx.state.fragments().remember(key, told, part_of(field), walk.cx.now);
    }
    verdict
}

/// A second first fragment of the same packet says nothing new.
fn copy_of_first<O>(walk: &Walk<'_, '_, O>, field: &FragmentField, known: &Known) -> Verdict {
    match take(walk, field, known) {
        Ok(()) => Verdict::Drop(Reason::FragmentDuplicate),
        Err(why) => Verdict::Drop(reason_of(why)),
    }
}

fn later<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    frame: &mut Frame<'_>,
    packet: &Packet,
    field: &FragmentField,
    known: &Known,
) -> Verdict {
    if let Err(why) = take(walk, field, known) {
        return Verdict::Drop(reason_of(why));
    }
    let Told { proto, what, ports: (src, dst), id } = known.told;
    let l4 = match what {
        // What the first fragment's flags had to say has been said.
        What::Tcp => L4::Tcp { src, dst, flags: TcpFlags::ACK },
        What::Udp => L4::Udp { src, dst },
        What::EchoRequest => L4::EchoRequest { id: src },
        What::EchoReply => L4::EchoReply { id: src },
        What::Portless => L4::Portless,
        What::Other => return Verdict::Drop(Reason::Fragment),
    };
    walk.ident = Some(id);
    walk_as(walk, own, frame, &Packet { l4, proto, ..*packet })
}

/// Walks a fragment as the packet that it is known to be a part of.
fn walk_as<O: Observer>(walk: &mut Walk<'_, '_, O>, own: &Port, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
    // What the burst has looked up for a later fragment was for no port.
    let ahead = Ahead::begin(walk.cx, &own.role, packet);
    let mut anew = Walk {
        cx: walk.cx,
        local: &mut *walk.local,
        port: walk.port,
        recent: walk.recent,
        ahead: &ahead,
        observer: &mut *walk.observer,
        ident: walk.ident,
    };
    let mut verdict = Verdict::Consume;
    by_role(&mut anew, own, frame, packet, &mut verdict);
    let mut ident = anew.ident;
    if let Verdict::Answer { answer: Answer::Echo, .. } = verdict {
        let id = ident.unwrap_or_else(|| walk.local.next_fragment_ident(packet.dst, packet.src, packet.proto));
        frame::set_fragment_id(frame, packet, id);
        ident = Some(id);
    }
    walk.ident = ident;
    verdict
}

/// Writes the names of the plan into a fragment, and the identification that all fragments of its packet have.
#[cold]
#[inline(never)]
pub(super) fn rewrite<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    plan: &Plan<'_>,
) -> ChecksumWork {
    let l4 = if packet.fragment == Fragment::Later { L4::Later } else { packet.l4 };
    let headers = Rewrite {
        src: Some((plan.src.ip, plan.src.port)),
        dst: Some((plan.dst.ip, plan.dst.port)),
        decrement_ttl: true,
        ip_id: None,
    };
    let work = frame::rewrite(frame, &Packet { l4, ..*packet }, &headers);
    // Without ports it keeps its number, as a whole packet does.
    if packet.proto.has_ports() {
        let drawn = || walk.local.next_fragment_ident(plan.src.ip, plan.dst.ip, packet.proto);
        let id = walk.ident.unwrap_or_else(drawn);
        frame::set_fragment_id(frame, packet, id);
        walk.ident = Some(id);
    }
    work
}

/// Notes that a part of a packet goes on. A dry run notes nothing, and so sees neither copies nor overlaps.
fn take<O>(walk: &Walk<'_, '_, O>, field: &FragmentField, known: &Known) -> Result<(), Unfit> {
    if walk.cx.dry_run { Ok(()) } else { walk.cx.state.fragments().take(known, part_of(field)) }
}

fn part_of(field: &FragmentField) -> Part {
    let (start, end) = field.part;
    Part { start, end, is_last: field.is_last }
}

fn reason_of(why: Unfit) -> Reason {
    match why {
        Unfit::Duplicate => Reason::FragmentDuplicate,
        Unfit::Overlap => Reason::FragmentOverlap,
        Unfit::Scattered => Reason::FragmentScattered,
    }
}

/// What the later fragments of a packet have to be taken for. Errors and other ICMP messages fit any link: nobody has a
/// reason to send them in fragments.
fn what_of(packet: &Packet) -> What {
    match packet.l4 {
        L4::Tcp { .. } => What::Tcp,
        L4::Udp { .. } => What::Udp,
        L4::EchoRequest { .. } => What::EchoRequest,
        L4::EchoReply { .. } => What::EchoReply,
        L4::Portless => What::Portless,
        L4::IcmpError { .. } | L4::Icmp { .. } | L4::Later => What::Other,
    }
}
