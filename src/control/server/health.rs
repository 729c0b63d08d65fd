//! `GET /v1/health` and `PUT /v1/health/{key}`: which containers answer, as those say who probe them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::Problem;
use super::bindings::lines_of;
use super::change::Changed;
use super::routes::Engine;
use crate::control::changes::{Asked, AskedSet, Refused};
use crate::naming::{BindingKey, Change, Health, HealthReport, Located, Rule, parse_key};

/// The body of `PUT /v1/health/{key}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verdict {
    state: Health,
}

/// Streams NDJSON, a report for every binding of which something is known.
pub(super) async fn list(State(engine): State<Engine>) -> Response {
    lines_of(Arc::clone(engine.names()), |view, binding| {
        let state = binding.health();
        let spec = (state != Health::Unknown).then(|| view.spec(binding))??;
        Some(HealthReport { binding: spec.exact_key(), state })
    })
}

/// Notes what somebody knows of the binding of this key, as a change set of its own.
pub(super) async fn put(
    State(engine): State<Engine>,
    key: Result<Path<String>, PathRejection>,
    verdict: Result<Json<Verdict>, JsonRejection>,
) -> Result<Json<Changed>, Problem> {
    let Path(text) = key.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    let binding = read_key(&text)?;
    let Json(Verdict { state }) = verdict.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    let health = vec![Located { line: 1, value: HealthReport { binding, state } }];
    let set = AskedSet::Apply { puts: Vec::new(), deletes: Vec::new(), health };
    match engine.change(Asked { set, if_generation: None, force: false }).await {
        Ok(Change { generation, health, .. }) => Ok(Json(Changed { generation, health, ..Changed::default() })),
        Err(Refused::Clashes(clashes)) if clashes.iter().all(|clash| clash.rule == Rule::NoSuchBinding) => {
            Err(Problem::not_found(format!("there is no binding `{text}`")))
        }
        Err(refused) => Err(refused.into()),
    }
}

/// A key in one segment of a path: its words parted by commas, `blue,tcp,02:42:0a:00:00:0a,10.0.0.10:80,id=a`.
fn read_key(text: &str) -> Result<BindingKey, Problem> {
    /// Words that have no comma in them: all but the id.
    const PLAIN_WORDS: usize = 4;
    let words: Vec<&str> = text.splitn(PLAIN_WORDS + 1, ',').collect();
    parse_key(&words.join(" ")).map_err(|mistakes| {
        let first = mistakes.first().map(|mistake| mistake.message.clone()).unwrap_or_default();
        Problem::malformed(format!("`{text}` is no key (NETWORK,PROTO,MAC,IP:PORT[,id=WORD]): {first}"))
    })
}
