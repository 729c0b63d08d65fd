//! `GET /v1/health`, `GET` and `PUT /v1/health/{key}`: which containers answer, as those say who probe them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Problem;
use super::bindings::lines_of;
use super::change::{self, Changed};
use super::report::Probe;
use super::routes::Engine;
use crate::control::changes::{Asked, AskedSet, Refused};
use crate::naming::{Binding, BindingKey, Health, HealthReport, Located, Rule, View, parse_key};
use crate::table;

/// The body of `PUT /v1/health/{key}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verdict {
    state: Health,
}

/// An element of `GET /v1/health`: what is known of a binding, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HealthEntry {
    #[serde(flatten)]
    pub report: HealthReport,
    /// The checks of this server that are about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
}

impl HealthEntry {
    fn of(view: &View<'_>, binding: &Binding, probes: Option<&Vec<Probe>>) -> Option<HealthEntry> {
        let own = view.server_of(binding).is_some_and(|server| server.local);
        let report = HealthReport { binding: view.spec(binding)?.exact_key(), state: binding.health(), own };
        Some(HealthEntry { report, probes: probes.cloned().unwrap_or_default() })
    }
}

/// Streams NDJSON, an entry for every binding of which something is known or that is probed here.
pub(super) async fn list(State(engine): State<Engine>) -> Response {
    let probes: Arc<HashMap<u64, Vec<Probe>>> = Arc::new(engine.probing().by_binding);
    lines_of(Arc::clone(engine.names()), move |view, binding| {
        let state = binding.health();
        if state == Health::Unknown && probes.is_empty() {
            return None;
        }
        let probes = probes.get(&view.identity(binding));
        (state != Health::Unknown || probes.is_some()).then(|| HealthEntry::of(view, binding, probes))?
    })
}

/// What is known of the binding of this key.
pub(super) async fn get(
    State(engine): State<Engine>,
    key: Result<Path<String>, PathRejection>,
) -> Result<Json<HealthEntry>, Problem> {
    let Path(text) = key.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    let key = read_key(&text)?;
    let probing = engine.probing();
    let guard = table::pin();
    let view = engine.names().view(&guard);
    let found = view
        .find_key(&key)
        .and_then(|binding| HealthEntry::of(&view, binding, probing.by_binding.get(&view.identity(binding))));
    found.map(Json).ok_or_else(|| no_such_binding(&text))
}

fn no_such_binding(text: &str) -> Problem {
    Problem::not_found(format!("there is no binding `{text}`"))
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
    let health = vec![Located { line: 1, value: HealthReport::new(binding, state) }];
    let set = AskedSet::Apply { puts: Vec::new(), deletes: Vec::new(), health };
    match engine.change(Asked { set, if_generation: None, force: false }).await {
        Ok(change) => change::answer(&engine, change).await,
        Err(Refused::Clashes(clashes)) if clashes.iter().all(|clash| clash.rule == Rule::NoSuchBinding) => {
            Err(no_such_binding(&text))
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
