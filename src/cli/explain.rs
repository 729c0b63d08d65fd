//! `sixway explain`: what would happen to a packet, step by step, and what leaves.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::control::explanation::to_json;
use crate::control::question::question;
use crate::control::server::{ExplainRequest, Problem};
use crate::engine::explain::explain;
use crate::path::Context;
use crate::table;
use crate::units::{Ip, Tick};

use super::Exit;
use super::arguments::Explain;
use super::check::show_mistakes;
use super::client::{Client, ClientError};
use super::offline::Offline;
use super::output::{Colour, Output, complain};

pub(super) fn run(arguments: &Explain, output: &mut Output) -> Exit {
    let request = ExplainRequest {
        port: arguments.port.clone(),
        proto: arguments.proto.0.to_string(),
        src: with_port(arguments.src.ip, arguments.src.port),
        dst: with_port(arguments.dst.ip, arguments.dst.port),
    };
    let explained = match (&arguments.config, &arguments.socket) {
        (Some(config), _) => match Offline::load(config) {
            Ok(engine) => explain_offline(&engine, &request).map_err(ClientError::Refused),
            Err(mistakes) => {
                show_mistakes(&mistakes, output);
                return Exit::No;
            }
        },
        (None, socket) => ask(socket.as_deref().unwrap_or(Path::new(crate::control::config::SOCKET)), &request),
    };
    match explained {
        Ok(explained) => {
            show(&explained, output);
            Exit::Done
        }
        Err(error) => {
            let exit = if matches!(error, ClientError::Refused(_)) { Exit::BadUsage } else { Exit::No };
            complain(error);
            exit
        }
    }
}

fn explain_offline(engine: &Offline, request: &ExplainRequest) -> Result<Value, Problem> {
    let around = &engine.assembly.around;
    let question = question(request, around)?;
    let guard = table::pin();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cx = Context {
        names: engine.assembly.names.view(&guard),
        around,
        state: &engine.state,
        hops: &engine.hops,
        now: Tick(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
        dry_run: true,
    };
    explain(&cx, &question).map(|explanation| to_json(&explanation, around)).map_err(Problem::malformed)
}

fn ask(socket: &Path, request: &ExplainRequest) -> Result<Value, ClientError> {
    let body = serde_json::to_value(request).map_err(|error| ClientError::Broken(error.to_string()))?;
    Client::new(socket).post("/v1/explain", &body)
}

fn show(explained: &Value, output: &mut Output) {
    if output.is_json() {
        return output.json(explained);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    output.line(format_args!("arrives  {}", text(&explained["before"])));
    let steps = explained["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let width = steps.iter().map(|step| text(&step["step"]).len()).max().unwrap_or(0);
    for step in steps {
        let name = output.paint(Colour::Bold, &format!("{:<width$}", text(&step["step"])));
        output.line(format_args!("  {name}  {}", text(&step["text"])));
    }
    if !explained["after"].is_null() {
        output.line(format_args!("leaves   {}: {}", text(&explained["out"]), text(&explained["after"])));
    }
}

fn with_port(ip: Ip, port: u16) -> String {
    std::net::SocketAddr::new(ip.to_std(), port).to_string()
}
