//! `[engine]` and `[control]`: how the engine runs and how it is spoken to.

use std::path::{Path, PathBuf};

use crate::units::Ip;

use super::reader::Section;

/// `[engine]`: cores, polling and what outlives the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Engine {
    /// The cores to pin workers to, one worker each. Empty: one worker, not pinned.
    pub cores: Vec<u32>,
    pub poll: Poll,
    /// The state file; `None` means [`Engine::state_file`]'s default.
    pub state: Option<PathBuf>,
    /// Where the XDP programs are pinned: a directory on a bpffs.
    pub pin_dir: PathBuf,
    /// How many queues of ports that are attached while the engine runs each worker has memory for.
    pub spare_queues: u32,
}

/// How workers wait for packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poll {
    /// Spin, then sleep in poll(2) when idle.
    Adaptive,
    /// Never sleep.
    Busy,
}

/// `[control]`: the control socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    pub socket: PathBuf,
    /// The group that may read; `None`: only the engine's own user.
    pub read_group: Option<String>,
    /// The group that may also change things.
    pub write_group: Option<String>,
    pub journal: Journal,
}

/// Where accepted change sets are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Journal {
    /// See [`Control::journal_file`].
    #[default]
    Default,
    /// They are not: at the next start the mapping is that of the mapping file.
    None,
    At(PathBuf),
}

/// Default of `[control] socket`.
pub const SOCKET: &str = "/run/sixway/control.sock";
const PIN_DIR: &str = "/sys/fs/bpf/sixway";
/// Where state files are by default.
pub const STATE_DIR: &str = "/run/sixway";
/// The journal outlives a reboot, and so must its directory.
const JOURNAL_DIR: &str = "/var/lib/sixway";
/// Enough for a few containers on each worker, at 2 MiB each.
const SPARE_QUEUES: u32 = 8;
/// What is left of the sockets of a worker (1024) when all configured ports have theirs.
const MOST_SPARE_QUEUES: u32 = 960;
/// Most workers: far more than one host's NICs have queues for.
const MAX_CORES: u32 = 4096;

impl Engine {
    /// The state file: as configured, else `/run/sixway/<network namespace>-<ServerIP>.state`, where the namespace is
    /// given by the inode number of `/proc/self/ns/net`.
    #[must_use]
    pub fn state_file(&self, network_namespace: u64, server: Ip) -> PathBuf {
        let default = || Path::new(STATE_DIR).join(format!("{network_namespace}-{server}.state"));
        self.state.clone().unwrap_or_else(default)
    }

    /// Where live ports are remembered: beside the state file.
    #[must_use]
    pub fn ports_file(&self, network_namespace: u64, server: Ip) -> PathBuf {
        self.state_file(network_namespace, server).with_added_extension("ports")
    }
}

impl Control {
    /// The journal: as configured, else `/var/lib/sixway/<ServerIP>-<MAPPING>.journal`, MAPPING being the CRC-32 of the
    /// mapping file's path: an engine never takes up the journal of one that had another mapping file. `None`: there
    /// shall be none.
    #[must_use]
    pub fn journal_file(&self, server: Ip, mapping: &Path) -> Option<PathBuf> {
        let mapping = std::path::absolute(mapping).unwrap_or_else(|_| mapping.to_owned());
        let of_mapping = crc32fast::hash(mapping.as_os_str().as_encoded_bytes());
        match &self.journal {
            Journal::Default => Some(Path::new(JOURNAL_DIR).join(format!("{server}-{of_mapping:08x}.journal"))),
            Journal::None => None,
            Journal::At(path) => Some(path.clone()),
        }
    }
}

impl Default for Engine {
    fn default() -> Engine {
        Engine {
            cores: Vec::new(),
            poll: Poll::Adaptive,
            state: None,
            pin_dir: PIN_DIR.into(),
            spare_queues: SPARE_QUEUES,
        }
    }
}

impl Default for Control {
    fn default() -> Control {
        Control { socket: SOCKET.into(), read_group: None, write_group: None, journal: Journal::Default }
    }
}

pub(super) fn read_engine(section: &mut Section<'_, '_, '_>, directory: &Path) -> Option<Engine> {
    let cores = section.integers("cores", 0..=MAX_CORES - 1);
    for (i, core) in cores.iter().flatten().enumerate() {
        if cores.iter().flatten().take(i).any(|other| other == core) {
            section.mistakes.add(&core.span(), format!("core {} is given twice", core.get_ref()));
        }
    }
    let poll = section.choice("poll", &[("adaptive", Poll::Adaptive), ("busy", Poll::Busy)]);
    let state = section.text("state");
    let pin_dir = section.text("pin_dir");
    let spare_queues = section.integer("spare_queues", 0..=MOST_SPARE_QUEUES);
    Some(Engine {
        cores: cores.unwrap_or_default().into_iter().map(|core| core.into_inner()).collect(),
        poll: poll.map_or(Poll::Adaptive, |poll| poll.into_inner()),
        state: state.map(|path| directory.join(path.into_inner())),
        pin_dir: pin_dir.map_or(PIN_DIR.into(), |path| directory.join(path.into_inner())),
        spare_queues: spare_queues.map_or(SPARE_QUEUES, |queues| queues.into_inner()),
    })
}

pub(super) fn read_control(section: &mut Section<'_, '_, '_>, directory: &Path) -> Option<Control> {
    let socket = section.text("socket");
    // sockaddr_un.sun_path, its closing NUL included (unix(7)).
    if let Some(path) = socket.as_ref().filter(|path| directory.join(path.get_ref()).as_os_str().len() > 107) {
        section.mistakes.add(&path.span(), "`socket` is longer than the 107 bytes of a Unix socket's path");
    }
    let read_group = section.text("read_group");
    let write_group = section.text("write_group");
    let journal = section.text("journal");
    if let Some(path) = journal.as_ref().filter(|path| path.get_ref().is_empty() || path.get_ref().ends_with('/')) {
        section.mistakes.add(&path.span(), "`journal` is a file, or \"none\"");
    }
    Some(Control {
        socket: socket.map_or(SOCKET.into(), |path| directory.join(path.into_inner())),
        read_group: read_group.map(|group| group.into_inner()),
        write_group: write_group.map(|group| group.into_inner()),
        journal: match journal.map(|path| path.into_inner()) {
            None => Journal::Default,
            Some(word) if word == "none" => Journal::None,
            Some(path) => Journal::At(directory.join(path)),
        },
    })
}
