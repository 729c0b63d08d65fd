//! Another mapping, while packets flow.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::changeover::{Followers, put_in_force};
use super::claims::Names;
use super::programs::answers_arp;
use super::{Appliance, Control, PortOnHost, keeping, state_file};
use crate::afxdp::program::{Claims, ClaimsMap};
use crate::control::assemble::MappingFile;
use crate::control::changes::{History, Refused, Wish, carry_out, commit_noted};
use crate::control::config::{self, Mistake};
use crate::control::journal::Outcome;
use crate::control::server::Mapped;
use crate::engine::Tables;
use crate::naming::{self, Change, Prepared, View};
use crate::path::hold_pinned_among;
use crate::table;

impl Appliance {
    /// Reads the mapping file again and puts it in force as one change set. A journal goes out from it from now on, and
    /// tells once the former one is gone.
    ///
    /// # Errors
    /// Every mistake in it; the mapping then stays as it was.
    pub fn reload_mapping(&self) -> Result<(Change, Option<oneshot::Receiver<Outcome>>), Vec<Mistake>> {
        let mut control = self.control();
        let Control { writer, ports, journal } = &mut *control;
        let mapping = MappingFile::read(&self.config)?;
        let prepared = mapping.prepare(writer)?;
        let commit = |prepared: Prepared<'_>| self.put_in_force(prepared, ports, false).map_err(Refused::Host);
        let change = commit_noted(prepared, &self.history, commit)
            .map_err(|err| vec![Mistake::in_file(&self.config.server.mapping, err.to_string())])?;
        let kept = journal.as_mut().map(|journal| journal.rebase(mapping.mark()));
        Ok((change, kept))
    }

    /// Puts a change set in force. `force`: wire names that change hands do not rest.
    ///
    /// # Errors
    /// An XDP program did not take the claims; the mapping then stays as it was.
    pub(super) fn put_in_force(
        &self,
        prepared: Prepared<'_>,
        ports: &mut [PortOnHost],
        force: bool,
    ) -> io::Result<Change> {
        let mut host = Host { ports, configured: &self.config.ports, tables: &self.tables };
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
        let mut control = self.control();
        let Control { writer, ports, journal } = &mut *control;
        let change = carry_out(writer, wish, &self.history, |prepared| {
            keeping::keep(journal.as_mut(), prepared, |prepared| self.put_in_force(prepared, ports, wish.force))
        })?;
        if wish.force {
            tracing::warn!(generation = change.generation, "a change set was forced: no wire name of it rests");
        }
        Ok(change)
    }

    fn kept(&self) -> Option<oneshot::Receiver<Outcome>> {
        self.control().journal.as_mut()?.outcome()
    }
}

/// This host's programs and access ports.
struct Host<'a> {
    ports: &'a mut [PortOnHost],
    configured: &'a [config::Port],
    tables: &'a Tables,
}

impl Host<'_> {
    /// Tells every program that decides by names. Stops at the first that does not take them.
    fn tell(&mut self, names: &Names, tell: fn(&mut ClaimsMap, &Claims) -> io::Result<()>) -> io::Result<()> {
        let guard = table::pin();
        let around = self.tables.around.load(&guard);
        for ((on_host, port), configured) in self.ports.iter_mut().zip(&around.ports).zip(self.configured) {
            let Some(program) = on_host.program.claims() else { continue };
            let claims = names.at_port(&port.role, answers_arp(&configured.role), around);
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

impl Followers for Host<'_> {
    fn claim(&mut self, gained: &Names) -> io::Result<()> {
        self.tell(gained, ClaimsMap::add)
    }

    fn ready(&mut self, view: &View<'_>, change: &Change) {
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
