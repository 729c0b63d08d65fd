//! Services with several replicas: which one a container's flow goes to and stays on, and by which name a replica's own
//! connections leave.

use super::decision::{Flow, Stop};
use super::observe::{Chosen, Found, Observer, Step};
use super::verdict::Reason;
use super::walk::Walk;
use crate::flow::{FlowKey, Kept, Purpose, Signal};
use crate::naming::{Binding, Container, Outer, Placed, Public, Replica, ReplicaId, Service, Wire, flow_hash};
use crate::table::Handle;
use crate::units::{Endpoint, Proto};

/// The binding that the flow of a caller goes to, and why to this one. A flow that has an affinity entry stays where it
/// is; the hash is for new ones. `None` if nobody takes it. `caller` is the identity of the container that sends, 0 for a client outside.
pub(super) fn choose<'g, O>(
    walk: &Walk<'_, 'g, O>,
    service: &Service<'g>,
    caller: u64,
    flow: &Flow,
) -> Option<(&'g Binding, Chosen)> {
    if !service.is_replicated() {
        // The only one there is drains. No entry tells its connections from new ones, but a SYN does.
        let goes_on = service.former().filter(|only| !flow.opens() && !only.binding.is_unhealthy());
        return goes_on.map(|only| (only.binding, Chosen::Drain));
    }
    let affinity = walk.cx.state.affinity();
    let ahead = walk.ahead.flow.filter(|_| !flow.is_error());
    let key = ahead.unwrap_or_else(|| affinity.key(Purpose::Destination, caller, &flow.src, &flow.dst));
    let kept = affinity.kept(key, flow.signal, walk.cx.now);
    let chosen = kept.as_ref().and_then(|kept| stays(service, kept, flow));
    if let (Some(kept), Some((replica, why))) = (&kept, chosen)
        && !replica.binding.is_unhealthy()
    {
        if may_note(walk, flow) && !affinity.sent_as_kept(key, kept, flow.signal, walk.cx.now) {
            not_kept(walk, flow.signal);
        }
        return Some((replica.binding, why));
    }
    let chosen = match chosen.or_else(|| before_others_joined(walk, service, key, flow)) {
        // Nobody else can go on with its connection; once it is healthy again, it can.
        Some((replica, _)) if replica.binding.is_unhealthy() && !may_begin(flow) => return None,
        Some((replica, _)) if replica.binding.is_unhealthy() => None,
        chosen => chosen,
    };
    let (replica, why) = chosen.or_else(|| picked(service, flow))?;
    if may_note(walk, flow) && !affinity.sent(key, replica.id, flow.signal, walk.cx.now) {
        not_kept(walk, flow.signal);
    }
    Some((replica.binding, why))
}

/// The replica of the public name that a flow calls; `None` if that is no public name. `caller` as for [`choose`].
pub(super) fn of_public_name<'g, O: Observer>(
    walk: &mut Walk<'_, 'g, O>,
    caller: u64,
    flow: &Flow,
) -> Result<Option<Placed<'g>>, Stop> {
    let (names, name) = (walk.cx.names, flow.dst);
    let (binding, why) = match names.published(Public(name)) {
        Outer::Found(at) => (at.binding, None),
        Outer::Choice(choice) => match choose(walk, &names.service_of(choice), caller, flow) {
            Some((binding, why)) => (binding, Some(why)),
            None => {
                walk.step(Step::PublicName { name, found: Found::NoReplica });
                return Err(Stop::Refuse { reason: Reason::NoReplica, bound: true });
            }
        },
        Outer::Unbound | Outer::Unknown => {
            walk.step(Step::PublicName { name, found: Found::Unknown });
            return Ok(None);
        }
    };
    let at = names.placed(binding).ok_or(Stop::Drop(Reason::NoBinding))?;
    let Wire(wire) = at.service_name(name.proto);
    walk.step(Step::PublicName { name, found: Found::Binding { name: wire, server: wire.ip } });
    if let Some(why) = why {
        walk.step(Step::Replica { why });
    }
    Ok(Some(at))
}

/// The replica that the flow is on. A connection that nobody has answered yet goes to one that takes new ones.
fn stays<'g>(service: &Service<'g>, kept: &Kept, flow: &Flow) -> Option<(Replica<'g>, Chosen)> {
    let replica = service.replica(kept.replica)?;
    if kept.is_opening && flow.opens() && !service.takes_new(replica.binding) {
        return None;
    }
    Some((replica, if replica.binding.is_draining() { Chosen::Drain } else { Chosen::Affinity }))
}

