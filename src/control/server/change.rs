//! `POST /v1/changes` and `PUT /v1/bindings`: the mapping is changed.

use std::fmt;
use std::marker::PhantomData;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Problem;
use super::body::Incoming;
use super::problem::{Fault, MOST_FAULTS};
use super::routes::Engine;
use crate::control::changes::{Asked, AskedSet};
use crate::naming::{BindingKey, BindingSpec, Change, HealthReport, Located, Words};

/// Most bytes of a change set: some fifty thousand bindings. More of them come as several, or as a whole mapping.
const MAX_CHANGE: usize = 16 << 20;
/// Most bytes of a whole mapping: some four million bindings.
const MAX_MAPPING: usize = 1 << 30;
/// Most bytes of one binding.
const MAX_LINE: usize = 16 << 10;

/// What was done.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    /// What packets see from now on.
    pub generation: u64,
    pub added: usize,
    pub replaced: usize,
    pub removed: usize,
    /// Bindings whose health is another than before.
    #[serde(default)]
    pub health: usize,
}

impl Changed {
    fn of(change: &Change) -> Changed {
        let &Change { generation, added, replaced, removed, health, .. } = change;
        Changed { generation, added, replaced, removed, health }
    }
}

/// The body of `POST /v1/changes`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeForm {
    #[serde(default)]
    put: Numbered<BindingSpec>,
    #[serde(default)]
    delete: Numbered<BindingKey>,
    #[serde(default)]
    health: Numbered<HealthReport>,
    if_generation: Option<u64>,
    #[serde(default)]
    force: bool,
}

/// The query of `PUT /v1/bindings`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplaceQuery {
    if_generation: Option<u64>,
    #[serde(default)]
    force: bool,
}

/// A change set. Who prefers `respond-async` (RFC 7240 section 4.1) is answered as soon as packets see it, with 202: it may yet be
/// taken back if the disk fails.
pub(super) async fn change(
    State(engine): State<Engine>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Changed>), Problem> {
    let bytes = Incoming::new(body, MAX_CHANGE).whole().await?;
    let form: ChangeForm =
        serde_json::from_slice(&bytes).map_err(|err| Problem::malformed(format!("the change set: {err}")))?;
    let no_wait = prefers_no_wait(&headers);
    let ChangeForm { put, delete, health, if_generation, force } = form;
    let set = AskedSet::Apply { puts: put.0, deletes: delete.0, health: health.0 };
    let asked = Asked { set, if_generation, force };
    if no_wait {
        return Ok((StatusCode::ACCEPTED, Json(Changed::of(&engine.change(asked).await?))));
    }
    Ok((StatusCode::OK, carry_out(&engine, asked).await?))
}

fn prefers_no_wait(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|list| list.split(',')).any(|word| word.trim().eq_ignore_ascii_case("respond-async"))
}

pub(super) async fn replace(
    State(engine): State<Engine>,
    query: Result<Query<ReplaceQuery>, QueryRejection>,
    body: Body,
) -> Result<Json<Changed>, Problem> {
    let Query(query) = query.map_err(|err| Problem::malformed(err.body_text()))?;
    let Ok(_turn) = engine.whole.try_acquire() else {
        return Err(Problem::busy("another whole mapping is being read: try again"));
    };
    let bindings = read_lines(Incoming::new(body, MAX_MAPPING)).await?;
    let ReplaceQuery { if_generation, force } = query;
    carry_out(&engine, Asked { set: AskedSet::Replace(bindings), if_generation, force }).await
}

async fn carry_out(engine: &Engine, asked: Asked) -> Result<Json<Changed>, Problem> {
    let change = engine.change(asked).await?;
    answer(engine, change).await
}

/// Packets see the change set already; the answer waits for the disk. One that changes nothing waits too: what it asks for
/// may have been put in force a moment ago, and not be on disk.
pub(super) async fn answer(engine: &Engine, change: Change) -> Result<Json<Changed>, Problem> {
    if let Some(kept) = engine.kept() {
        let outcome = kept.await.unwrap_or_else(|_| Err("the engine stops".into()));
        outcome.map_err(|why| Problem::busy(format!("the change set was taken back: {why}")))?;
    }
    Ok(Json(Changed::of(&change)))
}

/// Reads NDJSON, a binding a line, as it comes in: no more of the text is kept than the line that has just begun.
async fn read_lines(mut body: Incoming) -> Result<Vec<Located<BindingSpec>>, Problem> {
    let mut lines = Lines::default();
    while let Some(piece) = body.piece().await? {
        lines.take(&piece)?;
        // A mapping that comes in quickly must not keep other requests waiting.
        tokio::task::yield_now().await;
    }
    lines.end()
}

#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    number: u32,
    bindings: Vec<Located<BindingSpec>>,
    faults: Vec<Fault>,
    words: Words,
}

impl Lines {
    fn take(&mut self, mut piece: &[u8]) -> Result<(), Problem> {
        while let Some(end) = piece.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            if self.begun.is_empty() {
                self.line(line);
            } else {
                self.begin(line)?;
                let line = std::mem::take(&mut self.begun);
                self.line(&line);
                self.begun = line;
                self.begun.clear();
            }
            piece = rest;
        }
        self.begin(piece)
    }

    fn begin(&mut self, part: &[u8]) -> Result<(), Problem> {
        if self.begun.len() + part.len() > MAX_LINE {
            let number = self.number + 1;
            return Err(Problem::malformed(format!("line {number} is longer than {MAX_LINE} bytes")));
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) {
        self.number += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        match serde_json::from_slice::<BindingSpec>(line) {
            Ok(mut value) => {
                value.network = self.words.intern(&value.network);
                self.bindings.push(Located { line: self.number, value });
            }
            Err(err) if self.faults.len() < MOST_FAULTS => {
                // The text says where within the line it is.
                self.faults.push(Fault::of_line(self.number, err.to_string().replace(" at line 1 column", ", column")));
            }
            Err(_) => {}
        }
    }

    fn end(mut self) -> Result<Vec<Located<BindingSpec>>, Problem> {
        if !self.begun.is_empty() {
            let line = std::mem::take(&mut self.begun);
            self.line(&line);
        }
        if self.faults.is_empty() { Ok(self.bindings) } else { Err(Problem::faulty_lines(self.faults)) }
    }
}

/// The elements of a list, numbered from 1. A mistake says in which one it is.
struct Numbered<T>(Vec<Located<T>>);

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered(Vec::new())
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Numbered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Numbered<T>, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Elements<T> {
            type Value = Numbered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Numbered<T>, A::Error> {
                let mut elements = Vec::new();
                loop {
                    let line = elements.len() as u32 + 1;
                    let next = list.next_element();
                    let next = next.map_err(|err| A::Error::custom(format!("element {line}: {err}")))?;
                    let Some(value) = next else { return Ok(Numbered(elements)) };
                    elements.push(Located { line, value });
                }
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}
