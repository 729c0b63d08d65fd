//! A tunnel as WireGuard has it, as far as the network can tell: sealed datagrams by UDP, keepalives from both ends, and a
//! peer that roams. Whoever is reached from a new address answers to that from then on.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::{SOON, until};

/// Message lengths of WireGuard's protocol: a handshake's three, a keepalive, a full packet of its usual MTU of 1420.
const HANDSHAKE: [usize; 2] = [148, 92];
const KEEPALIVE: usize = 32;
const FULL: usize = 1452;
/// Instead of 25 seconds.
const INTERVAL: Duration = Duration::from_millis(40);

/// The end that is called.
pub struct TunnelEnd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TunnelEnd {
    pub fn start(place: &Namespace, own: SocketAddr) -> TunnelEnd {
        let socket = place.within(|| UdpSocket::bind(own).expect("a free port"));
        socket.set_read_timeout(Some(INTERVAL)).expect("a socket option");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = stop.clone();
            thread::spawn(move || serve(&socket, &stop))
        };
        TunnelEnd { stop, thread: Some(thread) }
    }
}

impl Drop for TunnelEnd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Answers a handshake by a handshake and all else but keepalives by an echo. To the peer that it heard last it sends
/// keepalives of its own.
fn serve(socket: &UdpSocket, stop: &AtomicBool) {
    let (mut peer, mut sent, mut bytes) = (None, Instant::now(), [0; 2000]);
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut bytes) {
            peer = Some(from);
            let answer = if len == HANDSHAKE[0] { &bytes[..HANDSHAKE[1]] } else { &bytes[..len] };
            if len != KEEPALIVE {
                let _ = socket.send_to(answer, from);
            }
        }
        if let Some(peer) = peer.filter(|_| sent.elapsed() >= INTERVAL) {
            let _ = socket.send_to(&[4; KEEPALIVE], peer);
            sent = Instant::now();
        }
    }
}

/// The end that calls: a handshake, data, and silence but for keepalives; then the same from another port, as after a change
/// of networks. What is wrong, in words.
pub fn calls(place: &Namespace, to: SocketAddr) -> Result<(), String> {
    let own: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("an address");
    let socket = || {
        place.within(|| {
            let socket = UdpSocket::bind(own).expect("a free port");
            socket.connect(to).expect("a route");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket option");
            socket
        })
    };
    let mut former: Option<UdpSocket> = None;
    for place in ["at home", "abroad", "abroad again"] {
        let socket = socket();
        let said = |what: &str, error: &dyn std::fmt::Display| format!("{place}, {what}: {error}");
        expect(&socket, &[1; HANDSHAKE[0]], HANDSHAKE[1]).map_err(|error| said("handshake", &error))?;
        for nth in 0..50 {
            expect(&socket, &[10 + nth; FULL], FULL).map_err(|error| said("data", &error))?;
        }
        // The other end speaks first.
        for _ in 0..2 {
            hears(&socket, KEEPALIVE).map_err(|error| said("a keepalive of the peer", &error))?;
            socket.send(&[4; KEEPALIVE]).map_err(|error| said("our keepalive", &error))?;
        }
        if let Some(former) = former.replace(socket) {
            // What was under way when we moved may still come; nothing new does.
            former.set_nonblocking(true).map_err(|error| error.to_string())?;
            until("silence where we were", SOON, || {
                while former.recv(&mut [0; 2000]).is_ok() {}
                thread::sleep(3 * INTERVAL);
                former.recv(&mut [0; 2000]).is_err().then_some(())
            });
        }
    }
    Ok(())
}

/// Sends until an answer of that length comes back: datagrams may get lost.
fn expect(socket: &UdpSocket, message: &[u8], len: usize) -> std::io::Result<()> {
    for _ in 0..2 {
        socket.send(message)?;
        if hears(socket, len).is_ok() {
            return Ok(());
        }
    }
    socket.send(message)?;
    hears(socket, len)
}

fn hears(socket: &UdpSocket, len: usize) -> std::io::Result<()> {
    let mut bytes = [0; 2000];
    while socket.recv(&mut bytes)? != len {}
    Ok(())
}
