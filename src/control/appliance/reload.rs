//! Another mapping or policy, while packets flow.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::changeover::{Followers, put_in_force};
use super::claims::Names;
use super::keeping::Keep;
use super::programs::answers_arp;
use super::{Appliance, policy, state_file};
use crate::afxdp::program::{Claims, ClaimsMap};
use crate::control::assemble::MappingFile;
use crate::control::changes::{Asked, History, Refused, Wish, carry_out, commit_noted};
use crate::control::config::{Config, Mistake};
use crate::control::journal::Outcome;
use crate::control::server::{Changing, Mapped};
use crate::naming::{self, Change, NamesWriter, Networks, Prepared, View};
use crate::path::{Surroundings, hold_pinned_among};
use crate::table;

/// Bindings of a change set that the control thread stages itself: a few milliseconds' worth. One of more is staged by a
/// thread of its own, and everything but other changes goes on meanwhile.
const AT_ONCE: usize = 2048;

/// What a reload did.
pub(super) struct Reloaded {
    pub change: Change,
    /// Tells once the former journal is gone.
    pub kept: Option<oneshot::Receiver<Outcome>>,
    /// The policy is another.
    pub policy: bool,
    /// What else the configuration says otherwise than the one that the engine runs with.
    pub waiting: Vec<&'static str>,
}

impl Appliance {
    /// Reads configuration and mapping again. What the configuration says of networks and pairs of them becomes the policy
    /// at once, whole, and the mapping file becomes the mapping, as one change set, right after it. A journal goes out from
    /// that file from now on.
    ///
    /// # Errors
    /// Every mistake in both; all then stays as it was.
    pub(super) fn reload(&self, writer: &mut NamesWriter) -> Result<Reloaded, Vec<Mistake>> {
        let config = Config::load(&self.config.file);
        let policy = config.and_then(|config| Ok((policy::of(&config, &self.config)?, config)));
        let (mapping, (networks, config)) = match (MappingFile::read(&self.config), policy) {
            (Ok(mapping), Ok(policy)) => (mapping, policy),
            (mapping, policy) => {
                let mistakes = [policy.err(), mapping.err()];
                return Err(mistakes.into_iter().flatten().flatten().collect());
            }
        };
        let is_other = *self.tables.around.load(&table::pin()).networks != networks;
        let mut policy = is_other.then(|| Arc::new(networks));
        let prepared = mapping.prepare(writer)?;
        let commit = |prepared: Prepared<'_>| self.put_in_force(prepared, false, &mut policy).map_err(Refused::Host);
        let change = commit_noted(prepared, &self.history, commit)
            .map_err(|err| vec![Mistake::in_file(&self.config.server.mapping, err.to_string())])?;
        // It has waited for a change of the mapping, of which there was none.
        self.store_policy(&mut policy);
        self.tables.around.reclaim();
        let kept = self.journal().as_mut().map(|journal| {
            let known: Vec<_> = self.tables.names.view(&table::pin()).known_health().collect();
            journal.rebase(mapping.mark(), &known)
        });
        Ok(Reloaded { change, kept, policy: is_other, waiting: policy::needs_a_start(&config, &self.config) })
    }

    /// Puts a change set in force. `force`: wire names that change hands do not rest. `policy`: takes the place of the
    /// present one just before.
    ///
    /// # Errors
    /// An XDP program did not take the claims; the mapping then stays as it was.
    pub(super) fn put_in_force(
        &self,
        prepared: Prepared<'_>,
        force: bool,
        policy: &mut Option<Arc<Networks>>,
    ) -> io::Result<Change> {
        let mut host = OnHost { appliance: self, policy };
        put_in_force(prepared, &self.tables.state, state_file::now(), force, &mut host)
    }
}

impl Mapped for Appliance {
    fn names(&self) -> &Arc<naming::Names> {
        &self.tables.names
    }

    fn history(&self) -> &History {
        &self.history
    }

    fn change(self: Arc<Self>, asked: Asked) -> Changing {
        Box::pin(async move {
            let mut writer = Arc::clone(&self.writer).lock_owned().await;
            let done = if asked.bindings() <= AT_ONCE {
                self.carry_out(&mut writer, &asked.wish(), Keep::Must)
            } else {
                let appliance = Arc::clone(&self);
                let done = spawn_blocking(move || appliance.carry_out(&mut writer, &asked.wish(), Keep::Must)).await;
                done.unwrap_or_else(|error| Err(Refused::Host(io::Error::other(error))))
            };
            if done.as_ref().is_ok_and(|change| change.health > 0) {
                // Of its own containers this engine may know better.
                self.look_again.notify_one();
            }
            done
        })
    }

    fn kept(&self) -> Option<oneshot::Receiver<Outcome>> {
        self.journal().as_mut()?.outcome()
    }
}

impl Appliance {
    /// Carries out a wish, now that it has its turn.
    ///
    /// # Errors
    /// See [`Refused`]. The mapping then stays as it was.
    pub(super) fn carry_out(&self, writer: &mut NamesWriter, wish: &Wish<'_>, keep: Keep) -> Result<Change, Refused> {
        let change = carry_out(writer, wish, &self.history, |prepared| {
            self.keep(prepared, keep, |prepared| self.put_in_force(prepared, wish.force, &mut None))
        })?;
        if wish.force {
            tracing::warn!(generation = change.generation, "a change set was forced: no wire name of it rests");
        }
        Ok(change)
    }

    /// Replaces the policy if there is another. What else there is around stays as it is.
    fn store_policy(&self, policy: &mut Option<Arc<Networks>>) {
        let Some(networks) = policy.take() else { return };
        let _nobody_else = self.on_host();
        let around = self.tables.around.load(&table::pin()).clone();
        self.tables.around.store(Surroundings { networks, ..around });
    }
}

/// This host's programs and access ports.
struct OnHost<'a> {
    appliance: &'a Appliance,
    /// What takes the place of the policy with the change.
    policy: &'a mut Option<Arc<Networks>>,
}

impl OnHost<'_> {
    /// Tells every program that decides by names. Stops at the first that does not take them.
    fn tell(&mut self, names: &Names, tell: fn(&mut ClaimsMap, &Claims) -> io::Result<()>) -> io::Result<()> {
        let guard = table::pin();
        let around = self.appliance.tables.around.load(&guard);
        for (&id, on_host) in self.appliance.on_host().iter_mut() {
            let arp = answers_arp(&on_host.configured.role);
            let (Some(program), Some(port)) = (on_host.program.claims(), around.port(id)) else { continue };
            let claims = names.at_port(&port.role, arp, around);
            tell(program, &claims).map_err(|err| {
                io::Error::new(
                    err.kind(),
                    format!("the XDP program of port {} did not take the names: {err}", port.name),
                )
            })?;
        }
        Ok(())
    }
}

impl Followers for OnHost<'_> {
    fn claim(&mut self, gained: &Names) -> io::Result<()> {
        self.tell(gained, ClaimsMap::add)
    }

    fn ready(&mut self, view: &View<'_>, change: &Change) {
        self.appliance.store_policy(self.policy);
        let guard = table::pin();
        hold_pinned_among(view, self.appliance.tables.around.load(&guard), change.containers.iter().copied());
    }

    fn unclaim(&mut self, lost: &Names) {
        // What is claimed too much is dropped by the engine.
        if let Err(err) = self.tell(lost, ClaimsMap::remove) {
            tracing::error!("{err}");
        }
    }
}
