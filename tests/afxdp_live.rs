//! The driver over real interfaces: veth pairs in a network namespace of each test's own. Needs root.
//!
//! ```text
//!   left ────── p0 ▶ the driver under test ▶ p1 ────── right
//! ```
//! Packets are made by a socket on `left` and counted by one on `right`, each with memory of its own.

use std::collections::HashSet;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::XskMap;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use sixway::afxdp::{
    BindConfig, Copying, FrameAudit, Kick, Parts, Refused, Segment, Socket, TakenOver, TakeoverError, Umem, handover,
};
use sixway::units::QueueId;

/// Runs a story in a network namespace of its own.
fn in_own_namespace(story: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        // SAFETY: NEWNET changes the network namespace of this thread alone; nothing else refers to the old one.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("these tests need root");
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        story();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

fn veth_pair(one: &str, other: &str, queues: u32, mtu: u32) {
    let ends = |name| format!("{name} mtu {mtu} numrxqueues {queues} numtxqueues {queues}");
    run(&format!("ip link add {} type veth peer name {}", ends(one), ends(other)));
    run(&format!("ip link set {one} up"));
    run(&format!("ip link set {other} up"));
}

fn ifindex(name: &str) -> u32 {
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(|| {
            // /sys shows the namespace that it was mounted in: ask ip.
            let out = Command::new("ip").args(["-o", "link", "show", name]).output().unwrap();
            String::from_utf8(out.stdout).unwrap().split(':').next().unwrap().parse().unwrap()
        })
}

/// The redirect program on an interface, with a map of sockets. Detached when dropped.
struct Redirect(Ebpf);

impl Redirect {
    fn attach(interface: &str) -> Redirect {
        static OBJECT: OnceLock<PathBuf> = OnceLock::new();
        let object = OBJECT.get_or_init(|| {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/redirect.bpf.c");
            let object = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("redirect-{}.o", std::process::id()));
            let include = "-I/usr/include/x86_64-linux-gnu";
            let status = Command::new("clang")
                .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", include, "-c", source, "-o"])
                .arg(&object)
                .status()
                .unwrap();
            assert!(status.success(), "clang");
            object
        });
        let mut bpf = Ebpf::load_file(object).unwrap();
        let program: &mut Xdp = bpf.program_mut("redirect").unwrap().try_into().unwrap();
        program.load().unwrap();
        program.attach(interface, XdpMode::Driver).unwrap();
        Redirect(bpf)
    }

    fn give(&mut self, socket: &Socket) {
        self.give_fd(socket.queue().0, socket.as_raw_fd());
    }

    fn give_fd(&mut self, queue: u32, fd: RawFd) {
        let mut map = XskMap::try_from(self.0.map_mut("sockets").unwrap()).unwrap();
        map.set(queue, fd, 0).unwrap();
    }
}

fn config(interface: &str, queue: u32) -> BindConfig {
    BindConfig { rx_size: 512, tx_size: 512, ..BindConfig::new(ifindex(interface), QueueId(queue)) }
}

fn bind(umem: &Umem, interface: &str, queue: u32) -> Socket {
    umem.registrar().bind(&config(interface, queue)).unwrap()
}

/// A 64-byte frame of an experimental EtherType (IEEE 802) that carries a number.
fn numbered(umem: &mut Umem, number: u32) -> Option<Segment> {
    let mut buffer = umem.take()?;
    let bytes = umem.bytes(&mut buffer);
    bytes[..64].fill(0);
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    Some(Segment { buffer, offset: 0, len: 64, more: false })
}

fn number(umem: &Umem, segment: &mut Segment) -> Option<u32> {
    let at = usize::from(segment.offset);
    let bytes = &umem.bytes(&mut segment.buffer)[at..at + usize::from(segment.len)];
    (bytes.len() == 64 && bytes[12..14] == [0x88, 0xb5]).then(|| u32::from_be_bytes(bytes[14..18].try_into().unwrap()))
}

/// Makes packets with consecutive numbers on some queues of `left`.
struct Source {
    umem: Umem,
    sockets: Vec<Socket>,
    next: u32,
}

impl Source {
    fn new(queues: u32) -> Source {
        let umem = Umem::new(2048).unwrap();
        let sockets = (0..queues).map(|queue| bind(&umem, "left", queue)).collect();
        Source { umem, sockets, next: 0 }
    }

