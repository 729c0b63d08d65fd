//! Changes to the live tables: whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::table::{self, Writer};
use crate::units::Ip;

use super::change::{Change, Clash, Located};
use super::live::Names;
use super::owners;
use super::record::{Container, Server};
use super::spec::{BindingKey, BindingSpec};
use super::staging::Staging;

/// The right to change the [`Names`].
pub struct NamesWriter {
    names: Arc<Names>,
    writer: Writer,
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
        NamesWriter { names, writer }
    }

    /// Makes `bindings` the whole mapping. Those that are there already, unchanged, keep their records.
    ///
    /// # Errors
    /// Everything that is wrong with the new mapping; the old one then stays in force, untouched.
    pub fn replace(&mut self, bindings: &[Located<BindingSpec>]) -> Result<Change, Vec<Clash>> {
        self.change(bindings, |staging| {
            staging.match_puts(false);
            staging.retire_others();
            staging.insert_puts();
        })
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
        self.change(puts, |staging| {
            staging.delete(deletes);
            staging.match_puts(true);
            staging.insert_puts();
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

    fn change(
        &mut self,
        puts: &[Located<BindingSpec>],
        stage: impl FnOnce(&mut Staging<'_>),
    ) -> Result<Change, Vec<Clash>> {
        let names = Arc::clone(&self.names);
        let mut staging = Staging::new(&names, &mut self.writer, puts);
        stage(&mut staging);
        staging.settle();
        let staged = staging.finish();
        let generation = names.timeline.version();
        match staged {
            Err(clashes) => {
                self.writer.rollback();
                Err(clashes)
            }
            Ok(_) if self.writer.staged() == 0 => Ok(Change { generation, ..Change::default() }),
            Ok(done) => {
                let guard = table::pin();
                let before = names.view(&guard);
                let generation = self.writer.commit();
                let now = names.view(&guard);
                // What is added goes first, so that nobody looks idle who is not.
                for gained in [true, false] {
                    let counters: [fn(&Container) -> &AtomicU32; 2] = [Container::active, Container::local];
                    for (tally, of) in [&done.active, &done.local].into_iter().zip(counters) {
                        for &(container, by) in tally.iter().filter(|&&(_, by)| (by > 0) == gained) {
                            if let Some(container) = before.container(container).or(now.container(container)) {
                                of(container).fetch_add(by as u32, Ordering::Relaxed);
                            }
                        }
                    }
                }
                let owners = owners::compare(&before, &now, &done.touched);
                drop(guard);
                self.writer.reclaim();
                Ok(Change { generation, owners, added: done.added, replaced: done.replaced, removed: done.removed })
            }
        }
    }
}
