//! Hash buckets of one cache line each, growing by replacement.

use super::primitive::{AtomicPtr, AtomicU64, prefetch};
use super::slab::Handle;
use super::zeroed::{AllZero, Zeroed};
use std::sync::atomic::Ordering;

/// Entries of a bucket.
const WAYS: usize = 7;
/// Buckets that an index begins with.
const FIRST_BUCKETS: usize = if cfg!(any(loom, miri)) { 1 } else { 16 };

/// One cache line: up to seven entries, and how many entries found it full on their way.
///
/// An entry is its hash's high half (the tag, with its lowest bit set) above its handle plus one; zero is no entry. An entry that finds its home
/// bucket full goes to the next that has room, and every bucket that it passed counts it, so that a lookup stops at the
/// first bucket that nothing overflowed (as F14 does; Meta, 2019).
#[derive(Default)]
#[repr(C, align(64))]
struct Bucket {
    entries: [AtomicU64; WAYS],
    overflowed: AtomicU64,
}

// SAFETY: zeroed atomics are valid and equal to their default.
unsafe impl AllZero for Bucket {}

/// The buckets of one index. Entries never move within them.
///
/// Written by: the writer. Read by: all.
pub(super) struct Buckets {
    mask: usize,
    buckets: Zeroed<Bucket>,
}

impl Buckets {
    /// Room for `entries` at no more than the load that an index lets grow.
    pub(super) fn for_entries(entries: usize) -> Buckets {
        let count = (entries.div_ceil(WAYS * 4 / 5)).max(FIRST_BUCKETS).next_power_of_two();
        Buckets { mask: count - 1, buckets: Zeroed::new(count) }
    }

    /// Entries that fit before it is time for twice as many buckets: 5.6 of 7 a bucket.
    pub(super) fn capacity(&self) -> usize {
        (self.mask + 1) * WAYS * 4 / 5
    }

    pub(super) fn bytes(&self) -> usize {
        (self.mask + 1) * size_of::<Bucket>()
    }

    #[inline(always)]
    fn bucket(&self, at: usize) -> &Bucket {
        let at = at & self.mask;
        // SAFETY: `mask` is the number of buckets less one, a power of two less one.
        unsafe { self.buckets.get_unchecked(at) }
    }

    /// Calls `visit` with every handle whose tag is that of `hash`, until it says to stop. Other keys' among them.
    #[inline(always)]
    pub(super) fn candidates(&self, hash: u64, mut visit: impl FnMut(Handle) -> bool) {
        for step in 0..=self.mask {
            let bucket = self.bucket((hash as usize).wrapping_add(step));
            let mut matches = bucket.matching(hash);
            while matches != 0 {
                if visit(bucket.first_of(matches)) {
                    return;
                }
                matches &= matches - 1;
            }
            if bucket.overflowed.load(Ordering::Acquire) == 0 {
                return;
            }
        }
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(self.bucket(hash as usize));
    }

    /// The first handle of the home bucket with the tag of `hash`. If there is none but more buckets to look in, the
    /// next is prefetched.
    #[inline(always)]
    pub(super) fn likely(&self, hash: u64) -> Option<Handle> {
        let bucket = self.bucket(hash as usize);
        let matches = bucket.matching(hash);
        if matches != 0 {
            return Some(bucket.first_of(matches));
        }
        if bucket.overflowed.load(Ordering::Relaxed) != 0 {
            prefetch(self.bucket((hash as usize).wrapping_add(1)));
        }
        None
    }

