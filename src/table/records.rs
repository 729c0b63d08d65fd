//! Tables of records: the readers' lookups and the writer's changes.

use super::index::{Buckets, Index, Replaced};
use super::primitive::prefetch;
use super::slab::{Handle, MAX_SLOTS, Slab, Slot};
use super::timeline::{Snapshot, Timeline};
use super::writer::Writer;
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Lookups of a burst that are under way together: enough to hide memory's latency, few enough to stay in L1.
const BURST: usize = 32;

/// Bytes of a cache line.
const LINE: usize = 64;

/// What a table holds.
pub trait Record: Send + Sync + 'static {
    /// The hash of the key under which the table's `index` (0..N) finds this record; `None` keeps it out of that
    /// index. The same for as long as the record lives.
    fn hash_of(&self, index: usize) -> Option<u64>;
}

/// Records under `N` hash indexes, each with its own key. Several records may share a key.
///
/// Read by: any number of threads, each through a [`Snapshot`]. Written by: the [`Writer`] of its timeline.
#[repr(C, align(128))]
pub struct Table<T, const N: usize> {
    // What lookups read, and changes do not write.
    indexes: [Index; N],
    timeline: Arc<Timeline>,
    slab: Slab<T>,
    desk: Desk,
}

/// The writer's side, on cache lines of its own.
#[repr(C, align(128))]
struct Desk {
    /// Of the writer's list of tables.
    number: u32,
    /// Written and read by the holder of the writer only.
    books: UnsafeCell<Books>,
    // For everybody's information.
    high_water: AtomicUsize,
    live: AtomicUsize,
    bytes: AtomicUsize,
}

#[derive(Default)]
struct Books {
    /// Places below the high-water mark that hold no record.
    vacant: Vec<Handle>,
    /// Entries in each index, retired ones included.
    linked: Vec<usize>,
    /// Buckets out of force that readers may still be in, oldest first. Here, so that they stay as long as the table
    /// if the writer goes.
    replaced: VecDeque<Replaced>,
}

// SAFETY: `books` is reached only through the table's writer, of which there is one: by `&mut Writer` to change it, by
// `&Writer` to read it. The records are `Send + Sync` by `Record`.
unsafe impl<T: Record, const N: usize> Sync for Table<T, N> {}
// SAFETY: as above.
unsafe impl<T: Record, const N: usize> Send for Table<T, N> {}

