//! `GET /v1/flows`: connections that are translated, one a line.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};

use super::routes::Engine;

/// A line of `GET /v1/flows`: a live translation entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flow {
    pub proto: String,
    /// The name that the connection has on the wire.
    pub wire: End,
    /// Who holds it.
    pub network: String,
    pub container: End,
    /// The one remote that the entry is for; none if it is for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<End>,
    /// `opening`, `established`, `closing`, `closed` or `datagrams`.
    pub state: String,
    /// Seconds since the container last sent.
    pub idle_s: u32,
}

/// An address and a port (of echo, the identifier).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct End {
    pub ip: String,
    pub port: u16,
}

/// Streams NDJSON: each entry as it is when its line is written. Connections of native blocks and services have none.
pub(super) async fn flows(State(engine): State<Engine>) -> Response {
    let pieces = stream::unfold(Some(0), move |place| {
        let engine = engine.clone();
        async move {
            let mut place = place?;
            loop {
                tokio::task::yield_now().await;
                let (flows, next) = engine.flows(place);
                let mut lines = Vec::new();
                for flow in flows {
                    if serde_json::to_writer(&mut lines, &flow).is_ok() {
                        lines.push(b'\n');
                    }
                }
                match next {
                    Some(next) if lines.is_empty() => place = next,
                    next => return Some((Ok::<Bytes, Infallible>(lines.into()), next)),
                }
            }
        }
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response()
}