/// The replica that had the name for itself: what is in mid-connection and has no entry, though there is room for one,
/// began before others joined. A datagram does not show whether it is new.
fn before_others_joined<'g, O>(
    walk: &Walk<'_, 'g, O>,
    service: &Service<'g>,
    key: FlowKey,
    flow: &Flow,
) -> Option<(Replica<'g>, Chosen)> {
    if may_begin(flow) {
        return None;
    }
    let former = service.former()?;
    walk.cx.state.affinity().has_room(key, walk.cx.now).then_some((former, Chosen::Former))
}

/// True if the packet may be the first of its flow, as far as it shows.
fn may_begin(flow: &Flow) -> bool {
    matches!(flow.signal, Signal::Syn | Signal::Datagram)
}

fn picked<'g>(service: &Service<'g>, flow: &Flow) -> Option<(Replica<'g>, Chosen)> {
    let replica = service.choose(flow_hash(flow.src, flow.dst))?;
    Some((replica, if replica.binding.is_standby() { Chosen::Standby } else { Chosen::Hash }))
}

/// A packet from a replica, which is shown as `name`, is delivered to an end of `receiver`: what that sends back to the
/// name that the replicas share goes to the one that spoke. Out of line, and by values, so that packets from others,
/// which are most, pay for no more than the question.
#[inline(never)]
pub(super) fn heard<O>(
    walk: &Walk<'_, '_, O>,
    signal: Signal,
    is_error: bool,
    replica: &Binding,
    name: Endpoint,
    receiver: &Container,
    own: Endpoint,
) {
    // One that is shown by its wire name is reached by that.
    let is_shared_name = name.ip == replica.ip() && replica.inside_ports().contains(name.port);
    if !is_shared_name || is_error || walk.cx.dry_run {
        return;
    }
    let affinity = walk.cx.state.affinity();
    let key = affinity.key(Purpose::Destination, receiver.identity(), &own, &name);
    let id = ReplicaId::of(walk.cx.names.identity(replica));
    if !affinity.received(key, id, signal, walk.cx.now) {
        not_kept(walk, signal);
    }
}

/// There was no room for an entry, or, of a reset, no need of one.
#[cold]
fn not_kept<O>(walk: &Walk<'_, '_, O>, signal: Signal) {
    if signal != Signal::Rst {
        walk.local.count_unkept();
    }
}

/// True if a packet that a replica sends from a replicated name belongs to a connection that the replica itself has
/// opened: others would send the answers to that name to any replica, so it leaves from the client block. Of datagrams
/// nobody can tell; the receiver remembers who spoke.
#[inline(never)]
pub(super) fn opened_itself<O>(walk: &Walk<'_, '_, O>, (handle, container): (Handle, &Container), flow: &Flow) -> bool {
    if flow.src.proto != Proto::TCP {
        return false;
    }
    let (names, now) = (&walk.cx.names, walk.cx.now);
    let affinity = walk.cx.state.affinity();
    let key = affinity.key(Purpose::Source, container.identity(), &flow.src, &flow.dst);
    let block = || {
        let block = names.source_block(handle, flow.src.proto, flow.src.port)?;
        Some(ReplicaId::of(names.identity(block)))
    };
    let note = may_note(walk, flow);
    match flow.signal {
        // Where it can't be remembered, the receiver's memory has to do.
        Signal::Syn => block().is_some_and(|id| {
            let is_kept = !note || affinity.sent(key, id, Signal::Syn, now);
            if !is_kept {
                not_kept(walk, Signal::Syn);
            }
            is_kept
        }),
        Signal::SynAck => {
            if note {
                affinity.forget(key);
            }
            false
        }
        signal => {
            let Some(kept) = affinity.kept(key, signal, now) else { return false };
            let is_own = block() == Some(kept.replica);
            if is_own && note {
                affinity.sent(key, kept.replica, signal, now);
            }
            is_own
        }
    }
}

fn may_note<O>(walk: &Walk<'_, '_, O>, flow: &Flow) -> bool {
    !flow.is_error() && !walk.cx.dry_run
}
