//! Memory that the kernel or another process shares with us.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::{io, ptr};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// Bytes that are faulted in at a time.
const PIECE: usize = 256 << 10;

/// A stretch of shared memory, page-aligned and zeroed at first. It hands out checked raw pointers; who may touch which
/// bytes when is the business of the rings, the ledger and the UMEM that lie in it.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    #[cfg(test)]
    allocated: bool,
}

// SAFETY: a mapping is an address range without thread affinity; all access goes through raw pointers whose users
// synchronize (atomics in rings and ledger, unique `Buffer`s in the UMEM).
unsafe impl Send for Mapping {}
// SAFETY: as above: `&Mapping` gives out pointers and nothing else.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` from `offset` on, shared, readable, writable and faulted in.
    pub fn shared(fd: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Mapping> {
        // In one step where it is small: rings.
        let populate = if len <= PIECE { MapFlags::POPULATE } else { MapFlags::empty() };
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a null hint lets the kernel choose an unused range, so no existing memory is affected.
        let start = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED | populate, fd, offset)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        let mapping = Mapping {
            start,
            len,
            #[cfg(test)]
            allocated: false,
        };
        if len > PIECE {
            mapping.populate();
        }
        Ok(mapping)
    }

    /// Faults all pages in, piece by piece: every other thread that maps or allocates memory waits for the piece.
    fn populate(&self) {
        for at in (0..self.len).step_by(PIECE) {
            let piece = PIECE.min(self.len - at);
            // SAFETY: `at < len` and the piece ends within the mapping. Populating changes no byte.
            let done = unsafe { madvise(self.start.add(at).as_ptr().cast(), piece, Advice::LinuxPopulateWrite) };
            if done.is_err() {
                // Linux before 5.14, or no more huge pages: the kernel faults pages in when the memory is registered.
                return;
            }
        }
    }

    /// Plain memory in place of the kernel's, for tests without root and under miri.
    #[cfg(test)]
    pub fn allocated(len: usize) -> Mapping {
        let layout = std::alloc::Layout::from_size_align(len, 4096).unwrap();
        // SAFETY: tests ask for more than zero bytes.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap();
        Mapping { start, len, allocated: true }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where `count` values of `T` begin at byte `at`, if they lie inside and are aligned. The pointer is good for as
    /// long as the mapping lives.
    pub fn pointer<T>(&self, at: usize, count: usize) -> Option<NonNull<T>> {
        let end = count.checked_mul(size_of::<T>())?.checked_add(at)?;
        if end > self.len || !at.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: `at <= end <= len`, so the sum stays within the mapping.
        Some(unsafe { self.start.add(at) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(test)]
        if self.allocated {
            let layout = std::alloc::Layout::from_size_align(self.len, 4096).unwrap();
            // SAFETY: allocated with this very layout by `allocated`, and freed only here.
            return unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
        }
        // SAFETY: the range came from `mmap` in `shared`, and whoever holds pointers into it holds an `Arc` of this
        // mapping too, so none is left. An error can only mean a wrong range, which these values exclude.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_stays_inside_and_aligned() {
        let mapping = Mapping::allocated(4096);
        assert!(mapping.pointer::<u64>(0, 512).is_some());
        assert!(mapping.pointer::<u64>(0, 513).is_none(), "beyond the end");
        assert!(mapping.pointer::<u64>(4, 1).is_none(), "misaligned");
        assert!(mapping.pointer::<u64>(usize::MAX - 7, 1).is_none(), "overflow");
        assert!(mapping.pointer::<u64>(8, usize::MAX).is_none(), "overflow");
        assert_eq!(mapping.len(), 4096);
    }
}
