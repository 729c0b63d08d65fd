//! The one writer of a timeline: staging, commit, rollback, reclamation.

use super::epoch::{Grace, Guard};
use super::records::{Ledger, Record, Table};
use super::slab::Handle;
use super::timeline::{Snapshot, Timeline};
use std::sync::Arc;

/// The right to change the tables of one timeline. There is one a timeline, and every change takes it by `&mut`.
///
/// It keeps the staged changes, and what was retired until no reader holds it any more.
pub struct Writer {
    timeline: Arc<Timeline>,
    tables: Vec<Arc<dyn Ledger>>,
    staged: Vec<Step>,
    /// Retired by committed change sets, in the order of commits; no grace period for it has begun.
    waiting: Limbo,
    /// What the grace period that runs is for.
    leaving: Limbo,
    grace: Grace,
}

/// A staged change: enough to take it back.
#[derive(Clone, Copy)]
enum Step {
    Inserted(u32, Handle),
    Retired(u32, Handle),
}

/// What no new reader finds, but those that are pinned may hold.
#[derive(Default)]
struct Limbo {
    records: Vec<(u32, Handle)>,
    /// Tables that replaced buckets, once for each time.
    rebuilt: Vec<u32>,
}

impl Limbo {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.rebuilt.is_empty()
    }
}

impl Default for Writer {
    fn default() -> Writer {
        Writer::new()
    }
}

impl Writer {
    /// A new timeline, with no tables yet.
    #[must_use]
    pub fn new() -> Writer {
        let (timeline, tables, staged) = (Arc::new(Timeline::new()), Vec::new(), Vec::new());
        let (waiting, leaving) = (Limbo::default(), Limbo::default());
        Writer { timeline, tables, staged, waiting, leaving, grace: Grace::new() }
    }

    /// What readers take snapshots of.
    #[must_use]
    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// A new, empty table on this timeline, with `N` indexes.
    pub fn table<T: Record, const N: usize>(&mut self) -> Arc<Table<T, N>> {
        let table = Arc::new(Table::new(&self.timeline, self.tables.len() as u32));
        self.tables.push(table.clone());
        table
    }

    /// The version that the staged change set will be.
    #[must_use]
    pub fn next_version(&self) -> u64 {
        self.timeline.version() + 1
    }

    /// All tables as they will be once the staged change set is committed, for as long as the writer is left alone.
    #[must_use]
    pub fn preview<'w>(&'w self, guard: &'w Guard) -> Snapshot<'w> {
        // What is staged is freed, taken back or published by `&mut self` only, which this borrow keeps off.
        self.timeline.snapshot_of(self.next_version(), guard)
    }

    /// Staged inserts and retirements, not yet committed.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Retired records that are not yet freed, since a reader may still hold them.
    #[must_use]
    pub fn unreclaimed(&self) -> usize {
        self.waiting.records.len() + self.leaving.records.len()
    }

    /// Makes all that is staged visible at once, to whoever takes a snapshot from now on, and returns its version.
    /// Then frees what readers have let go of, as [`Writer::reclaim`].
    pub fn commit(&mut self) -> u64 {
        let version = self.next_version();
        self.timeline.publish(version);
        for step in self.staged.drain(..) {
            if let Step::Retired(table, handle) = step {
                self.waiting.records.push((table, handle));
            }
        }
        self.reclaim();
        version
    }

    /// Takes back all that is staged. No reader has seen any of it.
    pub fn rollback(&mut self) {
        while let Some(step) = self.staged.pop() {
            match step {
                Step::Inserted(table, handle) => {
                    // SAFETY: `&mut self`, and the table is of this writer. The steps are undone in reverse, so the
                    // record is still there; it is of a version that no reader has seen, and is gone before anything
                    // else is published.
                    unsafe { self.tables[table as usize].release(&[handle]) }
                }
                Step::Retired(table, handle) => {
                    // SAFETY: `&mut self`, the table is of this writer, and the step is of the staged change set.
                    unsafe { self.tables[table as usize].revive(handle) }
                }
            }
        }
    }

    /// Frees what was retired and no reader can hold any more, without waiting for any. Returns the number of records
    /// freed. `commit` does it too; a writer that is idle after a change calls it now and then.
    pub fn reclaim(&mut self) -> usize {
        let mut freed = 0;
        // At most twice: the period that runs, and the one for what came after its beginning.
        for _ in 0..2 {
            self.grace.help();
            if !self.grace.is_over() {
                break;
            }
            for table in self.leaving.rebuilt.drain(..) {
                // SAFETY: `&mut self`, the table is of this writer, and a grace period has ended since the buckets
                // were replaced.
                unsafe { self.tables[table as usize].free_oldest_buckets() };
            }
            for (table, handle) in self.leaving.records.drain(..) {
                // SAFETY: `&mut self`, the table is of this writer, and a grace period has ended since the version
                // that retired the record was published: every reader that holds a snapshot has one that does not see
                // it.
                unsafe { self.tables[table as usize].release(&[handle]) };
                freed += 1;
            }
            if self.waiting.is_empty() {
                break;
            }
            std::mem::swap(&mut self.waiting, &mut self.leaving);
            self.grace.begin();
        }
        self.timeline.note_waste(self.unreclaimed(), self.grace.count());
        freed
    }

    pub(super) fn log_insert(&mut self, table: u32, handle: Handle) {
        self.staged.push(Step::Inserted(table, handle));
    }

    pub(super) fn log_retire(&mut self, table: u32, handle: Handle) {
        self.staged.push(Step::Retired(table, handle));
    }

    pub(super) fn log_rebuild(&mut self, table: u32) {
        self.waiting.rebuilt.push(table);
    }
}
