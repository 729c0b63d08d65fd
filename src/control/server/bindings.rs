//! `GET /v1/bindings`: the mapping, a binding a line, while it changes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

use super::Problem;
use super::routes::Engine;
use crate::naming::{Binding, Names, View};
use crate::table;
use crate::units::{Ip, NetworkId};

/// The header that says which generation a listing began with.
pub const GENERATION: &str = "sixway-generation";

/// Places of the table that are looked at before others have their turn on the control thread.
const AT_A_TIME: u32 = 2048;

/// Which bindings are asked for; all that is given must be so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    network: Option<String>,
    /// The inside address.
    ip: Option<String>,
    /// An inside port, of a service or within a client block.
    port: Option<u16>,
    /// The ServerIP.
    server: Option<String>,
}

/// The same in the words of the tables.
#[derive(Clone, Copy)]
struct Filter {
    network: Option<NetworkId>,
    ip: Option<Ip>,
    port: Option<u16>,
    server: Option<Ip>,
}

/// Streams NDJSON. Each piece is of the generation that it is read in: whoever wants the mapping of one generation
/// watches from the one in the header on, and applies what has changed meanwhile.
pub(super) async fn list(
    State(engine): State<Engine>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wanted) = query.map_err(|err| Problem::malformed(err.body_text()))?;
    let names = Arc::clone(engine.names());
    let filter = Filter::new(&wanted, &names)?;
    Ok(lines_of(names, move |view, binding| filter.wants(view, binding).then(|| view.spec(binding))?))
}

/// Streams what `line` says of each binding, nothing of some.
pub(super) fn lines_of<T, F>(names: Arc<Names>, line: F) -> Response
where
    T: Serialize,
    F: Fn(&View<'_>, &Binding) -> Option<T> + Clone + Send + 'static,
{
    let generation = names.view(&table::pin()).generation();
    let pieces = stream::unfold(Some(0), move |place| {
        let (names, line) = (Arc::clone(&names), line.clone());
        async move {
            // Others first: a listing of a million bindings is in no hurry.
            tokio::task::yield_now().await;
            let (lines, next) = piece(&names, line, place?);
            Some((Ok::<Bytes, Infallible>(lines.into()), next))
        }
    });
    let headers =
        [(header::CONTENT_TYPE.as_str(), "application/x-ndjson".to_owned()), (GENERATION, generation.to_string())];
    (headers, Body::from_stream(pieces)).into_response()
}

/// The lines of some bindings, and the place of the next. Nothing is held when it returns: the peer may take its time.
fn piece<T: Serialize>(
    names: &Names,
    line: impl Fn(&View<'_>, &Binding) -> Option<T>,
    mut place: u32,
) -> (Vec<u8>, Option<u32>) {
    let guard = table::pin();
    let view = names.view(&guard);
    let mut lines = Vec::new();
    loop {
        let (some, next) = view.some_bindings(place, AT_A_TIME);
        for said in some.filter_map(|binding| line(&view, binding)) {
            if serde_json::to_writer(&mut lines, &said).is_ok() {
                lines.push(b'\n');
            }
        }
        match next {
            Some(next) if lines.is_empty() => place = next,
            next => return (lines, next),
        }
    }
}

impl Filter {
    fn new(wanted: &Wanted, names: &Names) -> Result<Filter, Problem> {
        let address = |key: &str, text: &Option<String>| -> Result<Option<Ip>, Problem> {
            let parsed = text.as_ref().map(|text| text.parse::<Ip>().map_err(|_| (key, text.clone())));
            parsed.transpose().map_err(|(key, text)| Problem::malformed(format!("`{key}`: `{text}` is no IP address")))
        };
        let network = wanted.network.as_ref().map(|name| {
            let id = names.networks().id(name);
            id.ok_or_else(|| Problem::malformed(format!("`network`: there is no network `{name}`")))
        });
        Ok(Filter {
            network: network.transpose()?,
            ip: address("ip", &wanted.ip)?,
            port: wanted.port,
            server: address("server", &wanted.server)?,
        })
    }

    fn wants(&self, view: &View<'_>, binding: &Binding) -> bool {
        self.network.is_none_or(|network| binding.network() == network)
            && self.ip.is_none_or(|ip| binding.ip() == ip)
            && self.port.is_none_or(|port| binding.inside_ports().contains(port))
            && self.server.is_none_or(|ip| view.server_of(binding).is_some_and(|server| server.ip == ip))
    }
}
