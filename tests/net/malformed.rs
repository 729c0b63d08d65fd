//! Whatever is sent to the control socket: it is refused, changes nothing, leaves nothing behind, and no packet notices.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::Lab;
use crate::lab::raw::Random;
use crate::lab::traffic::Traffic;
use crate::lab::vitals::{Vitals, until_closed};

/// Less than the server would wait for the rest of a request.
const AT_ONCE: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

/// A thousand of each seed, twice, with fifty slow senders beside: each is answered with 4xx or closed. What is malformed
/// takes no memory that stays: the second thousand leaves no more than the first.
#[test]
fn a_thousand_malformed_requests_change_nothing() {
    let mut lab = Lab::running();
    let mut traffic = Traffic::start(&mut lab);
    let socket = lab.engine(1).socket();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_26);
    let count = std::env::var("SIXWAY_REQUESTS").map_or(1000, |number| number.parse().expect("a number"));
    println!("seed {seed}");
    let mut random = Random(seed);
    let before = Vitals::settled(lab.engine(1));
    let mut after_each = Vec::new();
    for _ in 0..2 {
        let mut slow: Vec<UnixStream> =
            (0..50).map(|_| UnixStream::connect(&socket).expect("the control socket")).collect();
        let (mut answered, mut closed) = (0, 0);
        for nth in 0..count {
            let request = malformed(&mut random, nth);
            match send(&socket, &request) {
                Some(status) => {
                    let shown = String::from_utf8_lossy(&request[..request.len().min(300)]).into_owned();
                    assert!((400..500).contains(&status), "request {nth} was answered with {status}: {shown}");
                    answered += 1;
                }
                None => closed += 1,
            }
            // A byte at a time of a request that is never finished.
            let turn = nth % slow.len();
            slow[turn].write_all(&b"POST /v1/changes HTTP/1.1\r\nx: "[(nth / 50).min(30)..][..1]).expect("it waits");
        }
        println!("{answered} were answered with 4xx, {closed} closed");
        drop(slow);
        until_closed(lab.engine(1), &before);
        let vitals = Vitals::settled(lab.engine(1));
        assert_eq!((vitals.generation, vitals.bindings), (before.generation, before.bindings), "nothing has changed");
        assert_eq!((vitals.records, vitals.table_bytes), (before.records, before.table_bytes));
        after_each.push(vitals);
    }
    let [first, second] = after_each[..] else { unreachable!("two") };
    println!(
        "resident {} KiB, then {} and {}",
        before.resident_bytes >> 10,
        first.resident_bytes >> 10,
        second.resident_bytes >> 10
    );
    assert!(second.resident_bytes < first.resident_bytes + 2 * MIB, "{first:?}, {second:?}");
    traffic.has_lost_nothing(&mut lab);
}

