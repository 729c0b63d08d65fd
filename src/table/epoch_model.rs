//! The grace detector as loom sees it: the promise of crossbeam-epoch, kept by a list of pinned readers.
//!
//! crossbeam-epoch itself is checked by its own models; what ours must show is that the tables are right if the
//! promise holds: a period is over once all who were pinned at its beginning have let go, what they did before that
//! happened before, and what the writer did before the beginning happened before any later pin.

use loom::sync::Mutex;
use std::collections::BTreeSet;

loom::lazy_static! {
    static ref PINNED: Mutex<Pinned> = Mutex::new(Pinned { next: 1, readers: BTreeSet::new() });
}

struct Pinned {
    next: u64,
    readers: BTreeSet<u64>,
}

/// As the real one.
pub struct Guard(u64);

/// As the real one.
#[must_use]
pub fn pin() -> Guard {
    let mut pinned = PINNED.lock().expect("no thread of the model panics");
    pinned.next += 1;
    let reader = pinned.next;
    pinned.readers.insert(reader);
    Guard(reader)
}

impl Guard {
    /// As the real one.
    pub fn repin(&mut self) {
        *self = pin();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        PINNED.lock().expect("no thread of the model panics").readers.remove(&self.0);
    }
}

/// As the real one, but for the limit.
pub fn let_readers_pass(_limit: std::time::Duration) -> bool {
    let mut grace = Grace::new();
    grace.begin();
    while !grace.is_over() {
        loom::thread::yield_now();
    }
    true
}

/// As the real one.
pub(super) struct Grace {
    begun_at: u64,
}

impl Grace {
    pub(super) fn new() -> Grace {
        Grace { begun_at: 0 }
    }

    pub(super) fn begin(&mut self) {
        let mut pinned = PINNED.lock().expect("no thread of the model panics");
        pinned.next += 1;
        self.begun_at = pinned.next;
    }

    pub(super) fn is_over(&self) -> bool {
        let pinned = PINNED.lock().expect("no thread of the model panics");
        pinned.readers.first().is_none_or(|&oldest| oldest > self.begun_at)
    }

    pub(super) fn count(&self) -> u64 {
        self.begun_at as u64
    }

    pub(super) fn help(&self) {}
}
