//! Loading: from the compiled object to a program and its maps in the kernel, on no interface yet.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Array, Map, MapData, MapInfo, PerCpuArray, XskMap};

use aya::programs::{ProgramInfo, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_obj::programs::XdpAttachType;

use super::claims::{ClaimsMap, io_error};
use super::pins::PROGRAM;
use super::{Counters, Kind};
use crate::units::{QueueId, VlanTags};

const UPLINK: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/uplink.bpf.o"));
const ACCESS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/access.bpf.o"));
const ROLE_EXTERNAL: u32 = 1;
const KEEPS_EARLY: u32 = 4;

/// What a program decided about a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// `XDP_PASS`: the kernel's.
    Pass,
    /// `XDP_DROP`: the engine's, and no engine runs.
    Drop,
    /// `XDP_REDIRECT`: the engine's.
    Redirect,
    /// Anything else; our programs return nothing else.
    Other(u32),
}

/// The instructions in the kernel.
enum Code {
    /// Loaded now, under that name.
    Loaded(Ebpf, &'static str),
    /// Loaded and pinned by a former engine of the same build.
    Pinned(Box<Xdp>),
}

/// A program in the kernel with its maps. One writer, the control plane.
pub struct Program {
    code: Code,
    sockets: XskMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    claims: Option<ClaimsMap>,
    settings: Option<Array<MapData, u32>>,
}

impl Program {
    /// Loads the program for a kind of port: without interface, pins or claims. `frags` for frames of several buffers.
    pub fn load(kind: Kind, tags: VlanTags, frags: bool) -> Result<Program, EbpfError> {
        Program::load_with(kind, tags, frags, None)
    }

    /// The same, with the maps that are pinned in `pins`, or pinned there now.
    pub(super) fn load_with(
        kind: Kind,
        tags: VlanTags,
        frags: bool,
        pins: Option<&Path>,
    ) -> Result<Program, EbpfError> {
        let (object, name, maps) = parts(kind, frags);
        let mut loader = EbpfLoader::new();
        if let Some(dir) = pins {
            for map in maps {
                loader.map_pin_path(map, dir.join(map));
            }
        }
        let mut ebpf = loader.load(object)?;
        set_role(kind, tags, ebpf.map_mut("settings"))?;
        let program: &mut Xdp = ebpf.program_mut(name).ok_or_else(|| absent(name))?.try_into()?;
        program.load()?;
        let mut maps: BTreeMap<_, _> = maps.iter().filter_map(|&map| Some((map, ebpf.take_map(map)?))).collect();
        Program::assemble(kind, Code::Loaded(ebpf, name), &mut maps)
    }

    /// The program `installed` and its maps, if a former engine of this very build pinned them in `pins`. That takes no
    /// time, where a program that is loaded has to be verified. `None` if anything is not as it should be.
    pub(super) fn reopen(kind: Kind, tags: VlanTags, frags: bool, pins: &Path, installed: u32) -> Option<Program> {
        let (_, _, names) = parts(kind, frags);
        let xdp = Xdp::from_pin(pins.join(pin_name(kind, frags)), XdpAttachType::Interface).ok()?;
        let info = xdp.info().ok()?;
        let mut maps = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for &name in names {
            let map = MapData::from_pin(pins.join(name)).ok()?;
            ids.insert(map.info().ok()?.id());
            maps.insert(name, Map::from_map_data(map).ok()?);
        }
        let uses_these = info.map_ids().ok()??.iter().all(|id| ids.contains(id));
        if info.id() != installed || !uses_these {
            return None;
        }
        set_role(kind, tags, maps.get_mut("settings")).ok()?;
        Program::assemble(kind, Code::Pinned(Box::new(xdp)), &mut maps).ok()
    }

    fn assemble(kind: Kind, code: Code, maps: &mut BTreeMap<&str, Map>) -> Result<Program, EbpfError> {
        let claims = match kind {
            Kind::Access => None,
            Kind::Uplink { .. } | Kind::External => Some(ClaimsMap::take(|map| maps.remove(map))?),
        };
        let sockets = maps.remove("xsks").ok_or_else(|| absent("xsks"))?.try_into()?;
        let counters = maps.remove("counters").ok_or_else(|| absent("counters"))?.try_into()?;
        let settings = maps.remove("settings").map(Array::try_from).transpose()?;
        Ok(Program { code, sockets, counters, claims, settings })
    }

    /// Says which socket takes the frames of a receive queue, from now on. The socket must be bound to that queue; the
    /// kernel forgets it when its last descriptor is closed.
    pub fn set_socket(&mut self, queue: QueueId, socket: impl AsFd) -> io::Result<()> {
        self.sockets.set(queue.0, socket.as_fd().as_raw_fd(), 0).map_err(io_error)
    }

    /// Takes the queue's socket away: its claimed frames are dropped from now on. No socket is no error.
    pub fn unset_socket(&mut self, queue: QueueId) -> io::Result<()> {
        match self.sockets.unset(queue.0).map_err(io_error) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Says whether the engine keeps fragments that come before the first of their packet, and gives back what is the
    /// kernel's: only then are they handed over. A program that was just loaded or opened hands over none.
    pub fn set_keeps_early(&mut self, keeps: bool) -> io::Result<()> {
        let Some(settings) = &mut self.settings else { return Ok(()) };
        let setting = settings.get(&0, 0).map_err(io_error)?;
        let setting = if keeps { setting | KEEPS_EARLY } else { setting & !KEEPS_EARLY };
        settings.set(0, setting, 0).map_err(io_error)
    }

    /// What the program claims; `None` on an access port, where all is claimed.
    pub fn claims(&mut self) -> Option<&mut ClaimsMap> {
        self.claims.as_mut()
    }

    /// What became of the frames so far.
    pub fn counters(&self) -> io::Result<Counters> {
        Counters::read(&self.counters)
    }

    /// Runs the program over one frame of at least 14 bytes, as if it came by queue 0 (`BPF_PROG_TEST_RUN`). Nothing
    /// is delivered; counters count.
    pub fn run(&self, frame: &[u8]) -> Result<Action, EbpfError> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        Ok(match self.xdp()?.test_run(options)?.return_value {
            1 => Action::Drop,
            2 => Action::Pass,
            4 => Action::Redirect,
            other => Action::Other(other),
        })
    }

    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>, EbpfError> {
        Ok(self.xdp()?.fd()?.as_fd())
    }

