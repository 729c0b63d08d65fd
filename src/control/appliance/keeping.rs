//! The appliance and its journal: what it starts with, what is kept, and what is taken back.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::preparation::Preparation;
use super::{Appliance, BootError};
use crate::control::assemble::{Assembly, Interface, Mapping, MappingFile, recall};
use crate::control::changes::{Refused, commit_noted};
use crate::control::config::Config;
use crate::control::journal::undo::Undo;
use crate::control::journal::{self, Closed, Failed, Journal, News, Start, read_start, record};
use crate::naming::{Change, NamesWriter, Prepared};
use crate::table;

/// Places of the table that are listed before others have their turn on the control thread.
const AT_A_TIME: u32 = 2048;
/// How long a journal that could not be replaced stays as it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Puts together what an engine starts with: the mapping of the journal if that is newer, else that of the file. Reads
/// only.
pub(super) fn assemble(
    config: &Config,
    interface: impl Fn(&str) -> Option<Interface>,
) -> Result<(Assembly, Option<Start>), BootError> {
    let (mapping, start) = read(config)?;
    let mut assembly = Assembly::of(config, &mapping, interface).map_err(BootError::Mapping)?;
    remember(&mut assembly.writer, &mapping, start.as_ref());
    Ok((assembly, start))
}

fn read(config: &Config) -> Result<(Mapping<'_>, Option<Start>), BootError> {
    let text = MappingFile::text(config).map_err(BootError::Mapping)?;
    let Some(path) = config.control.journal_file(config.server.ips[0], &config.server.mapping) else {
        let mapping = MappingFile::parse(config, text).map(Mapping::File);
        return Ok((mapping.map_err(BootError::Mapping)?, None));
    };
    let start = read_start(&path, &config.server.mapping, &text);
    let mut start = start.map_err(|err| BootError::Journal(path, err))?;
    let mapping = Mapping::at_start(config, &mut start, text).map_err(BootError::Mapping)?;
    Ok((mapping, Some(start)))
}

/// Reads again what another engine has accepted since. True if there was something.
pub(super) fn catch_up(prepared: &mut Preparation) -> Result<bool, BootError> {
    let Preparation { config, assembly, journal, .. } = prepared;
    if journal.as_ref().is_none_or(Start::is_current) {
        return Ok(false);
    }
    let (mapping, start) = read(config)?;
    mapping.prepare(&mut assembly.writer).map_err(BootError::Mapping)?.commit();
    remember(&mut assembly.writer, &mapping, start.as_ref());
    *journal = start;
    Ok(true)
}

/// What the former engine knew of the health of bindings is believed until somebody says otherwise.
fn remember(writer: &mut NamesWriter, mapping: &Mapping<'_>, start: Option<&Start>) {
    if let Some(start) = start {
        recall(writer, start.health_of(mapping.bindings()));
    }
}

/// Whether a change set may be in force without being kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// No: it is refused then.
    Must,
    /// What this engine has found out itself, and will again.
    IfPossible,
}

/// A listing of the mapping for a new journal.
enum Listing {
    /// None before this time.
    None(Instant),
    /// Goes on at this place. Only between change sets: what is listed after one is on its way to the disk must not be
    /// what was before it.
    At(u32),
    /// The keeper has it all, and had ended that many before.
    Ending(u64),
}

/// When there is something to do next.
enum Next {
    Now,
    /// When the mapping is not being changed.
    Turn,
    News,
    NewsOrPatience,
    /// The journal was closed: another engine takes over, or has failed to.
    Reopened,
}

impl Appliance {
    /// Puts on disk what waits for it, and leaves the journal to another engine.
    pub(super) fn close_journal(&self) -> Option<Closed> {
        let journal = self.journal().take();
        journal.map(Journal::close)
    }

    /// Goes on with the journal: the other engine has failed.
    pub(super) fn reopen_journal(&self, closed: Option<Closed>) {
        *self.journal() = closed.map(Closed::reopen);
    }

