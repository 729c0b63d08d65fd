//! When whom to probe, and what is thought of each. Without I/O and clock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::check::{Check, Tally};
use super::damping::Damping;
use super::exchange::{End, Exchange, Outcome};
use super::judge::Judge;
use crate::frame::{self, Frame, L4, Parsed};
use crate::naming::{BindingKey, Health, HealthReport};
use crate::path::FIRST_PROBE_PORT;
use crate::units::{Mac, PortId, Random};

/// Where a container refuses, or is suspected, the next probe of those that decide comes after this part of the interval.
const HURRY: u64 = 4;

/// A binding that a check is about.
pub struct Subject {
    /// [`View::identity`](crate::naming::View::identity).
    pub identity: u64,
    pub binding: BindingKey,
    /// Where its container is; `None` while no port that is up holds it.
    pub place: Option<Place>,
    /// What the mapping says of it.
    pub health: Health,
}

/// An access port, and the MAC of the container behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub port: PortId,
    pub mac: Mac,
}

/// Probes everybody whom the checks are about.
pub struct Prober {
    checks: Vec<Check>,
    /// By check and identity.
    targets: HashMap<(usize, u64), Target>,
    /// Who waits for what comes to a port.
    ports: HashMap<u16, (usize, u64)>,
    next_port: u16,
    random: Random,
    totals: Tally,
}

struct Target {
    binding: BindingKey,
    place: Option<Place>,
    health: Health,
    judge: Judge,
    /// When the next probe begins.
    next: u64,
    under_way: Option<(u16, Exchange)>,
    /// When a hint was followed last.
    hinted: Option<u64>,
    /// There was a hint, and no good answer since.
    is_suspected: bool,
    tally: Tally,
    /// A port has held its container at some time.
    was_held: bool,
    /// The check is about it still.
    is_there: bool,
}

/// An IP packet that is to leave by an access port.
pub struct Outgoing {
    pub to: Place,
    pub packet: Vec<u8>,
}

impl Prober {
    /// `seed` should not be guessed by containers.
    #[must_use]
    pub fn new(checks: Vec<Check>, seed: u64) -> Prober {
        let first = FIRST_PROBE_PORT + (seed % u64::from(u16::MAX - FIRST_PROBE_PORT)) as u16;
        Prober {
            checks,
            targets: HashMap::new(),
            ports: HashMap::new(),
            next_port: first,
            random: Random::new(seed),
            totals: Tally::default(),
        }
    }

    /// Says whom the check of this number is about now: a new one is probed at once, and one whose container has just gone has failed.
    pub fn look(&mut self, check: usize, subjects: impl Iterator<Item = Subject>, now: u64) {
        let Some(about) = self.checks.get(check) else { return };
        self.targets.iter_mut().filter(|((of, _), _)| *of == check).for_each(|(_, target)| target.is_there = false);
        for Subject { identity, binding, place, health } in subjects {
            let target = self.targets.entry((check, identity)).or_insert_with(|| Target {
                binding: binding.clone(),
                place,
                health,
                judge: Judge::new(about.thresholds, about.half_life.map(|it| Damping::new(millis(it)))),
                // Ports have to find out first who is behind them.
                next: if place.is_some() { now } else { now + millis(about.interval) },
                under_way: None,
                hinted: None,
                is_suspected: false,
                tally: Tally::default(),
                was_held: false,
                is_there: true,
            });
            if target.place.is_some() && place.is_none() && target.judge.verdict() != Health::Unhealthy {
                // There is nothing to wait for.
                target.next = now;
                if let Some((port, _)) = target.under_way.take() {
                    self.ports.remove(&port);
                }
            }
            target.was_held |= place.is_some();
            (target.binding, target.place, target.health, target.is_there) = (binding, place, health, true);
        }
        let ports = &mut self.ports;
        self.targets.retain(|(of, _), target| {
            let stays = *of != check || target.is_there;
            if let (false, Some((port, _))) = (stays, &target.under_way) {
                ports.remove(port);
            }
            stays
        });
    }

    /// Takes a frame that came in by an access port.
    pub fn receive(&mut self, port: PortId, bytes: &mut [u8]) {
        let len = bytes.len();
        let frame = Frame::new(bytes, 0, len);
        let Ok(Parsed::Ip(packet)) = frame::parse(&frame) else { return };
        let own = match packet.l4 {
            L4::IcmpError { embedded, .. } => embedded.src.port,
            l4 => l4.ports().1,
        };
        let bounds = usize::from(packet.l3_at)..packet.l3_end as usize;
        let (Some(key), Some(ip)) = (self.ports.get(&own), frame.bytes().get(bounds)) else { return };
        if let Some(target) = self.targets.get_mut(key)
            && target.place == Some(Place { port, mac: packet.eth_src })
            && let Some((_, exchange)) = &mut target.under_way
        {
            exchange.receive(ip);
        }
    }

    /// The container of `place` refuses what others send to the service of a check: it is probed at once. No more often than
    /// after refusals, whatever it does.
    pub fn hint(&mut self, check: usize, place: Place, now: u64) {
        let Some(about) = self.checks.get(check) else { return };
        let its = |((of, _), target): &(&(usize, u64), &mut Target)| *of == check && target.place == Some(place);
        for (_, target) in self.targets.iter_mut().filter(its) {
            target.tally.hints += 1;
            self.totals.hints += 1;
            let too_soon = target.hinted.is_some_and(|last| now < last + hurry(about));
            if too_soon || target.judge.verdict() == Health::Unhealthy {
                continue;
            }
            (target.hinted, target.is_suspected) = (Some(now), true);
            // One that is under way asks just that.
            if target.under_way.as_ref().is_none_or(|(_, exchange)| exchange.is_decided()) {
                target.next = now;
            }
        }
    }

