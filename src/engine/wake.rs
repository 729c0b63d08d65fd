//! Getting a worker out of its sleep: an eventfd that is written only if the worker sleeps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Written by whoever has put something into a ring of the worker's; read by the worker. The worker says that it is
/// going to sleep and then looks at its rings once more; the other fills a ring and then asks whether the worker sleeps.
/// One of the two sees the other's (both fences are sequentially consistent).
#[derive(Debug)]
pub(super) struct Wake {
    event: OwnedFd,
    sleeping: AtomicBool,
}

impl Wake {
    pub fn new() -> io::Result<Wake> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Wake { event, sleeping: AtomicBool::new(false) })
    }

    /// Called after filling a ring. A system call only if the worker sleeps.
    pub fn up(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            // It fails only if the count is about to overflow: then the worker has been woken often enough.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// Called by the worker before it looks at its rings for the last time.
    pub fn going_to_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Called by the worker when it is back.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
        // Nothing to read is fine: something else ended the sleep.
        let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
