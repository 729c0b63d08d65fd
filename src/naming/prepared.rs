//! A change set between its staging and its commit: what others must know before packets see it.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::table::{self, Guard, Handle};
use crate::units::Endpoint;

use super::change::{Change, Located};
use super::health::{Health, HealthNote, HealthReport};
use super::owners;
use super::record::Container;
use super::spec::BindingSpec;
use super::staging::Staged;
use super::tally::Tally;
use super::view::View;
use super::writer::NamesWriter;

/// A change set that keeps the rules. No packet sees any of it before [`Prepared::commit`]; dropped without, it is taken
/// back.
#[must_use = "what is not committed is taken back"]
pub struct Prepared<'w> {
    writer: &'w mut NamesWriter,
    puts: &'w [Located<BindingSpec>],
    /// None once it is committed.
    staged: Option<Staged>,
    change: Change,
}

type CounterOf = fn(&Container) -> &AtomicU32;

impl<'w> Prepared<'w> {
    pub(super) fn new(writer: &'w mut NamesWriter, puts: &'w [Located<BindingSpec>], staged: Staged) -> Prepared<'w> {
        let guard = table::pin();
        let before = writer.names.view(&guard);
        let after = View::new(&writer.names, writer.writer.preview(&guard));
        let nothing = writer.writer.staged() == 0;
        let mut change =
            Change {
                generation: if nothing { before.generation() } else { after.generation() },
                added: staged.added,
                replaced: staged.replaced,
                removed: staged.removed,
                owners: owners::compare(&before, &after, &staged.touched),
                published: sorted(staged.published.iter().flat_map(|&(ip, port, protocol)| {
                    protocol.each(ip).map(move |proto| Endpoint { proto, ip, port })
                })),
                portless: sorted(staged.portless.iter().copied()),
                servers: sorted(
                    sorted(staged.referred.servers.iter().map(|(server, _)| server))
                        .into_iter()
                        .filter_map(|server| after.server_at(server).or_else(|| before.server_at(server)))
                        .map(|server| server.ip),
                ),
                replicas_gone: sorted(staged.replicas_gone.iter().copied()),
                containers: staged.local.iter().map(|(container, _)| container).collect(),
                health: staged.health.len(),
            };
        change.containers.sort_unstable();
        change.containers.dedup();
        Prepared { writer, puts, staged: Some(staged), change }
    }

    /// What it does, with the generation that it will be; the present one, if it does nothing.
    #[must_use]
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// True if the mapping is what it shall become.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.writer.writer.staged() == 0
    }

    /// The mapping as packets see it.
    #[must_use]
    pub fn current<'a>(&'a self, guard: &'a Guard) -> View<'a> {
        self.writer.names.view(guard)
    }

    /// The mapping as it will be.
    #[must_use]
    pub fn view<'a>(&'a self, guard: &'a Guard) -> View<'a> {
        View::new(&self.writer.names, self.writer.writer.preview(guard))
    }

    /// The bindings that are new or in the place of another.
    pub fn put(&self) -> impl ExactSizeIterator<Item = &'w BindingSpec> {
        let puts = self.puts;
        let positions: &[u32] = self.staged.as_ref().map_or(&[], |staged| &staged.put);
        positions.iter().map(|&put| &puts[put as usize].value)
    }

    /// The bindings that are gone or have another in their place, as they were.
    pub fn gone<'a>(&'a self, guard: &'a Guard) -> impl Iterator<Item = BindingSpec> + use<'a, 'w> {
        let before = self.writer.names.view(guard);
        let handles: &[Handle] = self.staged.as_ref().map_or(&[], |staged| &staged.gone);
        handles.iter().filter_map(move |&handle| before.spec(before.binding(handle)?))
    }

    /// What is known of bindings from now on, other than before.
    #[must_use]
    pub fn health(&self) -> Vec<HealthReport> {
        self.staged.iter().flat_map(|staged| &staged.health).map(|judged| judged.report.clone()).collect()
    }

    /// The same for those who keep it, and what is not known any more since its binding is gone or moved: that first.
    #[must_use]
    pub fn health_notes(&self) -> Vec<HealthNote> {
        let Some(staged) = &self.staged else { return Vec::new() };
        let guard = table::pin();
        let view = self.writer.names.view(&guard);
        let forgotten = staged.forgotten.iter().filter_map(|&handle| {
            let binding = view.binding(handle)?;
            let spec = view.spec(binding)?;
            let (server, before) = (spec.server_ip, binding.health());
            Some(HealthNote { state: Health::Unknown, before, server, binding: spec.exact_key() })
        });
        let judged = staged.health.iter().map(|judged| HealthNote {
            state: judged.report.state,
            before: judged.before,
            server: judged.server,
            binding: judged.report.binding.clone(),
        });
        forgotten.chain(judged).collect()
    }

    /// Makes it visible to packets, whole.
    pub fn commit(mut self) -> Change {
        let change = std::mem::take(&mut self.change);
        let Some(staged) = self.staged.take().filter(|_| self.writer.writer.staged() > 0) else { return change };
        let NamesWriter { names, writer, here } = &mut *self.writer;
        let guard = table::pin();
        let before = names.view(&guard);
        let tallies: [(&Tally, CounterOf); 2] =
            [(&staged.active, Container::active), (&staged.local, Container::local)];
        let count = |gained: bool, view: &View<'_>| {
            for (tally, of) in tallies {
                for (container, by) in tally.iter().filter(|&(_, by)| (by > 0) == gained) {
                    if let Some(container) = before.container(container).or(view.container(container)) {
                        of(container).fetch_add(by as u32, Ordering::Relaxed);
                    }
                }
            }
            for (address, by) in staged.eligible.iter().filter(|&(_, by)| (by > 0) == gained) {
                let publics = &names.public_ips;
                if let Some(public) = publics.get(address, before.at()).or(publics.get(address, view.at())) {
                    public.eligible.fetch_add(by as u32, Ordering::Relaxed);
                }
            }
        };
        // What is gained is counted before packets see it and what is lost after, so that nobody looks idle who is not.
        count(true, &View::new(names, writer.preview(&guard)));
        writer.commit();
        let after = names.view(&guard);
        count(false, &after);
        for &container in &change.containers {
            if after.container(container).is_some_and(Container::is_bound_here) {
                here.insert(container);
            } else {
                here.remove(&container);
            }
        }
        drop(guard);
        writer.reclaim();
        change
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take() {
            staged.undo(&self.writer.names, &self.writer.writer);
            self.writer.writer.rollback();
        }
    }
}

fn sorted<T: Ord>(names: impl Iterator<Item = T>) -> Vec<T> {
    let mut names: Vec<T> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}