/// The status of the first answer to these bytes; `None` if the connection is closed without one.
fn send(socket: &Path, bytes: &[u8]) -> Option<u16> {
    let mut stream = UnixStream::connect(socket).expect("the control socket");
    stream.set_read_timeout(Some(AT_ONCE)).expect("a socket option");
    stream.set_write_timeout(Some(AT_ONCE)).expect("a socket option");
    // It may be answered, and closed, before all is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 4096];
    let mut head = Vec::new();
    loop {
        match stream.read(&mut answer) {
            Ok(0) => break,
            Ok(len) => head.extend_from_slice(&answer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("neither answered nor closed: {error}"),
        }
    }
    let head = String::from_utf8_lossy(&head);
    head.split_whitespace().nth(1).map(|status| status.parse().expect("a status"))
}

fn request(what: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{what} HTTP/1.1\r\nHost: sixway\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn noise(random: &mut Random, most: usize) -> Vec<u8> {
    (0..1 + random.below(most)).map(|_| random.next() as u8).collect()
}

/// A change set that is well formed and must be refused: nobody has this binding.
fn of_nobody() -> Value {
    json!({"delete": [{
        "network": "blue", "proto": "tcp", "container": {"mac": "02:42:0a:77:00:0a", "ip": "10.77.0.1", "port": 77},
    }]})
}

/// A binding that could be.
fn good() -> Value {
    json!({
        "network": "blue", "proto": "tcp", "server": {"mac": "02:00:00:00:00:02", "ip": "192.168.50.2", "port": 20490},
        "container": {"mac": "02:42:0a:00:00:0a", "ip": "10.0.0.10", "port": 8080},
    })
}

/// One of everything that can be wrong, in turn.
fn malformed(random: &mut Random, nth: usize) -> Vec<u8> {
    let whole = request("POST /v1/changes", of_nobody().to_string().as_bytes());
    match nth % 12 {
        0 => whole[..1 + random.below(whole.len() - 1)].to_vec(),
        1 => noise(random, 2000),
        2 => {
            let mut flipped = whole;
            for _ in 0..1 + random.below(4) {
                let at = random.below(flipped.len());
                flipped[at] ^= 1 << random.below(8);
            }
            flipped
        }
        3 => {
            let long = "x".repeat(200_000 + random.below(500_000));
            [&b"GET /v1/status HTTP/1.1\r\nHost: sixway\r\nx: "[..], long.as_bytes(), b"\r\n\r\n"].concat()
        }
        4 => announced(random),
        5 if nth % 120 == 5 => too_much(),
        5 => request("POST /v1/changes", "[{\"put\":".repeat(1 + random.below(20_000)).as_bytes()),
        6 => {
            let mut set = json!({"put": [good()], "delete": [], "if_generation": 1, "force": false});
            let at = ["/put", "/delete", "/if_generation", "/force", "/put/0", "/put/0/network", "/put/0/server"];
            let at = at[random.below(at.len())];
            *set.pointer_mut(at).expect("it is there") = wrong_type(random, at);
            request("POST /v1/changes", set.to_string().as_bytes())
        }
        7 => request("POST /v1/changes", json!({"put": [absurd(random)]}).to_string().as_bytes()),
        8 => {
            let lines = format!("{}\n{}\n", good(), String::from_utf8_lossy(&noise(random, 200)).replace('\n', ""));
            let long = "y".repeat(17 << 10);
            let body = if random.below(2) == 0 { lines } else { format!("{}\n\"{long}", good()) };
            request("PUT /v1/bindings", body.as_bytes())
        }
        9 => request(&what(random), b"{}"),
        10 => request("POST /v1/explain", wrong_type(random, "").to_string().as_bytes()),
        _ => {
            let greetings: [&[u8]; 5] = [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
                b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
                b"GET /v1/status\r\n",
                b"GET /v1/status HTTP/9.9\r\n\r\n",
                b"POST /v1/changes HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
            ];
            greetings[random.below(5)].to_vec()
        }
    }
}

/// Lengths that contradict themselves, the body, or reason.
fn announced(random: &mut Random) -> Vec<u8> {
    let headers = [
        "Content-Length: 18446744073709551615",
        "Content-Length: 99999999999999999999999",
        "Content-Length: -1",
        "Content-Length: 0x10",
        "Content-Length: 1099511627776",
        "Content-Length: 5\r\nContent-Length: 7",
        "Content-Length: 5000",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nfffffffffffffffff",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ];
    let header = headers[random.below(headers.len())];
    format!("POST /v1/changes HTTP/1.1\r\nHost: sixway\r\n{header}\r\n\r\n{{\"put\":[]").into_bytes()
}

/// More than a change set may have.
fn too_much() -> Vec<u8> {
    let piece = " ".repeat(1 << 20);
    let chunks = format!("100000\r\n{piece}\r\n").repeat(17);
    format!("POST /v1/changes HTTP/1.1\r\nHost: sixway\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
        .into_bytes()
}

/// Of no type that there may be at this place.
fn wrong_type(random: &mut Random, at: &str) -> Value {
    let values = [json!("x"), json!(1.5), json!(-1), json!({"x": null}), json!([[]]), json!("\u{0}\u{ffff}")];
    match (random.below(values.len()), at) {
        // A list of nothing is no mistake for `put`.
        (4, "/put" | "/delete") => json!([[1]]),
        (0 | 5, "/put/0/network") => json!(7),
        (nth, _) => values[nth].clone(),
    }
}

/// A binding whose every part is of the right type.
fn absurd(random: &mut Random) -> Value {
    let parts = [
        ("/server/port", json!(65_536)),
        ("/server/port", json!(-5)),
        ("/server/port", json!(1e300)),
        ("/server/port", json!(22)),
        ("/container/port", json!(4_294_967_376_u64)),
        ("/container/ip", json!("10.0.0.999")),
        ("/container/ip", json!("255.255.255.255")),
        ("/container/ip", json!("9".repeat(50_000))),
        ("/server/ip", json!("localhost")),
        ("/server/ip", json!("")),
        ("/server/mac", json!("02:00:00:00:00:0g")),
        ("/container/mac", json!("ff:ff:ff:ff:ff:ff:ff")),
        ("/proto", json!("carrier pigeon")),
        ("/proto", json!("300")),
        ("/network", json!("purple")),
        ("/network", json!("b".repeat(100_000))),
        ("/weight", json!(70_000)),
        ("/weight", json!(-1)),
        ("/weight", json!(0.5)),
        ("/server/ports", json!("20736-20735")),
        ("/server/ports", json!("20737-20999")),
        ("/public", json!("here")),
        ("/surprise", json!(true)),
    ];
    let (at, value) = parts[random.below(parts.len())].clone();
    let mut binding = good();
    let (object, key) = at.rsplit_once('/').expect("a pointer");
    binding.pointer_mut(object).expect("it is there")[key] = value;
    binding
}

/// Methods, paths and queries that are not there.
fn what(random: &mut Random) -> String {
    let whats = [
        "DELETE /v1/status",
        "PATCH /v1/bindings",
        "POST /metrics",
        "GET /../../etc/passwd",
        "GET /v1/nothing",
        "GET /v1/bindings?port=99999",
        "GET /v1/bindings?ip=zzz",
        "GET /v1/bindings?colour=blue",
        "PUT /v1/bindings?if_generation=-1",
        "PUT /v1/health/%00%ff",
        "PUT /v1/health/blue",
        "GET /%ff%fe%00",
        "BREW /v1/status",
        "CONNECT sixway:80",
    ];
    whats[random.below(whats.len())].to_owned()
}
