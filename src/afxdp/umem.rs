//! Packet memory of one worker: a memfd cut into chunks, shared by all its sockets.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};

use super::bind::Registrar;
use super::ledger::{Ledger, Place, Slot};
use super::mapping::Mapping;

/// Bytes of a chunk. Kernels take 2048 or 4096 in aligned mode, and packets in several buffers fail with 2048.
pub const CHUNK_SIZE: usize = 4096;

/// Size of a huge page on the platforms that have AF_XDP; memfds of huge pages are a multiple of it.
const HUGE_PAGE: usize = 2 << 20;

/// What the memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// Reserved huge pages (`vm.nr_hugepages`): fewer TLB misses.
    Huge,
    /// Pages of 4096 bytes: no huge page was free.
    Normal,
}

/// One chunk that the application holds. It is the only handle to its chunk: made by [`Umem::take`] and
/// [`Socket::receive`](super::Socket::receive), ended by [`Umem::release`] and
/// [`Socket::stage`](super::Socket::stage). Dropping one would lose the frame, and panics in debug builds.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its UMEM: release or transmit it"]
pub struct Buffer {
    frame: u32,
    umem: u32,
}

impl Buffer {
    /// Index of the frame in its UMEM.
    #[must_use]
    pub fn frame(&self) -> u32 {
        self.frame
    }
}

#[cfg(debug_assertions)]
impl Drop for Buffer {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "frame {} was dropped, neither released nor transmitted", self.frame);
    }
}

/// Tells the UMEMs of a process apart, so that a buffer of one is never taken for a frame of another.
static NEXT_ID: AtomicU32 = AtomicU32::new(0);

/// Packet memory of one worker and its account of frames. Written by that worker alone; sockets are bound by its
/// [`Registrar`] from any thread.
pub struct Umem {
    id: u32,
    registrar: Registrar,
    chunks: NonNull<[u8; CHUNK_SIZE]>,
    pub(super) ledger: Ledger,
    free: Vec<u32>,
    /// Frames in the application's hands.
    held: u32,
    /// Frames of sockets that are being torn down.
    retired: u32,
    pages: Pages,
    /// A `&Umem` gives out `&mut` chunks: sharing it between threads is not needed and not allowed.
    _one_thread: PhantomData<*mut u8>,
}

// SAFETY: all that `Umem` points to is shared memory kept by an `Arc`; the marker only forbids `Sync`.
unsafe impl Send for Umem {}

/// The frames of a socket that was retired, until [`Umem::reclaim`] takes them back.
#[derive(Debug)]
#[must_use = "the frames come back only with Umem::reclaim"]
pub struct Retired(Slot);

impl Umem {
    /// Makes memory for `frames` frames, in huge pages where there are any. Errors as `memfd_create` and `mmap` do.
    pub fn new(frames: u32) -> io::Result<Umem> {
        let len = frames as usize * CHUNK_SIZE + Ledger::bytes(frames);
        let (memfd, mapping, pages) = match make_memory(len.next_multiple_of(HUGE_PAGE), MemfdFlags::HUGETLB) {
            Ok((memfd, mapping)) => (memfd, mapping, Pages::Huge),
            Err(_) => {
                let (memfd, mapping) = make_memory(len.next_multiple_of(CHUNK_SIZE), MemfdFlags::empty())?;
                (memfd, mapping, Pages::Normal)
            }
        };
        let ledger = Ledger::create(mapping.clone(), frames)?;
        // Handed out from the top of the stack: low frames first, and the last one back is the warmest.
        Umem::assemble(memfd, mapping, ledger, pages, (0..frames).rev().collect())
    }

    /// Maps memory that another process laid out. Nothing is free until a takeover has said what is.
    pub(super) fn open(memfd: OwnedFd) -> io::Result<Umem> {
        let status = fstat(&memfd)?;
        let pages = if status.st_blksize as usize >= HUGE_PAGE { Pages::Huge } else { Pages::Normal };
        let mapping = Arc::new(Mapping::shared(memfd.as_fd(), 0, status.st_size as usize)?);
        let ledger = Ledger::open(mapping.clone())?;
        Umem::assemble(memfd, mapping, ledger, pages, Vec::new())
    }

    /// The same memory, mapped as it is, in which nothing is free until a takeover has said what is.
    pub(super) fn emptied(self) -> io::Result<Umem> {
        let memfd = self.memfd().try_clone_to_owned()?;
        Umem::assemble(memfd, self.registrar.mapping(), self.ledger, self.pages, Vec::new())
    }

