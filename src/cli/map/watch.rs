//! `sixway map watch`: changes, printed as they are made; or only what a server finds out of its own containers.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde::Deserialize;
use serde_json::json;

use super::super::client::{Client, ClientError, broken};
use super::super::output::{Colour, Output};
use super::{Failure, Watch, health};
use crate::naming::{BindingKey, BindingSpec, HealthReport};

/// The data of an event.
#[derive(Deserialize)]
struct Event {
    generation: u64,
    #[serde(default)]
    put: Vec<BindingSpec>,
    #[serde(default)]
    delete: Vec<BindingKey>,
    #[serde(default)]
    health: Vec<HealthReport>,
}

/// Prints until the engine ends it.
pub(super) fn run(client: &Client, watch: &Watch, output: &mut Output) -> Result<(), Failure> {
    let from = match watch.generation {
        None if watch.health => Some(show_known(client, output)?),
        from => from,
    };
    let from = from.map(|generation| format!("?generation={generation}")).unwrap_or_default();
    let ended: Result<(), ClientError> = client.run(async {
        let request = Request::builder().method(Method::GET).uri(format!("/v1/bindings/watch{from}"));
        let mut response = client.request(request, Empty::<Bytes>::new()).await?;
        let (mut begun, mut kind) = (Vec::new(), String::new());
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            begun.extend_from_slice(&piece);
            let whole = begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            for line in begun[..whole].split(|&byte| byte == b'\n') {
                match line.split_at_checked(6) {
                    Some((b"event:", rest)) => kind = String::from_utf8_lossy(rest.trim_ascii()).into_owned(),
                    Some((b"data: ", data)) => show(&kind, data, watch.health, output)?,
                    _ => {}
                }
            }
            begun.drain(..whole);
        }
        Err(broken(&"it stopped"))
    });
    Ok(ended?)
}

/// Shows what is known by now: whoever passes it on need not know where it left off. The generation that this is of.
fn show_known(client: &Client, output: &mut Output) -> Result<u64, ClientError> {
    let (entries, generation) = health::known(client)?;
    let known: Vec<HealthReport> =
        entries.into_iter().map(|entry| entry.report).filter(HealthReport::is_news).collect();
    if !known.is_empty() {
        show_health(generation, &known, output);
    }
    Ok(generation)
}

fn show_health(generation: u64, reports: &[HealthReport], output: &mut Output) {
    if output.is_json() {
        return output.json(&json!({"generation": generation, "health": reports}));
    }
    for HealthReport { binding, state, .. } in reports {
        output.line(format_args!("{binding} is {state}"));
    }
}

fn show(kind: &str, data: &[u8], health: bool, output: &mut Output) -> Result<(), ClientError> {
    let event: Event = serde_json::from_slice(data).map_err(|error| broken(&error))?;
    if kind == "snapshot-needed" {
        let generation = event.generation;
        return Err(broken(&format!("too much has changed, the mapping is of generation {generation}: list it again")));
    }
    if health {
        let own: Vec<HealthReport> = event.health.into_iter().filter(|report| report.own).collect();
        if !own.is_empty() {
            show_health(event.generation, &own, output);
        }
        return Ok(());
    }
    if output.is_json() {
        output.line(String::from_utf8_lossy(data));
        return Ok(());
    }
    output.line(format_args!("generation {}", event.generation));
    for key in &event.delete {
        let line = output.paint(Colour::Red, &format!("- {key}"));
        output.line(line);
    }
    for binding in &event.put {
        let line = output.paint(Colour::Green, &format!("+ {binding}"));
        output.line(line);
    }
    for HealthReport { binding, state, .. } in &event.health {
        output.line(format_args!("= {binding} is {state}"));
    }
    Ok(())
}
