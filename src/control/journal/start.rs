//! Which mapping an engine starts with: the file's, or the journal's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::frame::End;
use super::keeper::{begin_anew, sync_directory};
use super::recover::{Recovered, recover};
use super::{Disk, FileMark, Journal, Resume, carried, now_ms};
use crate::naming::{BindingSpec, HealthNote, HealthReport, Located};

/// Who is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// No change set was accepted since the mapping file was loaded.
    Nothing,
    /// The journal, which goes out from the mapping file as it is.
    Journal,
    /// The journal: the mapping file was edited, but before the latest change, and never loaded.
    JournalOverEdit,
    /// The mapping file: it was edited after the latest change.
    File,
    /// The mapping file: the journal goes out from one that is no more.
    FileForBase,
    /// The mapping file: the journal is damaged where it lists the mapping.
    Damaged,
}

impl Choice {
    /// Whether the journal is loaded.
    #[must_use]
    pub fn is_journal(self) -> bool {
        matches!(self, Choice::Journal | Choice::JournalOverEdit)
    }
}

/// Decides between a journal and a mapping file that was changed last at `changed_ms`, in milliseconds since 1970.
#[must_use]
pub fn choose(journal: &Recovered, file: FileMark, changed_ms: u64) -> Choice {
    let same = journal.base == Some(file);
    match journal {
        _ if journal.is_partial() => Choice::Damaged,
        _ if journal.change_sets == 0 && !journal.complete => Choice::Nothing,
        _ if same => Choice::Journal,
        _ if changed_ms > journal.last_change_ms => Choice::File,
        _ if !journal.complete => Choice::FileForBase,
        _ => Choice::JournalOverEdit,
    }
}

/// A journal as it was found beside a mapping file.
pub struct Start {
    path: PathBuf,
    mapping: PathBuf,
    mark: FileMark,
    /// `None`: there is none.
    found: Option<Found>,
}

struct Found {
    resume: Resume,
    recovered: Recovered,
    /// What is behind the good frames, if it is torn.
    torn: Vec<u8>,
    choice: Choice,
}

/// Reads the journal at `path` and compares it with the mapping file and its content. Changes nothing.
///
/// # Errors
/// It can't be read.
pub fn read_start(path: &Path, mapping: &Path, content: &[u8]) -> io::Result<Start> {
    let mark = FileMark::of(content);
    let start = |found| Start { path: path.to_owned(), mapping: mapping.to_owned(), mark, found };
    // Before its content: what is written meanwhile is noticed.
    let Some(resume) = Resume::at(path)? else { return Ok(start(None)) };
    let mut bytes = fs::read(path)?;
    let recovered = recover(&bytes);
    let torn = if recovered.end == End::Torn { bytes.split_off(recovered.good) } else { Vec::new() };
    // The time of the change, which nobody can set: a file that is copied with an older date is newer all the same.
    let metadata = fs::metadata(mapping)?;
    let changed_ms = metadata.ctime() as u64 * 1000 + metadata.ctime_nsec() as u64 / 1_000_000;
    let choice = choose(&recovered, mark, changed_ms);
    Ok(start(Some(Found { resume, recovered, torn, choice })))
}

impl Start {
    /// Who is right; `None` if there is no journal.
    #[must_use]
    pub fn choice(&self) -> Option<Choice> {
        self.found.as_ref().map(|found| found.choice)
    }