    /// Sends up to `count` packets, round robin over the queues.
    fn send(&mut self, count: u32) {
        for _ in 0..count {
            let Some(segment) = numbered(&mut self.umem, self.next) else { break };
            let queue = self.next as usize % self.sockets.len();
            match self.sockets[queue].stage(&mut self.umem, segment) {
                Ok(()) => self.next += 1,
                Err((refused, segment)) => {
                    assert_eq!(refused, Refused::Full);
                    self.umem.release(segment.buffer);
                    break;
                }
            }
        }
        for socket in &mut self.sockets {
            socket.publish();
            socket.kick_if_needed();
            socket.complete(&mut self.umem);
        }
    }
}

/// Takes packets off some queues of `right`, and knows which numbers came.
struct Sink {
    umem: Umem,
    sockets: Vec<Socket>,
    burst: Vec<Segment>,
    seen: HashSet<u32>,
    twice: u32,
    _program: Redirect,
}

impl Sink {
    fn new(queues: u32) -> Sink {
        let mut umem = Umem::new(2048).unwrap();
        let mut program = Redirect::attach("right");
        let mut sockets: Vec<Socket> = (0..queues).map(|queue| bind(&umem, "right", queue)).collect();
        for socket in &mut sockets {
            socket.refill(&mut umem, 512);
            program.give(socket);
        }
        Sink { umem, sockets, burst: Vec::with_capacity(64), seen: HashSet::new(), twice: 0, _program: program }
    }

    fn take(&mut self) {
        for socket in &mut self.sockets {
            while socket.receive(&mut self.umem, &mut self.burst) > 0 {
                for mut segment in self.burst.drain(..) {
                    if let Some(number) = number(&self.umem, &mut segment) {
                        self.twice += u32::from(!self.seen.insert(number));
                    }
                    self.umem.release(segment.buffer);
                }
                socket.refill(&mut self.umem, 512);
            }
        }
    }
}

/// Forwards by descriptor from the first half of its sockets to the second half: queue by queue.
struct Forwarder {
    umem: Umem,
    sockets: Vec<Socket>,
    burst: Vec<Segment>,
}

impl Forwarder {
    fn new(queues: u32) -> Forwarder {
        let umem = Umem::new(4096).unwrap();
        let sockets =
            ["p0", "p1"].iter().flat_map(|port| (0..queues).map(|queue| bind(&umem, port, queue)).collect::<Vec<_>>());
        let sockets = sockets.collect();
        Forwarder { umem, sockets, burst: Vec::with_capacity(64) }
    }

    fn round(&mut self) {
        let half = self.sockets.len() / 2;
        let (inputs, outputs) = self.sockets.split_at_mut(half);
        for (input, output) in inputs.iter_mut().zip(outputs) {
            output.complete(&mut self.umem);
            input.receive(&mut self.umem, &mut self.burst);
            for segment in self.burst.drain(..) {
                if let Err((refused, segment)) = output.stage(&mut self.umem, segment) {
                    assert_eq!(refused, Refused::Full);
                    self.umem.release(segment.buffer);
                }
            }
            output.publish();
            output.kick_if_needed();
            input.refill(&mut self.umem, 512);
        }
    }

    fn audit(&self) -> FrameAudit {
        FrameAudit::of(&self.umem, &self.sockets)
    }
}

/// Steps source, forwarder and sink until `done` or half a minute has passed.
fn until(mut step: impl FnMut() -> bool) {
    let started = Instant::now();
    while !step() {
        assert!(started.elapsed() < Duration::from_secs(30), "nothing moves any more");
    }
}

#[test]
fn a_hundred_thousand_packets_are_forwarded_by_descriptor_and_no_frame_is_lost() {
    in_own_namespace(|| {
        veth_pair("left", "p0", 1, 1500);
        veth_pair("p1", "right", 1, 1500);
        let (mut source, mut forwarder, mut sink) = (Source::new(1), Forwarder::new(1), Sink::new(1));
        let mut program = Redirect::attach("p0");
        forwarder.sockets[0].refill(&mut forwarder.umem, 512);
        program.give(&forwarder.sockets[0]);
        assert!(!forwarder.sockets[0].bound().zero_copy, "veth has no zero-copy: the second choice was got");

        until(|| {
            source.send(64.min(100_000 - source.next));
            forwarder.round();
            sink.take();
            sink.seen.len() == 100_000
        });
        assert_eq!(sink.twice, 0);
        assert_eq!(sink.umem.held(), 0);
        let audit = forwarder.audit();
        assert!(audit.adds_up(), "{audit:#?}");
        assert_eq!(audit.sockets[0].posted, 512);
        for socket in &forwarder.sockets {
            let statistics = socket.statistics().unwrap();
            assert_eq!((statistics.rx_invalid, statistics.tx_invalid, statistics.rx_ring_full), (0, 0, 0));
            assert_eq!(socket.faults(), 0);
        }
        assert!(FrameAudit::of(&source.umem, &source.sockets).adds_up());
        assert!(FrameAudit::of(&sink.umem, &sink.sockets).adds_up());
    });
}

