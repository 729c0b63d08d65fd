//! Health checks at work: between the prober, the workers and the mapping.

use std::collections::HashSet;
use std::future;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;

use super::Appliance;
use super::keeping::Keep;
use crate::control::changes::{ChangeSet, Wish};
use crate::control::health::{Check, Outgoing, Place, Subject};
use crate::engine::{Heard, Word};
use crate::naming::{HealthReport, Inside, Located, View};
use crate::path::{Hint, Surroundings};
use crate::table;
use crate::units::{Endpoint, Mac, PortId};

/// How often the mapping is looked at for new replicas while nothing else happens, in milliseconds.
const LOOK_EVERY_MS: u64 = 250;
/// How soon it is tried again to tell what could not be told, since a large change set had its turn.
const TURN_WITHIN_MS: u64 = 5;

impl Appliance {
    /// Probes what `[[health]]` names, for ever.
    pub(super) async fn keep_checking(&self) -> io::Result<()> {
        if self.config.health.is_empty() {
            return future::pending().await;
        }
        let began = Instant::now();
        let mut ear: Option<(Arc<Heard>, pipe::Receiver)> = None;
        loop {
            // While another engine tries to take over, there may be none for a moment.
            let heard = self.engine.load().heard().cloned();
            let now = || began.elapsed().as_millis() as u64;
            let next = self.check(now());
            let until = tokio::time::sleep_until((began + Duration::from_millis(next)).into());
            let Some(heard) = heard else {
                until.await;
                continue;
            };
            if !ear.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, &heard)) {
                // An eventfd that does not block: for the runtime it is a pipe like any other.
                let woken = pipe::Receiver::from_owned_fd_unchecked(heard.as_fd().try_clone_to_owned()?)?;
                ear = Some((Arc::clone(&heard), woken));
            }
            let Some((_, woken)) = &ear else { continue };
            heard.going_to_sleep();
            if !self.listen(&heard, now()) {
                tokio::select! {
                    ready = woken.readable() => {
                        ready?;
                        while woken.try_read(&mut [0; size_of::<u64>()]).is_ok() {}
                    }
                    () = self.look_again.notified() => {}
                    () = until => {}
                }
            }
            heard.awake();
        }
    }

    /// One turn: who is there, what has come in, what is to be sent, and what is known by now. When the next is due.
    fn check(&self, now: u64) -> u64 {
        let engine = self.engine.load();
        if let Some(heard) = engine.heard() {
            self.listen(heard, now);
        }
        let mut prober = self.prober();
        let reports = {
            let guard = table::pin();
            let (names, around) = (self.tables.names.view(&guard), self.tables.around.load(&guard));
            let up = self.ports_up();
            for (nth, check) in self.config.health.iter().enumerate() {
                prober.look(nth, subjects(check, &names, &up).into_iter(), now);
            }
            let (outgoing, reports) = prober.poll(now, |check| gateway(check, around));
            for Outgoing { to, packet } in outgoing {
                let Some(own) = around.port(to.port) else { continue };
                // What does not fit now is lost, as on any wire.
                engine.inject(to.port, &frame(to.mac, own.mac, &packet));
            }
            reports
        };
        let next = prober.next_at(now).unwrap_or(u64::MAX);
        drop(prober);
        let latest = if reports.is_empty() || self.report(reports) { LOOK_EVERY_MS } else { TURN_WITHIN_MS };
        next.clamp(now + 1, now + latest)
    }

    /// Takes what workers have heard. False if that is nothing.
    fn listen(&self, heard: &Heard, now: u64) -> bool {
        let mut prober = self.prober();
        heard.take(|word| match word {
            Word::Answer(port, frame) => prober.receive(port, frame),
            Word::Hint(Hint { check, port, mac }) => prober.hint(usize::from(check), Place { port, mac }, now),
        })
    }

    /// Tells packets, and whoever watches, what is known of the health of replicas. False if it is not its turn: what the
    /// mapping does not know by then is said again.
    fn report(&self, reports: Vec<HealthReport>) -> bool {
        let Ok(mut writer) = self.writer.try_lock() else { return false };
        let told = |state, binding: &dyn std::fmt::Display| tracing::info!(%binding, "is {state}");
        for report in reports {
            told(report.state, &report.binding);
            let report = [Located { line: 1, value: report }];
            let set = ChangeSet::Apply { puts: &[], deletes: &[], health: &report };
            let wish = Wish { set, if_generation: None, force: false };
            if self.carry_out(&mut writer, &wish, Keep::IfPossible).is_err() {
                tracing::warn!(binding = %report[0].value.binding, "has left the mapping meanwhile");
            }
        }
        true
    }
}

/// The bindings to this server that a check is about.
fn subjects(check: &Check, names: &View<'_>, up: &HashSet<PortId>) -> Vec<Subject> {
    let end = Endpoint { proto: check.proto, ip: check.ip, port: check.port };
    let service = names.network(&check.network).and_then(|network| names.service(network, Inside(end)));
    let members = service.into_iter().flat_map(|service| service.members());
    let here = members.filter(|binding| names.server_of(binding).is_some_and(|server| server.local));
    let subject = |binding| {
        let held = names.container_of(binding)?.held_by();
        let held = held.filter(|held| up.contains(&held.port()));
        Some(Subject {
            identity: names.identity(binding),
            binding: names.spec(binding)?.exact_key(),
            place: held.map(|held| Place { port: held.port(), mac: held.mac() }),
            health: binding.health(),
        })
    };
    here.filter_map(subject).collect()
}

/// What a network's containers have as their router, of the family of the service: even a sealed container answers it.
fn gateway(check: &Check, around: &Surroundings) -> Option<IpAddr> {
    let network = around.networks.get(around.networks.id(&check.network)?)?;
    network.gateway_beside(check.ip).map(|gateway| gateway.to_std())
}

/// An IP packet of either family on Ethernet.
fn frame(to: Mac, from: Mac, packet: &[u8]) -> Vec<u8> {
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let kind: [u8; 2] = if is_v4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&to.0[..], &from.0, &kind, packet].concat()
}