    pub(super) fn pin(&mut self, path: &Path) -> Result<(), EbpfError> {
        let xdp: &mut Xdp = match &mut self.code {
            Code::Loaded(ebpf, name) => ebpf.program_mut(name).ok_or_else(|| absent(name))?.try_into()?,
            Code::Pinned(xdp) => xdp,
        };
        xdp.pin(path).map_err(|error| EbpfError::FileError { path: path.to_owned(), error: io::Error::other(error) })
    }

    /// True if the other program has the same instructions, the same name (which tells the `frags` variant) and the
    /// very same maps.
    pub(super) fn is_same_as(&self, other: &ProgramInfo) -> Result<bool, EbpfError> {
        let ours = self.xdp()?.info()?;
        let maps = |info: &ProgramInfo| info.map_ids().map(|ids| ids.map(BTreeSet::from_iter));
        Ok(ours.tag() == other.tag() && ours.name() == other.name() && maps(&ours)? == maps(other)?)
    }

    fn xdp(&self) -> Result<&Xdp, EbpfError> {
        match &self.code {
            Code::Loaded(ebpf, name) => Ok(ebpf.program(name).ok_or_else(|| absent(name))?.try_into()?),
            Code::Pinned(xdp) => Ok(xdp),
        }
    }
}

/// The names of the maps in `dir` that a program of this build could not use: unknown to it, or of another shape.
pub(super) fn unusable_pins(kind: Kind, dir: &Path) -> Result<Vec<String>, EbpfError> {
    let infos = ALL_MAPS.map(|pinned| (pinned, MapInfo::from_pin(dir.join(pinned)).ok()));
    if infos.iter().all(|(_, info)| info.is_none()) {
        return Ok(Vec::new());
    }
    let (object, _, names) = parts(kind, false);
    let fresh = EbpfLoader::new().load(object)?;
    let mut unusable = Vec::new();
    for (pinned, info) in infos {
        let Some(info) = info else { continue };
        let usable = match fresh.map(pinned).filter(|_| names.contains(&pinned)) {
            Some(map) => shape(&info) == shape(&map_info(map)?),
            None => false,
        };
        if !usable {
            unusable.push(pinned.to_owned());
        }
    }
    Ok(unusable)
}

const ALL_MAPS: [&str; 10] = [
    "xsks",
    "counters",
    "settings",
    "servers",
    "far_servers",
    "portless",
    "publics",
    "public_ips",
    "echo",
    "fragments",
];

fn parts(kind: Kind, frags: bool) -> (&'static [u8], &'static str, &'static [&'static str]) {
    match (kind, frags) {
        (Kind::Access, false) => (ACCESS, "access", &ALL_MAPS[..2]),
        (Kind::Access, true) => (ACCESS, "access_frags", &ALL_MAPS[..2]),
        (Kind::Uplink { .. } | Kind::External, false) => (UPLINK, "uplink", &ALL_MAPS),
        (Kind::Uplink { .. } | Kind::External, true) => (UPLINK, "uplink_frags", &ALL_MAPS),
    }
}

/// The name of a program's pin. It tells the object that the program came from; a hash function that changes with the
/// compiler means one more load.
pub(super) fn pin_name(kind: Kind, frags: bool) -> String {
    let mut hasher = DefaultHasher::new();
    let (object, name, _) = parts(kind, frags);
    (object, name).hash(&mut hasher);
    format!("{PROGRAM}{:016x}", hasher.finish())
}

fn set_role(kind: Kind, tags: VlanTags, settings: Option<&mut Map>) -> Result<(), EbpfError> {
    let role = match kind {
        Kind::Access => return Ok(()),
        Kind::Uplink { external: false } => 0,
        Kind::Uplink { external: true } | Kind::External => ROLE_EXTERNAL,
    };
    let ids = tags.ids().iter().zip([8, 20]).map(|(&id, at)| u32::from(id) << at);
    let role = role | (tags.ids().len() as u32) << 4 | ids.sum::<u32>();
    let mut settings: Array<_, u32> = settings.ok_or_else(|| absent("settings"))?.try_into()?;
    Ok(settings.set(0, role, 0)?)
}

fn map_info(map: &Map) -> Result<MapInfo, EbpfError> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) | Map::XskMap(data) => {
            Ok(data.info()?)
        }
        _ => Err(absent("a map of a known type")),
    }
}

fn shape(info: &MapInfo) -> (Option<u32>, [u32; 4]) {
    let kind = info.map_type().ok().map(|kind| kind as u32);
    (kind, [info.key_size(), info.value_size(), info.max_entries(), info.map_flags()])
}

fn absent(what: &str) -> EbpfError {
    EbpfError::FileError {
        path: "the compiled XDP object".into(),
        error: io::Error::new(io::ErrorKind::NotFound, format!("{what} is missing")),
    }
}