#[test]
fn a_large_backlog_leaves_with_one_kick_though_the_kernel_moves_32_frames_a_call() {
    in_own_namespace(|| {
        veth_pair("left", "right", 1, 1500);
        let (mut source, mut sink) = (Source::new(1), Sink::new(1));
        let (umem, socket) = (&mut source.umem, &mut source.sockets[0]);
        for n in 0..500 {
            let segment = numbered(umem, n).unwrap();
            socket.stage(umem, segment).unwrap();
        }
        socket.publish();
        assert!(socket.has_unsent());
        assert_eq!(socket.kick_if_needed(), Kick::Done);
        assert!(!socket.has_unsent());
        until(|| {
            sink.take();
            sink.seen.len() == 500
        });
        until(|| {
            socket.complete(umem);
            socket.outstanding() == 0
        });
    });
}

#[test]
fn packets_for_an_interface_that_is_down_wait_and_are_not_forgotten() {
    in_own_namespace(|| {
        veth_pair("left", "right", 1, 1500);
        let (mut source, mut sink) = (Source::new(1), Sink::new(1));
        run("ip link set left down");
        source.send(10);
        assert_eq!(source.sockets[0].kick_if_needed(), Kick::Down);
        assert_eq!((source.sockets[0].outstanding(), source.umem.free()), (10, 2038));
        run("ip link set left up");
        until(|| {
            source.send(0);
            sink.take();
            sink.seen.len() == 10
        });
        let audit = FrameAudit::of(&source.umem, &source.sockets);
        assert!(audit.adds_up(), "{audit:?}");
    });
}

#[test]
fn one_umem_serves_two_interfaces_of_two_queues_each() {
    in_own_namespace(|| {
        veth_pair("left", "p0", 2, 1500);
        veth_pair("p1", "right", 2, 1500);
        let (mut source, mut forwarder, mut sink) = (Source::new(2), Forwarder::new(2), Sink::new(2));
        let mut program = Redirect::attach("p0");
        for input in &mut forwarder.sockets[..2] {
            input.refill(&mut forwarder.umem, 512);
            program.give(input);
        }
        until(|| {
            source.send(64.min(20_000 - source.next));
            forwarder.round();
            sink.take();
            sink.seen.len() == 20_000
        });
        let audit = forwarder.audit();
        assert!(audit.adds_up(), "{audit:#?}");
    });
}

#[test]
fn frames_that_the_kernel_would_choke_on_are_refused() {
    in_own_namespace(|| {
        veth_pair("left", "right", 1, 1500);
        let mut umem = Umem::new(64).unwrap();
        let mut socket = bind(&umem, "left", 0);
        for (offset, len, more) in [(0, 0, false), (0, 13, false), (4090, 60, false), (0, 60, true)] {
            let buffer = umem.take().unwrap();
            let (refused, segment) = socket.stage(&mut umem, Segment { buffer, offset, len, more }).unwrap_err();
            assert_eq!(refused, Refused::Invalid);
            umem.release(segment.buffer);
        }
        let mut chain: Vec<Segment> = (0..2).filter_map(|n| numbered(&mut umem, n)).collect();
        assert_eq!(socket.stage_chain(&mut umem, &mut chain), Err(Refused::Invalid), "not a multi-buffer socket");
        assert_eq!(chain.len(), 2, "a refused packet stays with its owner");
        chain.drain(..).for_each(|segment| umem.release(segment.buffer));
        assert_eq!((umem.free(), socket.outstanding()), (64, 0));
    });
}