    fn assemble(
        memfd: OwnedFd,
        mapping: Arc<Mapping>,
        ledger: Ledger,
        pages: Pages,
        mut free: Vec<u32>,
    ) -> io::Result<Umem> {
        let frames = ledger.frames();
        free.reserve_exact(frames as usize - free.len());
        let chunks = mapping.pointer(0, frames as usize).ok_or(io::ErrorKind::InvalidData)?;
        let registrar = Registrar::new(memfd, mapping, ledger.clone());
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Umem { id, registrar, chunks, ledger, free, held: 0, retired: 0, pages, _one_thread: PhantomData })
    }

    /// Binds sockets to this memory, from any thread.
    #[must_use]
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// The memory's descriptor, for a handover.
    #[must_use]
    pub fn memfd(&self) -> BorrowedFd<'_> {
        self.registrar.memfd()
    }

    /// What the memory is made of.
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// How many frames there are in all.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.ledger.frames()
    }

    /// How many frames are free.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// How many frames the application holds.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held
    }

    pub(super) fn retired(&self) -> u32 {
        self.retired
    }

    pub(super) fn free_list(&self) -> &[u32] {
        &self.free
    }

    /// A free frame for the application, if there is one. Its bytes are whatever was there before.
    pub fn take(&mut self) -> Option<Buffer> {
        let frame = self.free.pop()?;
        Some(self.hold(frame))
    }

    /// Puts a frame back on the free list. A buffer of another UMEM stays lost to both, and panics in debug builds.
    pub fn release(&mut self, buffer: Buffer) {
        if let Some(frame) = self.let_go(buffer) {
            self.put_free(frame);
        }
    }

    /// The whole chunk. Empty for a buffer of another UMEM, which panics in debug builds.
    #[allow(clippy::mut_from_ref)] // the exclusive borrow is that of the buffer, the only handle to its chunk
    pub fn bytes<'a>(&'a self, buffer: &'a mut Buffer) -> &'a mut [u8] {
        if !self.owns(buffer) {
            return &mut [];
        }
        // SAFETY: `hold` made the buffer for a frame below `frames` of this UMEM, so the chunk lies inside the mapping
        // that `self` keeps. The buffer is the only handle to its chunk, borrowed exclusively for 'a, and the kernel
        // leaves chunks alone that the application holds; every bit pattern is a valid byte.
        unsafe { self.chunks.add(buffer.frame as usize).as_mut() }
    }

    /// Lets other threads read the buffers that are passed to them.
    #[must_use]
    pub fn window(&self) -> Window {
        Window { id: self.id, chunks: self.chunks, _registrar: self.registrar.clone() }
    }

    /// Gives up what the kernel holds for a socket that is going away: call before the socket is dropped. The frames
    /// are not touched until `reclaim`.
    pub(super) fn retire(&mut self, slot: Slot) -> Retired {
        for frame in 0..self.frames() {
            match self.ledger.place(frame) {
                Some(Place::Posted { slot: of, .. } | Place::Sent { slot: of, .. }) if of == slot => {
                    self.ledger.set(frame, Place::Retired { slot });
                    self.retired += 1;
                }
                _ => {}
            }
        }
        Retired(slot)
    }

    /// Takes back the frames of a socket that is gone. The kernel tears down asynchronously: wait until the same queue
    /// can be bound again, or a second or two, after the last descriptor of the socket was closed.
    pub fn reclaim(&mut self, Retired(slot): Retired) {
        for frame in 0..self.frames() {
            if self.ledger.place(frame) == Some(Place::Retired { slot }) {
                self.retired -= 1;
                self.put_free(frame);
            }
        }
        self.ledger.strike(slot);
    }

    /// Makes the one handle to a frame that has just left the free list or a ring.
    pub(super) fn hold(&mut self, frame: u32) -> Buffer {
        self.ledger.set(frame, Place::Held);
        self.held += 1;
        Buffer { frame, umem: self.id }
    }

    /// Ends a handle: the caller moves the frame on. None for a buffer of another UMEM.
    pub(super) fn let_go(&mut self, buffer: Buffer) -> Option<u32> {
        let owned = self.owns(&buffer);
        let frame = buffer.frame;
        mem::forget(buffer);
        owned.then(|| {
            self.held -= 1;
            frame
        })
    }

    /// True if `buffer` is a frame of this UMEM.
    pub(super) fn owns(&self, buffer: &Buffer) -> bool {
        debug_assert_eq!(buffer.umem, self.id, "a buffer of another UMEM");
        buffer.umem == self.id
    }

    /// Takes a frame off the free list for a fill ring; the caller marks it.
    pub(super) fn pop_free(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Puts a frame that left a ring, or never was in one, on the free list.
    pub(super) fn put_free(&mut self, frame: u32) {
        debug_assert!(self.free.len() < self.frames() as usize, "a frame was freed twice");
        self.ledger.set(frame, Place::Free);
        self.free.push(frame);
    }
}