/// Readers' side: none of it waits, allocates or fails.
impl<T: Record, const N: usize> Table<T, N> {
    /// The first record that the snapshot sees under `hash` in `index` and of which `is_it` is true.
    #[inline]
    pub fn find<'g>(
        &'g self,
        index: usize,
        hash: u64,
        at: &Snapshot<'g>,
        is_it: impl FnMut(&T) -> bool,
    ) -> Option<(Handle, &'g T)> {
        self.assert_timeline(at.timeline());
        self.find_at(index, hash, at.version(), is_it)
    }

    /// Calls `each` with every record that the snapshot sees under `hash` in `index`. Records of other
    /// keys come along, where a byte of their hash agrees: `each` compares.
    #[inline]
    pub fn find_all<'g>(&'g self, index: usize, hash: u64, at: &Snapshot<'g>, each: impl FnMut(Handle, &'g T)) {
        self.assert_timeline(at.timeline());
        self.find_all_at(index, hash, at.version(), each);
    }

    /// The record of a handle, if the snapshot sees it: always, where the handle was found through the same snapshot.
    #[inline]
    pub fn get<'g>(&'g self, handle: Handle, at: &Snapshot<'g>) -> Option<&'g T> {
        self.assert_timeline(at.timeline());
        self.visible(handle, at.version())
    }

    /// First stage of a lookup in a burst: asks for the bucket of `hash`.
    #[inline(always)]
    pub fn prefetch_bucket(&self, index: usize, hash: u64, _at: &Snapshot<'_>) {
        self.indexes[index].buckets().prefetch(hash);
    }

    /// Second stage: reads the bucket and asks for the record that `hash` most likely leads to. Gives its handle, for
    /// [`Table::find_from`].
    #[inline(always)]
    pub fn prefetch_record(&self, index: usize, hash: u64, _at: &Snapshot<'_>) -> Option<Handle> {
        let likely = self.indexes[index].buckets().likely(hash);
        if let Some(handle) = likely {
            self.prefetch_handle(handle);
        }
        likely
    }

    /// As [`Table::find`], by way of the record that is likely to be it: the bucket is not read again.
    #[inline(always)]
    pub fn find_from<'g>(
        &'g self,
        likely: Option<Handle>,
        index: usize,
        hash: u64,
        at: &Snapshot<'g>,
        mut is_it: impl FnMut(&T) -> bool,
    ) -> Option<(Handle, &'g T)> {
        self.assert_timeline(at.timeline());
        if let Some(handle) = likely
            && let Some(record) = self.visible(handle, at.version())
            && is_it(record)
        {
            return Some((handle, record));
        }
        self.find_at(index, hash, at.version(), is_it)
    }

    /// Asks for the record of a handle, such as another record names: all of its cache lines.
    #[inline(always)]
    pub fn prefetch_handle(&self, handle: Handle) {
        let at = self.slab.at(handle);
        prefetch(at);
        if size_of::<Slot<T>>() > LINE {
            (1..size_of::<Slot<T>>().div_ceil(LINE)).for_each(|line| prefetch(at.wrapping_byte_add(line * LINE)));
        }
    }

    /// A burst of lookups in one index: the buckets of all are asked for, then their records, then all are compared.
    /// `is_it` gets the position in `hashes`. Extra positions of either slice are left alone.
    #[inline]
    pub fn find_burst<'g>(
        &'g self,
        index: usize,
        hashes: &[u64],
        at: &Snapshot<'g>,
        found: &mut [Option<(Handle, &'g T)>],
        mut is_it: impl FnMut(usize, &T) -> bool,
    ) {
        self.assert_timeline(at.timeline());
        let (buckets, version) = (self.indexes[index].buckets(), at.version());
        for (chunk, (hashes, found)) in hashes.chunks(BURST).zip(found.chunks_mut(BURST)).enumerate() {
            let mut likely = [None; BURST];
            hashes.iter().for_each(|&hash| buckets.prefetch(hash));
            for (&hash, likely) in hashes.iter().zip(&mut likely) {
                *likely = buckets.likely(hash);
                if let Some(handle) = *likely {
                    self.prefetch_handle(handle);
                }
            }
            for (position, ((&hash, likely), found)) in hashes.iter().zip(likely).zip(found).enumerate() {
                let mut is_it = |record: &T| is_it(chunk * BURST + position, record);
                let first = likely.and_then(|handle| Some((handle, self.visible(handle, version)?)));
                *found = first
                    .filter(|(_, record)| is_it(record))
                    .or_else(|| self.find_at(index, hash, version, &mut is_it));
            }
        }
    }

    /// Every record that the snapshot sees, in no particular order. For listings: it walks all that ever lived.
    pub fn iter<'g>(&'g self, at: &Snapshot<'g>) -> impl Iterator<Item = (Handle, &'g T)> {
        self.assert_timeline(at.timeline());
        let version = at.version();
        self.handles().filter_map(move |handle| Some((handle, self.visible(handle, version)?)))
    }

    /// As [`Table::iter`], but `places` places from `first` only, and where to go on, if there are more.
    pub fn iter_some<'g>(
        &'g self,
        first: u32,
        places: u32,
        at: &Snapshot<'g>,
    ) -> (impl Iterator<Item = (Handle, &'g T)>, Option<u32>) {
        self.assert_timeline(at.timeline());
        let (version, all) = (at.version(), self.desk.high_water.load(Ordering::Acquire) as u32);
        let end = first.saturating_add(places).min(all);
        let some = (first..end).map(Handle);
        (some.filter_map(move |handle| Some((handle, self.visible(handle, version)?))), (end < all).then_some(end))
    }
}

/// The writer's side. Each panics if the writer is another timeline's.
impl<T: Record, const N: usize> Table<T, N> {
    /// Stages a new record.
    ///
    /// # Panics
    /// Beyond four billion records.
    pub fn insert(&self, writer: &mut Writer, record: T) -> Handle {
        self.assert_timeline(writer.timeline());
        let hashes: [Option<u64>; N] = std::array::from_fn(|index| record.hash_of(index));
        for (index, hash) in hashes.iter().enumerate() {
            if hash.is_some() {
                self.make_room(writer, index);
            }
        }
        // SAFETY: the table's writer is held by `&mut`, and nothing below calls out.
        let books = unsafe { &mut *self.desk.books.get() };
        let handle = books.vacant.pop().unwrap_or_else(|| self.open_place());
        let slot = self.slab.slot(handle).expect("a place below the high-water mark");
        // SAFETY: the place is vacant, so no reader looks at its record, and none will before its lifetime begins.
        slot.record.with_mut(|place| unsafe { (*place).write(record) });
        slot.lifetime.begin(writer.next_version());
        for (index, hash) in hashes.iter().enumerate() {
            if let Some(hash) = *hash {
                self.indexes[index].buckets().link(hash, handle);
                books.linked[index] += 1;
            }
        }
        add(&self.desk.live, 1);
        writer.log_insert(self.desk.number, handle);
        handle
    }