#[test]
fn a_jumbo_packet_crosses_in_several_buffers() {
    in_own_namespace(|| {
        veth_pair("left", "right", 1, 9000);
        let multi_buffer = |interface| BindConfig { multi_buffer: true, ..config(interface, 0) };
        let mut umem = Umem::new(1024).unwrap();
        let mut sender = umem.registrar().bind(&multi_buffer("left")).unwrap();
        let mut receiver = umem.registrar().bind(&multi_buffer("right")).unwrap();
        let mut program = Redirect::attach("right");
        receiver.refill(&mut umem, 512);
        program.give(&receiver);

        let packet: Vec<u8> = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]
            .into_iter()
            .chain((0..8900).map(|n| (n % 251) as u8))
            .collect();
        let mut chain = Vec::new();
        for part in packet.chunks(4000) {
            let mut buffer = umem.take().unwrap();
            umem.bytes(&mut buffer)[..part.len()].copy_from_slice(part);
            chain.push(Segment { buffer, offset: 0, len: part.len() as u16, more: false });
        }
        sender.stage_chain(&mut umem, &mut chain).unwrap();
        sender.publish();
        sender.kick_if_needed();

        let mut got = Vec::with_capacity(64);
        until(|| receiver.receive(&mut umem, &mut got) > 0);
        assert!(got.len() > 1);
        assert!(got.iter().enumerate().all(|(n, segment)| segment.more == (n + 1 < got.len())));
        let mut received = Vec::new();
        for mut segment in got {
            let at = usize::from(segment.offset);
            received.extend_from_slice(&umem.bytes(&mut segment.buffer)[at..at + usize::from(segment.len)]);
            umem.release(segment.buffer);
        }
        assert!(received == packet);
        until(|| {
            sender.complete(&mut umem);
            sender.outstanding() == 0
        });
        assert!(FrameAudit::of(&umem, [&sender, &receiver]).adds_up());
    });
}

#[test]
fn a_busy_queue_is_refused_at_once_or_waited_for() {
    in_own_namespace(|| {
        veth_pair("left", "right", 1, 1500);
        let umem = Umem::new(64).unwrap();
        let first = bind(&umem, "left", 0);
        let other = Umem::new(64).unwrap();
        let impatient = BindConfig { patience: Duration::ZERO, ..config("left", 0) };
        let refused = other.registrar().bind(&impatient).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ResourceBusy);

        // The holder lets go while the other waits; the kernel's own teardown comes on top.
        let (waiting, let_go) = (Instant::now(), Duration::from_millis(100));
        let closer = thread::spawn(move || {
            until(|| waiting.elapsed() >= let_go);
            drop(first);
        });
        let patient = BindConfig { copying: Copying::Always, ..config("left", 0) };
        other.registrar().bind(&patient).unwrap();
        assert!(waiting.elapsed() >= let_go);
        closer.join().unwrap();
    });
}

#[test]
fn frames_of_a_closed_socket_come_back() {
    in_own_namespace(|| {
        veth_pair("left", "right", 1, 1500);
        let mut umem = Umem::new(600).unwrap();
        let mut socket = bind(&umem, "left", 0);
        socket.refill(&mut umem, 512);
        assert_eq!(umem.free(), 88);
        let (retired, closing) = socket.retire(&mut umem);
        let audit = FrameAudit::of(&umem, []);
        assert!(audit.adds_up() && audit.retired == 512, "{audit:?}");
        drop(closing);
        let again = bind(&umem, "left", 0);
        umem.reclaim(retired);
        assert_eq!(umem.free(), 600);
        assert!(FrameAudit::of(&umem, [&again]).adds_up());
    });
}

/// Not a story but the other process of the next one: forwards until it is killed, after handing its descriptors over.
#[test]
fn owner_process() {
    let Some(address) = std::env::var_os("SIXWAY_TEST_OWNER") else { return };
    let holder = UnixDatagram::unbound().unwrap();
    holder.connect(address).unwrap();
    let mut forwarder = Forwarder::new(1);
    forwarder.sockets[0].refill(&mut forwarder.umem, 512);
    handover::send(&holder, "forwarder", &forwarder.umem.descriptors(&forwarder.sockets)).unwrap();
    loop {
        forwarder.round();
    }
}

