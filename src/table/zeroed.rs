//! Zeroed memory at a fixed place, in huge pages where it is large.

use std::ops::Deref;
use std::ptr::NonNull;

/// # Safety
/// A value of all zero bytes is valid, and is what `Default` gives.
pub(super) unsafe trait AllZero: Default {}

/// A slice that is owned but never moved nor borrowed mutably, so that shared references into it stay good while its
/// owner changes hands. Large ones are mapped, so that only touched pages take memory, and ask for huge pages: random
/// lookups in hundreds of megabytes otherwise miss the TLB each time.
pub(super) struct Zeroed<E: AllZero> {
    at: NonNull<E>,
    len: usize,
}

/// Size of a huge page on x86_64 and of most others.
#[cfg(not(any(loom, miri)))]
const HUGE: usize = 2 << 20;
#[cfg(not(loom))]
const CACHE_LINE: usize = 64;

impl<E: AllZero> Zeroed<E> {
    /// # Panics
    /// If there is no memory, as all allocation does.
    pub(super) fn new(len: usize) -> Zeroed<E> {
        Zeroed { at: allocate(len), len }
    }

    /// Gives up the ownership, to be taken up again by [`Zeroed::from_raw`].
    pub(super) fn into_raw(self) -> *mut E {
        std::mem::ManuallyDrop::new(self).at.as_ptr()
    }

    /// # Safety
    /// `at` came from `into_raw` of a slice of this length, and this is the only owner now.
    pub(super) unsafe fn from_raw(at: *mut E, len: usize) -> Zeroed<E> {
        // SAFETY: `into_raw` gives no null pointer.
        Zeroed { at: unsafe { NonNull::new_unchecked(at) }, len }
    }
}

/// loom's atomics are no plain memory: built one by one.
#[cfg(loom)]
fn allocate<E: AllZero>(len: usize) -> NonNull<E> {
    let built: Box<[E]> = (0..len).map(|_| E::default()).collect();
    NonNull::new(Box::into_raw(built).cast()).expect("a box is never null")
}

#[cfg(not(loom))]
fn allocate<E: AllZero>(len: usize) -> NonNull<E> {
    let layout = layout_of::<E>(len);
    assert!(layout.size() > 0, "memory for nothing");
    #[cfg(not(miri))]
    if layout.size() >= HUGE {
        return map(layout.size()).cast();
    }
    // SAFETY: the layout is not empty.
    let at = unsafe { std::alloc::alloc_zeroed(layout) };
    NonNull::new(at.cast()).unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
}

#[cfg(not(loom))]
fn layout_of<E>(len: usize) -> std::alloc::Layout {
    let layout = std::alloc::Layout::array::<E>(len).and_then(|layout| layout.align_to(CACHE_LINE));
    layout.expect("a table within the address space").pad_to_align()
}

/// A fresh mapping that begins on a huge page. Both ends of what the kernel gave beyond it are given back.
#[cfg(not(any(loom, miri)))]
fn map(bytes: usize) -> NonNull<std::ffi::c_void> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    let bytes = bytes.next_multiple_of(rustix::param::page_size());
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a private mapping at a place of the kernel's choice touches no other memory.
    let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes + HUGE, access, MapFlags::PRIVATE) };
    let base = base.ok().and_then(NonNull::new).expect("memory for a table");
    let skip = base.as_ptr().align_offset(HUGE);
    // SAFETY: `skip` is less than HUGE and whole pages, and the mapping is HUGE longer than `bytes`, so all four
    // ranges lie in the mapping made above and nobody uses its ends. If madvise or munmap fail, nothing is wrong but
    // speed and memory.
    unsafe {
        let at = base.byte_add(skip);
        if skip > 0 {
            let _ = munmap(base.as_ptr(), skip);
        }
        let _ = munmap(at.byte_add(bytes).as_ptr(), HUGE - skip);
        let _ = madvise(at.as_ptr(), bytes, Advice::LinuxHugepage);
        at
    }
}

impl<E: AllZero> Deref for Zeroed<E> {
    type Target = [E];

    #[inline(always)]
    fn deref(&self) -> &[E] {
        // SAFETY: `at` points to `len` values of E: all zero bytes, which `AllZero` says is a valid one (or built by
        // `Default` under loom), and nobody makes a mutable reference to them while `self` lives.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl<E: AllZero> Drop for Zeroed<E> {
    fn drop(&mut self) {
        #[cfg(not(loom))]
        if std::mem::needs_drop::<E>() {
            // SAFETY: the values are valid (see `deref`) and are dropped once, here.
            unsafe { std::ptr::slice_from_raw_parts_mut(self.at.as_ptr(), self.len).drop_in_place() };
        }
        // SAFETY: `at` came from `allocate` with this length and is given back once.
        unsafe { free(self.at, self.len) };
    }
}

/// # Safety
/// `at` came from `allocate` with this length, and nobody uses it any more.
unsafe fn free<E: AllZero>(at: NonNull<E>, len: usize) {
    #[cfg(loom)]
    // SAFETY: the very box that `allocate` took apart.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at.as_ptr(), len)) });
    #[cfg(not(loom))]
    {
        let layout = layout_of::<E>(len);
        #[cfg(not(miri))]
        if layout.size() >= HUGE {
            let bytes = layout.size().next_multiple_of(rustix::param::page_size());
            // SAFETY: `map` made exactly this range. If it fails the memory stays.
            let _ = unsafe { rustix::mm::munmap(at.as_ptr().cast(), bytes) };
            return;
        }
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(at.as_ptr().cast(), layout) };
    }
}

// SAFETY: it owns its values and gives out only shared references, as a `Box<[E]>` would.
unsafe impl<E: AllZero + Send> Send for Zeroed<E> {}
// SAFETY: as above.
unsafe impl<E: AllZero + Sync> Sync for Zeroed<E> {}
