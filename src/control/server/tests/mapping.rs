//! The mapping over the socket: read, changed, watched.

use super::*;

const WEB: &str = r#"{"network":"blue","proto":"tcp","server":{"mac":"02:00:00:00:00:02","ip":"192.168.50.2","port":20480},"container":{"mac":"02:42:0a:02:00:02","ip":"10.2.0.2","port":80},"weight":2}"#;
const BLOCK: &str = r#"{"network":"blue","proto":"any","server":{"ip":"192.168.50.1","ports":"20736-20991"},"container":{"ip":"10.1.0.2","port":"*"},"native":true}"#;
const SHOP: &str = r#"{"network":"red","proto":"tcp","server":{"ip":"192.168.50.2","port":20481},"container":{"ip":"10.2.0.2","port":80}}"#;
const WEB_KEY: &str =
    r#"{"network":"blue","proto":"tcp","container":{"mac":"02:42:0a:02:00:02","ip":"10.2.0.2","port":80}}"#;

/// The lines of a listing, in order.
fn list(socket: &Path, query: &str) -> Vec<String> {
    let (status, kind, body) = ask_text(socket, &format!("GET /v1/bindings{query}"), "");
    assert_eq!((status, kind.as_str()), (200, "application/x-ndjson"), "{body}");
    let mut lines: Vec<String> = body.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn put(socket: &Path, bindings: &[&str]) -> u64 {
    let (status, _, body) = ask(socket, "PUT /v1/bindings", &bindings.join("\n"));
    assert_eq!(status, 200, "{body}");
    body["generation"].as_u64().unwrap()
}

#[test]
fn a_mapping_is_put_and_listed() {
    with_server("put", |socket| {
        assert_eq!(list(socket, ""), [""; 0]);
        let (status, _, body) = ask(socket, "PUT /v1/bindings", &[WEB, "", BLOCK, SHOP].join("\r\n"));
        assert_eq!((status, &body["added"]), (200, &json!(3)), "{body}");
        assert_eq!(list(socket, ""), [BLOCK, WEB, SHOP]);
        for (query, expected) in [
            ("?network=blue", &[BLOCK, WEB][..]),
            ("?ip=10.2.0.2", &[WEB, SHOP]),
            ("?ip=10.2.0.2&network=red", &[SHOP]),
            ("?port=20800", &[BLOCK]),
            ("?port=80&server=192.168.50.2", &[WEB, SHOP]),
            ("?server=192.168.50.3", &[]),
        ] {
            assert_eq!(list(socket, query), expected, "{query}");
        }
        // What is there already stays; what is not named goes.
        let (_, _, body) = ask(socket, "PUT /v1/bindings", WEB);
        assert_eq!((&body["added"], &body["removed"]), (&json!(0), &json!(2)));
        assert_eq!(list(socket, ""), [WEB]);
    });
}

#[test]
fn a_change_set_is_whole_or_not_at_all() {
    with_server("change", |socket| {
        let first = put(socket, &[WEB]);
        let moved = WEB.replace("192.168.50.2\",\"port\":20480", "192.168.50.3\",\"port\":20490");
        let body = format!(r#"{{"put":[{moved},{SHOP}],"if_generation":{first}}}"#);
        let (status, _, answer) = ask(socket, "POST /v1/changes", &body);
        assert_eq!((status, &answer["replaced"], &answer["added"]), (200, &json!(1), &json!(1)), "{answer}");
        assert_eq!(answer["generation"], first + 1);
        assert_eq!(list(socket, ""), [&moved, SHOP]);

        let (status, kind, problem) = ask(socket, "POST /v1/changes", &body);
        assert_eq!((status, kind.as_str()), (409, "application/problem+json"));
        assert_eq!(problem["generation"], first + 1, "the generation to look at");

        // A good delete beside a put that clashes: nothing happens.
        let clash = BLOCK.replace("192.168.50.1\",\"ports\":\"20736-20991", "192.168.50.2\",\"ports\":\"20480-20735");
        let (status, _, problem) =
            ask(socket, "POST /v1/changes", &format!(r#"{{"put":[{clash}],"delete":[{WEB_KEY}]}}"#));
        assert_eq!(status, 422, "{problem}");
        let error = &problem["errors"][0];
        assert_eq!((&error["binding"], &error["other"]), (&parsed(&clash), &parsed(SHOP)));
        assert!(error["detail"].as_str().unwrap().contains("wire name"), "{problem}");
        assert_eq!(list(socket, ""), [&moved, SHOP]);

        let (status, _, answer) = ask(socket, "POST /v1/changes", &format!(r#"{{"delete":[{WEB_KEY}]}}"#));
        assert_eq!((status, &answer["removed"]), (200, &json!(1)), "{answer}");
        let (status, _, problem) = ask(socket, "POST /v1/changes", &format!(r#"{{"delete":[{WEB_KEY}]}}"#));
        assert_eq!((status, &problem["errors"][0]["binding"]), (422, &parsed(WEB_KEY)));
        assert_eq!(list(socket, ""), [SHOP]);
    });
}

#[test]
fn what_cannot_be_understood_changes_nothing() {
    with_server("malformed", |socket| {
        let generation = put(socket, &[WEB]);
        let long = "x".repeat(20_000);
        let huge = format!(r#"{{"put":[{}]}}"#, vec![WEB; 100_000].join(","));
        for (request, body, status, detail) in [
            ("POST /v1/changes", "", 400, "the change set: EOF"),
            ("POST /v1/changes", "[1,2", 400, "the change set"),
            ("POST /v1/changes", r#"{"putt":[]}"#, 400, "unknown field `putt`"),
            ("POST /v1/changes", r#"{"put":[{"network":"blue"}]}"#, 400, "element 1: missing field"),
            ("POST /v1/changes", &huge, 413, "16777216 bytes"),
            ("PUT /v1/bindings", &format!("{SHOP}\n{{\"network\":7}}\n{SHOP}"), 400, "line 2: "),
            ("PUT /v1/bindings", &long, 400, "line 1 is longer"),
            ("PUT /v1/bindings?if_generation=99", SHOP, 409, "is of generation"),
            ("PUT /v1/bindings?colour=red", SHOP, 400, "unknown field `colour`"),
            ("PUT /v1/bindings", &format!("{SHOP}\n{SHOP}"), 422, "same identity"),
            ("GET /v1/bindings?ip=home", "", 400, "`home` is no IP address"),
            ("GET /v1/bindings?network=green", "", 400, "no network `green`"),
            ("GET /v1/bindings?port=70000", "", 400, "port"),
            ("GET /v1/bindings/watch?generation=99", "", 410, "list the bindings again"),
            ("DELETE /v1/bindings", "", 405, "does not take DELETE"),
        ] {
            let (found, kind, problem) = ask(socket, request, body);
            assert_eq!((found, kind.as_str()), (status, "application/problem+json"), "{request}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains(detail), "{request}: {problem}\nexpected {detail}");
        }
        assert_eq!(list(socket, ""), [WEB]);
        assert_eq!(ask(socket, "POST /v1/changes", "{}").2["generation"], generation);
    });
}

/// Someone who watches hears of every change in the form in which it could be asked for, and can come back.
#[test]
fn a_watcher_hears_of_every_change_and_can_resume() {
    with_server("watch", |socket| {
        let start = put(socket, &[WEB]);
        let mut watcher = Watcher::new(socket, "");
        assert_eq!(watcher.next(), ("generation".into(), Some(start), json!({"generation": start})));
        put(socket, &[WEB, BLOCK]);
        let moved = BLOCK.replace("20736-20991", "20992-21247");
        ask(socket, "POST /v1/changes", &format!(r#"{{"put":[{moved}]}}"#));
        let added = json!({"generation": start + 1, "put": [parsed(BLOCK)], "delete": []});
        assert_eq!(watcher.next(), ("change".into(), Some(start + 1), added.clone()));
        // A block that took other numbers has another key now.
        let old = json!({"network": "blue", "proto": "any", "container": {"ip": "10.1.0.2", "ports": "20736-20991"}});
        let renumbered = json!({"generation": start + 2, "put": [parsed(&moved)], "delete": [old]});
        assert_eq!(watcher.next(), ("change".into(), Some(start + 2), renumbered.clone()));
        drop(watcher);

        put(socket, &[]);
        let mut resumed = Watcher::new(socket, &format!("Last-Event-ID: {}\r\n", start + 1));
        assert_eq!(resumed.next().0, "generation");
        assert_eq!(resumed.next(), ("change".into(), Some(start + 2), renumbered));
        let (kind, id, last) = resumed.next();
        assert_eq!((kind.as_str(), id, last["delete"].as_array().unwrap().len()), ("change", Some(start + 3), 2));
        assert_eq!(ask(socket, &format!("GET /v1/bindings/watch?generation={}", start - 2), "").0, 410);
    });
}

/// What is said of a binding's health is a change set like any other, which watchers can pass on as it is.
#[test]
fn health_is_said_listed_and_watched() {
    const WEB_HEALTH: &str = "PUT /v1/health/blue,tcp,02:42:0a:02:00:02,10.2.0.2:80";
    with_server("health", |socket| {
        let start = put(socket, &[WEB, BLOCK]);
        let mut watcher = Watcher::new(socket, "");
        watcher.next();
        let said = |state: &str| ask(socket, WEB_HEALTH, &format!(r#"{{"state":"{state}"}}"#));
        let listed = || ask_text(socket, "GET /v1/health", "").2;
        assert_eq!(listed(), "");

        let (status, _, answer) = said("unhealthy");
        assert_eq!((status, &answer["generation"], &answer["health"]), (200, &json!(start + 1), &json!(1)), "{answer}");
        let report = json!({"binding": parsed(WEB_KEY), "state": "unhealthy"});
        assert_eq!(parsed(listed().trim()), report);
        let (_, _, event) = watcher.next();
        assert_eq!(event, json!({"generation": start + 1, "put": [], "delete": [], "health": [report]}));
        assert_eq!(said("unhealthy").2["generation"], start + 1, "known already");

        said("unknown");
        assert_eq!(listed(), "");
        let relayed = json!({"put": event["put"], "delete": event["delete"], "health": event["health"]});
        let (status, _, answer) = ask(socket, "POST /v1/changes", &relayed.to_string());
        assert_eq!((status, &answer["health"]), (200, &json!(1)), "{answer}");
        assert_eq!(parsed(listed().trim()), report);

        let (status, _, problem) = ask(socket, "PUT /v1/health/blue,tcp,-,10.9.9.9:80", r#"{"state":"healthy"}"#);
        assert_eq!((status, &problem["status"]), (404, &json!(404)), "{problem}");
        for (request, body, hint) in [
            (WEB_HEALTH, r#"{"state":"ill"}"#, "unhealthy"),
            (WEB_HEALTH, "{}", "state"),
            ("PUT /v1/health/blue,tcp", r#"{"state":"healthy"}"#, "NETWORK,PROTO,MAC,IP:PORT"),
        ] {
            let (status, _, problem) = ask(socket, request, body);
            assert!(status == 400 && problem["detail"].as_str().unwrap().contains(hint), "{problem}");
        }
    });
}

/// A whole mapping that is exchanged is too much to be told: the watcher reads it anew.
#[test]
fn a_watcher_that_misses_too_much_is_told_so() {
    with_server("snapshot", |socket| {
        let many: Vec<String> = (0..35_000)
            .map(|n| {
                let (ip, port) = (format!("10.{}.{}.{}", 3 + n / 65_536, n / 256 % 256, n % 256), 20_480 + n);
                format!(
                    r#"{{"network":"blue","proto":"tcp","server":{{"ip":"192.168.50.9","port":{port}}},"container":{{"ip":"{ip}","port":80}}}}"#
                )
            })
            .collect();
        let mut watcher = Watcher::new(socket, "");
        watcher.next();
        let generation = put(socket, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(watcher.next(), ("snapshot-needed".into(), None, json!({"generation": generation})));
        assert_eq!(list(socket, "").len(), 35_000);
    });
}

/// Whoever prefers not to wait for the disk is answered while it is stuck, and nobody else is; packets see both.
#[test]
fn who_is_in_haste_does_not_wait_for_the_disk() {
    let stuck = Engine { is_stuck: true, ..Engine::new() };
    let names = Arc::clone(stuck.names());
    with_engine("haste", stuck, |socket| {
        let change = |binding: &str, header: &str, patience: u64| {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_millis(patience))).unwrap();
            let body = format!(r#"{{"put":[{binding}]}}"#);
            let length = body.len();
            write!(
                stream,
                "POST /v1/changes HTTP/1.1\r\nHost: sixway\r\n{header}Content-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).map(|()| String::from_utf8_lossy(&status).into_owned()).ok()
        };
        let accepted = change(WEB, "Prefer: wait=3, Respond-Async\r\n", 10_000);
        assert_eq!(accepted.as_deref(), Some("HTTP/1.1 202"));
        assert_eq!(names.len(), 1);
        assert_eq!(change(SHOP, "Prefer: wait=3\r\n", 100), None);
        assert_eq!(names.len(), 2);
    });
}

/// One binding is asked for by its key, in any form; who was cut off hears of its health from where it left off.
#[test]
fn health_of_one_binding_and_a_watch_that_is_resumed() {
    with_server("health-key", |socket| {
        put(socket, &[WEB, BLOCK, SHOP]);
        let get = |key: &str| ask(socket, &format!("GET /v1/health/{key}"), "");
        let mut watcher = Watcher::new(socket, "");
        let (_, start, _) = watcher.next();
        let known = "blue,tcp,02:42:0a:02:00:02,10.2.0.2:80";
        assert_eq!(get(known).2, json!({"binding": parsed(WEB_KEY), "state": "unknown"}));
        for (key, state) in
            [(known, "unhealthy"), ("red,tcp,-,10.2.0.2:80", "healthy"), ("blue,any,-,10.1.0.2:*", "healthy")]
        {
            assert_eq!(ask(socket, &format!("PUT /v1/health/{key}"), &format!(r#"{{"state":"{state}"}}"#)).0, 200);
            assert_eq!(get(key).2["state"], state, "{key}");
        }
        assert_eq!(get("blue,any,-,10.1.0.2:20736-20991").2["own"], true, "on this server");
        for (key, status) in [("blue,tcp,-,10.2.0.2:80", 404), ("green,tcp,-,10.2.0.2:80", 404), ("blue,tcp", 400)] {
            let (found, kind, problem) = get(key);
            assert_eq!((found, kind.as_str()), (status, "application/problem+json"), "{key}: {problem}");
        }
        let (_, first, event) = watcher.next();
        assert_eq!((first, &event["health"][0]["state"]), (start.map(|id| id + 1), &json!("unhealthy")));
        drop(watcher);
        let mut resumed = Watcher::new(socket, &format!("Last-Event-ID: {}\r\n", first.unwrap()));
        resumed.next();
        let states = [resumed.next().2, resumed.next().2].map(|event| event["health"][0]["own"] == true);
        assert_eq!(states, [false, true], "nothing twice, nothing left out");
    });
}

/// A server that stops ends the streams of those who watch, and does not cut them off.
#[test]
fn watchers_are_told_when_the_server_stops() {
    let mut watcher = with_server("last-words", |socket| {
        let mut watcher = Watcher::new(socket, "");
        watcher.next();
        watcher
    });
    let last = watcher.lines.by_ref().map(Result::unwrap).filter(|line| !line.is_empty()).last();
    assert_eq!(last.as_deref(), Some("0"), "the last chunk");
}

/// A client that breaks off in the middle has changed nothing, and nobody is the worse for it.
#[test]
fn a_client_that_breaks_off_changes_nothing() {
    with_server("broken-off", |socket| {
        put(socket, &[WEB]);
        for request in ["PUT /v1/bindings", "POST /v1/changes"] {
            for _ in 0..10 {
                let mut stream = UnixStream::connect(socket).unwrap();
                write!(stream, "{request} HTTP/1.1\r\nHost: sixway\r\nContent-Length: 100000\r\n\r\n{SHOP}\n").unwrap();
            }
        }
        // Whole mappings are read one at a time: those that broke off are out of the way as soon as that is noticed.
        let began = std::time::Instant::now();
        while ask(socket, "PUT /v1/bindings?if_generation=0", WEB).0 == 503 {
            assert!(began.elapsed().as_secs() < 10, "a place that is never given back");
        }
        assert_eq!(list(socket, ""), [WEB]);
    });
}

/// Garbage of all kinds: each is refused, and the server serves on.
#[test]
fn a_thousand_malformed_requests_do_no_harm() {
    with_server("garbage", |socket| {
        put(socket, &[WEB]);
        let heads =
            ["GET /v1/bindings", "PUT /v1/bindings", "POST /v1/changes", "\0\u{7f}", "GET", "PUT /v1/bindings?="];
        for nth in 0..1000usize {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            let body: String = WEB.chars().chain(BLOCK.chars()).skip(nth % 300).step_by(1 + nth % 3).collect();
            let head = heads[nth % heads.len()];
            let length = if nth % 7 == 0 { "-1".to_owned() } else { body.len().to_string() };
            let _ = write!(
                stream,
                "{head} HTTP/1.1\r\nHost: sixway\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let accepted = answer.starts_with(b"HTTP/1.1 200") && !head.starts_with("GET");
            assert!(!accepted, "{head}: {body}");
        }
        assert_eq!(list(socket, ""), [WEB]);
    });
}

/// So many connections and no more. When some have gone, others have their turn.
#[test]
fn there_is_room_for_so_many_connections() {
    with_server("room", |socket| {
        let mut held: Vec<UnixStream> = (0..256).map(|_| UnixStream::connect(socket).unwrap()).collect();
        let (status, kind, problem) = ask(socket, "GET /v1/status", "");
        assert_eq!((status, kind.as_str()), (503, "application/problem+json"), "{problem}");
        held.truncate(200);
        let began = std::time::Instant::now();
        while ask(socket, "GET /v1/status", "").0 != 200 {
            assert!(began.elapsed().as_secs() < 10, "places that are never given back");
        }
    });
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

/// Somebody at `GET /v1/bindings/watch`.
struct Watcher {
    lines: std::io::Lines<std::io::BufReader<UnixStream>>,
}

impl Watcher {
    fn new(socket: &Path, headers: &str) -> Watcher {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        write!(stream, "GET /v1/bindings/watch HTTP/1.1\r\nHost: sixway\r\n{headers}\r\n").unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
        assert_eq!(lines.next().unwrap().unwrap(), "HTTP/1.1 200 OK");
        assert!(lines.by_ref().any(|line| line.unwrap() == "content-type: text/event-stream"));
        Watcher { lines }
    }

    /// The next event: its kind, id and data. The sizes of chunks are passed over.
    fn next(&mut self) -> (String, Option<u64>, Value) {
        let (mut kind, mut id) = (String::new(), None);
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some(text) = line.strip_prefix("event: ") {
                kind = text.to_owned();
            } else if let Some(text) = line.strip_prefix("id: ") {
                id = text.parse().ok();
            } else if let Some(text) = line.strip_prefix("data: ") {
                return (kind, id, parsed(text));
            }
        }
    }
}
