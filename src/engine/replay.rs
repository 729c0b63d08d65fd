//! The engine over captures: the same walk as under AF_XDP, with the stamps as its only clock.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, TsResolution};

use super::early::Early;
use crate::flow::{FragmentKey, State};
use crate::frame::{self, Frame, Piece};
use crate::naming::Names;
use crate::neighbour::NextHops;
use crate::path::{self, Claim, Claimant, Context, Reason, Silent, Surroundings, Verdict, WorkerState};
use crate::table;
use crate::units::{PortId, Tick};

/// Room before the packet, as the kernel leaves it in a UMEM chunk, for answers that are longer than what they answer.
const HEADROOM: usize = 256;
/// Room behind it, for the same.
const TAILROOM: usize = 256;

/// What to replay, and where to write.
pub struct Replay<'a> {
    pub around: &'a Surroundings,
    pub names: &'a Names,
    pub state: &'a State,
    pub hops: &'a NextHops,
    /// Captures, each received by its port.
    pub inputs: Vec<(PortId, PathBuf)>,
    /// Gets `PORT.pcap` for every port, and `host/PORT.pcap`.
    pub out: &'a Path,
}

/// What became of one frame.
pub struct Fate<'a> {
    /// Counted from 1 over all inputs, in the order of their stamps.
    pub number: u64,
    pub port: PortId,
    pub verdict: Verdict,
    /// What left, and by which port: nothing, a frame, or the pieces of one.
    pub sent: &'a [(PortId, Vec<u8>)],
}

/// Why a replay could not be run.
#[derive(Debug)]
pub struct ReplayError {
    pub path: PathBuf,
    pub message: String,
}

impl std::fmt::Display for ReplayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.message)
    }
}

impl std::error::Error for ReplayError {}

impl Replay<'_> {
    /// Runs all frames in the order of their stamps, ties in the order of the inputs, and tells `each` what became of
    /// them: of a fragment that came before its first, when that is known.
    ///
    /// # Errors
    /// A capture that can't be read, or an output that can't be written.
    pub fn run(self, mut each: impl FnMut(&Fate<'_>)) -> Result<(), ReplayError> {
        let mut inputs = Inputs::open(&self.inputs)?;
        let mut under_way = UnderWay {
            outputs: Outputs::create(self.out, self.around)?,
            local: WorkerState::new(0, 1, self.around.ports.len()),
            claimant: Claimant::default(),
            early: Early::new(),
        };
        let guard = table::pin();
        let context = |now| Context {
            names: self.names.view(&guard),
            around: self.around,
            state: self.state,
            hops: self.hops,
            now,
            dry_run: false,
        };
        let mut number = 0;
        while let Some(captured) = inputs.next()? {
            number += 1;
            let stamp = captured.stamp;
            let cx = context(tick(stamp));
            under_way.give_up_until(&cx, cx.now, &mut each)?;
            under_way.receive(&cx, Received { number, captured, is_claimed: false }, stamp, &mut each)?;
            under_way.let_go_on(&cx, stamp, &mut each)?;
        }
        under_way.give_up_until(&context(Tick(u64::MAX)), Tick(u64::MAX), &mut each)?;
        under_way.outputs.finish()
    }
}

/// A replay in the middle.
struct UnderWay {
    outputs: Outputs,
    local: WorkerState,
    claimant: Claimant,
    early: Early<Received>,
}

/// A frame with its number.
struct Received {
    number: u64,
    captured: Captured,
    /// It has been found to be the engine's.
    is_claimed: bool,
}

