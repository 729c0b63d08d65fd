//! Requests to the control socket, one after the other over one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use sixway::naming::{BindingSpec, Located};

use crate::histogram;

/// As it goes over the socket.
pub struct Request(Vec<u8>);

impl Request {
    /// A change set.
    pub fn changes(puts: &[Located<BindingSpec>]) -> Request {
        let puts: Vec<&BindingSpec> = puts.iter().map(|put| &put.value).collect();
        Request::new("POST /v1/changes", json!({ "put": puts }).to_string().as_bytes())
    }

    /// A whole mapping, a binding a line.
    pub fn whole<'a>(bindings: impl Iterator<Item = &'a BindingSpec>) -> Request {
        let mut body = Vec::new();
        for binding in bindings {
            serde_json::to_writer(&mut body, binding).expect("a binding is JSON");
            body.push(b'\n');
        }
        Request::new("PUT /v1/bindings", &body)
    }

    fn new(what: &str, body: &[u8]) -> Request {
        let head = format!("{what} HTTP/1.1\r\nHost: sixway\r\nContent-Length: {}\r\n\r\n", body.len());
        Request([head.as_bytes(), body].concat())
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<UnixStream>,
    times: Histogram<u64>,
}

impl Client {
    pub fn new(socket: &Path) -> Client {
        let stream = BufReader::new(UnixStream::connect(socket).expect("the control socket"));
        Client { stream, times: histogram() }
    }

    /// Sends them in order, no sooner than `between` after each other; how many.
    pub fn send_all(&mut self, requests: &[Request], between: Duration) -> usize {
        let began = Instant::now();
        for (nth, request) in requests.iter().enumerate() {
            let left = (began + between * nth as u32).saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::sleep(left);
            }
            let sent = Instant::now();
            self.stream.get_mut().write_all(&request.0).expect("sent");
            self.answer();
            self.times.record(sent.elapsed().as_nanos() as u64).expect("less than centuries");
        }
        requests.len()
    }

    /// From requests to answers, since the last time.
    pub fn take_times(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.times, histogram())
    }

    fn answer(&mut self) {
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("an answer");
            match line.trim_end() {
                "" => break,
                first if status.is_empty() => status = first.to_owned(),
                header => {
                    length = header.strip_prefix("content-length: ").map_or(length, |it| it.parse().expect("a number"));
                }
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        assert_eq!(status, "HTTP/1.1 200 OK", "{}", String::from_utf8_lossy(&body));
    }
}
