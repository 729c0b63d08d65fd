//! The bare forwarder: the engine's rings, bursts and kicks over the crate's own driver, and nothing else. It swaps
//! nothing and touches no byte, so what sixway is slower by is what its walk costs.

use std::io::Write;

use rustix::net::netdevice::name_to_index;
use rustix::thread::{CpuSet, sched_setaffinity};
use sixway::afxdp::program::{self, Kind, Want};
use sixway::afxdp::{BindConfig, Kick, Segment, Socket, Umem};
use sixway::path::BURST;
use sixway::units::QueueId;

/// What it prints when it forwards.
pub const READY: &str = "forwarding";

/// As an engine of two queues has them.
const RX_RING: u32 = 2048;
const TX_RING: u32 = 512;
const SPARE_FRAMES: u32 = 2048;

struct Queue {
    socket: Socket,
    dirty: bool,
}

/// Forwards between two interfaces of the calling thread's namespace, on core 1, until it is killed.
pub fn forward(interfaces: [&str; 2]) -> ! {
    let mut core = CpuSet::new();
    core.set(1);
    sched_setaffinity(None, &core).expect("core 1 is ours");
    let mut umem = Umem::new(2 * (RX_RING + TX_RING) + SPARE_FRAMES).expect("packet memory");
    let mut queues = interfaces.map(|interface| Queue { socket: bind(&umem, interface), dirty: true });
    let _programs = [0, 1].map(|port| {
        // No bpffs is there, so that nothing is pinned: the program goes with this process.
        let nowhere = std::env::temp_dir();
        let mut attached = program::attach(interfaces[port], Kind::Access, &nowhere, Want::default()).expect("XDP");
        attached.set_socket(QueueId(0), &queues[port].socket).expect("the socket is bound to it");
        attached
    });
    println!("{READY}");
    std::io::stdout().flush().expect("somebody reads");
    let mut burst = Vec::with_capacity(BURST);
    loop {
        for from in [0, 1] {
            serve(&mut umem, &mut queues, from, &mut burst);
        }
        flush(&mut queues);
    }
}

fn bind(umem: &Umem, interface: &str) -> Socket {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    let index = name_to_index(socket.expect("a socket"), interface).expect("the interface");
    let config = BindConfig { rx_size: RX_RING, tx_size: TX_RING, ..BindConfig::new(index, QueueId(0)) };
    umem.registrar().bind(&config).expect("the queue is free")
}

/// A burst off one queue, out of the other.
fn serve(umem: &mut Umem, queues: &mut [Queue; 2], from: usize, burst: &mut Vec<Segment>) {
    let Queue { socket, .. } = &mut queues[from];
    if socket.outstanding() > 0 {
        socket.complete(umem);
    }
    socket.receive(umem, burst);
    socket.refill(umem, RX_RING);
    if burst.is_empty() {
        return;
    }
    let to = &mut queues[1 - from];
    for segment in burst.drain(..) {
        to.dirty = true;
        if let Err((_, refused)) = to.socket.stage(umem, segment) {
            umem.release(refused.buffer);
        }
    }
    flush(queues);
}

fn flush(queues: &mut [Queue; 2]) {
    for queue in queues.iter_mut().filter(|queue| queue.dirty) {
        queue.socket.publish();
        queue.dirty = queue.socket.kick_if_needed() == Kick::Again;
    }
}
