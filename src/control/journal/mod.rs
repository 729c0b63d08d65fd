//! The journal: accepted change sets on disk, so that they outlive the process and the host's next boot.
//!
//! It is one file of frames (see [`frame`]) that hold lines of text (see [`record`]): what the mapping was, then what
//! changed. While there is none, the mapping file is all there is to know. A new journal refers to the mapping file by
//! length and checksum; soon after, and whenever it has grown, it is replaced by one that begins with the whole mapping.
//!
//! What is known of health is kept too. It makes no mapping newer than the mapping file: where that was edited, it is
//! carried over to the bindings that are where they were.
//!
//! A change set is in force before it is on disk, and is answered after: packets need not wait for a disk, and one fsync
//! serves all change sets that wait for it. Room is reserved before a change set is put in force, so that a full disk
//! refuses it with nothing done; what the disk fails to take later is taken back.

pub mod frame;
mod keeper;
pub mod record;
pub mod recover;
mod start;
pub mod undo;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::naming::{BindingSpec, HealthNote, Prepared};
use crate::table;
use keeper::{Keeper, Order};
pub use record::FileMark;
pub use start::{Choice, Start, choose, read_start};

/// Room is reserved in pieces of this size.
const ROOM: u64 = 1 << 20;
/// A journal smaller than this is not worth replacing.
const SMALL: u64 = 4 << 20;
/// Bytes that may wait for the disk before further change sets are refused; one of any size may wait alone.
const MOST_WAITING: u64 = 64 << 20;
/// Pieces of a snapshot that may wait for the disk.
const MOST_PIECES: u64 = 32;

/// What became of a change set on its way to the disk: an error says why it was taken back.
pub type Outcome = Result<(), Arc<str>>;

/// The journal as the control thread has it. Its files are written by a thread of its own.
pub struct Journal {
    path: PathBuf,
    shared: Arc<Shared>,
    /// None once it is being closed.
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    progress: watch::Receiver<Progress>,
    /// Number of the latest change set.
    latest: u64,
    failures_seen: u64,
    pending: VecDeque<Pending>,
    pieces_sent: u64,
    /// When the latest change set was accepted, in milliseconds since 1970.
    last_change_ms: u64,
}

/// A change set that is in force and not yet known to be on disk.
struct Pending {
    number: u64,
    /// What to take back if it fails; empty once a reload has replaced it.
    text: Arc<String>,
    answers: Vec<oneshot::Sender<Outcome>>,
}

/// How far the keeper is.
#[derive(Clone, Default)]
struct Progress {
    /// The latest change set that is on disk.
    durable: u64,
    /// Times that the disk has failed.
    failures: u64,
    /// Pieces of snapshots that were written or left out.
    pieces: u64,
    /// Snapshots that came to their end, one way or the other.
    snapshots: u64,
}

/// What control thread and keeper share. Each holds it for moments, but for system calls that reserve room.
struct Shared(Mutex<Disk>);

/// The file and what is in it.
struct Disk {
    file: Option<Arc<File>>,
    /// Where a former engine's journal goes on.
    resume: Option<Resume>,
    /// The mapping file that the journal goes out from.
    base: FileMark,
    /// True once the file holds the whole mapping.
    complete: bool,
    id: u64,
    next_seq: u64,
    /// Bytes that were written.
    tail: u64,
    /// Bytes that were promised and not yet written, at most.
    queued: u64,
    /// Bytes that the file has room for.
    room: u64,
    /// What `tail` was when the file was new and complete.
    snapshot_bytes: u64,
    change_sets: u64,
    /// Some of them say something of bindings, and not of health alone.
    of_mapping: bool,
    generation: u64,
    /// Why the file can't be trusted with more. A new one heals it.
    broken: Option<Arc<str>>,
    last_error: Option<Arc<str>>,
}

/// A journal that was read, and to which nobody may have added since.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Resume {
    inode: u64,
    modified: (i64, i64),
}

