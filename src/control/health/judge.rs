//! From single probes to a verdict: so many in a row, and damping.

use super::damping::Damping;
use crate::naming::Health;

/// How many probes in a row change the verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// Good ones, to healthy.
    pub rise: u32,
    /// Bad ones, to unhealthy.
    pub fall: u32,
}

/// Judges one replica.
#[derive(Clone, Debug)]
pub struct Judge {
    thresholds: Thresholds,
    damping: Option<Damping>,
    verdict: Health,
    /// Probes in a row that had the same outcome, and which.
    run: u32,
    last: bool,
}

impl Judge {
    /// Of a replica that nothing is known of.
    #[must_use]
    pub fn new(thresholds: Thresholds, damping: Option<Damping>) -> Judge {
        Judge { thresholds, damping, verdict: Health::Unknown, run: 0, last: true }
    }

    /// The outcome of one more probe. Times are milliseconds of one clock.
    pub fn note(&mut self, good: bool, now: u64) -> Health {
        self.run = if good == self.last { self.run.saturating_add(1) } else { 1 };
        self.last = good;
        if good && self.run >= self.thresholds.rise && self.verdict != Health::Healthy {
            let held = self.verdict == Health::Unhealthy && self.damping.as_mut().is_some_and(|it| it.holds(now));
            if !held {
                self.verdict = Health::Healthy;
            }
        }
        if !good && self.run >= self.thresholds.fall && self.verdict != Health::Unhealthy {
            self.verdict = Health::Unhealthy;
            if let Some(damping) = &mut self.damping {
                damping.failed(now);
            }
        }
        self.verdict
    }

    /// What is thought of it.
    #[must_use]
    pub fn verdict(&self) -> Health {
        self.verdict
    }

    /// True if the last probe was bad and it takes more of them to change the verdict.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        !self.last && self.verdict != Health::Unhealthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(damping: Option<Damping>) -> Judge {
        Judge::new(Thresholds { rise: 2, fall: 3 }, damping)
    }

    fn notes(judge: &mut Judge, outcomes: &str) -> Vec<Health> {
        outcomes.chars().map(|outcome| judge.note(outcome == '+', 0)).collect()
    }

    #[test]
    fn it_takes_so_many_in_a_row() {
        use Health::{Healthy as H, Unhealthy as U, Unknown as N};
        let mut judge = judge(None);
        assert_eq!(notes(&mut judge, "+-+"), [N, N, N]);
        assert_eq!(notes(&mut judge, "+"), [H], "two in a row");
        assert_eq!(notes(&mut judge, "--+--"), [H; 5], "never three");
        assert!(judge.is_in_doubt());
        assert_eq!(notes(&mut judge, "-"), [U]);
        assert!(!judge.is_in_doubt());
        assert_eq!(notes(&mut judge, "+-+-"), [U; 4]);
        assert_eq!(notes(&mut judge, "++"), [U, H]);
    }

    #[test]
    fn one_that_never_answered_is_unhealthy_after_as_many_probes_as_any_other() {
        let mut judge = judge(None);
        assert_eq!(notes(&mut judge, "---").last(), Some(&Health::Unhealthy));
    }

    #[test]
    fn who_flaps_is_held_down_until_the_penalty_has_decayed() {
        let mut judge = judge(Some(Damping::new(15_000)));
        for _ in 0..2 {
            notes(&mut judge, "---");
            assert_eq!(notes(&mut judge, "++").last(), Some(&Health::Healthy));
        }
        notes(&mut judge, "---");
        assert_eq!(notes(&mut judge, "++++").last(), Some(&Health::Unhealthy), "the third time in no time");
        assert_eq!(judge.note(true, 29_000), Health::Unhealthy);
        assert_eq!(judge.note(true, 31_000), Health::Healthy);
    }
}
