//! Memory of atomic words that is shared with other processes, the kernel, or nobody.

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::fs::{File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// What mapped memory is made of: `AtomicU32` or `AtomicU64`, zero when fresh.
pub trait Word: sealed::Sealed + Sync {}
impl Word for AtomicU32 {}
impl Word for AtomicU64 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for std::sync::atomic::AtomicU32 {}
    impl Sealed for std::sync::atomic::AtomicU64 {}
}

/// A slice of atomic words in mapped memory: it may be written at any time by whoever else maps it, and what is
/// written survives this process if a file or the kernel holds it.
pub struct Words<A: Word = AtomicU64> {
    at: NonNull<A>,
    len: usize,
    _words: PhantomData<[A]>,
}

/// How a file was found.
pub enum Opened<A: Word = AtomicU64> {
    /// It was made just now: all zero.
    New(Words<A>),
    /// It had the right size: the words are what was written last.
    Kept(Words<A>),
    /// Its size, in bytes, is another; it was not touched. [`Words::replace`] makes a new one in its place.
    WrongSize(u64),
}

impl<A: Word> Words<A> {
    /// Maps a file of `len` words, and makes it (readable by its owner alone) where there is none.
    ///
    /// # Errors
    /// If the file cannot be made, opened, sized or mapped.
    pub fn file(path: &Path, len: usize) -> io::Result<Opened<A>> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => match file.metadata()?.len() {
                found if found == bytes_of::<A>(len)? as u64 => Ok(Opened::Kept(Words::from_fd(&file, len)?)),
                found => Ok(Opened::WrongSize(found)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Words::replace(path, len).map(Opened::New),
            Err(error) => Err(error),
        }
    }

    /// Maps a fresh file of zeroes, put in the place of whatever is at `path`. A process that maps the old file goes
    /// on with that, undisturbed.
    ///
    /// # Errors
    /// If the file cannot be made, sized, mapped or renamed.
    pub fn replace(path: &Path, len: usize) -> io::Result<Words<A>> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", std::process::id()));
        let made = Words::make(Path::new(&fresh), len).and_then(|words| {
            std::fs::rename(&fresh, path)?;
            Ok(words)
        });
        if made.is_err() {
            let _ = std::fs::remove_file(&fresh);
        }
        made
    }

    fn make(path: &Path, len: usize) -> io::Result<Words<A>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        allocate(&file, bytes_of::<A>(len)?)?;
        Words::from_fd(&file, len)
    }

    /// Zeroed memory of this process alone.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn memory(len: usize) -> io::Result<Words<A>> {
        let bytes = bytes_of::<A>(len)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh private mapping at a place of the kernel's choice touches no other memory.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, MapFlags::PRIVATE) }?;
        Ok(Words::own(at, len))
    }

    /// Maps the first `len` words of a file, a memfd, or a BPF array map made with `BPF_F_MMAPABLE`, whose elements
    /// lie 8 bytes apart at least (kernel/bpf/arraymap.c). Shared: writes go to it.
    ///
    /// # Errors
    /// If it cannot be mapped for reading and writing.
    pub fn from_fd(fd: impl AsFd, len: usize) -> io::Result<Words<A>> {
        let bytes = bytes_of::<A>(len)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at a place of the kernel's choice touches no other memory of ours. What others do to
        // the file shows as changes of atomic words, of which every bit pattern is valid.
        let at = unsafe { mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, fd, 0) }?;
        Ok(Words::own(at, len))
    }

    fn own(at: *mut std::ffi::c_void, len: usize) -> Words<A> {
        Words { at: NonNull::new(at.cast()).expect("a mapping is never at null"), len, _words: PhantomData }
    }
}

impl<A: Word> Deref for Words<A> {
    type Target = [A];

    #[inline(always)]
    fn deref(&self) -> &[A] {
        // SAFETY: `at` begins a mapping of `len` words, aligned to a page, that stays until `drop`. Atomics allow for
        // writers elsewhere. (A file that another process truncates takes its pages away: reading them is SIGBUS, not
        // wrong memory; the files are made 0600 and are never truncated by us.)
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl<A: Word> Drop for Words<A> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and is given back once. Failing means that it stays.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.len * size_of::<A>()) };
    }
}

// SAFETY: atomics, in memory that belongs to no thread.
unsafe impl<A: Word> Send for Words<A> {}
// SAFETY: as above.
unsafe impl<A: Word> Sync for Words<A> {}

/// Zeroes for the whole file, with room really set aside: a full file system is an error now, and no SIGBUS later.
fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    file.set_len(bytes as u64)?;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes as u64) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn bytes_of<A>(len: usize) -> io::Result<usize> {
    let bytes = len.checked_mul(size_of::<A>()).filter(|&bytes| bytes > 0 && bytes <= isize::MAX as usize);
    bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a mapping of no or too many words"))
}