/// The journal in `GET /v1/status`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JournalReport {
    pub path: String,
    /// The change set that it holds last, as its engine counted; 0, if it holds none.
    pub generation: u64,
    /// What is in it now.
    pub bytes: u64,
    /// Change sets since it was begun or last replaced.
    pub change_sets: u64,
    /// True if it holds the whole mapping, false if it goes out from the mapping file.
    pub complete: bool,
    /// Why a change set was refused or a journal not replaced, the latest time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A journal that was left to another engine.
pub struct Closed {
    path: PathBuf,
    disk: Disk,
    last_change_ms: u64,
}

impl Closed {
    /// Goes on with it. If the other engine has written it or set it aside, it must be replaced before it takes more.
    #[must_use]
    pub fn reopen(mut self) -> Journal {
        if Resume::at(&self.path).ok() != Some(self.disk.resume.clone()) {
            let why = format!("the journal {}: another engine has had it meanwhile", self.path.display());
            self.disk.broken = Some(why.into());
        }
        Journal::open(&self.path, self.disk, self.last_change_ms)
    }
}

/// The right to append a change set that is as long as was said.
#[must_use]
pub struct Room(u64);

impl Shared {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// A journal at `path` that goes out from `disk`.
    fn open(path: &Path, disk: Disk, last_change_ms: u64) -> Journal {
        let shared = Arc::new(Shared(Mutex::new(disk)));
        let (orders, received) = mpsc::channel();
        let (told, progress) = watch::channel(Progress::default());
        let keeper = Keeper::new(path, Arc::clone(&shared), told);
        // A process that can't have one more thread would not have got here.
        let thread = std::thread::spawn(move || keeper.run(&received));
        Journal {
            path: path.to_owned(),
            shared,
            orders: Some(orders),
            thread: Some(thread),
            progress,
            latest: 0,
            failures_seen: 0,
            pending: VecDeque::new(),
            pieces_sent: 0,
            last_change_ms,
        }
    }

    /// Puts on disk what waits for it, answers for it, and leaves the file to another engine.
    pub fn close(mut self) -> Closed {
        self.orders = None;
        let _ = self.thread.take().map(JoinHandle::join);
        if let Some(failed) = self.settle() {
            tracing::error!("change sets that are not on disk stay in force: {}", failed.why());
            failed.answer();
        }
        let mut disk = std::mem::replace(&mut *self.shared.disk(), Disk::empty(FileMark::default()));
        if let Some(metadata) = disk.file.take().and_then(|file| file.metadata().ok()) {
            disk.resume = Some(Resume::of(&metadata));
        }
        Closed { path: self.path.clone(), disk, last_change_ms: self.last_change_ms }
    }

    /// Makes room for a record, before the change set is put in force.
    ///
    /// # Errors
    /// There is none, or the disk has failed: the text names the file and is meant for whoever asks for the change.
    pub fn reserve(&mut self, text: &str) -> Result<Room, String> {
        let len = (text.len() + frame::HEADER) as u64;
        let mut disk = self.shared.disk();
        match disk.reserve(&self.path, len) {
            Ok(()) => Ok(Room(len)),
            Err(err) => {
                let why: Arc<str> = format!("the journal {}: {err}", self.path.display()).into();
                disk.last_error = Some(Arc::clone(&why));
                Err(why.to_string())
            }
        }
    }

    /// Puts the record of a change set that is in force on its way to the disk. `of_mapping`: it says something of bindings, and
    /// not of their health alone.
    pub fn append(&mut self, room: Room, text: String, generation: u64, of_mapping: bool) {
        let text = Arc::new(text);
        self.latest += 1;
        if of_mapping {
            self.last_change_ms = now_ms();
        }
        self.shared.disk().queued += room.0;
        self.pending.push_back(Pending { number: self.latest, text: Arc::clone(&text), answers: Vec::new() });
        self.order(Order::Append { number: self.latest, generation, of_mapping, text, room: room.0 });
    }

    /// Tells once everything that was appended so far is on disk, or was taken back. `None`: it is already.
    pub fn outcome(&mut self) -> Option<oneshot::Receiver<Outcome>> {
        let (answer, outcome) = oneshot::channel();
        self.pending.back_mut()?.answers.push(answer);
        Some(outcome)
    }