    /// Commits a change set and puts it on its way to the disk. There is room for it, or it is refused.
    pub(super) fn keep(
        &self,
        prepared: Prepared<'_>,
        keep: Keep,
        commit: impl FnOnce(Prepared<'_>) -> io::Result<Change>,
    ) -> Result<Change, Refused> {
        if self.journal().is_none() {
            return commit(prepared).map_err(Refused::Host);
        }
        let text = journal::record_of(&prepared);
        let room = self.journal().as_mut().map(|journal| journal.reserve(&text)).transpose();
        let room = match room {
            Ok(room) => room,
            Err(why) if keep == Keep::IfPossible => {
                tracing::warn!("in force, but not kept: {why}");
                return commit(prepared).map_err(Refused::Host);
            }
            Err(why) => return Err(Refused::NotKept(why)),
        };
        let change = commit(prepared).map_err(Refused::Host)?;
        if let (Some(journal), Some(room)) = (self.journal().as_mut(), room) {
            journal.append(room, text, change.generation, change.is_of_mapping());
        }
        Ok(change)
    }

    /// Answers for change sets that have reached the disk, takes back those that have not, and has the journal replaced
    /// when that is due. Never completes.
    pub(super) async fn keep_journal(self: Arc<Appliance>) {
        let Some(mut news) = self.journal().as_ref().map(Journal::news) else { return };
        let mut listing = Listing::None(Instant::now());
        loop {
            match self.keep_on(&mut listing, &news) {
                Next::Now => tokio::task::yield_now().await,
                Next::Turn => drop(self.writer.lock().await),
                Next::News => news.wait().await,
                Next::NewsOrPatience => _ = tokio::time::timeout(PATIENCE, news.wait()).await,
                Next::Reopened => {
                    tokio::time::sleep(PATIENCE).await;
                    match self.journal().as_ref().map(Journal::news) {
                        Some(reopened) => news = reopened,
                        None => continue,
                    }
                }
            }
        }
    }

    fn keep_on(&self, listing: &mut Listing, news: &News) -> Next {
        let mut journal = self.journal();
        let Some(of_now) = journal.as_mut().filter(|_| !news.is_over()) else {
            *listing = Listing::None(Instant::now());
            return Next::Reopened;
        };
        of_now.answer();
        if of_now.has_failed() {
            drop(journal);
            let Ok(mut writer) = self.writer.try_lock() else { return Next::Turn };
            let failed = self.journal().as_mut().and_then(Journal::settle);
            failed.into_iter().for_each(|failed| self.take_back(&mut writer, failed));
            return Next::Now;
        }
        let journal = of_now;
        match *listing {
            Listing::None(from) if journal.is_due() => {
                if Instant::now() < from {
                    return Next::NewsOrPatience;
                }
                journal.begin_snapshot();
                *listing = Listing::At(0);
                Next::Now
            }
            Listing::None(_) => Next::News,
            Listing::At(_) if journal.is_choked() => Next::News,
            Listing::At(place) => {
                let Ok(_turn) = self.writer.try_lock() else { return Next::Turn };
                let guard = table::pin();
                let view = self.tables.names.view(&guard);
                let (bindings, next) = view.some_bindings(place, AT_A_TIME);
                journal.piece(record::listed(
                    bindings.filter_map(|binding| Some((view.spec(binding)?, binding.health()))),
                ));
                *listing = match next {
                    Some(next) => Listing::At(next),
                    None => {
                        let before = journal.snapshots();
                        journal.end_snapshot(view.generation());
                        Listing::Ending(before)
                    }
                };
                Next::Now
            }
            Listing::Ending(before) if journal.snapshots() == before => Next::News,
            Listing::Ending(_) => {
                // Still due: it has failed.
                let rest = if journal.is_due() { PATIENCE } else { Duration::ZERO };
                *listing = Listing::None(Instant::now() + rest);
                Next::Now
            }
        }
    }

    /// The disk has failed: the mapping becomes again what is on it.
    fn take_back(&self, writer: &mut NamesWriter, failed: Failed) {
        let Undo { puts, deletes, health } = Undo::of(failed.texts());
        let (sets, bindings) = (failed.texts().count(), puts.len() + deletes.len() + health.len());
        tracing::error!(sets, bindings, "change sets are taken back: {}", failed.why());
        // Names go back to those who had them until a moment ago: they need no rest.
        let outcome =
            writer.prepare_with_health(&puts, &deletes, &health).map_err(Refused::Clashes).and_then(|prepared| {
                let commit =
                    |prepared: Prepared<'_>| self.put_in_force(prepared, true, &mut None).map_err(Refused::Host);
                commit_noted(prepared, &self.history, commit)
            });
        if let Err(why) = outcome {
            tracing::error!("change sets that are not on disk stay in force: {why}");
        }
        failed.answer();
        // What this engine has found out itself stays true.
        self.look_again.notify_one();
    }
}
