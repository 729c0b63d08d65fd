//! The engine over captures: the same walk as under AF_XDP, with the stamps as its only clock.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, TsResolution};

use crate::flow::State;
use crate::frame::Frame;
use crate::naming::Names;
use crate::neighbour::NextHops;
use crate::path::{self, Context, Reason, Silent, Surroundings, Verdict, WorkerState};
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
    /// What left, and by which port; `None` if nothing did.
    pub sent: Option<(PortId, &'a [u8])>,
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
    /// them.
    ///
    /// # Errors
    /// A capture that can't be read, or an output that can't be written.
    pub fn run(self, mut each: impl FnMut(&Fate<'_>)) -> Result<(), ReplayError> {
        let mut inputs = Inputs::open(&self.inputs)?;
        let mut outputs = Outputs::create(self.out, self.around)?;
        let mut local = WorkerState::new(0, 1, self.around.ports.len());
        let mut buf = Vec::new();
        let mut number = 0;
        while let Some(captured) = inputs.next()? {
            number += 1;
            let len = captured.bytes.len();
            buf.clear();
            buf.resize(HEADROOM, 0);
            buf.extend_from_slice(&captured.bytes);
            buf.resize(HEADROOM + len + TAILROOM, 0);
            let mut frame = Frame::new(&mut buf, HEADROOM, len);
            let guard = table::pin();
            let cx = Context {
                names: self.names.view(&guard),
                around: self.around,
                state: self.state,
                hops: self.hops,
                now: Tick(u64::try_from(captured.stamp.as_millis()).unwrap_or(u64::MAX)),
                dry_run: false,
            };
            let verdict = decide(&cx, &mut local, captured.port, &mut frame);
            let sent = match verdict {
                Verdict::Forward { port } | Verdict::Answer { port, .. } => Some((port, frame.bytes())),
                _ => None,
            };
            if let Some((port, bytes)) = sent {
                outputs.write(port, captured.stamp, bytes)?;
            }
            if verdict == Verdict::Host {
                outputs.write_host(captured.port, captured.stamp, frame.bytes())?;
            }
            each(&Fate { number, port: captured.port, verdict, sent });
        }
        outputs.finish()
    }
}

fn decide(cx: &Context<'_>, local: &mut WorkerState, port: PortId, frame: &mut Frame<'_>) -> Verdict {
    match cx.around.port(port) {
        Some(own) if !path::claims(cx, own, frame) => Verdict::Host,
        _ => match path::walk(cx, local, port, frame, &mut Silent) {
            // Nobody can be asked here.
            Verdict::Hold { .. } => Verdict::Drop(Reason::NoNeighbour),
            verdict => verdict,
        },
    }
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
