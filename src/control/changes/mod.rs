//! Changes of the mapping while packets flow: what is asked for, why it is refused, and what watchers are told.

mod history;

use std::fmt;
use std::io;

use crate::naming::{BindingKey, BindingSpec, Change, Clash, HealthReport, Located, NamesWriter, Prepared};
use crate::table;

pub use history::{Event, Gone, History};

/// What the mapping shall become.
pub enum ChangeSet<'a> {
    /// This and nothing else.
    Replace(&'a [Located<BindingSpec>]),
    /// As it is, without these keys and with these bindings; and what is known of the health of some.
    Apply { puts: &'a [Located<BindingSpec>], deletes: &'a [Located<BindingKey>], health: &'a [Located<HealthReport>] },
}

/// A change set as somebody asks for it.
pub struct Wish<'a> {
    pub set: ChangeSet<'a>,
    /// The generation that it was made for.
    pub if_generation: Option<u64>,
    /// Wire names that change hands do not rest.
    pub force: bool,
}

/// A wish that may wait for its turn, and be carried out by another thread.
pub struct Asked {
    pub set: AskedSet,
    pub if_generation: Option<u64>,
    pub force: bool,
}

/// A [`ChangeSet`] with its bindings.
pub enum AskedSet {
    Replace(Vec<Located<BindingSpec>>),
    Apply { puts: Vec<Located<BindingSpec>>, deletes: Vec<Located<BindingKey>>, health: Vec<Located<HealthReport>> },
}

impl Asked {
    /// The wish that it is.
    #[must_use]
    pub fn wish(&self) -> Wish<'_> {
        let set = match &self.set {
            AskedSet::Replace(bindings) => ChangeSet::Replace(bindings),
            AskedSet::Apply { puts, deletes, health } => ChangeSet::Apply { puts, deletes, health },
        };
        Wish { set, if_generation: self.if_generation, force: self.force }
    }

    /// How many bindings it names.
    #[must_use]
    pub fn bindings(&self) -> usize {
        match &self.set {
            AskedSet::Replace(bindings) => bindings.len(),
            AskedSet::Apply { puts, deletes, health } => puts.len() + deletes.len() + health.len(),
        }
    }
}

/// Why the mapping stays as it was.
#[derive(Debug)]
pub enum Refused {
    /// The mapping is of another generation: this one.
    Stale(u64),
    /// What is wrong with the bindings.
    Clashes(Vec<Clash>),
    /// The host did not follow.
    Host(io::Error),
    /// It can't be kept on disk.
    NotKept(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Stale(generation) => write!(f, "the mapping is of generation {generation} by now"),
            Refused::Clashes(clashes) => clashes.iter().try_for_each(|clash| writeln!(f, "{clash}")),
            Refused::Host(err) => err.fmt(f),
            Refused::NotKept(why) => f.write_str(why),
        }
    }
}

/// Carries out a wish: `commit` puts the change set in force, and `history` takes note of what was done.
///
/// # Errors
/// See [`Refused`].
pub fn carry_out(
    writer: &mut NamesWriter,
    wish: &Wish<'_>,
    history: &History,
    commit: impl FnOnce(Prepared<'_>) -> Result<Change, Refused>,
) -> Result<Change, Refused> {
    let generation = writer.names().view(&table::pin()).generation();
    if wish.if_generation.is_some_and(|wanted| wanted != generation) {
        return Err(Refused::Stale(generation));
    }
    let prepared = match wish.set {
        ChangeSet::Replace(bindings) => writer.prepare_replacement(bindings),
        ChangeSet::Apply { puts, deletes, health } => writer.prepare_with_health(puts, deletes, health),
    };
    commit_noted(prepared.map_err(Refused::Clashes)?, history, commit)
}

/// Commits by `commit`, and lets `history` take note.
///
/// # Errors
/// Those of `commit`.
pub fn commit_noted(
    prepared: Prepared<'_>,
    history: &History,
    commit: impl FnOnce(Prepared<'_>) -> Result<Change, Refused>,
) -> Result<Change, Refused> {
    if prepared.is_nothing() {
        return Ok(prepared.commit());
    }
    let event = Event::of(&prepared);
    let change = commit(prepared)?;
    history.note(change.generation, event);
    Ok(change)
}