    /// Stages the end of a record. False if the handle holds none that is live in the staged state.
    pub fn retire(&self, writer: &mut Writer, handle: Handle) -> bool {
        self.assert_timeline(writer.timeline());
        match self.slab.slot(handle) {
            Some(slot) if slot.lifetime.is_live() => slot.lifetime.end(writer.next_version()),
            _ => return false,
        }
        add(&self.desk.live, -1);
        writer.log_retire(self.desk.number, handle);
        true
    }

    /// As [`Table::find`], in the staged state.
    pub fn find_staged<'w>(
        &'w self,
        index: usize,
        hash: u64,
        writer: &'w Writer,
        is_it: impl FnMut(&T) -> bool,
    ) -> Option<(Handle, &'w T)> {
        self.assert_timeline(writer.timeline());
        self.find_at(index, hash, writer.next_version(), is_it)
    }

    /// As [`Table::find_all`], in the staged state.
    pub fn find_all_staged<'w>(&'w self, index: usize, hash: u64, writer: &'w Writer, each: impl FnMut(Handle, &'w T)) {
        self.assert_timeline(writer.timeline());
        self.find_all_at(index, hash, writer.next_version(), each);
    }

    /// The record of a handle, if it is live in the staged state.
    pub fn get_staged<'w>(&'w self, handle: Handle, writer: &'w Writer) -> Option<&'w T> {
        self.assert_timeline(writer.timeline());
        self.visible(handle, writer.next_version())
    }

    /// Every record that is live in the staged state, in no particular order.
    pub fn iter_staged<'w>(&'w self, writer: &'w Writer) -> impl Iterator<Item = (Handle, &'w T)> {
        self.assert_timeline(writer.timeline());
        let version = writer.next_version();
        self.handles().filter_map(move |handle| Some((handle, self.visible(handle, version)?)))
    }

    /// As [`Table::prefetch_bucket`], for what is about to be looked up or inserted in the staged state.
    #[inline(always)]
    pub fn prefetch_bucket_staged(&self, index: usize, hash: u64, _writer: &Writer) {
        self.indexes[index].buckets().prefetch(hash);
    }

    /// As [`Table::prefetch_record`], in the staged state.
    #[inline(always)]
    pub fn prefetch_record_staged(&self, index: usize, hash: u64, _writer: &Writer) -> Option<Handle> {
        let likely = self.indexes[index].buckets().likely(hash);
        if let Some(handle) = likely {
            self.prefetch_handle(handle);
        }
        likely
    }

    /// Makes room in an index for `more` records at once, so that a large load does not grow it step by step.
    pub fn reserve(&self, writer: &mut Writer, index: usize, more: usize) {
        self.assert_timeline(writer.timeline());
        let needed = self.linked(index) + more;
        if needed > self.indexes[index].buckets().capacity() {
            self.rebuild(writer, index, needed);
        }
    }
}