    /// Where the journal is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if nobody has written the journal since it was read.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let read = self.found.as_ref().map(|found| &found.resume);
        Resume::at(&self.path).is_ok_and(|now| now.as_ref() == read)
    }

    /// What is in the journal, if it is to be loaded.
    pub fn recovered(&mut self) -> Option<&mut Recovered> {
        self.found.as_mut().filter(|found| found.choice.is_journal()).map(|found| &mut found.recovered)
    }

    /// What is known of these bindings, whichever of the two they are from.
    #[must_use]
    pub fn health_of(&self, bindings: &[Located<BindingSpec>]) -> Vec<Located<HealthReport>> {
        self.found.as_ref().map_or_else(Vec::new, |found| found.recovered.health_of(bindings))
    }

    /// In words, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let (journal, mapping) = (self.path.display(), self.mapping.display());
        let Some(Found { recovered, torn, choice, .. }) = &self.found else {
            return format!("no journal {journal}: the mapping is that of {mapping}");
        };
        let Recovered { change_sets, of_mapping, complete, good, end, .. } = recovered;
        let sets = if *change_sets == 1 { "1 change set".to_owned() } else { format!("{change_sets} change sets") };
        let damage = match end {
            End::Clean => String::new(),
            End::Torn => format!(" (its last {} bytes, from {good} on, are no whole frame)", torn.len()),
            End::Corrupt => format!(" (it is corrupt at byte {good}: what is good before it is meant)"),
        };
        match choice {
            Choice::Nothing => format!("nothing in the journal {journal}{damage}: the mapping is that of {mapping}"),
            Choice::Journal if *of_mapping == 0 && !complete => {
                format!("the mapping is that of {mapping}; the journal {journal}{damage} says what is known of health")
            }
            Choice::Journal => {
                format!("the journal {journal}{damage} is loaded: {sets}, newer than {mapping}")
            }
            Choice::JournalOverEdit => format!(
                "the journal {journal}{damage} is loaded: {sets}; {mapping} was edited before the latest of them and is NOT loaded: SIGHUP loads it"
            ),
            Choice::File => format!(
                "{mapping} was edited after the latest change in the journal {journal}{damage}, which is NOT loaded"
            ),
            Choice::Damaged => {
                format!("the listing in the journal {journal} is damaged{damage}: the mapping is that of {mapping}")
            }
            Choice::FileForBase => format!(
                "the journal {journal}{damage} goes out from what {mapping} was before it was edited and is NOT loaded"
            ),
        }
    }

    /// Says what was found, sets aside what is damaged or not loaded, and opens the journal. If that can't be done, the
    /// journal takes nothing until it was replaced by another. `known` is asked what is known of bindings in force, where
    /// that has to be carried over.
    #[must_use]
    pub fn open(self, known: impl FnOnce() -> Vec<HealthNote>) -> Journal {
        let words = self.describe();
        let Start { path, mark, found, .. } = self;
        let Some(found) = found else { return Journal::open(&path, Disk::empty(mark), 0) };
        if found.choice == Choice::Journal && found.recovered.end == End::Clean {
            tracing::info!("{words}");
        } else {
            tracing::warn!("{words}");
        }
        let last_change_ms = if found.choice.is_journal() { found.recovered.last_change_ms } else { 0 };
        let mut disk = found.disk(mark);
        let is_needed = !found.choice.is_journal() && found.recovered.knows_health();
        let carried = if is_needed { carried(&known()) } else { String::new() };
        let set_aside = found.set_aside(&path, !carried.is_empty()).and_then(|()| {
            if !carried.is_empty() {
                disk = begin_anew(&path, mark, &carried).map_err(|err| err.to_string())?;
            }
            Ok(())
        });
        if let Err(why) = set_aside {
            let why = format!("the journal {}: {why}", path.display());
            tracing::error!("{why}");
            disk.last_error = Some(why.as_str().into());
            disk.broken = Some(why.into());
        }
        Journal::open(&path, disk, last_change_ms)
    }
}

impl Found {
    fn disk(&self, mark: FileMark) -> Disk {
        let Found { resume, recovered, choice, .. } = self;
        let resume = Some(resume.clone());
        if !choice.is_journal() {
            let is_only_room = (*choice, recovered.end) == (Choice::Nothing, End::Clean);
            return Disk { resume: resume.filter(|_| is_only_room), ..Disk::empty(mark) };
        }
        Disk {
            resume,
            base: recovered.base.unwrap_or(mark),
            complete: recovered.complete,
            id: recovered.id,
            next_seq: recovered.frames + 1,
            tail: recovered.good as u64,
            change_sets: recovered.change_sets,
            of_mapping: recovered.of_mapping > 0,
            generation: recovered.generation,
            ..Disk::empty(mark)
        }
    }

    /// Keeps under another name what is not good or not loaded, and under its own as well if it is about to be replaced. An
    /// error: the journal must be replaced.
    fn set_aside(&self, path: &Path, is_replaced: bool) -> Result<(), String> {
        let Found { recovered, torn, choice, .. } = self;
        let said = |done: io::Result<()>| done.map_err(|err| err.to_string());
        match (choice, recovered.end) {
            (Choice::Nothing | Choice::Journal | Choice::JournalOverEdit, End::Clean) => Ok(()),
            (Choice::Journal | Choice::JournalOverEdit, End::Torn) => {
                let aside = aside(path, "torn");
                said(fs::write(&aside, torn))?;
                tracing::warn!("what was torn is kept as {}", aside.display());
                Ok(())
            }
            (Choice::Journal | Choice::JournalOverEdit, End::Corrupt) => {
                // The name goes to a new journal only once that is complete; until then this one is all there is.
                let aside = aside(path, "corrupt");
                said(fs::hard_link(path, &aside).and_then(|()| sync_directory(path)))?;
                Err(format!("it was corrupt at byte {}, and is kept as {}", recovered.good, aside.display()))
            }
            (choice, end) => {
                let why = match (choice, end) {
                    (Choice::Damaged, _) | (_, End::Corrupt) => "corrupt",
                    (Choice::Nothing, _) => "torn",
                    _ => "superseded",
                };
                let aside = aside(path, why);
                let named = if is_replaced { fs::hard_link(path, &aside) } else { fs::rename(path, &aside) };
                said(named.and_then(|()| sync_directory(path)))?;
                tracing::warn!("the journal was set aside as {}", aside.display());
                Ok(())
            }
        }
    }
}

fn aside(path: &Path, why: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{why}-{}", now_ms()));
    PathBuf::from(name)
}
