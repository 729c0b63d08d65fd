//! A change set on its way to packets: what must be known before they see it, and what only after.

use std::io;
use std::time::Duration;

use super::claims::{Difference, Names};
use crate::flow::{Holding, State};
use crate::naming::{Change, OwnerChange, Prepared, View};
use crate::table;
use crate::units::Tick;

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
/// 4. what nobody owns any more is released, and claimed no longer.
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
    let change = prepared.commit();
    for OwnerChange { server, proto, ports, now: owner, .. } in &change.owners {
        if owner.is_none() {
            state.release(*server, *proto, *ports, now);
        }
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

#[cfg(test)]
mod tests;
