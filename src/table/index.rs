//! Hash buckets of one cache line each, growing by replacement.

use super::primitive::{AtomicPtr, AtomicU32, AtomicU64, prefetch};
use super::slab::Handle;
use super::zeroed::{AllZero, Zeroed};
use std::sync::atomic::Ordering;

/// Entries of a bucket.
const WAYS: usize = 12;
/// Buckets that an index begins with.
const FIRST_BUCKETS: usize = if cfg!(any(loom, miri)) { 1 } else { 16 };

/// One cache line: up to twelve entries, and how many entries found it full on their way.
///
/// An entry is a tag, the high byte of its hash, and a handle; a zero tag is no entry. An entry that finds its home
/// bucket full goes to the next that has room, and every bucket that it passed counts it, so that a lookup stops at the
/// first bucket that nothing overflowed. (The layout and the count are those of F14: "Open-sourcing F14", Meta, 2019.)
///
/// Tags and handles are read and written one by one, so a reader may meet one entry's tag with the next entry's handle.
/// It then looks at a record that its version does not see, or that its caller's comparison rejects: the entry that it
/// looks for is never one that the writer touches.
#[derive(Default)]
#[repr(C, align(64))]
struct Bucket {
    /// Tags, a byte a way; the count of overflows is in the high half of the second word.
    head: [AtomicU64; 2],
    handles: [AtomicU32; WAYS],
}

/// One more overflow, in the second word of a head.
const OVERFLOW: u64 = 1 << 32;

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
    /// Room for `entries`, and as many as there are then.
    pub(super) fn for_entries(entries: usize) -> Buckets {
        let count = (entries * 5).div_ceil(WAYS * 4).max(FIRST_BUCKETS).next_power_of_two();
        Buckets { mask: count - 1, buckets: Zeroed::new(count) }
    }

    /// Entries that fit before it is time for twice as many buckets: four fifths of all ways.
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
            let head = bucket.head();
            let mut matches = matching(head, tag_of(hash));
            while matches != 0 {
                if visit(bucket.handle(matches)) {
                    return;
                }
                matches &= matches - 1;
            }
            if head[1] < OVERFLOW {
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
        let head = bucket.head();
        let matches = matching(head, tag_of(hash));
        if matches != 0 {
            return Some(bucket.handle(matches));
        }
        if head[1] >= OVERFLOW {
            prefetch(self.bucket((hash as usize).wrapping_add(1)));
        }
        None
    }

    /// Writer only. There is room: the index grows at `capacity`.
    pub(super) fn link(&self, hash: u64, handle: Handle) {
        for step in 0..=self.mask {
            let bucket = self.bucket((hash as usize).wrapping_add(step));
            let vacant = matching(bucket.head(), 0);
            if vacant != 0 {
                let way = vacant.trailing_zeros() as usize;
                // The handle first: whoever sees the tag sees it.
                bucket.handles[way].store(handle.0, Ordering::Release);
                bucket.set_tag(way, tag_of(hash));
                return;
            }
            bucket.count_overflow(OVERFLOW);
        }
        unreachable!("an index grows before it is full");
    }

    /// Writer only: takes out what `link` put in.
    pub(super) fn unlink(&self, hash: u64, handle: Handle) {
        for step in 0..=self.mask {
            let bucket = self.bucket((hash as usize).wrapping_add(step));
            let mut tagged = matching(bucket.head(), tag_of(hash));
            while tagged != 0 && bucket.handle(tagged) != handle {
                tagged &= tagged - 1;
            }
            if tagged != 0 {
                bucket.set_tag(tagged.trailing_zeros() as usize, 0);
                for passed in 0..step {
                    self.bucket((hash as usize).wrapping_add(passed)).count_overflow(OVERFLOW.wrapping_neg());
                }
                return;
            }
        }
        debug_assert!(false, "a record whose hash changed while it lived");
    }
}

impl Bucket {
    /// Acquire: a tag leads to a handle that was written before it.
    #[inline(always)]
    fn head(&self) -> [u64; 2] {
        [self.head[0].load(Ordering::Acquire), self.head[1].load(Ordering::Acquire)]
    }

    /// The handle at the first of the matching ways. Acquire: it leads to a slot that was made before it.
    #[inline(always)]
    fn handle(&self, matches: u32) -> Handle {
        let way = matches.trailing_zeros() as usize;
        debug_assert!(way < WAYS);
        // SAFETY: `matching` sets no bit at WAYS or above, and callers hold at least one.
        Handle(unsafe { self.handles.get_unchecked(way) }.load(Ordering::Acquire))
    }

    /// Writer only.
    fn set_tag(&self, way: usize, tag: u8) {
        let (word, shift) = (&self.head[way / 8], way % 8 * 8);
        let others = word.load(Ordering::Relaxed) & !(0xff << shift);
        word.store(others | u64::from(tag) << shift, Ordering::Release);
    }

    /// Writer only.
    fn count_overflow(&self, by: u64) {
        self.head[1].store(self.head[1].load(Ordering::Relaxed).wrapping_add(by), Ordering::Release);
    }
}

/// 1 to 255.
#[inline(always)]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

/// One bit a way with this tag: all at once, since where in the bucket an entry is cannot be predicted.
#[inline(always)]
fn matching(head: [u64; 2], tag: u8) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    let ways = {
        use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        // SAFETY: SSE2 is part of x86_64.
        unsafe {
            let tags = _mm_set_epi64x(head[1] as i64, head[0] as i64);
            _mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8(tag as i8))) as u32
        }
    };
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let ways = (0..WAYS).fold(0, |ways, way| ways | u32::from((head[way / 8] >> (way % 8 * 8)) as u8 == tag) << way);
    ways & ((1 << WAYS) - 1)
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