fn start_owner(address: &PathBuf) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_process"])
        .env("SIXWAY_TEST_OWNER", address)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_owner_is_succeeded_by_whoever_holds_its_descriptors() {
    in_own_namespace(|| {
        veth_pair("left", "p0", 1, 1500);
        veth_pair("p1", "right", 1, 1500);
        let (mut source, mut sink) = (Source::new(1), Sink::new(1));
        let mut program = Redirect::attach("p0");
        let address = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("holder-{}", std::process::id()));
        let holder = UnixDatagram::bind(&address).unwrap();

        for round in 0..10 {
            let mut owner = start_owner(&address);
            let (name, fds) = handover::receive(&holder).unwrap().unwrap();
            assert_eq!((name.as_str(), fds.len()), ("forwarder", 3));

            // The holder puts the input socket to work, which the owner serves until it is killed in the middle. Never
            // more is on the way than the rings hold: what gets lost, gets lost by the kill.
            program.give_fd(0, fds[1].as_raw_fd());
            let (start, seen_before) = (source.next, sink.seen.len());
            let on_the_way =
                |source: &Source, sink: &Sink| source.next - start - (sink.seen.len() - seen_before) as u32;
            until(|| {
                if on_the_way(&source, &sink) < 300 {
                    source.send(32);
                }
                sink.take();
                source.next - start >= 1000 + 777 * round
            });
            owner.kill().unwrap();
            source.send(100);
            owner.wait().unwrap();

            let TakenOver { umem, mut sockets, lost, abandoned } = Parts::from_fds(fds).unwrap().take_over().unwrap();
            assert!(lost.is_empty());
            sockets.sort_by_key(Socket::ifindex);
            let mut forwarder = Forwarder { umem, sockets, burst: Vec::with_capacity(64) };
            let audit = forwarder.audit();
            assert!(audit.adds_up() && audit.held == 0, "{audit:#?}");
            assert!(abandoned <= 64, "no more than the burst in hand: {abandoned}");

            // Business goes on: everything arrives but the packets in the hands of the dead.
            until(|| {
                if on_the_way(&source, &sink) < 300 {
                    source.send(32);
                }
                forwarder.round();
                sink.take();
                source.next - start >= 5000 + 777 * round
            });
            until(|| {
                source.send(0);
                forwarder.round();
                sink.take();
                on_the_way(&source, &sink) == abandoned
            });
            assert_eq!(sink.twice, 0);
            let audit = forwarder.audit();
            assert!(audit.adds_up(), "{audit:#?}");
            assert!(forwarder.sockets.iter().all(|socket| socket.faults() == 0));
        }
        std::fs::remove_file(address).unwrap();
    });
}

#[test]
fn descriptors_that_do_not_belong_together_are_refused() {
    in_own_namespace(|| {
        veth_pair("left", "right", 1, 1500);
        let (one, other) = (Umem::new(64).unwrap(), Umem::new(64).unwrap());
        let sockets = vec![bind(&one, "left", 0)];
        let stranger = other.into_parts(sockets).unwrap();
        assert!(matches!(stranger.take_over(), Err(TakeoverError::UnknownSocket)));
        let two_memories = vec![one.memfd().try_clone_to_owned().unwrap(), one.memfd().try_clone_to_owned().unwrap()];
        assert!(matches!(Parts::from_fds(two_memories), Err(TakeoverError::NotOneUmem)));
    });
}

#[test]
fn an_owner_that_lets_go_hands_over_everything_in_flight() {
    in_own_namespace(|| {
        veth_pair("left", "p0", 1, 1500);
        veth_pair("p1", "right", 1, 1500);
        let (mut source, mut forwarder, mut sink) = (Source::new(1), Forwarder::new(1), Sink::new(1));
        let mut program = Redirect::attach("p0");
        forwarder.sockets[0].refill(&mut forwarder.umem, 512);
        program.give(&forwarder.sockets[0]);
        for _ in 0..20 {
            source.send(100);
            forwarder.round();
            // Packets that arrive between the last round of one and the first of the other wait in the rx ring.
            source.send(100);
            let Forwarder { umem, sockets, burst } = forwarder;
            let TakenOver { umem, sockets, abandoned, .. } = umem.into_parts(sockets).unwrap().take_over().unwrap();
            assert_eq!(abandoned, 0);
            forwarder = Forwarder { umem, sockets, burst };
            assert!(forwarder.audit().adds_up());
            until(|| {
                source.send(0);
                forwarder.round();
                sink.take();
                sink.seen.len() == source.next as usize
            });
        }
        assert_eq!((sink.seen.len(), sink.twice), (4000, 0));
    });
}
