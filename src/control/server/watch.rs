//! `GET /v1/bindings/watch`: changes as server-sent events, from a generation on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch::Receiver;

use super::Problem;
use super::routes::Engine;
use crate::control::changes::{Event, Gone};

/// From which generation on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    generation: Option<u64>,
}

/// Somebody who watches.
struct Watcher {
    engine: Engine,
    /// What it has been told of.
    generation: u64,
    latest: Receiver<u64>,
    /// What it is to be told next.
    waiting: VecDeque<Arc<Event>>,
    said: Said,
}

#[derive(PartialEq, Eq)]
enum Said {
    Nothing,
    Hello,
    Farewell,
}

/// Streams an event `change` for every change set after the generation of `?generation=` or `Last-Event-ID` (the header
/// comes first: it is what a client that was cut off has heard last), else from now on. The first event, `generation`,
/// says where it begins. A watcher that is too slow is told `snapshot-needed` and has to list the bindings again.
pub(super) async fn watch(
    State(engine): State<Engine>,
    query: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(from) = query.map_err(|err| Problem::malformed(err.body_text()))?;
    let heard = headers.get("last-event-id").map(|id| {
        let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
        id.ok_or_else(|| Problem::malformed("`Last-Event-ID` is no generation"))
    });
    let latest = engine.history().latest();
    let now = *latest.borrow();
    let generation = heard.transpose()?.or(from.generation).unwrap_or(now);
    let waiting = engine.history().since(generation).map_err(|Gone| gone(generation, now))?.into();
    let watcher = Watcher { engine, generation, latest, waiting, said: Said::Nothing };
    let events = stream::unfold(watcher, |mut watcher| async move {
        let message = watcher.next().await?;
        Some((Ok::<Message, Infallible>(message), watcher))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn gone(generation: u64, now: u64) -> Problem {
    let detail = format!(
        "the changes after generation {generation} are not known any more: list the bindings again, and watch from the \
         generation that the listing names"
    );
    Problem { generation: Some(now), ..Problem::new(StatusCode::GONE, detail) }
}

impl Watcher {
    async fn next(&mut self) -> Option<Message> {
        match self.said {
            Said::Nothing => {
                self.said = Said::Hello;
                return Some(message("generation", self.generation, &numbered(self.generation)));
            }
            Said::Hello => {}
            Said::Farewell => return None,
        }
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.generation = event.generation();
                return Some(message("change", self.generation, event.json()));
            }
            self.latest.mark_unchanged();
            match self.engine.history().since(self.generation) {
                Ok(events) if events.is_empty() && self.engine.history().is_over() => return None,
                Ok(events) if events.is_empty() => self.latest.changed().await.ok()?,
                Ok(events) => self.waiting = events.into(),
                Err(Gone) => {
                    self.said = Said::Farewell;
                    let now = *self.latest.borrow();
                    // No id: whoever resumes would miss what lies between.
                    return Some(Message::default().event("snapshot-needed").data(numbered(now)));
                }
            }
        }
    }
}

fn message(kind: &str, generation: u64, data: &str) -> Message {
    Message::default().event(kind).id(generation.to_string()).data(data)
}

fn numbered(generation: u64) -> String {
    format!("{{\"generation\":{generation}}}")
}