    /// Answers for what has reached the disk.
    pub fn answer(&mut self) {
        let durable = self.progress.borrow_and_update().durable;
        self.answer_until(durable);
    }

    /// True if the disk has failed, and nothing was taken back yet.
    pub fn has_failed(&self) -> bool {
        self.progress.borrow().failures != self.failures_seen
    }

    /// Answers for what has reached the disk. Returns what must be taken back because the disk has failed: records, in
    /// the order in which they were put in force, and who waits for them. Whoever calls it has the turn to change the
    /// mapping, so that no change set is between its promise of room and its place among them.
    pub fn settle(&mut self) -> Option<Failed> {
        let (durable, failures) = {
            let progress = self.progress.borrow_and_update();
            (progress.durable, progress.failures)
        };
        self.answer_until(durable);
        if failures == self.failures_seen {
            return None;
        }
        self.failures_seen = failures;
        let why = self.shared.disk().last_error.clone().unwrap_or_default();
        let (texts, answers): (Vec<_>, Vec<_>) =
            self.pending.drain(..).map(|pending| (pending.text, pending.answers)).unzip();
        Some(Failed { why, texts, answers: answers.into_iter().flatten().collect() })
    }

    fn answer_until(&mut self, durable: u64) {
        while self.pending.front().is_some_and(|pending| pending.number <= durable) {
            let done = self.pending.pop_front();
            done.into_iter().flat_map(|done| done.answers).for_each(|answer| _ = answer.send(Ok(())));
        }
    }

    /// A way to wait until [`Journal::settle`] has something to do.
    pub fn news(&self) -> News {
        News(self.progress.clone())
    }

    /// The whole mapping was replaced by this mapping file: the journal is begun anew, and tells when the former one is
    /// gone. What is still on its way is answered for, and never taken back. `known`: what is known of bindings in force.
    pub fn rebase(&mut self, base: FileMark, known: &[HealthNote]) -> oneshot::Receiver<Outcome> {
        let (answer, outcome) = oneshot::channel();
        self.pending.iter_mut().for_each(|pending| pending.text = Arc::default());
        self.order(Order::Rebase(base, carried(known), answer));
        outcome
    }

    /// True if the journal should be replaced by one that begins with the whole mapping.
    pub fn is_due(&self) -> bool {
        let disk = self.shared.disk();
        disk.broken.is_some()
            || (disk.of_mapping && !disk.complete)
            || (disk.tail > SMALL && disk.tail > 2 * disk.snapshot_bytes)
    }

    /// Begins a journal that is to replace this one.
    pub fn begin_snapshot(&mut self) {
        self.order(Order::Begin);
    }

    /// Bindings as packets see them now, in the text of [`record::listed`].
    pub fn piece(&mut self, text: String) {
        self.pieces_sent += 1;
        self.order(Order::Piece(text));
    }

    /// True while as many pieces wait as may.
    pub fn is_choked(&self) -> bool {
        self.pieces_sent - self.progress.borrow().pieces >= MOST_PIECES
    }

    /// All bindings were listed.
    pub fn end_snapshot(&mut self, generation: u64) {
        let text = record::complete(generation, self.last_change_ms);
        self.order(Order::End(text));
    }

    /// How many snapshots came to their end.
    pub fn snapshots(&self) -> u64 {
        self.progress.borrow().snapshots
    }

    /// For `GET /v1/status`.
    #[must_use]
    pub fn report(&self) -> JournalReport {
        let disk = self.shared.disk();
        JournalReport {
            path: self.path.display().to_string(),
            generation: disk.generation,
            bytes: disk.tail,
            change_sets: disk.change_sets,
            complete: disk.complete,
            last_error: disk.last_error.as_ref().map(ToString::to_string),
        }
    }

