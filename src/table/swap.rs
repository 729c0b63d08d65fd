//! A cell whose whole value is replaced at once.

use super::epoch::{Grace, Guard};
use super::primitive::AtomicPtr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A small table that changes as a whole: configuration, next hops, lists of names.
///
/// Read by: any thread that is pinned, without waiting. Written by: any thread, one after the other. Old values are
/// dropped by whoever stores or reclaims, never by a reader.
pub struct Swap<T> {
    value: AtomicPtr<T>,
    retired: Mutex<Retired<T>>,
}

/// Values that readers may still hold.
struct Retired<T> {
    /// No grace period for them has begun.
    waiting: Vec<Old<T>>,
    /// What the grace period that runs is for.
    leaving: Vec<Old<T>>,
    grace: Grace,
}

impl<T: Send + Sync> Swap<T> {
    /// A cell that holds `value`.
    #[must_use]
    pub fn new(value: T) -> Swap<T> {
        let retired = Retired { waiting: Vec::new(), leaving: Vec::new(), grace: Grace::new() };
        Swap { value: AtomicPtr::new(Box::into_raw(Box::new(value))), retired: Mutex::new(retired) }
    }

    /// The value as of now; it stays as it is while the guard is held.
    #[inline]
    #[must_use]
    pub fn load<'g>(&'g self, _guard: &'g Guard) -> &'g T {
        // SAFETY: the pointer is always one of `Box::into_raw`. A value that is replaced after this load is freed one
        // grace period later, which the guard holds up; the value in force is freed with the cell, which is borrowed.
        unsafe { &*self.value.load(Ordering::Acquire) }
    }

    /// Replaces the value, and drops older ones that no reader holds any more. Not for packet workers: it allocates.
    pub fn store(&self, value: T) {
        let mut retired = self.retired();
        let old = self.value.load(Ordering::Relaxed);
        self.value.store(Box::into_raw(Box::new(value)), Ordering::Release);
        retired.waiting.push(Old(old));
        retired.reclaim();
    }

    /// Drops older values that no reader holds any more, and returns how many are still kept.
    pub fn reclaim(&self) -> usize {
        let mut retired = self.retired();
        retired.reclaim();
        retired.waiting.len() + retired.leaving.len()
    }

    fn retired(&self) -> MutexGuard<'_, Retired<T>> {
        // A value whose drop panicked leaves the lists whole.
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Retired<T> {
    fn reclaim(&mut self) {
        // At most twice: the period that runs, and the one for what came after its beginning.
        for _ in 0..2 {
            self.grace.help();
            if !self.grace.is_over() {
                break;
            }
            self.leaving.clear();
            if self.waiting.is_empty() {
                break;
            }
            std::mem::swap(&mut self.waiting, &mut self.leaving);
            self.grace.begin();
        }
    }
}

impl<T> Drop for Swap<T> {
    fn drop(&mut self) {
        drop(Old(self.value.load(Ordering::Relaxed)));
    }
}

/// A value out of force; freed when dropped. No `Box`, which would claim that nobody else looks at it.
struct Old<T>(*mut T);

impl<T> Drop for Old<T> {
    fn drop(&mut self) {
        // SAFETY: a pointer of `Box::into_raw` that the cell does not hold any more, dropped once, after the grace
        // period that began when it was replaced, or with the cell, which nobody borrows then.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

// SAFETY: it is the only owner of the value.
unsafe impl<T: Send> Send for Old<T> {}
