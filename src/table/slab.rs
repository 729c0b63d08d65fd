//! Records at stable places, found by handle.

use super::lifetime::Lifetime;
use super::primitive::{AtomicPtr, UnsafeCell};
use super::zeroed::{AllZero, Zeroed};
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

/// Where a record lives in its table, for as long as it lives: the place is given to another record only one grace
/// period after this one was retired.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Handle(pub u32);

/// A place for one record. 48 bytes of record share one cache line with their lifetime.
#[repr(C)]
pub(super) struct Slot<T> {
    pub(super) lifetime: Lifetime,
    /// Initialised exactly while the lifetime is not vacant.
    pub(super) record: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot { lifetime: Lifetime::default(), record: UnsafeCell::new(MaybeUninit::uninit()) }
    }
}

// SAFETY: zeroed atomics are valid, a `MaybeUninit` may hold any bytes, and `Lifetime::default` is all zero: vacant.
unsafe impl<T> AllZero for Slot<T> {}

// SAFETY: the record is written and dropped by the writer alone while no reader can see it, and otherwise only shared.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

/// Slots in chunks, each twice as large as the one before, so that none ever moves and a handle leads to its slot
/// through one pointer that is always in cache.
///
/// Written by: the writer, which adds chunks. Read by: all.
pub(super) struct Slab<T> {
    /// By the position of the highest bit of handle + FIRST; those below FIRST's own stay empty.
    chunks: [AtomicPtr<Slot<T>>; 32],
}

/// Slots of the first chunk, a power of two.
const FIRST: u32 = if cfg!(any(loom, miri)) { 2 } else { 64 };
/// Handles are below this: handle + FIRST must fit 32 bits.
pub(super) const MAX_SLOTS: u32 = u32::MAX - FIRST;

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { chunks: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())) }
    }

    /// The slot of a handle; `None` for one that was never given out.
    #[inline(always)]
    pub(super) fn slot(&self, handle: Handle) -> Option<&Slot<T>> {
        let at = self.at(handle);
        // SAFETY: not null, so `at` lies within its chunk (see `at`), which holds valid slots, never moves, and is
        // freed only by `drop`, which cannot run while `self` is borrowed.
        (!at.is_null()).then(|| unsafe { &*at })
    }

    /// The address of a handle's slot, to prefetch it; null if there is none.
    #[inline(always)]
    pub(super) fn at(&self, handle: Handle) -> *const Slot<T> {
        let (chunk, offset) = locate(handle);
        let base = self.chunks[chunk].load(Ordering::Acquire);
        if base.is_null() {
            return base;
        }
        // SAFETY: chunk c holds 1 << c slots and `locate` gives an offset below that.
        unsafe { base.add(offset) }
    }

    /// Makes room for a handle, in order from 0. Returns the bytes added.
    pub(super) fn extend(&self, handle: Handle) -> usize {
        let (chunk, offset) = locate(handle);
        if offset == 0 && self.chunks[chunk].load(Ordering::Relaxed).is_null() {
            self.chunks[chunk].store(Zeroed::<Slot<T>>::new(1 << chunk).into_raw(), Ordering::Release);
        }
        size_of::<Slot<T>>()
    }
}

/// The chunk of a handle, and its place there.
#[inline(always)]
fn locate(handle: Handle) -> (usize, usize) {
    let place = handle.0.wrapping_add(FIRST);
    let chunk = 31 - (place | 1).leading_zeros();
    (chunk as usize & 31, (place ^ 1 << chunk) as usize)
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        for (chunk, base) in self.chunks.iter().enumerate() {
            let base = base.load(Ordering::Relaxed);
            if !base.is_null() {
                // SAFETY: `extend` took this pointer from a `Zeroed` of this length, and it is given back once.
                drop(unsafe { Zeroed::from_raw(base, 1 << chunk) });
            }
        }
    }
}