impl UnderWay {
    /// Walks a frame, and writes what leaves at that time.
    fn receive(
        &mut self,
        cx: &Context<'_>,
        received: Received,
        stamp: Duration,
        each: &mut impl FnMut(&Fate<'_>),
    ) -> Result<(), ReplayError> {
        let Captured { port, bytes, .. } = &received.captured;
        let port = *port;
        let mut buf = [&[0; HEADROOM][..], bytes, &[0; TAILROOM]].concat();
        let mut frame = Frame::new(&mut buf, HEADROOM, bytes.len());
        let verdict = match cx.around.port(port) {
            Some(own) if !received.is_claimed => match self.claimant.claim(cx, port, own, &frame) {
                Claim::Kernel => Verdict::Host,
                Claim::Engine | Claim::Undecided => walk(cx, &mut self.local, port, &mut frame),
            },
            _ => walk(cx, &mut self.local, port, &mut frame),
        };
        if let Verdict::Await { key } = verdict {
            return self.hold(cx, Received { is_claimed: true, ..received }, key, stamp, each);
        }
        let (verdict, sent) = match verdict {
            Verdict::Forward { port } | Verdict::Answer { port, .. } => (verdict, vec![(port, frame.bytes().to_vec())]),
            Verdict::Cut { port, mtu } => match pieces(&frame, mtu) {
                Some(pieces) => (verdict, pieces.into_iter().map(|piece| (port, piece)).collect()),
                None => (Verdict::Drop(Reason::TooBig), Vec::new()),
            },
            _ => (verdict, Vec::new()),
        };
        for (port, bytes) in &sent {
            self.outputs.write(*port, stamp, bytes)?;
        }
        if verdict == Verdict::Host {
            self.outputs.write_host(port, stamp, bytes)?;
        }
        each(&Fate { number: received.number, port, verdict, sent: &sent });
        Ok(())
    }

    /// Keeps a fragment until the first of its packet comes.
    fn hold(
        &mut self,
        cx: &Context<'_>,
        received: Received,
        key: FragmentKey,
        stamp: Duration,
        each: &mut impl FnMut(&Fate<'_>),
    ) -> Result<(), ReplayError> {
        let port = received.captured.port;
        while let Some(oldest) = self.early.too_many(port, 1) {
            self.give_up(cx, &oldest.what, stamp, each)?;
        }
        self.early.hold(Early::fragment(received, port, key, 1, cx.now));
        Ok(())
    }

    /// Walks the fragments whose first has come.
    fn let_go_on(
        &mut self,
        cx: &Context<'_>,
        stamp: Duration,
        each: &mut impl FnMut(&Fate<'_>),
    ) -> Result<(), ReplayError> {
        for _ in 0..self.early.len() {
            match self.early.next() {
                Some(fragment) if path::has_come(cx, fragment.key) => self.receive(cx, fragment.what, stamp, each)?,
                Some(fragment) => self.early.hold(fragment),
                None => break,
            }
        }
        Ok(())
    }

    /// Gives up the fragments that have waited long enough at that time.
    fn give_up_until(
        &mut self,
        cx: &Context<'_>,
        now: Tick,
        each: &mut impl FnMut(&Fate<'_>),
    ) -> Result<(), ReplayError> {
        for _ in 0..self.early.len() {
            match self.early.next() {
                Some(fragment) if fragment.is_overdue(now) => {
                    let stamp = Duration::from_millis(fragment.until().0);
                    self.give_up(cx, &fragment.what, stamp, each)?;
                }
                Some(fragment) => self.early.hold(fragment),
                None => break,
            }
        }
        Ok(())
    }

    fn give_up(
        &mut self,
        cx: &Context<'_>,
        received: &Received,
        stamp: Duration,
        each: &mut impl FnMut(&Fate<'_>),
    ) -> Result<(), ReplayError> {
        let Captured { port, bytes, .. } = &received.captured;
        let verdict = path::given_up(cx, *port);
        if verdict == Verdict::Host {
            self.outputs.write_host(*port, stamp, bytes)?;
        }
        each(&Fate { number: received.number, port: *port, verdict, sent: &[] });
        Ok(())
    }
}

fn walk(cx: &Context<'_>, local: &mut WorkerState, port: PortId, frame: &mut Frame<'_>) -> Verdict {
    match path::walk(cx, local, port, frame, &mut Silent) {
        // Nobody can be asked here.
        Verdict::Hold { .. } => Verdict::Drop(Reason::NoNeighbour),
        verdict => verdict,
    }
}

/// The pieces of a packet; `None` if it can't be cut.
fn pieces(frame: &Frame<'_>, mtu: u32) -> Option<Vec<Vec<u8>>> {
    let bytes = |piece: Piece| {
        let mut bytes = vec![0; piece.len()];
        piece.copy(frame, 0, &mut bytes);
        bytes
    };
    Some(frame::cut(frame, mtu)?.map(bytes).collect())
}

fn tick(stamp: Duration) -> Tick {
    Tick(u64::try_from(stamp.as_millis()).unwrap_or(u64::MAX))
}

/// A frame of a capture.
struct Captured {
    port: PortId,
    stamp: Duration,
    bytes: Vec<u8>,
}

/// All captures, merged.
struct Inputs<'a> {
    captures: Vec<Capture<'a>>,
}

struct Capture<'a> {
    path: &'a Path,
    port: PortId,
    reader: PcapReader<BufReader<File>>,
    next: Option<Captured>,
}

impl<'a> Inputs<'a> {
    fn open(inputs: &'a [(PortId, PathBuf)]) -> Result<Inputs<'a>, ReplayError> {
        let mut captures = Vec::with_capacity(inputs.len());
        for (port, path) in inputs {
            let file = File::open(path).map_err(|err| failed(path, err))?;
            let reader = PcapReader::new(BufReader::new(file)).map_err(|err| unreadable(path, &err))?;
            if reader.header().datalink != DataLink::ETHERNET {
                return Err(failed(path, "the capture is not of Ethernet frames"));
            }
            let mut capture = Capture { path, port: *port, reader, next: None };
            capture.advance()?;
            captures.push(capture);
        }
        Ok(Inputs { captures })
    }

    fn next(&mut self) -> Result<Option<Captured>, ReplayError> {
        let stamp = |capture: &Capture<'_>| capture.next.as_ref().map(|captured| captured.stamp);
        let earliest = self.captures.iter_mut().filter(|capture| capture.next.is_some()).min_by_key(|c| stamp(c));
        let Some(earliest) = earliest else { return Ok(None) };
        let captured = earliest.next.take();
        earliest.advance()?;
        Ok(captured)
    }
}

impl Capture<'_> {
    fn advance(&mut self) -> Result<(), ReplayError> {
        self.next = match self.reader.next_packet() {
            None => None,
            Some(Ok(packet)) => {
                Some(Captured { port: self.port, stamp: packet.timestamp, bytes: packet.data.into_owned() })
            }
            Some(Err(err)) => return Err(unreadable(self.path, &err)),
        };
        Ok(())
    }
}

/// One capture for every port, and one for what is the kernel's.
struct Outputs {
    ports: Vec<Output>,
    hosts: Vec<Output>,
}

struct Output {
    path: PathBuf,
    writer: PcapWriter<BufWriter<File>>,
}

impl Outputs {
    fn create(dir: &Path, around: &Surroundings) -> Result<Outputs, ReplayError> {
        let host = dir.join("host");
        fs::create_dir_all(&host).map_err(|err| failed(&host, err))?;
        let create = |dir: &Path| -> Result<Vec<Output>, ReplayError> {
            around.all_ports().map(|(_, port)| Output::create(dir.join(format!("{}.pcap", port.name)))).collect()
        };
        Ok(Outputs { ports: create(dir)?, hosts: create(&host)? })
    }

    fn write(&mut self, port: PortId, stamp: Duration, bytes: &[u8]) -> Result<(), ReplayError> {
        self.ports.get_mut(usize::from(port.0)).map_or(Ok(()), |output| output.write(stamp, bytes))
    }

    fn write_host(&mut self, port: PortId, stamp: Duration, bytes: &[u8]) -> Result<(), ReplayError> {
        self.hosts.get_mut(usize::from(port.0)).map_or(Ok(()), |output| output.write(stamp, bytes))
    }

    fn finish(self) -> Result<(), ReplayError> {
        for Output { path, writer } in self.ports.into_iter().chain(self.hosts) {
            let mut file = writer.into_writer();
            io::Write::flush(&mut file).map_err(|err| failed(&path, err))?;
        }
        Ok(())
    }
}

impl Output {
    fn create(path: PathBuf) -> Result<Output, ReplayError> {
        let file = File::create(&path).map_err(|err| failed(&path, err))?;
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(BufWriter::new(file), header).map_err(|err| unreadable(&path, &err))?;
        Ok(Output { path, writer })
    }

    fn write(&mut self, stamp: Duration, bytes: &[u8]) -> Result<(), ReplayError> {
        let packet = PcapPacket::new(stamp, u32::try_from(bytes.len()).unwrap_or(u32::MAX), bytes);
        self.writer.write_packet(&packet).map(|_| ()).map_err(|err| unreadable(&self.path, &err))
    }
}

fn failed(path: &Path, why: impl ToString) -> ReplayError {
    ReplayError { path: path.to_owned(), message: why.to_string() }
}

fn unreadable(path: &Path, why: &pcap_file::PcapError) -> ReplayError {
    failed(path, format!("not a readable capture in pcap format: {why} (convert others with `editcap -F pcap`)"))
}
