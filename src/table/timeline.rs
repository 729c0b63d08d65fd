//! The committed version, and readers' snapshots of it.

use super::epoch::Guard;
use super::primitive::AtomicU64;
use std::sync::atomic::Ordering;

/// The versions of a set of tables. Written by: its one [`Writer`](super::Writer), once a commit. Read by: each reader
/// once a burst.
#[repr(align(128))] // a line of its own (two, for the adjacent-line prefetcher): commits disturb no neighbour
pub struct Timeline {
    committed: AtomicU64,
    waste: Waste,
}

/// For everybody's information, as of the last commit or reclamation. Written by: the writer.
#[derive(Default)]
#[repr(align(128))]
struct Waste {
    retired: std::sync::atomic::AtomicUsize,
    grace_periods: std::sync::atomic::AtomicU64,
}

impl Timeline {
    pub(super) fn new() -> Timeline {
        Timeline { committed: AtomicU64::new(1), waste: Waste::default() }
    }

    /// Retired records that are not yet freed, since a reader may still hold them.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.waste.retired.load(Ordering::Relaxed)
    }

    /// How often all readers were waited for, to free what was retired before.
    #[must_use]
    pub fn grace_periods(&self) -> u64 {
        self.waste.grace_periods.load(Ordering::Relaxed)
    }

    pub(super) fn note_waste(&self, retired: usize, grace_periods: u64) {
        self.waste.retired.store(retired, Ordering::Relaxed);
        self.waste.grace_periods.store(grace_periods, Ordering::Relaxed);
    }

    /// The state of all tables of this timeline as of now, for as long as the guard is held.
    #[inline]
    #[must_use]
    pub fn snapshot<'g>(&'g self, guard: &'g Guard) -> Snapshot<'g> {
        Snapshot { version: self.version(), timeline: self, _guard: guard }
    }

    /// The version committed last. Grows by one a commit, from 1.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// For the writer, whose version it is.
    pub(super) fn snapshot_of<'g>(&'g self, version: u64, guard: &'g Guard) -> Snapshot<'g> {
        Snapshot { version, timeline: self, _guard: guard }
    }

    /// Makes everything staged for `version` visible at once.
    pub(super) fn publish(&self, version: u64) {
        self.committed.store(version, Ordering::Release);
    }
}

/// One version of all tables of a timeline. Whatever is found through it stays as it is while its guard is held.
#[derive(Clone, Copy)]
pub struct Snapshot<'g> {
    version: u64,
    timeline: &'g Timeline,
    /// Taken before the version was read: no record that this version sees is freed while it is held.
    _guard: &'g Guard,
}

impl<'g> Snapshot<'g> {
    /// The version that this snapshot sees.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    #[inline(always)]
    pub(super) fn timeline(&self) -> &'g Timeline {
        self.timeline
    }
}
