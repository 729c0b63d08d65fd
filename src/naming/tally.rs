//! By how much a change set changes what is counted.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::table::{self, Handle, Record, Table, Writer};

use super::live::Names;
use super::record::{Container, PublicIp, Server};

/// Changes of a number that records have, in the order in which they were made. Those of one record that follow each
/// other are one: a load of a million bindings has them container by container.
#[derive(Default)]
pub(super) struct Tally(Vec<(Handle, i32)>);

impl Tally {
    #[inline]
    pub(super) fn add(&mut self, of: Handle, by: i32) {
        match self.0.last_mut() {
            Some((last, sum)) if *last == of => *sum += by,
            _ => self.0.push((of, by)),
        }
    }

    /// Notes a change of a number that only the writer changes, and makes it.
    #[inline]
    pub(super) fn count(&mut self, number: &AtomicU32, of: Handle, by: i32) {
        change(number, by);
        self.add(of, by);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Handle, i32)> {
        self.0.iter().copied()
    }
}

/// References to records that bindings share, as counted while a change set is staged.
#[derive(Default)]
pub(super) struct Referred {
    pub(super) containers: Tally,
    pub(super) servers: Tally,
    pub(super) public_ips: Tally,
}

impl Referred {
    /// Stages the end of what nothing refers to any more.
    pub(super) fn retire_unused(&self, names: &Names, writer: &mut Writer) {
        retire_unused(&names.containers, &self.containers, writer, |container: &Container| &container.bindings);
        retire_unused(&names.servers, &self.servers, writer, |server: &Server| &server.bindings);
        retire_unused(&names.public_ips, &self.public_ips, writer, |public: &PublicIp| &public.bindings);
    }

    /// Takes back what was counted, while the change set is still staged.
    pub(super) fn undo(&self, names: &Names, writer: &Writer) {
        undo(names, &names.containers, &self.containers, writer, |container: &Container| &container.bindings);
        undo(names, &names.servers, &self.servers, writer, |server: &Server| &server.bindings);
        undo(names, &names.public_ips, &self.public_ips, writer, |public: &PublicIp| &public.bindings);
    }
}

fn retire_unused<T: Record, const N: usize>(
    table: &Table<T, N>,
    tally: &Tally,
    writer: &mut Writer,
    number: fn(&T) -> &AtomicU32,
) {
    // What came to nothing has lost something at last, if only what it had gained.
    for (handle, _) in tally.iter().filter(|&(_, by)| by <= 0) {
        if table.get_staged(handle, writer).is_some_and(|record| number(record).load(Ordering::Relaxed) == 0) {
            table.retire(writer, handle);
        }
    }
}

fn undo<T: Record, const N: usize>(
    names: &Names,
    table: &Table<T, N>,
    tally: &Tally,
    writer: &Writer,
    number: fn(&T) -> &AtomicU32,
) {
    let guard = table::pin();
    let before = names.timeline.snapshot(&guard);
    for (handle, by) in tally.iter() {
        // One that nothing referred to any more is not in the staged state, and comes back with the rest.
        if let Some(record) = table.get_staged(handle, writer).or_else(|| table.get(handle, &before)) {
            change(number(record), -by);
        }
    }
}

/// Without a locked instruction: nobody else writes.
#[inline]
fn change(number: &AtomicU32, by: i32) {
    number.store(number.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
}
