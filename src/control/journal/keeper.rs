//! The thread that writes: one frame and one fsync for all that waits.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use tokio::sync::{oneshot, watch};

use super::{Disk, FileMark, Outcome, Progress, ROOM, Shared, frame, lock, make_room, new_id, record};

/// Text that a frame grows to, if there is as much.
const MOST_FRAME: usize = 4 << 20;

/// A text that is written by itself.
const LARGE: usize = 1 << 20;

/// What the keeper is told. It does all in the order in which it was told.
pub(super) enum Order {
    /// A change set, for which `room` was reserved.
    Append { number: u64, generation: u64, of_mapping: bool, text: Arc<String>, room: u64 },
    /// A new file is begun. From here on change sets go into both.
    Begin,
    /// A part of the listing, for the new file.
    Piece(String),
    /// The listing is complete: the new file takes the place of the old one.
    End(String),
    /// The journal goes out from another mapping file: the old one is removed, or replaced by one with this record.
    Rebase(FileMark, String, oneshot::Sender<Outcome>),
    #[cfg(test)]
    FailNext,
}

pub(super) struct Keeper {
    path: PathBuf,
    shared: Arc<Shared>,
    progress: watch::Sender<Progress>,
    /// The file that is to take the place of the present one.
    next: Option<NextFile>,
    #[cfg(test)]
    fails_next: bool,
}

/// A file that is not yet the journal.
struct NextFile {
    path: PathBuf,
    file: File,
    id: u64,
    seq: u64,
    tail: u64,
    text: Vec<u8>,
}

/// Change sets that go to the disk together.
#[derive(Default)]
struct Group {
    texts: Vec<Arc<String>>,
    len: usize,
    change_sets: u64,
    /// The number and the generation of the latest.
    latest: u64,
    generation: u64,
    room: u64,
    of_mapping: bool,
}

impl Keeper {
    pub fn new(path: &Path, shared: Arc<Shared>, progress: watch::Sender<Progress>) -> Keeper {
        Keeper {
            path: path.to_owned(),
            shared,
            progress,
            next: None,
            #[cfg(test)]
            fails_next: false,
        }
    }