/// Everybody's.
impl<T: Record, const N: usize> Table<T, N> {
    /// Records that are live in the staged state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.desk.live.load(Ordering::Relaxed)
    }

    /// Whether no record is live in the staged state.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places that ever held a record: those of live and of retired ones, and those that are vacant.
    #[must_use]
    pub fn places(&self) -> usize {
        self.desk.high_water.load(Ordering::Relaxed)
    }

    /// Bytes of the places that ever held a record, of the indexes and of the books about them. What the records own
    /// elsewhere is not counted.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.desk.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn new(timeline: &Arc<Timeline>, number: u32) -> Table<T, N> {
        let indexes: [Index; N] = std::array::from_fn(|_| Index::new(0));
        let bytes = indexes.iter().map(|index| index.buckets().bytes()).sum();
        let books = Books { vacant: Vec::new(), linked: vec![0; N], replaced: VecDeque::new() };
        let desk = Desk {
            number,
            books: UnsafeCell::new(books),
            high_water: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            bytes: AtomicUsize::new(bytes),
        };
        Table { indexes, timeline: timeline.clone(), slab: Slab::new(), desk }
    }

    #[inline(always)]
    fn find_at(
        &self,
        index: usize,
        hash: u64,
        version: u64,
        mut is_it: impl FnMut(&T) -> bool,
    ) -> Option<(Handle, &T)> {
        let mut found = None;
        self.indexes[index].buckets().candidates(hash, |handle| {
            found = self.visible(handle, version).filter(|record| is_it(record)).map(|record| (handle, record));
            found.is_some()
        });
        found
    }

    #[inline(always)]
    fn find_all_at<'a>(&'a self, index: usize, hash: u64, version: u64, mut each: impl FnMut(Handle, &'a T)) {
        self.indexes[index].buckets().candidates(hash, |handle| {
            if let Some(record) = self.visible(handle, version) {
                each(handle, record);
            }
            false
        });
    }

    /// The record at a place, if `version` sees it. The caller holds that version (by a snapshot) or is the writer.
    #[inline(always)]
    fn visible(&self, handle: Handle, version: u64) -> Option<&T> {
        let slot = self.slab.slot(handle)?;
        if !slot.lifetime.covers(version) {
            return None;
        }
        // SAFETY: the lifetime covers a version that is held, so the record was written before that version was
        // published, or by the caller, and is not dropped before the version is let go: `Writer::reclaim` waits for
        // that, and the writer's own borrow forbids it.
        Some(slot.record.with(|record| unsafe { (*record).assume_init_ref() }))
    }

    fn handles(&self) -> impl Iterator<Item = Handle> + use<T, N> {
        (0..self.desk.high_water.load(Ordering::Acquire) as u32).map(Handle)
    }

    /// Takes the next place that was never used.
    fn open_place(&self) -> Handle {
        let place = self.desk.high_water.load(Ordering::Relaxed);
        assert!(place < MAX_SLOTS as usize, "a table holds at most {MAX_SLOTS} records");
        let handle = Handle(place as u32);
        // A place costs its slot, and the room to note that it is vacant.
        add(&self.desk.bytes, (self.slab.extend(handle) + size_of::<Handle>()) as isize);
        self.desk.high_water.store(place + 1, Ordering::Release);
        handle
    }

    /// Unlinks and drops a record that is found by these hashes.
    ///
    /// # Safety
    /// As for [`Ledger::release`].
    unsafe fn release_one(&self, handle: Handle, hashes: &[Option<u64>; N]) {
        let slot = self.slab.slot(handle).expect("a place below the high-water mark");
        if slot.lifetime.is_live() {
            add(&self.desk.live, -1);
        }
        // SAFETY: the caller holds the writer by `&mut`; the reference ends before the record's own code runs.
        let books = unsafe { &mut *self.desk.books.get() };
        for (index, hash) in hashes.iter().enumerate() {
            if let Some(hash) = *hash {
                self.indexes[index].buckets().unlink(hash, handle);
                books.linked[index] -= 1;
            }
        }
        slot.lifetime.end(super::lifetime::VACANT);
        books.vacant.push(handle);
        // SAFETY: the place held a record, which nobody sees, and is vacant now: it is read out once.
        let record = slot
            .record
            .with_mut(|place| unsafe { std::mem::replace(&mut *place, MaybeUninit::uninit()).assume_init() });
        drop(record);
    }

    fn linked(&self, index: usize) -> usize {
        // SAFETY: called with the writer held by `&mut`; the reference ends here.
        unsafe { &*self.desk.books.get() }.linked[index]
    }

    fn make_room(&self, writer: &mut Writer, index: usize) {
        let full = self.linked(index);
        if full >= self.indexes[index].buckets().capacity() {
            self.rebuild(writer, index, full * 2);
        }
    }

    /// Builds larger buckets from the records, in the order of their places, and puts them in force. Readers go on in
    /// the old ones, which hold all that their snapshots can see.
    fn rebuild(&self, writer: &mut Writer, index: usize, entries: usize) {
        let buckets = Buckets::for_entries(entries.max(self.linked(index) + 1));
        let mut burst = Vec::with_capacity(BURST);
        let link =
            |burst: &mut Vec<(u64, Handle)>| burst.drain(..).for_each(|(hash, handle)| buckets.link(hash, handle));
        for handle in self.handles() {
            if let Some(hash) = self.occupant(handle).and_then(|record| record.hash_of(index)) {
                buckets.prefetch(hash);
                burst.push((hash, handle));
                if burst.len() == BURST {
                    link(&mut burst);
                }
            }
        }
        link(&mut burst);
        let index = &self.indexes[index];
        add(&self.desk.bytes, buckets.bytes() as isize - index.buckets().bytes() as isize);
        let replaced = index.replace(buckets);
        // SAFETY: the table's writer is held by `&mut`; the reference ends here.
        unsafe { &mut *self.desk.books.get() }.replaced.push_back(replaced);
        writer.log_rebuild(self.desk.number);
    }

    /// The record at a place, retired or not: what is linked. The caller is the writer.
    fn occupant(&self, handle: Handle) -> Option<&T> {
        let slot = self.slab.slot(handle).filter(|slot| !slot.lifetime.is_vacant())?;
        // SAFETY: not vacant, so initialised, and only the writer, which is the caller, would change that.
        Some(slot.record.with(|record| unsafe { (*record).assume_init_ref() }))
    }

    #[inline(always)]
    fn assert_timeline(&self, of: &Timeline) {
        if !std::ptr::eq(&raw const *self.timeline, of) {
            wrong_timeline();
        }
    }
}