/// Reads buffers of a UMEM that were passed to another thread.
#[derive(Clone)]
pub struct Window {
    id: u32,
    chunks: NonNull<[u8; CHUNK_SIZE]>,
    /// Keeps the chunks mapped.
    _registrar: Registrar,
}

// SAFETY: a window only reads the chunk of a `Buffer` in the caller's hands, which is the one handle to it: whichever
// thread has the buffer is the only one to touch its bytes.
unsafe impl Send for Window {}

impl Window {
    /// The whole chunk. Empty for a buffer of another UMEM.
    #[must_use]
    pub fn bytes<'a>(&'a self, buffer: &'a Buffer) -> &'a [u8] {
        debug_assert_eq!(buffer.umem, self.id, "a buffer of another UMEM");
        if buffer.umem != self.id {
            return &[];
        }
        // SAFETY: as in `Umem::bytes`: the frame lies inside the mapping that `self` keeps, and while the buffer is
        // borrowed nobody can get at its chunk mutably.
        unsafe { self.chunks.add(buffer.frame as usize).as_ref() }
    }
}

fn make_memory(len: usize, kind: MemfdFlags) -> io::Result<(OwnedFd, Arc<Mapping>)> {
    let memfd = memfd_create("sixway-umem", MemfdFlags::CLOEXEC | kind)?;
    ftruncate(&memfd, len as u64)?;
    let mapping = Mapping::shared(memfd.as_fd(), 0, len)?;
    Ok((memfd, Arc::new(mapping)))
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_free_or_held() {
        let mut umem = Umem::new(4).unwrap();
        assert_eq!((umem.free(), umem.held()), (4, 0));
        let mut taken: Vec<Buffer> = std::iter::from_fn(|| umem.take()).collect();
        assert_eq!((umem.free(), umem.held(), taken.len()), (0, 4, 4));
        assert_eq!(umem.ledger.place(taken[0].frame()), Some(Place::Held));
        for (n, buffer) in taken.iter_mut().enumerate() {
            umem.bytes(buffer).fill(n as u8);
        }
        for (n, buffer) in taken.iter_mut().enumerate() {
            assert!(umem.bytes(buffer).iter().all(|&byte| byte == n as u8), "chunks are apart");
        }
        taken.drain(..).for_each(|buffer| umem.release(buffer));
        assert_eq!((umem.free(), umem.held()), (4, 0));
        assert_eq!(umem.ledger.place(0), Some(Place::Free));
    }

    #[test]
    #[should_panic(expected = "neither released nor transmitted")]
    #[cfg(debug_assertions)]
    fn a_leak_is_found_in_debug_builds() {
        let mut umem = Umem::new(1).unwrap();
        drop(umem.take());
    }

    #[test]
    #[should_panic(expected = "another UMEM")]
    #[cfg(debug_assertions)]
    fn a_frame_of_another_umem_is_refused() {
        let (mut one, mut other) = (Umem::new(1).unwrap(), Umem::new(1).unwrap());
        let buffer = one.take().unwrap();
        other.release(buffer);
    }

    #[test]
    fn memory_is_found_again_through_its_descriptor() {
        let mut umem = Umem::new(3).unwrap();
        let mut buffer = umem.take().unwrap();
        let frame = buffer.frame() as usize;
        umem.bytes(&mut buffer)[..5].copy_from_slice(b"hello");
        let again = Umem::open(umem.memfd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((again.frames(), again.pages()), (3, umem.pages()));
        assert_eq!(again.ledger.place(frame as u32), Some(Place::Held));
        umem.release(buffer);
        assert!(Umem::open(memfd_create("other", MemfdFlags::CLOEXEC).unwrap()).is_err());
    }
}
