//! The control socket, as a program that changes the mapping uses it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

/// POST of a change set on a connection that stays: status and body; `None` once the engine is gone.
pub fn post(stream: &mut UnixStream, set: &Value) -> Option<(u16, Value)> {
    let body = set.to_string();
    let length = body.len();
    let head = format!("POST /v1/changes HTTP/1.1\r\nHost: sixway\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).ok()?;
    let (status, body) = answer(stream)?;
    Some((status, serde_json::from_str(&body).ok()?))
}

/// The same on a connection of its own.
pub fn post_once(socket: &Path, set: &Value) -> (u16, Value) {
    post(&mut UnixStream::connect(socket).expect("the control socket"), set).expect("an answer")
}

/// The next answer on a connection; `None` if it ends before.
pub fn answer(stream: &mut UnixStream) -> Option<(u16, String)> {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()));
            }
        }
        match stream.read(&mut piece).ok()? {
            0 => return None,
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
}