    /// What became of all probes so far.
    #[must_use]
    pub fn totals(&self) -> Tally {
        self.totals
    }

    /// The bindings that are probed now, by identity: by which check, and what came of it.
    pub fn tallies(&self) -> impl Iterator<Item = (u64, &Check, Tally)> {
        self.targets
            .iter()
            .filter_map(|(&(check, identity), target)| Some((identity, self.checks.get(check)?, target.tally)))
    }

    /// Goes on with everything at `now`, in milliseconds: what is to be sent, and what is to be said of whom. `gateway`
    /// is what the probes of a check come from, of the same family as what they go to.
    pub fn poll(&mut self, now: u64, gateway: impl Fn(&Check) -> Option<IpAddr>) -> (Vec<Outgoing>, Vec<HealthReport>) {
        let mut outgoing = Vec::new();
        let keys: Vec<(usize, u64)> = self.targets.keys().copied().collect();
        for key in keys {
            let (Some(check), Some(target)) = (self.checks.get(key.0), self.targets.get_mut(&key)) else { continue };
            // First what has been sent: its time may be up just now.
            if let Some(outcome) = go_on(target, &mut self.ports, now, &mut outgoing) {
                target.note(outcome, check, &mut self.totals, now);
            }
            if target.next <= now {
                target.next = now + millis(check.interval);
                if let Some((port, _)) = target.under_way.take() {
                    self.ports.remove(&port);
                }
                match (target.place, gateway(check)) {
                    (Some(_), Some(gateway)) => {
                        let ip = check.ip.to_std();
                        let port = free_port(&mut self.next_port, &self.ports);
                        let seed = self.random.word();
                        let (own, to) = (End { ip: gateway, port }, End { ip, port: check.port });
                        let deadline = now + millis(check.timeout);
                        let exchange = Exchange::new(&check.kind, own, to, now, deadline, seed);
                        self.ports.insert(port, key);
                        target.tally.sent += 1;
                        self.totals.sent += 1;
                        target.under_way = Some((port, exchange));
                        go_on(target, &mut self.ports, now, &mut outgoing);
                    }
                    _ if target.was_held => target.note(Outcome::Refused, check, &mut self.totals, now),
                    _ => target.note(Outcome::Bad, check, &mut self.totals, now),
                }
            }
        }
        (outgoing, self.reports())
    }

    /// What the mapping does not say yet. A binding of several protocols may have several checks: one that finds it
    /// unhealthy is enough, and healthy it is when all say so. What can't be said now is said at the next turn.
    fn reports(&self) -> Vec<HealthReport> {
        let mut verdicts: HashMap<u64, (Health, &Target)> = HashMap::new();
        for ((_, identity), target) in &self.targets {
            let own = target.judge.verdict();
            let (all, _) = verdicts.entry(*identity).or_insert((own, target));
            *all = match (*all, own) {
                (Health::Unhealthy, _) | (_, Health::Unhealthy) => Health::Unhealthy,
                (Health::Healthy, Health::Healthy) => Health::Healthy,
                _ => Health::Unknown,
            };
        }
        let news =
            verdicts.into_values().filter(|(verdict, target)| *verdict != Health::Unknown && *verdict != target.health);
        news.map(|(state, target)| HealthReport { binding: target.binding.clone(), state, own: true }).collect()
    }

    /// When to go on, if nothing comes. `None`: nobody is to be probed.
    pub fn next_at(&mut self, now: u64) -> Option<u64> {
        let at = |target: &mut Target| {
            let exchange = target.under_way.as_mut().map_or(u64::MAX, |(_, exchange)| exchange.next_at(now));
            exchange.min(target.next)
        };
        self.targets.values_mut().map(at).min()
    }
}

impl Target {
    fn note(&mut self, outcome: Outcome, check: &Check, totals: &mut Tally, now: u64) {
        for tally in [&mut self.tally, totals] {
            *match outcome {
                Outcome::Good => &mut tally.good,
                Outcome::Bad => &mut tally.bad,
                Outcome::Refused => &mut tally.refused,
            } += 1;
        }
        self.judge.note(outcome == Outcome::Good, now);
        self.is_suspected &= outcome != Outcome::Good;
        // There is no answer to wait for, or no more than what others have had.
        if (outcome == Outcome::Refused || self.is_suspected) && self.judge.is_in_doubt() {
            self.next = self.next.min(now + hurry(check));
        }
    }
}

fn hurry(check: &Check) -> u64 {
    (millis(check.interval) / HURRY).max(1)
}

/// Goes on with the probe under way; the outcome, when it is known.
fn go_on(
    target: &mut Target,
    ports: &mut HashMap<u16, (usize, u64)>,
    now: u64,
    outgoing: &mut Vec<Outgoing>,
) -> Option<Outcome> {
    let (Some((port, exchange)), Some(to)) = (&mut target.under_way, target.place) else { return None };
    let outcome = exchange.poll(now);
    while let Some(packet) = exchange.sent() {
        outgoing.push(Outgoing { to, packet });
    }
    if exchange.is_done(now) {
        ports.remove(port);
        target.under_way = None;
    }
    outcome
}

/// A port that no exchange has.
fn free_port(next: &mut u16, taken: &HashMap<u16, (usize, u64)>) -> u16 {
    loop {
        let port = *next;
        *next = next.checked_add(1).unwrap_or(FIRST_PROBE_PORT);
        if !taken.contains_key(&port) || taken.len() > usize::from(u16::MAX - FIRST_PROBE_PORT) {
            return port;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