    /// Does what it is told until nobody can tell it anything any more.
    pub fn run(mut self, orders: &mpsc::Receiver<Order>) {
        let mut group = Group::default();
        while let Ok(first) = orders.recv() {
            let mut order = Some(first);
            while let Some(now) = order {
                match now {
                    Order::Append { number, generation, of_mapping, text, room } => {
                        group.len += text.len();
                        group.texts.push(text);
                        group.change_sets += 1;
                        (group.latest, group.generation) = (number, generation);
                        group.room += room;
                        group.of_mapping |= of_mapping;
                    }
                    other => {
                        self.write(&mut group);
                        self.obey(other);
                    }
                }
                order = if group.len < MOST_FRAME { orders.try_recv().ok() } else { None };
            }
            self.write(&mut group);
        }
        self.give_up_next();
        self.give_back_room();
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Append { .. } => {}
            Order::Begin => {
                self.give_up_next();
                self.next = self.noted(|keeper| NextFile::begin(&keeper.path, keeper.shared.disk().base));
            }
            Order::Piece(text) => {
                self.push_next(text.as_bytes());
                self.progress.send_modify(|progress| progress.pieces += 1);
            }
            Order::End(text) => {
                self.push_next(text.as_bytes());
                if let Some(next) = self.next.take() {
                    let new = next.path.clone();
                    if self.noted(|keeper| keeper.replace_by(next)).is_none() {
                        let _ = fs::remove_file(new);
                    }
                }
                self.progress.send_modify(|progress| progress.snapshots += 1);
            }
            Order::Rebase(base, carried, answer) => {
                self.give_up_next();
                let removed = self.rebase(base, &carried).map_err(|err| self.note(&err));
                let _ = answer.send(removed);
            }
            #[cfg(test)]
            Order::FailNext => self.fails_next = true,
        }
    }

    /// Writes the group as one frame, and syncs it.
    fn write(&mut self, group: &mut Group) {
        let Group { texts, change_sets, latest, generation, room, of_mapping, .. } = std::mem::take(group);
        if texts.is_empty() {
            return;
        }
        texts.iter().for_each(|text| self.push_next(text.as_bytes()));
        // What comes behind a failure is taken back with it.
        if self.shared.disk().broken.is_some() {
            self.shared.disk().queued -= room;
            return;
        }
        let outcome = self.append(&texts);
        self.shared.disk().queued -= room;
        match outcome {
            Ok(()) => {
                let mut disk = self.shared.disk();
                disk.generation = generation;
                disk.change_sets += change_sets;
                disk.of_mapping |= of_mapping;
                drop(disk);
                self.progress.send_modify(|progress| progress.durable = latest);
                self.make_room_ahead();
            }
            Err(err) => {
                let why = self.note(&err);
                self.give_up_next();
                self.shared.disk().broken = Some(why);
                self.progress.send_modify(|progress| progress.failures += 1);
            }
        }
    }

    fn append(&mut self, texts: &[Arc<String>]) -> io::Result<()> {
        let (file, id, seq, tail, base) = {
            let mut disk = self.shared.disk();
            // Removed by a reload after room was reserved.
            let file = disk.file.clone().map_or_else(|| disk.open_file(&self.path), Ok)?;
            (file, disk.id, disk.next_seq, disk.tail, disk.base)
        };
        let (mut bytes, mut frames) = (Vec::new(), 0);
        if tail == 0 {
            bytes.extend_from_slice(frame::preamble(id).as_bytes());
            frame::put(&mut bytes, id, seq, record::base(base).as_bytes());
            frames += 1;
        }
        bytes.extend_from_slice(frame::head(id, seq + frames, texts.iter().map(|text| text.as_bytes())).as_bytes());
        frames += 1;
        let len = bytes.len() + texts.iter().map(|text| text.len()).sum::<usize>();
        let written = self.write_and_sync(&file, bytes, texts, tail);
        if written.is_err() {
            // What was refused must not be found at the next start.
            let _ = file.set_len(tail).and_then(|()| file.sync_all());
            self.shared.disk().room = tail;
            return written;
        }
        if tail == 0 {
            sync_directory(&self.path)?;
        }
        let mut disk = self.shared.disk();
        disk.tail = tail + len as u64;
        disk.next_seq = seq + frames;
        Ok(())
    }

    /// Writes the texts behind `bytes`. Small ones go together; a large one is not copied for that.
    fn write_and_sync(&mut self, file: &File, mut bytes: Vec<u8>, texts: &[Arc<String>], at: u64) -> io::Result<()> {
        #[cfg(test)]
        if std::mem::take(&mut self.fails_next) {
            return Err(io::Error::other("the disk failed"));
        }
        let mut at = at;
        let mut write = |bytes: &[u8]| {
            at += bytes.len() as u64;
            file.write_all_at(bytes, at - bytes.len() as u64)
        };
        for text in texts {
            if text.len() < LARGE {
                bytes.extend_from_slice(text.as_bytes());
                continue;
            }
            write(&bytes)?;
            bytes.clear();
            write(text.as_bytes())?;
        }
        write(&bytes)?;
        file.sync_data()
    }

    /// Puts a complete file in the place of the present one.
    fn replace_by(&mut self, mut next: NextFile) -> io::Result<()> {
        next.flush()?;
        // Room for what was promised in the present one.
        let mut disk = self.shared.disk();
        let headroom = disk.queued + ROOM;
        drop(disk);
        make_room(&next.file, next.tail, headroom)?;
        next.file.sync_all()?;
        fs::rename(&next.path, &self.path)?;
        sync_directory(&self.path)?;
        disk = self.shared.disk();
        *disk = Disk {
            file: Some(Arc::new(next.file)),
            resume: None,
            complete: true,
            id: next.id,
            next_seq: next.seq,
            tail: next.tail,
            room: next.tail + headroom,
            snapshot_bytes: next.tail,
            change_sets: 0,
            of_mapping: true,
            broken: None,
            base: disk.base,
            queued: disk.queued,
            generation: disk.generation,
            last_error: disk.last_error.take(),
        };
        Ok(())
    }

    /// Reserves the next piece of the disk before it is needed: whoever asks for a change does not wait for it.
    fn make_room_ahead(&self) {
        let disk = self.shared.disk();
        let (room, used) = (disk.room, disk.tail + disk.queued);
        let Some(file) = disk.file.clone().filter(|_| room < used + ROOM / 2) else { return };
        drop(disk);
        // If there is none, whoever needs it is told.
        if make_room(&file, room, ROOM).is_ok() {
            let mut disk = self.shared.disk();
            disk.room = disk.room.max(room + ROOM);
        }
    }

    fn rebase(&mut self, base: FileMark, carried: &str) -> io::Result<()> {
        if !carried.is_empty() {
            let new = begin_anew(&self.path, base, carried)?;
            let mut disk = self.shared.disk();
            let (queued, generation, last_error) = (disk.queued, disk.generation, disk.last_error.take());
            *disk = Disk { queued, generation, last_error, ..new };
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            removed => {
                removed?;
                sync_directory(&self.path)?;
            }
        }
        let mut disk = self.shared.disk();
        *disk = Disk {
            queued: disk.queued,
            generation: disk.generation,
            last_error: disk.last_error.take(),
            ..Disk::empty(base)
        };
        Ok(())
    }

    fn push_next(&mut self, text: &[u8]) {
        let Some(mut next) = self.next.take() else { return };
        match next.push(text) {
            Ok(()) => self.next = Some(next),
            Err(err) => {
                let _ = fs::remove_file(&next.path);
                self.note(&err);
            }
        }
    }

    fn give_up_next(&mut self) {
        if let Some(next) = self.next.take() {
            let _ = fs::remove_file(next.path);
        }
    }

    /// A file that is closed well is as long as what is in it.
    fn give_back_room(&self) {
        let disk = self.shared.disk();
        if let Some(file) = &disk.file
            && disk.broken.is_none()
        {
            let _ = file.set_len(disk.tail).and_then(|()| file.sync_all());
        }
    }

    fn noted<T>(&mut self, what: impl FnOnce(&mut Keeper) -> io::Result<T>) -> Option<T> {
        what(self).map_err(|err| self.note(&err)).ok()
    }

    fn note(&self, err: &io::Error) -> Arc<str> {
        let why: Arc<str> = format!("the journal {}: {err}", self.path.display()).into();
        tracing::error!("{why}");
        self.shared.disk().last_error = Some(Arc::clone(&why));
        why
    }
}