    fn order(&self, order: Order) {
        // A keeper that is gone has been told to go, or was lost with its progress: nothing is answered then.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    #[cfg(test)]
    fn fail_next(&self) {
        self.order(Order::FailNext);
    }
}

impl Drop for Journal {
    /// Waits until everything is on disk.
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Waits for progress without the journal.
pub struct News(watch::Receiver<Progress>);

impl News {
    /// Completes when there is progress since the last call.
    pub async fn wait(&mut self) {
        // An error means that it is over, and says so at once.
        let _ = self.0.changed().await;
    }

    /// The journal was closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.has_changed().is_err()
    }
}

/// Change sets that are in force and not on disk.
#[must_use]
pub struct Failed {
    why: Arc<str>,
    texts: Vec<Arc<String>>,
    answers: Vec<oneshot::Sender<Outcome>>,
}

impl Failed {
    /// Their records, oldest first.
    pub fn texts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.texts.iter().map(|text| text.as_str())
    }

    /// What the disk did.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Tells everybody who waits that it was taken back.
    pub fn answer(self) {
        for answer in self.answers {
            let _ = answer.send(Err(Arc::clone(&self.why)));
        }
    }
}

/// The record of a change set, before it is committed.
#[must_use]
pub fn record_of(prepared: &Prepared<'_>) -> String {
    let (generation, notes) = (prepared.change().generation, prepared.health_notes());
    record::change(generation, now_ms(), prepared.gone(&table::pin()), prepared.put(), &notes)
}

/// The record of what is known of bindings of another mapping; empty, if that is nothing.
fn carried(known: &[HealthNote]) -> String {
    let nothing = std::iter::empty::<BindingSpec>();
    if known.is_empty() { String::new() } else { record::change(0, now_ms(), nothing, [].into_iter(), known) }
}

impl Disk {
    /// A journal of which there is no file yet.
    fn empty(base: FileMark) -> Disk {
        Disk {
            file: None,
            resume: None,
            base,
            complete: false,
            id: new_id(),
            next_seq: 1,
            tail: 0,
            queued: 0,
            room: 0,
            snapshot_bytes: 0,
            change_sets: 0,
            of_mapping: false,
            generation: 0,
            broken: None,
            last_error: None,
        }
    }

    fn reserve(&mut self, path: &Path, len: u64) -> io::Result<()> {
        if let Some(why) = &self.broken {
            return Err(io::Error::other(format!("being replaced, since {why}")));
        }
        if self.queued > 0 && self.queued + len > MOST_WAITING {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("{} bytes wait for the disk", self.queued)));
        }
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => self.open_file(path)?,
        };
        let needed = self.tail + self.queued + len + frame::PREAMBLE as u64 + record::MOST_BASE as u64;
        if needed > self.room {
            let more = (needed - self.room).max(ROOM);
            make_room(&file, self.room, more)?;
            self.room += more;
        }
        Ok(())
    }

    /// Opens the file that a former engine has left, or makes one. No other engine may write it.
    fn open_file(&mut self, path: &Path) -> io::Result<Arc<File>> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        lock(&file)?;
        let metadata = file.metadata()?;
        match &self.resume {
            Some(resume) if *resume != Resume::of(&metadata) => {
                return Err(io::Error::other("another engine has written it meanwhile"));
            }
            None if metadata.len() > 0 => return Err(io::Error::other("another engine has written it")),
            // What was torn is cut off; it was read as nothing.
            _ => file.set_len(self.tail)?,
        }
        self.resume = None;
        self.room = self.tail;
        let file = Arc::new(file);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }
}

impl Resume {
    /// That of the file that is there now, if there is one.
    fn at(path: &Path) -> io::Result<Option<Resume>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Resume::of(&metadata))),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    fn of(metadata: &fs::Metadata) -> Resume {
        Resume { inode: metadata.ino(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// Reserves blocks, where the file system can.
fn make_room(file: &File, from: u64, len: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), from, len) {
        // Then a full disk is noticed when it is written.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        outcome => outcome.map_err(io::Error::from),
    }
}

fn lock(file: &File) -> io::Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::other("another engine keeps it")),
        outcome => outcome.map_err(io::Error::from),
    }
}

/// What tells a file's frames from those of any other.
fn new_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(now_ms())
}

fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
