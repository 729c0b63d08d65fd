//! How long coming up takes, and what of it.

use std::time::{Duration, Instant};

/// A clock that says at debug level what has been done, and when: `boot: 12.3 ms: programs attached`.
#[derive(Clone, Copy)]
pub(super) struct Stages(Instant);

impl Stages {
    pub fn begin() -> Stages {
        Stages(Instant::now())
    }

    pub fn done(self, stage: &str) {
        tracing::debug!("boot: {:.1} ms: {stage}", self.elapsed().as_secs_f64() * 1000.0);
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