/// A journal with nothing in it but this record, in the place of the one that is there.
pub(super) fn begin_anew(path: &Path, base: FileMark, record: &str) -> io::Result<Disk> {
    NextFile::beside(path, base, record)?.put_in_place(path, base)
}

impl NextFile {
    /// A file with one record.
    fn beside(journal: &Path, base: FileMark, record: &str) -> io::Result<NextFile> {
        let mut next = NextFile::begin(journal, base)?;
        next.push(record.as_bytes())?;
        next.flush()?;
        next.file.sync_all()?;
        Ok(next)
    }

    /// Makes it the journal.
    fn put_in_place(self, journal: &Path, base: FileMark) -> io::Result<Disk> {
        fs::rename(&self.path, journal)?;
        sync_directory(journal)?;
        Ok(Disk {
            file: Some(Arc::new(self.file)),
            id: self.id,
            next_seq: self.seq,
            tail: self.tail,
            room: self.tail,
            change_sets: 1,
            ..Disk::empty(base)
        })
    }

    fn begin(journal: &Path, base: FileMark) -> io::Result<NextFile> {
        let mut name = journal.as_os_str().to_owned();
        name.push(".new");
        let path = PathBuf::from(name);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = File::options().write(true).create(true).truncate(false).open(&path)?;
        lock(&file)?;
        file.set_len(0)?;
        let id = new_id();
        let mut next = NextFile { path, file, id, seq: 1, tail: 0, text: Vec::new() };
        next.write(frame::preamble(id).as_bytes())?;
        next.text.extend_from_slice(record::base(base).as_bytes());
        next.flush()?;
        Ok(next)
    }

    fn push(&mut self, text: &[u8]) -> io::Result<()> {
        self.text.extend_from_slice(text);
        if self.text.len() < MOST_FRAME { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.text.len() + frame::HEADER);
        frame::put(&mut bytes, self.id, self.seq, &self.text);
        self.text.clear();
        self.seq += 1;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.tail)?;
        self.tail += bytes.len() as u64;
        Ok(())
    }
}

/// Makes a file's name as lasting as the file (fsync(2)).
pub(super) fn sync_directory(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
