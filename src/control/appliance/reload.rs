//! Another mapping or policy, while packets flow.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::changeover::{Followers, put_in_force};
use super::claims::Names;
use super::keeping::Keep;
use super::programs::answers_arp;
use super::{Appliance, Control, Host, keeping, policy, state_file};
use crate::afxdp::program::{Claims, ClaimsMap};
use crate::control::assemble::MappingFile;
use crate::control::changes::{History, Refused, Wish, carry_out, commit_noted};
use crate::control::config::{Config, Mistake};
use crate::control::journal::Outcome;
use crate::control::server::Mapped;
use crate::engine::Tables;
use crate::naming::{self, Change, Prepared, View};
use crate::path::{Surroundings, hold_pinned_among};
use crate::table;

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
    pub(super) fn reload(&self) -> Result<Reloaded, Vec<Mistake>> {
        let mut control = self.control();
        let Control { writer, ports, journal } = &mut *control;
        let config = Config::load(&self.config.file);
        let policy = config.and_then(|config| Ok((policy::of(&config, &self.config)?, config)));
        let (mapping, (networks, config)) = match (MappingFile::read(&self.config), policy) {
            (Ok(mapping), Ok(policy)) => (mapping, policy),
            (mapping, policy) => {
                let mistakes = [policy.err(), mapping.err()];
                return Err(mistakes.into_iter().flatten().flatten().collect());
            }
        };
        let around = {
            let guard = table::pin();
            let around = self.tables.around.load(&guard);
            (*around.networks != networks).then(|| Surroundings { networks: Arc::new(networks), ..around.clone() })
        };
        let changes_policy = around.is_some();
        let mut around = around;
        let prepared = mapping.prepare(writer)?;
        let commit =
            |prepared: Prepared<'_>| self.put_in_force(prepared, ports, false, &mut around).map_err(Refused::Host);
        let change = commit_noted(prepared, &self.history, commit)
            .map_err(|err| vec![Mistake::in_file(&self.config.server.mapping, err.to_string())])?;
        // It has waited for a change of the mapping, of which there was none.
        around.take().into_iter().for_each(|around| self.tables.around.store(around));
        self.tables.around.reclaim();
        let kept = journal.as_mut().map(|journal| {
            let known: Vec<_> = self.tables.names.view(&table::pin()).known_health().collect();
            journal.rebase(mapping.mark(), &known)
        });
        Ok(Reloaded { change, kept, policy: changes_policy, waiting: policy::needs_a_start(&config, &self.config) })
    }

    /// Puts a change set in force. `force`: wire names that change hands do not rest. `around`: takes the place of the
    /// surroundings just before.
    ///
    /// # Errors
    /// An XDP program did not take the claims; the mapping then stays as it was.
    pub(super) fn put_in_force(
        &self,
        prepared: Prepared<'_>,
        ports: &mut Host,
        force: bool,
        around: &mut Option<Surroundings>,
    ) -> io::Result<Change> {
        let mut host = OnHost { ports, tables: &self.tables, around };
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

    fn change(&self, wish: &Wish<'_>) -> Result<Change, Refused> {
        let change = self.carry_out(wish, Keep::Must)?;
        if change.health > 0 {
            // Of its own containers this engine may know better.
            self.look_again.notify_one();
        }
        Ok(change)
    }

    fn kept(&self) -> Option<oneshot::Receiver<Outcome>> {
        self.control().journal.as_mut()?.outcome()
    }
}

impl Appliance {
    /// Puts a change set in force, or says why not.
    ///
    /// # Errors
    /// See [`Refused`]. The mapping then stays as it was.
    pub(super) fn carry_out(&self, wish: &Wish<'_>, keep: Keep) -> Result<Change, Refused> {
        let mut control = self.control();
        let Control { writer, ports, journal } = &mut *control;
        let change = carry_out(writer, wish, &self.history, |prepared| {
            let put_in_force = |prepared: Prepared<'_>| self.put_in_force(prepared, ports, wish.force, &mut None);
            keeping::keep(journal.as_mut(), prepared, keep, put_in_force)
        })?;
        if wish.force {
            tracing::warn!(generation = change.generation, "a change set was forced: no wire name of it rests");
        }
        Ok(change)
    }
}

/// This host's programs and access ports.
struct OnHost<'a> {
    ports: &'a mut Host,
    tables: &'a Tables,
    /// What takes the place of the surroundings with the change.
    around: &'a mut Option<Surroundings>,
}

impl OnHost<'_> {
    /// Tells every program that decides by names. Stops at the first that does not take them.
    fn tell(&mut self, names: &Names, tell: fn(&mut ClaimsMap, &Claims) -> io::Result<()>) -> io::Result<()> {
        let guard = table::pin();
        let around = self.tables.around.load(&guard);
        for (&id, on_host) in self.ports.iter_mut() {
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
        self.around.take().into_iter().for_each(|around| self.tables.around.store(around));
        let guard = table::pin();
        hold_pinned_among(view, self.tables.around.load(&guard), change.containers.iter().copied());
    }

    fn unclaim(&mut self, lost: &Names) {
        // What is claimed too much is dropped by the engine.
        if let Err(err) = self.tell(lost, ClaimsMap::remove) {
            tracing::error!("{err}");
        }
    }
}
