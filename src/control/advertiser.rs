//! When a router advertises itself on the links of its hosts without being asked (RFC 4861 section 6.2.4). Without I/O and
//! clock: whoever sends says what time it is, and which links there are.

use std::collections::HashMap;
use std::mem;

use crate::units::{Mac, PortId, Random};

/// The longest time between two advertisements unless it is configured, in seconds (MaxRtrAdvInterval, section 6.2.1).
pub const LONGEST_S: u32 = 600;

// Section 10; times in milliseconds.
const MAX_INITIAL_RTR_ADVERT_INTERVAL: u64 = 16_000;
const MAX_INITIAL_RTR_ADVERTISEMENTS: u32 = 3;
const MIN_DELAY_BETWEEN_RAS: u64 = 3000;
const MAX_RA_DELAY_TIME: u64 = 500;

/// A link that the router is to advertise itself on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub port: PortId,
    /// The router's own.
    pub mac: Mac,
    /// The longest time between two advertisements, in seconds.
    pub longest_s: u32,
}

/// Knows for each link when its next advertisement is due.
#[derive(Debug)]
pub struct Advertiser {
    random: Random,
    schedules: HashMap<PortId, Schedule>,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    link: Link,
    next: u64,
    /// How many of those that come faster are to be sent still.
    initial: u32,
    sent: Option<u64>,
}

impl Advertiser {
    /// `seed` is where the times of all links come from: with one of its own, no two servers speak at the same times.
    #[must_use]
    pub fn new(seed: u64) -> Advertiser {
        Advertiser { random: Random::new(seed), schedules: HashMap::new() }
    }

    /// Which of these links, all that there are at `now`, an advertisement is due on. A link that is new, has been away or
    /// has another MAC begins anew, with advertisements that come faster. What is due stays so until it is
    /// [sent](Advertiser::sent).
    pub fn due(&mut self, links: impl Iterator<Item = Link>, now: u64) -> Vec<PortId> {
        let mut before = mem::take(&mut self.schedules);
        let mut due = Vec::new();
        for link in links {
            let schedule = match before.remove(&link.port) {
                Some(known) if known.link == link => known,
                Some(known) if known.link.mac == link.mac => {
                    Schedule { link, next: known.next.min(now + longest(link)), ..known }
                }
                known => self.beginning(link, known.and_then(|known| known.sent), now),
            };
            if schedule.next <= now {
                due.push(link.port);
            }
            self.schedules.insert(link.port, schedule);
        }
        // A link that is away begins anew when it comes back; if at once, it must not hear more than it may.
        for (port, mut gone) in before {
            if gone.sent.is_some_and(|sent| now < sent + MIN_DELAY_BETWEEN_RAS) {
                gone.link.mac = Mac::ZERO;
                self.schedules.insert(port, gone);
            }
        }
        due
    }

    /// The advertisement that was due there has been sent.
    pub fn sent(&mut self, port: PortId, now: u64) {
        let Some(&Schedule { link, initial, .. }) = self.schedules.get(&port) else { return };
        let (initial, longest) = (initial.saturating_sub(1), longest(link));
        let shortest = (longest / 3).max(MIN_DELAY_BETWEEN_RAS);
        let mut interval = self.between(shortest, longest);
        if initial > 0 {
            interval = interval.min(MAX_INITIAL_RTR_ADVERT_INTERVAL);
        }
        if let Some(schedule) = self.schedules.get_mut(&port) {
            *schedule = Schedule { next: now + interval, initial, sent: Some(now), ..*schedule };
        }
    }

    /// Not all links that come up together speak together.
    fn beginning(&mut self, link: Link, sent: Option<u64>, now: u64) -> Schedule {
        let earliest = sent.map_or(now, |sent| now.max(sent + MIN_DELAY_BETWEEN_RAS));
        let next = earliest + self.between(0, MAX_RA_DELAY_TIME);
        Schedule { link, next, initial: MAX_INITIAL_RTR_ADVERTISEMENTS, sent }
    }

