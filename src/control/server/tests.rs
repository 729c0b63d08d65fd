use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::control::changes::{Asked, History};
use crate::control::config::Control;
use crate::control::journal::Outcome;
use crate::naming::Names;
use support::Mapping;

mod mapping;
#[path = "../../../tests/support/mapping.rs"]
mod support;

/// An engine with one port that has dropped three packets, and a mapping.
struct Engine {
    mapping: Mapping,
    /// Its disk never answers.
    is_stuck: bool,
}

impl Engine {
    fn new() -> Engine {
        Engine { mapping: Mapping::new(), is_stuck: false }
    }
}

impl Mapped for Engine {
    fn names(&self) -> &Arc<Names> {
        &self.mapping.names
    }

    fn history(&self) -> &History {
        &self.mapping.history
    }

    fn change(self: Arc<Self>, asked: Asked) -> Changing {
        self.mapping.change(&asked)
    }

    fn kept(&self) -> Option<oneshot::Receiver<Outcome>> {
        self.is_stuck.then(|| {
            let (never, kept) = oneshot::channel();
            std::mem::forget(never);
            kept
        })
    }
}

impl Ports for Engine {
    fn attach(self: Arc<Self>, form: Map<String, Value>) -> Attaching {
        support::attach(form)
    }

    fn detach(&self, name: &str) -> Result<(), Problem> {
        support::detach(name, "web 7")
    }
}

impl Observed for Engine {
    fn status(&self) -> Status {
        Status { generation: 7, pinned: true, ..Status::default() }
    }

    fn ports(&self) -> Vec<PortReport> {
        let traffic = Traffic { rx_packets: 10, ..Traffic::default() };
        vec![PortReport { name: "uplink".into(), traffic, ..PortReport::default() }]
    }

    fn workers(&self) -> Vec<WorkerReport> {
        vec![WorkerReport { core: Some(1), ..WorkerReport::default() }]
    }

    fn drops(&self) -> Vec<DropCount> {
        vec![DropCount { port: "uplink".into(), reason: "not_public".into(), packets: 3 }]
    }

    fn flows(&self, place: u32) -> (Vec<Flow>, Option<u32>) {
        let end = |ip: &str, port| End { ip: ip.into(), port };
        let flow = Flow {
            proto: "tcp".into(),
            wire: end("192.168.50.1", 21504),
            network: "blue".into(),
            container: end("10.1.0.2", 40000 + place as u16),
            remote: None,
            state: "established".into(),
            idle_s: 3,
        };
        (vec![flow], (place < 2).then_some(place + 1))
    }

    fn explain(&self, request: &ExplainRequest) -> Result<Value, Problem> {
        match request.port.as_str() {
            "uplink" => Ok(json!({"verdict": "drop"})),
            other => Err(Problem::not_found(format!("there is no port `{other}`"))),
        }
    }
}

/// A directory of this test's own, removed with what is in it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("sixway-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the server at `socket` answers: status, content type, body.
fn ask(socket: &Path, request: &str, body: &str) -> (u16, String, Value) {
    let (status, kind, text) = ask_text(socket, request, body);
    (status, kind, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// As [`ask`], with the body as it is.
fn ask_text(socket: &Path, request: &str, body: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    let headers =
        format!("Host: sixway\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}");
    write!(stream, "{request} HTTP/1.1\r\n{headers}\r\n\r\n").unwrap();
    // A server that has seen enough answers before it has read all.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let body = if header("transfer-encoding: ") == "chunked" { dechunked(body) } else { body.to_owned() };
    (status, header("content-type: ").to_owned(), body)
}

/// A body without the sizes of its chunks (RFC 9112 section 7.1).
fn dechunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}

/// Runs `story` against a server, then stops the server.
fn with_server<T>(test: &str, story: impl FnOnce(&Path) -> T) -> T {
    with_engine(test, Engine::new(), story)
}

fn with_engine<T>(test: &str, engine: Engine, story: impl FnOnce(&Path) -> T) -> T {
    let directory = Directory::new(test);
    let path = directory.0.join("control.sock");
    let socket = ControlSocket::bind(&path, &Control::default()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(socket, Arc::new(engine), async { drop(stopped.await) }))
    });
    let told = story(&path);
    stop.send(()).unwrap();
    server.join().unwrap().unwrap();
    assert!(!path.exists(), "the socket's file goes with the server");
    told
}

