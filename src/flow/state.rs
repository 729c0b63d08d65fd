//! The state as a whole: opening, and access to its arrays.

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use super::entry::Entry;
use super::layout::{Geometry, Layout, Slot};
use super::phase::Phase;
use super::timers::{self, Timers};
use super::{fragments, header};
use crate::table::mapped::{Opened, Words};
use crate::units::{Ip, Proto, Tick};

/// Clocks, entries, owners: over a mapped file, or over plain memory in `replay` and tests.
///
/// Writers and readers: all packet workers at once; the control plane for owners, rests and sweeps. At most one process
/// at a time may have the file open.
pub struct State {
    words: Words,
    pub(super) layout: Layout,
    /// What the keys of flows are hashed with.
    pub(super) secret: u64,
    pub(super) quarantine: AtomicU32,
    pub(super) timers: Timers,
    pub(super) echo_claims: OnceLock<Vec<Words<AtomicU32>>>,
    pub(super) fragments: fragments::Cells,
}

/// Why a state started empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fresh {
    /// There was none, or its first process was killed while it made it.
    New,
    /// The file is something else.
    Foreign,
    /// Written by a version that lays words out differently.
    OtherVersion,
    /// Written before the machine was started: its clocks mean nothing now.
    OtherBoot,
    /// The ServerIPs or the owned range have changed.
    OtherGeometry,
}

impl Fresh {
    /// For logs and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Fresh::New => "there was no state file",
            Fresh::Foreign => "the file was no state file",
            Fresh::OtherVersion => "the state file is of another version",
            Fresh::OtherBoot => "the state file is from before the last boot",
            Fresh::OtherGeometry => "the ServerIPs or the owned range have changed",
        }
    }
}

impl State {
    /// Opens the state file, or makes it. If what is there cannot be used, the state starts empty and the reason is
    /// returned beside it. `boot_id` is that of the machine (`/proc/sys/kernel/random/boot_id`): ticks count from boot.
    ///
    /// # Errors
    /// Those of the file system, and `InvalidInput` for more than 200 ServerIPs.
    pub fn open(path: &Path, geometry: &Geometry, boot_id: [u8; 16]) -> io::Result<(State, Option<Fresh>)> {
        let layout = sized(geometry)?;
        let (words, odd) = match Words::file(path, layout.words())? {
            Opened::New(words) | Opened::Kept(words) => (words, None),
            Opened::WrongSize(_) => (Words::replace(path, layout.words())?, Some(Fresh::OtherGeometry)),
        };
        let mut state = State::over(words, layout)?;
        let fresh = odd.or(header::mismatch(&state.words, &state.layout, boot_id));
        if fresh.is_some() {
            header::start_empty(&state.words, &state.layout, boot_id);
        } else {
            state.recover();
        }
        state.secret = header::secret(&state.words);
        Ok((state, fresh))
    }

    /// A state that nothing outlives, and nothing is secret in: it does the same every time.
    ///
    /// # Errors
    /// `InvalidInput` for more than 200 ServerIPs, and if there is no memory.
    pub fn memory(geometry: &Geometry) -> io::Result<State> {
        let layout = sized(geometry)?;
        State::over(Words::memory(layout.words())?, layout)
    }

    /// The same with timers of its own. What it holds is judged by them, whoever has written it.
    #[must_use]
    pub fn with_timers(self, timers: Timers) -> State {
        State { timers, ..self }
    }

    fn over(words: Words, layout: Layout) -> io::Result<State> {
        let quarantine = AtomicU32::new(timers::QUARANTINE);
        let fragments = fragments::Cells::new()?;
        let timers = Timers::DEFAULT;
        Ok(State { words, layout, secret: 0, quarantine, timers, echo_claims: OnceLock::new(), fragments })
    }

    /// The slot of a wire name, for clocks and quarantine; `None` if it is not one of ours. The port of a portless
    /// protocol does not matter.
    #[inline(always)]
    #[must_use]
    pub fn slot(&self, server: Ip, proto: Proto, port: u16) -> Option<Slot> {
        self.layout.slot(server, proto, port)
    }

    /// Bytes that the state takes, mapped or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.layout.words() * size_of::<u64>()
    }

    /// Frees what has expired. For the control plane, every minute or so: entries are told from those of 194 days later
    /// only because this runs, and shorter searches are its thanks.
    pub fn sweep(&self, now: Tick) {
        self.affinity().sweep(now);
        for (index, cell) in self.entries().iter().enumerate() {
            let entry = Entry(cell.load(SeqCst));
            if entry.is_entry() && !entry.is_live(&self.timers, self.layout.transport(index as u32), now) {
                let _ = cell.compare_exchange(entry.0, entry.emptied().0, SeqCst, SeqCst);
            }
        }
        for (cell, slot) in self.overlap_entries().iter().zip(self.overlap_slots()) {
            let entry = Entry(cell.load(SeqCst));
            let transport = self.layout.transport(slot.load(SeqCst) as u32);
            if entry.is_entry() && !entry.is_live(&self.timers, transport, now) {
                let _ = cell.compare_exchange(entry.0, entry.emptied().0, SeqCst, SeqCst);
            }
        }
    }

    /// Takes back what a killed process had claimed and not yet confirmed. Such an entry has carried no packet.
    fn recover(&self) {
        self.affinity().recover();
        for cell in self.entries().iter().chain(self.overlap_entries()) {
            let entry = Entry(cell.load(SeqCst));
            if entry.is_tentative() || entry.phase() == Phase::Claimed {
                cell.store(entry.emptied().0, SeqCst);
            }
        }
    }

    pub(super) fn affinity_cells(&self) -> &[AtomicU64] {
        &self.words[self.layout.affinity()]
    }

    #[inline(always)]
    pub(super) fn clocks(&self) -> &[AtomicU64] {
        &self.words[self.layout.clocks()]
    }

    #[inline(always)]
    pub(super) fn entries(&self) -> &[AtomicU64] {
        &self.words[self.layout.entries()]
    }

    pub(super) fn reaches(&self) -> &[AtomicU64] {
        &self.words[self.layout.reaches()]
    }

    #[inline(always)]
    pub(super) fn owners(&self) -> &[AtomicU64] {
        &self.words[self.layout.owners()]
    }

    #[inline(always)]
    pub(super) fn rests(&self) -> &[AtomicU64] {
        &self.words[self.layout.rests()]
    }

    pub(super) fn overlap_entries(&self) -> &[AtomicU64] {
        &self.words[self.layout.overlap_entries()]
    }

    pub(super) fn overlap_remotes(&self) -> &[AtomicU64] {
        &self.words[self.layout.overlap_remotes()]
    }

    pub(super) fn overlap_slots(&self) -> &[AtomicU64] {
        &self.words[self.layout.overlap_slots()]
    }
}

fn sized(geometry: &Geometry) -> io::Result<Layout> {
    Layout::new(geometry).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "more than 200 ServerIPs"))
}