    /// Writer only. There is room: the index grows at `capacity`.
    pub(super) fn link(&self, hash: u64, handle: Handle) {
        for step in 0..=self.mask {
            let bucket = self.bucket((hash as usize).wrapping_add(step));
            if let Some(free) = bucket.entries.iter().find(|entry| entry.load(Ordering::Relaxed) == 0) {
                free.store(entry_of(hash, handle), Ordering::Release);
                return;
            }
            bucket.overflowed.store(bucket.overflowed.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
        unreachable!("an index grows before it is full");
    }

    /// Writer only: takes out what `link` put in.
    pub(super) fn unlink(&self, hash: u64, handle: Handle) {
        let wanted = entry_of(hash, handle);
        for step in 0..=self.mask {
            let bucket = self.bucket((hash as usize).wrapping_add(step));
            if let Some(entry) = bucket.entries.iter().find(|entry| entry.load(Ordering::Relaxed) == wanted) {
                entry.store(0, Ordering::Release);
                for passed in 0..step {
                    let bucket = self.bucket((hash as usize).wrapping_add(passed));
                    bucket.overflowed.store(bucket.overflowed.load(Ordering::Relaxed) - 1, Ordering::Release);
                }
                return;
            }
        }
        debug_assert!(false, "a record whose hash changed while it lived");
    }
}

impl Bucket {
    /// One bit a way whose tag is that of `hash`. No branch: where in the bucket an entry is cannot be predicted.
    #[inline(always)]
    fn matching(&self, hash: u64) -> u32 {
        let tag = tag_of(hash);
        // Equal tags cancel out and leave the handle alone.
        let is_match = |entry: &AtomicU64| u32::from(entry.load(Ordering::Relaxed) ^ tag <= HANDLE);
        self.entries.iter().rev().fold(0, |matches, entry| matches + matches + is_match(entry))
    }

    /// The handle in the first way of `matches`. Read again and not kept from the comparison: that is cheaper, and if the
    /// entry has changed in between, nobody who is looking may see the record that it led to, nor the next.
    #[inline(always)]
    fn first_of(&self, matches: u32) -> Handle {
        // Acquire: an entry leads to its record's slot, which was made before it.
        handle_of(self.entries.get(matches.trailing_zeros() as usize).map_or(0, |entry| entry.load(Ordering::Acquire)))
    }
}

/// The low half of an entry.
const HANDLE: u64 = u32::MAX as u64;

/// The hash's high half in its place in an entry. Never zero, so that it never matches where there is no entry.
#[inline(always)]
fn tag_of(hash: u64) -> u64 {
    (hash | 1 << 32) & !HANDLE
}

#[inline(always)]
fn entry_of(hash: u64, handle: Handle) -> u64 {
    tag_of(hash) | u64::from(handle.0 + 1)
}

#[inline(always)]
fn handle_of(entry: u64) -> Handle {
    Handle((entry as u32).wrapping_sub(1))
}

/// The buckets in force, and their replacement by more of them.
///
/// Written by: the writer. Read by: all.
pub(super) struct Index {
    buckets: AtomicPtr<Buckets>,
}

impl Index {
    pub(super) fn new(entries: usize) -> Index {
        Index { buckets: AtomicPtr::new(Box::into_raw(Box::new(Buckets::for_entries(entries)))) }
    }

    /// The buckets in force. Good for as long as the caller is pinned (or is the writer) and borrows the index.
    #[inline(always)]
    pub(super) fn buckets(&self) -> &Buckets {
        // SAFETY: the pointer is always one of `Box::into_raw`. Replaced buckets are freed by the writer, one grace
        // period after `replace`, or, like those in force, with the table, which cannot go while it is borrowed.
        unsafe { &*self.buckets.load(Ordering::Acquire) }
    }

    /// Puts other buckets in force and returns the old, which readers may still be in.
    pub(super) fn replace(&self, with: Buckets) -> Replaced {
        let old = self.buckets.load(Ordering::Relaxed);
        self.buckets.store(Box::into_raw(Box::new(with)), Ordering::Release);
        Replaced(old)
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        drop(Replaced(self.buckets.load(Ordering::Relaxed)));
    }
}

/// Buckets out of force; freed when dropped. No `Box`, which would claim that nobody else looks at them.
pub(super) struct Replaced(*mut Buckets);

impl Drop for Replaced {
    fn drop(&mut self) {
        // SAFETY: a pointer of `Box::into_raw` that no index holds any more, dropped once. Whoever drops it waits for
        // the grace period after `replace` first.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

// SAFETY: `Buckets` is atomics and counts, and the pointer is the only owner.
unsafe impl Send for Replaced {}
// SAFETY: as above.
unsafe impl Sync for Replaced {}
