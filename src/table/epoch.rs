//! Pinned readers and the end of grace periods, by crossbeam-epoch.
//!
//! Written by: each reader its own pin; the writer the tickets. A grace period is over when every reader that was
//! pinned at its beginning has let go. The only thing ever deferred is one atomic store, so whichever thread happens to
//! run it, a packet worker too, frees nothing of ours. (crossbeam-epoch frees the bag that carried the store, one small
//! block a grace period, on the thread that collects it: mostly the writer, whose `help` comes first.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Keeps what its thread reads from being freed. Of the process-wide collector, by construction: [`pin`] makes the
/// only ones, so a guard always protects every table.
pub struct Guard(crossbeam_epoch::Guard);

/// Pins this thread. Cheap enough for once a burst (about 10 ns); never held across a sleep, or nothing is freed.
#[must_use]
pub fn pin() -> Guard {
    Guard(crossbeam_epoch::pin())
}

impl Guard {
    /// Lets go of everything read so far and pins anew: what a polling loop does between bursts.
    pub fn repin(&mut self) {
        self.0.repin();
    }
}

/// Waits until every reader that is pinned now has let go once, for `limit` at the most. True if all have. Never to be
/// called by a packet worker, nor by a thread that is pinned itself.
pub fn let_readers_pass(limit: Duration) -> bool {
    let begun = Instant::now();
    let mut grace = Grace::new();
    grace.begin();
    loop {
        grace.help();
        if grace.is_over() {
            return true;
        }
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::yield_now();
    }
}

/// One grace period at a time, of one writer.
pub(super) struct Grace {
    /// The last period that is known to be over. Written by whichever thread collects; read by the writer.
    over: Arc<AtomicU64>,
    begun: u64,
}

impl Grace {
    pub(super) fn new() -> Grace {
        Grace { over: Arc::new(AtomicU64::new(0)), begun: 0 }
    }

    /// Begins a period. Called only when the one before is over, so that a plain store ends it.
    pub(super) fn begin(&mut self) {
        debug_assert!(self.is_over());
        self.begun += 1;
        let (over, period) = (Arc::clone(&self.over), self.begun);
        let guard = crossbeam_epoch::pin();
        guard.defer(move || over.store(period, Ordering::Release));
        guard.flush();
    }

    /// Whether the period begun last is over: all that its readers did happened before this.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) == self.begun
    }

    /// How many periods are over.
    pub(super) fn count(&self) -> u64 {
        self.over.load(Ordering::Relaxed)
    }

    /// Moves the epoch on as far as readers let it. An epoch ends a period after two steps (Fraser, "Practical
    /// lock-freedom", 2004, 5.2.3), the third collects it.
    pub(super) fn help(&self) {
        for _ in 0..3 {
            if self.is_over() {
                break;
            }
            crossbeam_epoch::pin().flush();
        }
    }
}
