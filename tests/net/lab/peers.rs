//! Small TCP and UDP peers inside the story's own process, with sockets that belong to a namespace.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::namespace::Namespace;

const GLANCE: Duration = Duration::from_millis(100);
/// How long a client waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A TCP server that greets with `I am NAME, you are IP` and then echoes.
pub struct Greeter {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<IpAddr>>>,
    accepting: Option<JoinHandle<()>>,
}

impl Greeter {
    pub fn start(place: &Namespace, name: &'static str, port: u16) -> Greeter {
        let listener = place.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port"));
        set_socket_timeout(&listener, Timeout::Recv, Some(GLANCE)).expect("a socket option");
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let accepting = {
            let (stop, seen) = (stop.clone(), seen.clone());
            thread::spawn(move || accept(&listener, name, &stop, &seen))
        };
        Greeter { stop, seen, accepting: Some(accepting) }
    }

    /// The addresses that connected, in order.
    pub fn seen(&self) -> Vec<IpAddr> {
        self.seen.lock().expect("no panic holds it").clone()
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, name: &str, stop: &Arc<AtomicBool>, seen: &Mutex<Vec<IpAddr>>) {
    let mut talks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, peer)) = listener.accept() else { continue };
        seen.lock().expect("no panic holds it").push(peer.ip());
        let greeting = format!("I am {name}, you are {}\n", peer.ip());
        let stop = stop.clone();
        // A thread that has ended keeps its stack for as long as it may be joined.
        talks.retain(|talk: &JoinHandle<()>| !talk.is_finished());
        talks.push(thread::spawn(move || {
            let _ = stream.write_all(greeting.as_bytes());
            echo(&mut stream, &stop);
        }));
    }
    for talk in talks {
        let _ = talk.join();
    }
}

fn echo(stream: &mut TcpStream, stop: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(GLANCE));
    let mut buffer = [0; 16384];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) if stream.write_all(&buffer[..len]).is_err() => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// A UDP server that echoes and remembers who wrote last.
pub struct Parrot {
    stop: Arc<AtomicBool>,
    last: Arc<Mutex<Option<SocketAddr>>>,
    thread: Option<JoinHandle<()>>,
}

impl Parrot {
    pub fn start(place: &Namespace, port: u16) -> Parrot {
        Parrot::on(place, (Ipv4Addr::UNSPECIFIED, port).into())
    }

    /// On one address of either family.
    pub fn on(place: &Namespace, own: SocketAddr) -> Parrot {
        let socket = place.within(|| UdpSocket::bind(own).expect("a free port"));
        socket.set_read_timeout(Some(GLANCE)).expect("a socket option");
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let thread = {
            let (stop, last) = (stop.clone(), last.clone());
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, peer)) = socket.recv_from(&mut buffer) else { continue };
                    *last.lock().expect("no panic holds it") = Some(peer);
                    let _ = socket.send_to(&buffer[..len], peer);
                }
            })
        };
        Parrot { stop, last, thread: Some(thread) }
    }

    /// Who wrote last, as the server saw it.
    pub fn last(&self) -> Option<SocketAddr> {
        *self.last.lock().expect("no panic holds it")
    }
}

impl Drop for Parrot {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Connects from inside; the stream gives up after [`PATIENCE`].
pub fn connect(from: &Namespace, to: (Ipv4Addr, u16)) -> std::io::Result<TcpStream> {
    connect_within(from, to, PATIENCE)
}

/// Connects from inside, waiting no longer than `limit`.
pub fn connect_within(from: &Namespace, to: (Ipv4Addr, u16), limit: Duration) -> std::io::Result<TcpStream> {
    let stream = from.within(|| TcpStream::connect_timeout(&to.into(), limit))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connected UDP socket inside, so that ICMP errors come back as errors.
pub fn udp(from: &Namespace, to: (Ipv4Addr, u16)) -> UdpSocket {
    let socket = from.within(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        socket.connect(to).expect("a route");
        socket
    });
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket option");
    socket
}

/// The greeting of a [`Greeter`].
pub fn greeting(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("a greeting") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

/// Sends `words` and reads them back: the connection lives.
pub fn says_back(stream: &mut TcpStream, words: &[u8]) -> std::io::Result<()> {
    stream.write_all(words)?;
    let mut answer = vec![0; words.len()];
    stream.read_exact(&mut answer)?;
    if answer == words { Ok(()) } else { Err(std::io::Error::other("the echo differs")) }
}

/// Sends a datagram until its echo comes back, `tries` times at most; UDP may lose a few while an engine starts.
pub fn udp_echo(socket: &UdpSocket, payload: &[u8], tries: u32) -> bool {
    let mut buffer = vec![0; payload.len() + 1];
    (0..tries).any(|_| {
        socket.send(payload).is_ok() && matches!(socket.recv(&mut buffer), Ok(len) if buffer[..len] == *payload)
    })
}
