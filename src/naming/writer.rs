//! Changes to the live tables: whole or not at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::table::{Handle, Writer};
use crate::units::Ip;

use super::change::{Change, Clash, Located};
use super::health::HealthReport;
use super::live::Names;
use super::prepared::Prepared;
use super::record::Server;
use super::spec::{BindingKey, BindingSpec};
use super::staging::Staging;

/// The right to change the [`Names`].
pub struct NamesWriter {
    pub(super) names: Arc<Names>,
    pub(super) writer: Writer,
    /// Containers that are bound to one of our own ServerIPs.
    pub(super) here: HashSet<Handle>,
}

impl NamesWriter {
    pub(super) fn new(names: Arc<Names>, mut writer: Writer, local: &[Ip]) -> NamesWriter {
        for &ip in local {
            // One that no binding can take away.
            let server = Server { ip, mac: None, local: true, bindings: AtomicU32::new(1) };
            if names.servers.find_staged(0, super::hash::ip_hash(ip), &writer, |other| other.ip == ip).is_none() {
                names.servers.insert(&mut writer, server);
            }
        }
        writer.commit();
        NamesWriter { names, writer, here: HashSet::new() }
    }

    /// Makes `bindings` the whole mapping. Those that are there already, unchanged, keep their records.
    ///
    /// # Errors
    /// Everything that is wrong with the new mapping; the old one then stays in force, untouched.
    pub fn replace(&mut self, bindings: &[Located<BindingSpec>]) -> Result<Change, Vec<Clash>> {
        self.prepare_replacement(bindings).map(Prepared::commit)
    }

    /// A change set: what is deleted goes first, then each put replaces the binding of its key or is new. A put of a
    /// client block of equal numbers (`*`) replaces the container's one such block, whatever its numbers were.
    ///
    /// # Errors
    /// Everything that is wrong with it; the mapping then stays as it was.
    pub fn apply(
        &mut self,
        puts: &[Located<BindingSpec>],
        deletes: &[Located<BindingKey>],
    ) -> Result<Change, Vec<Clash>> {
        self.prepare(puts, deletes).map(Prepared::commit)
    }

    /// As [`NamesWriter::replace`], but for what must be known elsewhere before packets see it.
    ///
    /// # Errors
    /// The same.
    pub fn prepare_replacement<'w>(
        &'w mut self,
        bindings: &'w [Located<BindingSpec>],
    ) -> Result<Prepared<'w>, Vec<Clash>> {
        self.stage(bindings, |staging| {
            staging.match_puts(false);
            staging.retire_others();
            staging.insert_puts();
        })
    }

    /// As [`NamesWriter::apply`], but for what must be known elsewhere before packets see it.
    ///
    /// # Errors
    /// The same.
    pub fn prepare<'w>(
        &'w mut self,
        puts: &'w [Located<BindingSpec>],
        deletes: &[Located<BindingKey>],
    ) -> Result<Prepared<'w>, Vec<Clash>> {
        self.prepare_with_health(puts, deletes, &[])
    }

    /// As [`NamesWriter::prepare`], and then notes what is known of the health of bindings, those of the change set
    /// included.
    ///
    /// # Errors
    /// The same, and reports about bindings that are not there.
    pub fn prepare_with_health<'w>(
        &'w mut self,
        puts: &'w [Located<BindingSpec>],
        deletes: &[Located<BindingKey>],
        health: &[Located<HealthReport>],
    ) -> Result<Prepared<'w>, Vec<Clash>> {
        self.stage(puts, |staging| {
            staging.delete(deletes);
            staging.match_puts(true);
            staging.insert_puts();
            staging.judge(health);
        })
    }

    /// The tables that this writes.
    #[must_use]
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Frees what readers have let go of. Every change does it too; called now and then while there is none.
    pub fn reclaim(&mut self) -> usize {
        self.writer.reclaim()
    }

    /// Retired records that are not yet freed, since a reader may still hold them.
    #[must_use]
    pub fn unreclaimed(&self) -> usize {
        self.writer.unreclaimed()
    }

    /// The containers that are bound to one of our own ServerIPs, in no particular order.
    pub fn containers_here(&self) -> impl Iterator<Item = Handle> {
        self.here.iter().copied()
    }

    fn stage<'w>(
        &'w mut self,
        puts: &'w [Located<BindingSpec>],
        stage: impl FnOnce(&mut Staging<'_>),
    ) -> Result<Prepared<'w>, Vec<Clash>> {
        let names = Arc::clone(&self.names);
        let mut staging = Staging::new(&names, &mut self.writer, puts);
        stage(&mut staging);
        staging.settle();
        match staging.finish() {
            Ok(staged) => Ok(Prepared::new(self, puts, staged)),
            Err(clashes) => {
                self.writer.rollback();
                Err(clashes)
            }
        }
    }
}
