//! `sixway map list`: the bindings, as lines of a mapping file or as NDJSON.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};

use super::super::client::{Client, ClientError, broken};
use super::super::output::Output;
use super::{Failure, List};
use crate::control::server::GENERATION;
use crate::naming::BindingSpec;

pub(super) fn run(client: &Client, list: &List, output: &mut Output) -> Result<(), Failure> {
    let port = list.port.map(|port| port.to_string());
    let wanted = [("network", &list.network), ("ip", &list.ip), ("port", &port), ("server", &list.server)];
    let query = wanted.iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped(value.as_ref()?))));
    let path = format!("/v1/bindings?{}", query.collect::<Vec<_>>().join("&"));
    each(client, &path, |line| {
        if output.is_json() {
            output.line(String::from_utf8_lossy(line));
        } else {
            output.line(binding(line)?);
        }
        Ok(())
    })?;
    Ok(())
}

/// All bindings, and the generation that the listing began with.
pub(super) fn all(client: &Client) -> Result<(Vec<BindingSpec>, u64), ClientError> {
    let mut bindings = Vec::new();
    let generation = each(client, "/v1/bindings", |line| {
        bindings.push(binding(line)?);
        Ok(())
    })?;
    Ok((bindings, generation))
}

/// Calls `take` with every line of an answer, and returns the generation in its head.
pub(super) fn each(
    client: &Client,
    path: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), ClientError>,
) -> Result<u64, ClientError> {
    client.run(async {
        let request = Request::builder().method(Method::GET).uri(path);
        let mut response = client.request(request, Empty::<Bytes>::new()).await?;
        let generation = response.headers().get(GENERATION).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut begun = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            begun.extend_from_slice(&piece);
            let whole = begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            for line in begun[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                take(line)?;
            }
            begun.drain(..whole);
        }
        generation.ok_or_else(|| broken(&"it names no generation"))
    })
}

fn binding(line: &[u8]) -> Result<BindingSpec, ClientError> {
    serde_json::from_slice(line).map_err(|error| broken(&error))
}

/// A value of a query (RFC 3986 section 2.1).
fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