/// Adds to a number that the writer alone changes: without a locked instruction.
fn add(number: &AtomicUsize, by: isize) {
    number.store(number.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
}

/// A version of one timeline says nothing about another's records: using it would hand out freed ones.
#[cold]
#[inline(never)]
fn wrong_timeline() -> ! {
    panic!("a snapshot or writer of another timeline than the table's");
}

/// What the writer does to tables of any kind.
pub(super) trait Ledger: Send + Sync {
    /// Unlinks and drops records and gives their places to others.
    ///
    /// # Safety
    /// The caller holds this table's writer by `&mut`; each place holds a record, none is named twice, and no reader can
    /// see any of the records any more.
    unsafe fn release(&self, handles: &[Handle]);

    /// Takes back a staged retirement.
    ///
    /// # Safety
    /// The caller holds this table's writer by `&mut`; the record was retired by the change set that is staged.
    unsafe fn revive(&self, handle: Handle);

    /// Frees the buckets that were replaced first.
    ///
    /// # Safety
    /// The caller holds this table's writer by `&mut`, and no reader can be in those buckets any more.
    unsafe fn free_oldest_buckets(&self);
}

impl<T: Record, const N: usize> Ledger for Table<T, N> {
    unsafe fn release(&self, handles: &[Handle]) {
        let mut hashes = [[None; N]; BURST];
        for burst in handles.chunks(BURST) {
            burst.iter().for_each(|&handle| self.prefetch_handle(handle));
            for (&handle, hashes) in burst.iter().zip(&mut hashes) {
                let record = self.occupant(handle).expect("a record below the high-water mark");
                for (at, hash) in hashes.iter_mut().enumerate() {
                    *hash = record.hash_of(at);
                    hash.iter().for_each(|&hash| self.indexes[at].buckets().prefetch(hash));
                }
            }
            for (&handle, hashes) in burst.iter().zip(&hashes) {
                // SAFETY: what the caller promises, of one of the places.
                unsafe { self.release_one(handle, hashes) };
            }
        }
    }

    unsafe fn revive(&self, handle: Handle) {
        if let Some(slot) = self.slab.slot(handle) {
            slot.lifetime.end(super::lifetime::LIVE);
            add(&self.desk.live, 1);
        }
    }

    unsafe fn free_oldest_buckets(&self) {
        // SAFETY: the caller holds the writer by `&mut`; the reference ends here.
        drop(unsafe { &mut *self.desk.books.get() }.replaced.pop_front());
    }
}

impl<T, const N: usize> Drop for Table<T, N> {
    fn drop(&mut self) {
        for place in 0..*self.desk.high_water.get_mut() as u32 {
            let Some(slot) = self.slab.slot(Handle(place)) else { continue };
            if !slot.lifetime.is_vacant() {
                // SAFETY: `&mut self`: nobody else is here. Not vacant, so initialised, and dropped once.
                slot.record.with_mut(|record| unsafe { (*record).assume_init_drop() });
            }
        }
    }
}
