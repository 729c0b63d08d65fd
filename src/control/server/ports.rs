//! `GET` and `POST /v1/ports`, `DELETE /v1/ports/{name}`: the ports, and what they count.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::Problem;
use super::body::Incoming;
use super::report::PortReport;
use super::routes::{Engine, MAX_BODY};

pub(super) async fn list(State(engine): State<Engine>) -> Json<Vec<PortReport>> {
    Json(engine.ports())
}

/// Whatever the body says that it is: `curl -d` names a form.
pub(super) async fn attach(
    State(engine): State<Engine>,
    body: Body,
) -> Result<(StatusCode, Json<PortReport>), Problem> {
    let bytes = Incoming::new(body, MAX_BODY).whole().await?;
    let form: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|error| Problem::malformed(format!("the port: {error}")))?;
    Ok((StatusCode::CREATED, Json(engine.attach(form).await?)))
}

pub(super) async fn detach(
    State(engine): State<Engine>,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    engine.detach(&name)?;
    Ok(StatusCode::NO_CONTENT)
}
