//! `docs/openapi.json` against the server: the same routes, and answers of the form that it describes.

#[allow(dead_code)]
#[path = "cli/engine.rs"]
mod engine;
#[allow(dead_code)]
#[path = "cli/support.rs"]
mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use engine::with_engine;
use serde_json::{Value, json};
use sixway::control::server::ROUTES;
use sixway::naming::{BindingKey, BindingSpec};

fn document() -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// The schema of an answer.
fn schema<'d>(document: &'d Value, path: &str, method: &str, status: u16, kind: &str) -> &'d Value {
    let responses = &document["paths"][path][method]["responses"];
    let response = responses.get(status.to_string()).unwrap_or(&responses["default"]);
    let schema = &follow(document, response)["content"][kind]["schema"];
    assert!(!schema.is_null(), "{method} {path} may not answer {status} with {kind}");
    schema
}

fn follow<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(at) => document.pointer(at.trim_start_matches('#')).unwrap_or_else(|| panic!("{at} is not there")),
        None => value,
    }
}

/// What of a value the schema does not allow (JSON Schema, as far as the document uses it).
fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = follow(document, schema);
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    if !kinds.is_empty() && !kinds.iter().any(is) {
        return Err(format!("{at}: {value} is no {kinds:?}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Err(format!("{at}: {value} is none of {allowed:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(name).ok_or_else(|| format!("{at}: {name} is missing"))?;
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => check(document, schema, member, &format!("{at}.{name}"))?,
            None if schema["additionalProperties"] == false => return Err(format!("{at}: {name} is not described")),
            None => {}
        }
    }
    let items = value.as_array().into_iter().flatten().filter(|_| !schema["items"].is_null());
    items.enumerate().try_for_each(|(nth, item)| check(document, &schema["items"], item, &format!("{at}[{nth}]")))
}

fn ask(socket: &str, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    let headers = format!("Content-Type: application/json\r\nContent-Length: {length}");
    write!(stream, "{} {path} HTTP/1.0\r\n{headers}\r\n\r\n{body}", method.to_uppercase()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    let kind = kind.split(';').next().unwrap().to_owned();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), kind, body.to_owned())
}

#[test]
fn the_routes_are_those_of_the_server() {
    let document = document();
    let described: BTreeSet<(&str, &str)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| (&**path, &**method)))
        .collect();
    let served: BTreeSet<(&str, &str)> =
        ROUTES.iter().flat_map(|(path, methods)| methods.iter().map(move |method| (*path, *method))).collect();
    assert_eq!(described, served);
    with_engine("openapi-routes", |socket| {
        for (path, methods) in ROUTES.iter().filter(|(path, _)| !path.ends_with("/watch")) {
            for method in ["get", "put", "post", "delete"] {
                let (status, ..) = ask(socket, method, path, "{");
                assert_eq!(status != 405, methods.contains(&method), "{method} {path}: {status}");
            }
        }
    });
}

#[test]
fn the_examples_are_understood() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for example in schemas["Binding"]["examples"].as_array().unwrap() {
        check(&document, &schemas["Binding"], example, "Binding").unwrap();
        serde_json::from_value::<BindingSpec>(example.clone()).unwrap();
    }
    for example in schemas["ChangeSet"]["examples"].as_array().unwrap() {
        check(&document, &schemas["ChangeSet"], example, "ChangeSet").unwrap();
        serde_json::from_value::<Vec<BindingSpec>>(example["put"].clone()).unwrap();
        serde_json::from_value::<Vec<BindingKey>>(example["delete"].clone()).unwrap();
    }
}

#[test]
fn answers_are_of_the_form_that_is_described() {
    const WEB_HEALTH: &str = "/v1/health/blue,tcp,02:42:0a:02:00:02,10.2.0.2:80";
    let document = document();
    let web = &document["components"]["schemas"]["Binding"]["examples"][0];
    let put = json!({ "put": [web] }).to_string();
    let mut clash = web.clone();
    clash["container"]["port"] = 81.into();
    let clash = json!({ "put": [clash] }).to_string();
    with_engine("openapi-answers", |socket| {
        for (method, path, body, expected) in [
            ("get", "/v1/status", "", 200),
            ("get", "/v1/ports", "", 200),
            ("post", "/v1/ports", r#"{"name":"web7","interface":"veth-web7","network":"blue"}"#, 201),
            ("post", "/v1/ports", r#"{"name":"uplink","interface":"eth1","network":"blue"}"#, 422),
            ("post", "/v1/ports", "{}", 400),
            ("delete", "/v1/ports/web7", "", 204),
            ("delete", "/v1/ports/web8", "", 404),
            ("delete", "/v1/ports/uplink", "", 409),
            ("get", "/v1/workers", "", 200),
            ("get", "/v1/drops", "", 200),
            ("get", "/v1/flows", "", 200),
            ("post", "/v1/explain", r#"{"port":"web1","proto":"tcp","src":"10.1.0.2:1","dst":"10.2.0.2:80"}"#, 200),
            ("post", "/v1/changes", &put, 200),
            ("post", "/v1/changes", &clash, 422),
            ("post", "/v1/changes", r#"{"if_generation":1}"#, 409),
            ("post", "/v1/changes", "{", 400),
            ("put", WEB_HEALTH, r#"{"state":"unhealthy"}"#, 200),
            ("put", WEB_HEALTH, r#"{"state":"ill"}"#, 400),
            ("put", "/v1/health/blue,tcp,-,10.9.9.9:80", r#"{"state":"healthy"}"#, 404),
            ("get", "/v1/health", "", 200),
            ("get", WEB_HEALTH, "", 200),
            ("get", "/v1/health/blue,tcp,-,10.9.9.9:80", "", 404),
            ("get", "/v1/health/web", "", 400),
            ("put", "/v1/bindings", "{}", 400),
            ("get", "/v1/bindings", "", 200),
            ("get", "/v1/bindings/watch?generation=99", "", 410),
            ("put", "/v1/bindings", "", 200),
            ("get", "/metrics", "", 200),
        ] {
            let (status, kind, body) = ask(socket, method, path, body);
            assert_eq!(status, expected, "{method} {path}: {body}");
            let route = path.split('?').next().unwrap();
            let route = match route {
                health if health.starts_with("/v1/health/") => "/v1/health/{key}",
                port if port.starts_with("/v1/ports/") => "/v1/ports/{name}",
                route => route,
            };
            if status == 204 {
                assert!(body.is_empty() && document["paths"][route][method]["responses"]["204"].is_object());
                continue;
            }
            let schema = schema(&document, route, method, status, &kind);
            // NDJSON is as many values as lines.
            let values: Vec<Value> = match kind.ends_with("json") {
                true => serde_json::Deserializer::from_str(&body).into_iter().map(Result::unwrap).collect(),
                false => vec![Value::String(body)],
            };
            values.iter().for_each(|value| check(&document, schema, value, path).unwrap());
        }
    });
}
