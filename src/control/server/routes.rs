//! What can be asked for, and the answers' form.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::report::{DropCount, ExplainRequest, Observed, PortReport, Status, WorkerReport};
use super::{ControlSocket, Problem};

/// Most bytes that a request's body may have.
const MAX_BODY: usize = 64 * 1024;

type Engine = State<Arc<dyn Observed>>;

/// The routes of the API over `engine`.
pub fn router(engine: Arc<dyn Observed>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/ports", get(ports))
        .route("/v1/workers", get(workers))
        .route("/v1/drops", get(drops))
        .route("/v1/explain", post(explain))
        .fallback(no_such_thing)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(engine)
}

/// Serves the API until `stop` completes, then until the answers under way are given.
///
/// # Errors
/// The socket's.
pub async fn serve(
    socket: ControlSocket,
    engine: Arc<dyn Observed>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (listener, _keep) = socket.into_listener()?;
    axum::serve(listener, router(engine)).with_graceful_shutdown(stop).await
}

async fn status(State(engine): Engine) -> Json<Status> {
    Json(engine.status())
}

async fn ports(State(engine): Engine) -> Json<Vec<PortReport>> {
    Json(engine.ports())
}

async fn workers(State(engine): Engine) -> Json<Vec<WorkerReport>> {
    Json(engine.workers())
}

async fn drops(State(engine): Engine) -> Json<Vec<DropCount>> {
    Json(engine.drops())
}

async fn explain(
    State(engine): Engine,
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
