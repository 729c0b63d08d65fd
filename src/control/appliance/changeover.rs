//! A change set on its way to packets: what must be known before they see it, and what only after.

use std::io;
use std::time::Duration;

use super::claims::{Difference, Names};
use crate::flow::{Holding, State};
use crate::naming::{Change, Inside, OwnerChange, Ports, Prepared, View};
use crate::table;
use crate::units::{Endpoint, PortRange, Tick};

/// How long workers may take to end the bursts that they are in: far more than they need. One whose core was taken away
/// from it delays a change no longer than this.
const BURSTS_END: Duration = Duration::from_millis(20);

/// What follows the mapping: XDP programs and access ports.
pub(super) trait Followers {
    /// Makes sure that packets to these names come to the engine.
    ///
    /// # Errors
    /// They would not: the change set is refused.
    fn claim(&mut self, gained: &Names) -> io::Result<()>;

    /// Does what is to be done before packets see `view`.
    fn ready(&mut self, view: &View<'_>, change: &Change);

    /// These names are nobody's any more.
    fn unclaim(&mut self, lost: &Names);
}

/// Puts a change set in force:
///
/// 1. what it adds is claimed, so that no packet to a new name goes to the kernel;
/// 2. wire names go to their new owners. What another held rests (not with `force`) and is forgotten, what was under way
///    meanwhile too: the new owner finds nothing of the former one;
/// 3. packets see it, whole;
/// 4. what was translated onto a port that is a service's inside name now is forgotten: answers would go to the service;
///    so are the flows of replicas that have left: they may come back without them;
/// 5. what nobody owns any more is released, and claimed no longer.
///
/// # Errors
/// Something could not be claimed: the mapping stays as it was.
pub(super) fn put_in_force(
    prepared: Prepared<'_>,
    state: &State,
    now: Tick,
    force: bool,
    followers: &mut impl Followers,
) -> io::Result<Change> {
    let Difference { gained, lost } = {
        let guard = table::pin();
        Difference::between(&prepared.current(&guard), &prepared.view(&guard), prepared.change())
    };
    if !gained.is_empty() {
        followers.claim(&gained)?;
    }
    hand_over(&prepared.change().owners, state, now, force);
    followers.ready(&prepared.view(&table::pin()), prepared.change());
    let services = services_in_blocks(&prepared);
    let change = prepared.commit();
    for OwnerChange { server, proto, ports, now: owner, .. } in &change.owners {
        if owner.is_none() {
            state.release(*server, *proto, *ports, now);
        }
    }
    if !services.is_empty() || !change.replicas_gone.is_empty() {
        table::let_readers_pass(BURSTS_END);
        services.iter().for_each(|name| state.lose(name.ip, name.proto, only(name.port)));
    }
    if !change.replicas_gone.is_empty() {
        state.affinity().forget_replicas(|id| change.replicas_gone.binary_search(&id).is_err());
    }
    if !lost.is_empty() {
        followers.unclaim(&lost);
    }
    Ok(change)
}

/// Gives names to their new owners, before packets can find these by them.
fn hand_over(owners: &[OwnerChange], state: &State, now: Tick, force: bool) {
    let mut taken = Vec::new();
    for &OwnerChange { server, proto, ports, now: owner, .. } in owners {
        let Some(owner) = owner else { continue };
        if state.assign(&Holding { server, proto, ports, owner }, now) > 0 {
            taken.push((server, proto, ports));
        }
    }
    if taken.is_empty() {
        return;
    }
    // A worker that looked before the names rested may still be about to note that they have sent something.
    table::let_readers_pass(BURSTS_END);
    for (server, proto, ports) in taken {
        state.lose(server, proto, ports);
        if force {
            state.wake(server, proto, ports);
        }
    }
}

/// New services at inside ports of their containers' own default-mode blocks: the wire names that translation might have
/// given for them.
fn services_in_blocks(prepared: &Prepared<'_>) -> Vec<Endpoint> {
    let guard = table::pin();
    let view = prepared.view(&guard);
    let mut names = Vec::new();
    for spec in prepared.put() {
        let (Ports::One(port), Some(network)) = (spec.inside, view.network(&spec.network)) else { continue };
        for proto in spec.proto.each(spec.ip) {
            let block = view.block(network, Inside(Endpoint { proto, ip: spec.ip, port }));
            let placed = block.and_then(|block| view.placed(block));
            names.extend(placed.map(|placed| placed.wire_of(proto, port).0));
        }
    }
    names
}

fn only(port: u16) -> PortRange {
    PortRange { first: port, last: port }
}

#[cfg(test)]
mod tests;