#[test]
fn the_engine_can_be_asked_how_it_is() {
    with_server("ask", |socket| {
        let (status, kind, body) = ask(socket, "GET /v1/status", "");
        assert_eq!((status, kind.as_str()), (200, "application/json"));
        assert_eq!((&body["generation"], &body["pinned"], &body["quarantine"]), (&json!(7), &json!(true), &json!([])));
        assert_eq!(
            ask(socket, "GET /v1/drops", "").2,
            json!([{"port": "uplink", "reason": "not_public", "packets": 3}])
        );
        assert_eq!(ask(socket, "GET /v1/ports", "").2[0]["rx_packets"], 10);
        assert_eq!(ask(socket, "GET /v1/workers", "").2[0]["core"], 1);
        let (_, kind, flows) = ask_text(socket, "GET /v1/flows", "");
        assert_eq!((kind.as_str(), flows.lines().count()), ("application/x-ndjson", 3));
        let packet = r#"{"port":"uplink","proto":"tcp","src":"10.1.0.2:4000","dst":"10.2.0.2:80"}"#;
        assert_eq!(ask(socket, "POST /v1/explain", packet).2, json!({"verdict": "drop"}));
    });
}

#[test]
fn errors_are_problem_documents() {
    with_server("problems", |socket| {
        let elsewhere = r#"{"port":"eth9","proto":"tcp","src":"10.1.0.2:4000","dst":"10.2.0.2:80"}"#;
        let large = "x".repeat(100_000);
        for (request, body, status, detail) in [
            ("GET /v1/nothing", "", 404, "there is no /v1/nothing"),
            ("DELETE /v1/status", "", 405, "/v1/status does not take DELETE"),
            ("POST /v1/ports", "[]", 400, "the port: invalid type"),
            ("POST /v1/ports", r#"{"name":"web7","nmae":"web7"}"#, 400, "unknown key `nmae`"),
            ("POST /v1/ports", r#"{"name":"uplink","interface":"eth1","network":"blue"}"#, 422, "already"),
            ("DELETE /v1/ports/web8", "", 404, "there is no port `web8`"),
            ("DELETE /v1/ports/uplink", "", 409, "of the configuration"),
            ("DELETE /v1/ports", "", 405, "/v1/ports does not take DELETE"),
            ("POST /v1/explain", elsewhere, 404, "there is no port `eth9`"),
            ("POST /v1/explain", "{", 400, "EOF"),
            ("POST /v1/explain", r#"{"port":"uplink"}"#, 400, "missing field"),
            ("POST /v1/explain", &large, 413, "length limit exceeded"),
        ] {
            let (found, kind, problem) = ask(socket, request, body);
            assert_eq!((found, kind.as_str()), (status, "application/problem+json"), "{request}: {problem}");
            assert_eq!(problem["status"], status);
            assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        }
    });
}

#[test]
fn ports_come_and_go() {
    with_server("ports", |socket| {
        let port = r#"{"name":"web7","interface":"veth-web7","network":"blue"}"#;
        let (status, kind, body) = ask(socket, "POST /v1/ports", port);
        assert_eq!((status, kind.as_str(), &body["name"]), (201, "application/json", &json!("web7")));
        let (status, _, body) = ask_text(socket, "DELETE /v1/ports/web%207", "");
        assert_eq!((status, body.as_str()), (204, ""));
        let (_, _, problem) = ask(socket, "POST /v1/ports", r#"{"name":"web 7","mtu":1}"#);
        assert_eq!(problem["errors"].as_array().map(Vec::len), Some(4), "all at once: {problem}");
    });
}

#[test]
fn one_engine_has_the_socket() {
    let directory = Directory::new("bind");
    let path = directory.0.join("run/control.sock");
    let first = ControlSocket::bind(&path, &Control::default()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(ControlSocket::bind(&path, &Control::default()).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert!(UnixStream::connect(&path).is_ok(), "the refused one has broken nothing");
    drop(first);
    assert!(ControlSocket::bind(&path, &Control::default()).is_ok());
}

#[test]
fn a_dead_engines_socket_is_replaced_and_other_files_are_not() {
    let directory = Directory::new("stale");
    let path = directory.0.join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err() && path.exists(), "as a killed process leaves it");
    drop(ControlSocket::bind(&path, &Control::default()).unwrap());
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(ControlSocket::bind(&path, &Control::default()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let control = Control { read_group: Some("no-such-group".into()), ..Control::default() };
    let nobody = ControlSocket::bind(&directory.0.join("other.sock"), &control);
    assert_eq!(nobody.unwrap_err().to_string(), "there is no group `no-such-group`");
}
