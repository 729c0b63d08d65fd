//! When a record exists.

use super::primitive::AtomicU64;
use std::sync::atomic::Ordering;

/// `until` of a record that nothing has retired.
pub(super) const LIVE: u64 = u64::MAX;
/// `until` of a place that holds no record. No version is below it, so nobody sees one there. All zeroes, as fresh
/// memory is.
pub(super) const VACANT: u64 = 0;

/// The versions that see a record: `since <= version < until`.
///
/// Written by: the writer. Read by: all. A place is used again without a second grace period: the next record's
/// `since` is above every version that any reader holds, and each store to `until` releases the `since` before it, so
/// a reader that meets the new `until` cannot pair it with the old `since`.
#[derive(Default)]
#[repr(C)]
pub(super) struct Lifetime {
    since: AtomicU64,
    until: AtomicU64,
}

impl Lifetime {
    #[inline(always)]
    pub(super) fn covers(&self, version: u64) -> bool {
        // `until` first: see the type.
        version < self.until.load(Ordering::Acquire) && self.since.load(Ordering::Relaxed) <= version
    }

    /// The record exists from `version` on.
    pub(super) fn begin(&self, version: u64) {
        self.since.store(version, Ordering::Relaxed);
        self.until.store(LIVE, Ordering::Release);
    }

    /// The record is gone from `version` on, or `LIVE` again, or `VACANT`.
    pub(super) fn end(&self, version: u64) {
        self.until.store(version, Ordering::Release);
    }

    /// The writer's own view: nothing has retired the record, committed or not.
    pub(super) fn is_live(&self) -> bool {
        self.until.load(Ordering::Relaxed) == LIVE
    }

    /// The writer's own view: there is no record here, not even one that readers may still hold.
    pub(super) fn is_vacant(&self) -> bool {
        self.until.load(Ordering::Relaxed) == VACANT
    }
}
