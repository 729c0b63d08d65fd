//! Flap damping as in RFC 2439: every failure adds to a figure that decays exponentially; whoever has too high a one is
//! not believed when it says that it is well again, until the figure has come down.

/// What one failure adds (RFC 2439 section 4.2 leaves the unit open; this is the one that routers use).
const PENALTY: f64 = 1000.0;
/// Above this, who recovers is not believed (the cutoff threshold): the third failure within a half-life.
const CUTOFF: f64 = 2000.0;
/// Below this, it is again (the reuse threshold).
const REUSE: f64 = 750.0;
/// Half-lives that somebody who is quiet is held down at most; it sets the ceiling of the figure (section 4.2).
const LONGEST: f64 = 4.0;

/// The figure of merit of one replica, in milliseconds of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Damping {
    half_life_ms: f64,
    figure: f64,
    at: u64,
    held: bool,
}

impl Damping {
    /// Of one that has never failed. The figure halves every `half_life_ms`, which is not 0.
    #[must_use]
    pub fn new(half_life_ms: u64) -> Damping {
        Damping { half_life_ms: half_life_ms.max(1) as f64, figure: 0.0, at: 0, held: false }
    }

    /// It has failed.
    pub fn failed(&mut self, now: u64) {
        self.decay(now);
        self.figure = (self.figure + PENALTY).min(REUSE * LONGEST.exp2());
        self.held |= self.figure > CUTOFF;
    }

    /// True if it is not to be believed yet.
    pub fn holds(&mut self, now: u64) -> bool {
        self.decay(now);
        self.held &= self.figure >= REUSE;
        self.held
    }

    fn decay(&mut self, now: u64) {
        let passed = now.saturating_sub(self.at) as f64;
        self.figure *= (-passed / self.half_life_ms).exp2();
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: u64 = 15_000;

    #[test]
    fn two_failures_are_forgiven_and_a_third_is_held_down() {
        let mut damping = Damping::new(HALF_LIFE);
        for at in [0, 1000] {
            damping.failed(at);
            assert!(!damping.holds(at));
        }
        damping.failed(2000);
        assert!(damping.holds(2000));
        // From 2866 to 750 in 1.93 half-lives.
        assert!(damping.holds(2000 + 28_900));
        assert!(!damping.holds(2000 + 29_100));
        damping.failed(2000 + 29_100);
        assert!(!damping.holds(2000 + 29_100), "1750 is not too much");
    }

    #[test]
    fn nobody_is_held_down_longer_than_four_half_lives_after_the_last_failure() {
        let mut damping = Damping::new(HALF_LIFE);
        (0..1000).for_each(|nth| damping.failed(nth));
        assert!(damping.holds(999 + 4 * HALF_LIFE - 1));
        assert!(!damping.holds(999 + 4 * HALF_LIFE + 1));
    }

    #[test]
    fn who_fails_seldom_is_never_held_down() {
        let mut damping = Damping::new(HALF_LIFE);
        for nth in 0..1000 {
            damping.failed(nth * HALF_LIFE);
            assert!(!damping.holds(nth * HALF_LIFE), "the figure tends to 2000");
        }
    }
}