    /// A number between these two, which may be either.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.random.word() % (most.saturating_sub(least) + 1)
    }
}

fn longest(link: Link) -> u64 {
    u64::from(link.longest_s) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn link(longest_s: u32) -> Link {
        Link { port: PortId(1), mac: MAC, longest_s }
    }

    /// When advertisements are sent in these milliseconds, by somebody who looks every 250.
    fn sent(advertiser: &mut Advertiser, link: Link, during: std::ops::Range<u64>) -> Vec<u64> {
        let mut sent = Vec::new();
        for now in during.step_by(250) {
            for port in advertiser.due([link].into_iter(), now) {
                assert_eq!(port, link.port);
                advertiser.sent(port, now);
                sent.push(now);
            }
        }
        sent
    }

    fn gaps(sent: &[u64]) -> Vec<u64> {
        sent.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn the_first_come_fast_and_the_others_between_a_third_of_the_interval_and_all_of_it() {
        for seed in 0..20 {
            let sent = sent(&mut Advertiser::new(seed), link(LONGEST_S), 0..40_000_000);
            assert!(sent[0] <= 750, "a link that comes up hears of its router at once");
            let gaps = gaps(&sent);
            assert!(gaps[..2].iter().all(|&gap| gap <= 16_250), "{gaps:?}");
            assert!(gaps[2..].iter().all(|gap| (200_000..=600_250).contains(gap)), "{gaps:?}");
            let (least, most) = (gaps[2..].iter().min().unwrap(), gaps[2..].iter().max().unwrap());
            assert!(most - least > 300_000, "times are spread: {gaps:?}");
        }
    }

    #[test]
    fn the_shortest_interval_that_may_be_configured_never_goes_below_three_seconds() {
        let gaps = gaps(&sent(&mut Advertiser::new(1), link(4), 0..400_000));
        assert!(gaps.iter().all(|gap| (3000..=4250).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn a_link_that_was_away_begins_anew_but_not_within_three_seconds() {
        let mut advertiser = Advertiser::new(1);
        let before = sent(&mut advertiser, link(LONGEST_S), 0..60_000);
        assert_eq!(before.len(), 3);
        for now in (60_000..70_000).step_by(250) {
            assert!(advertiser.due(std::iter::empty(), now).is_empty(), "nothing is said on a link that is down");
        }
        let again = sent(&mut advertiser, link(LONGEST_S), 70_000..130_000);
        assert!(again[0] <= 70_750 && again.len() == 3, "{again:?}");

        let mut flapping = Advertiser::new(1);
        let first = sent(&mut flapping, link(LONGEST_S), 0..1000);
        flapping.due(std::iter::empty(), 1000);
        let next = sent(&mut flapping, link(LONGEST_S), 1250..9000);
        assert!(next[0] >= first[0] + 3000, "{first:?}, {next:?}");
    }

    #[test]
    fn another_mac_is_told_at_once_and_another_interval_counts_from_now() {
        let mut advertiser = Advertiser::new(1);
        sent(&mut advertiser, link(LONGEST_S), 0..60_000);
        let other = Link { mac: Mac([2, 0, 0, 0, 0, 2]), ..link(LONGEST_S) };
        assert!(sent(&mut advertiser, other, 60_000..61_000).len() == 1);
        sent(&mut advertiser, other, 61_000..200_000);
        let sooner = sent(&mut advertiser, Link { longest_s: 10, ..other }, 200_000..211_000);
        assert!(!sooner.is_empty());
    }

    #[test]
    fn what_was_not_sent_stays_due() {
        let mut advertiser = Advertiser::new(1);
        let mut due = |now| advertiser.due([link(LONGEST_S)].into_iter(), now);
        due(0);
        assert_eq!(due(1000), [PortId(1)]);
        assert_eq!(due(1250), [PortId(1)]);
    }
}
