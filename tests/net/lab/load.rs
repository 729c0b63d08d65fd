//! A steady stream of numbered datagrams, and an account of which arrive.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::namespace::Namespace;
use super::{SOON, peers, until};

/// How often the sender looks at the clock.
const PACE: Duration = Duration::from_micros(200);
/// Datagrams that it sends at once when it is late.
const CATCH_UP: u64 = 64;

/// Datagrams under way from one container to another.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<Mutex<Arrived>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Arrived {
    /// By number: how often it came.
    times: Vec<u8>,
    last: Option<Instant>,
    longest_silence: Duration,
}

/// What became of a part of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    pub sent: u64,
    pub lost: u64,
    pub doubled: u64,
    /// The longest time without a datagram.
    pub silence: Duration,
}

impl Load {
    /// Sends `rate` datagrams of 64 bytes a second to a UDP port; the first has arrived when this returns.
    pub fn start(from: &Namespace, at: &Namespace, to: (Ipv4Addr, u16), rate: u64) -> Load {
        let sink = at.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, to.1)).expect("a free port"));
        set_socket_recv_buffer_size_force(&sink, 64 << 20).expect("root may ask for much");
        sink.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
        let source = peers::udp(from, to);
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, arrived) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Arrived::default())));
        let sending = {
            let (stop, sent) = (stop.clone(), sent.clone());
            thread::spawn(move || send(&source, rate, &stop, &sent))
        };
        let receiving = {
            let (stop, arrived) = (stop.clone(), arrived.clone());
            thread::spawn(move || receive(&sink, &stop, &arrived))
        };
        let load = Load { stop, sent, arrived, threads: vec![sending, receiving] };
        until("the first datagram arrives", SOON, || load.arrived.lock().expect("no panic").last);
        load
    }

    /// The number of the next datagram. A new part of the stream begins with it.
    pub fn mark(&self) -> u64 {
        self.arrived.lock().expect("no panic").longest_silence = Duration::ZERO;
        self.sent.load(Ordering::Acquire)
    }

    /// What became of the datagrams from `mark` on; waits until one arrives that is sent from now on.
    pub fn since(&self, mark: u64) -> Account {
        let now = self.sent.load(Ordering::Acquire);
        until("the stream goes on", SOON, || {
            (self.arrived.lock().expect("no panic").times.len() as u64 > now + CATCH_UP).then_some(())
        });
        let arrived = self.arrived.lock().expect("no panic");
        let part = &arrived.times[mark as usize..now as usize];
        let count = |wanted: fn(u8) -> bool| part.iter().filter(|times| wanted(**times)).count() as u64;
        Account {
            sent: now - mark,
            lost: count(|times| times == 0),
            doubled: count(|times| times > 1),
            silence: arrived.longest_silence,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn send(source: &UdpSocket, rate: u64, stop: &AtomicBool, sent: &AtomicU64) {
    let mut due_from = Instant::now();
    let (mut number, mut in_time) = (0_u64, 0_u64);
    let mut datagram = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let due = due_from.elapsed().as_nanos() as u64 * rate / 1_000_000_000;
        if due > in_time + CATCH_UP {
            // Late by more than a burst: the stream is steady, not made up for.
            (due_from, in_time) = (Instant::now(), 0);
        }
        let due = due.min(in_time + CATCH_UP);
        while in_time < due {
            datagram[..8].copy_from_slice(&number.to_be_bytes());
            // An ICMP error from earlier is no reason not to send: what is lost is counted at the other end.
            let _ = source.send(&datagram);
            number += 1;
            in_time += 1;
            sent.store(number, Ordering::Release);
        }
        thread::sleep(PACE);
    }
}

fn receive(sink: &UdpSocket, stop: &AtomicBool, arrived: &Mutex<Arrived>) {
    let mut datagram = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let Ok(64) = sink.recv(&mut datagram) else { continue };
        let number = u64::from_be_bytes(datagram[..8].try_into().expect("eight bytes")) as usize;
        let now = Instant::now();
        let mut arrived = arrived.lock().expect("no panic");
        if arrived.times.len() <= number {
            arrived.times.resize(number + 1, 0);
        }
        arrived.times[number] = arrived.times[number].saturating_add(1);
        if let Some(last) = arrived.last.replace(now) {
            arrived.longest_silence = arrived.longest_silence.max(now - last);
        }
    }
}
