//! What can be asked for, and the answers' form.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router, middleware};
use serde_json::{Map, Value};
use std::ops::Deref;
use tokio::sync::Semaphore;

use super::report::{Attaching, Changing, DropCount, ExplainRequest, Served, Status, WorkerReport};
use super::{ControlSocket, Problem, access, bindings, change, connections, flows, health, metrics, ports, watch};
use crate::control::changes::Asked;

/// Most bytes that a request's body may have where nothing else is said.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// What answers share.
#[derive(Clone)]
pub(super) struct Engine {
    served: Arc<dyn Served>,
    /// For whole mappings: one at a time is read, since each takes as much memory as the mapping.
    pub(super) whole: Arc<Semaphore>,
}

impl Engine {
    /// As [`Mapped::change`](super::Mapped::change).
    pub(super) fn change(&self, asked: Asked) -> Changing {
        Arc::clone(&self.served).change(asked)
    }

    /// As [`Ports::attach`](super::Ports::attach).
    pub(super) fn attach(&self, form: Map<String, Value>) -> Attaching {
        Arc::clone(&self.served).attach(form)
    }
}

impl Deref for Engine {
    type Target = dyn Served;

    fn deref(&self) -> &Self::Target {
        &*self.served
    }
}

/// Every path of the API with its methods, as `docs/openapi.json` describes them.
pub const ROUTES: &[(&str, &[&str])] = &[
    ("/v1/status", &["get"]),
    ("/v1/ports", &["get", "post"]),
    ("/v1/ports/{name}", &["delete"]),
    ("/v1/workers", &["get"]),
    ("/v1/drops", &["get"]),
    ("/v1/flows", &["get"]),
    ("/v1/explain", &["post"]),
    ("/v1/bindings", &["get", "put"]),
    ("/v1/bindings/watch", &["get"]),
    ("/v1/changes", &["post"]),
    ("/v1/health", &["get"]),
    ("/v1/health/{key}", &["get", "put"]),
    ("/metrics", &["get"]),
];

/// The routes of the API over `engine`. Requests carry the [`Rights`](super::Rights) of their peers.
pub fn router(engine: Arc<dyn Served>) -> Router {
    let engine = Engine { served: engine, whole: Arc::new(Semaphore::new(1)) };
    ROUTES
        .iter()
        .fold(Router::new(), |router, &(path, _)| router.route(path, handlers(path)))
        .fallback(no_such_thing)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(access::check))
        .with_state(engine)
}

/// What answers at one of the [`ROUTES`].
fn handlers(path: &str) -> MethodRouter<Engine> {
    match path {
        "/v1/status" => get(status),
        "/v1/ports" => get(ports::list).post(ports::attach),
        "/v1/ports/{name}" => delete(ports::detach),
        "/v1/workers" => get(workers),
        "/v1/drops" => get(drops),
        "/v1/flows" => get(flows::flows),
        "/v1/explain" => post(explain).layer(DefaultBodyLimit::max(MAX_BODY)),
        "/v1/bindings" => get(bindings::list).put(change::replace),
        "/v1/bindings/watch" => get(watch::watch),
        "/v1/changes" => post(change::change),
        "/v1/health" => get(health::list),
        "/v1/health/{key}" => get(health::get).put(health::put),
        "/metrics" => get(metrics::metrics),
        _ => MethodRouter::new(),
    }
}

/// Serves the API until `stop` completes, then until the answers under way are given.
///
/// # Errors
/// The socket's.
pub async fn serve(
    socket: ControlSocket,
    engine: Arc<dyn Served>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let groups = socket.groups();
    let (listener, _keep) = socket.into_listener()?;
    let watched = Arc::clone(&engine);
    let stop = async move {
        stop.await;
        // Those who watch would wait for ever.
        watched.history().end();
    };
    connections::serve(listener, router(engine), groups, stop).await
}

async fn status(State(engine): State<Engine>) -> Json<Status> {
    Json(engine.status())
}

async fn workers(State(engine): State<Engine>) -> Json<Vec<WorkerReport>> {
    Json(engine.workers())
}

async fn drops(State(engine): State<Engine>) -> Json<Vec<DropCount>> {
    Json(engine.drops())
}

async fn explain(
    State(engine): State<Engine>,
    request: Result<Json<ExplainRequest>, JsonRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let Json(request) = request.map_err(|rejection| match rejection {
        // The API's 422 means a clash.
        JsonRejection::JsonDataError(error) => Problem::malformed(error.body_text()),
        other => Problem::new(other.status(), other.body_text()),
    })?;
    engine.explain(&request).map(Json)
}

async fn no_such_thing(uri: Uri) -> Problem {
    Problem::not_found(format!("there is no {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}
