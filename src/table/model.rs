//! Every interleaving of a writer and a reader over the real tables, by loom. Small: two keys, one or two change sets.
//!
//! Run with `scripts/test`'s loom line; each change set moves one record between two keys, so that a reader that sees
//! exactly one of the two has seen a change set whole.

use super::{Record, Swap, Table, Timeline, Writer, pin};
use loom::thread;
use std::sync::Arc;

struct At(u64);

impl Record for At {
    fn hash_of(&self, _index: usize) -> Option<u64> {
        Some(hash(self.0))
    }
}

/// Both keys share a bucket, as they do at worst.
fn hash(key: u64) -> u64 {
    key << 56
}

/// What one burst sees: (key 1 is there, key 2 is there).
fn burst(table: &Table<At, 1>, timeline: &Timeline) -> (bool, bool) {
    let guard = pin();
    let at = timeline.snapshot(&guard);
    let has = |key| table.find(0, hash(key), &at, |record| record.0 == key).is_some();
    (has(1), has(2))
}

/// A few switches of threads find the protocol's faults; all of them would take hours.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(run);
}

fn table_with_one() -> (Writer, Arc<Table<At, 1>>, super::Handle) {
    let mut writer = Writer::new();
    let table = writer.table::<At, 1>();
    let handle = table.insert(&mut writer, At(1));
    writer.commit();
    (writer, table, handle)
}

#[test]
fn a_change_set_is_seen_whole() {
    model(|| {
        let (mut writer, table, one) = table_with_one();
        let (read, timeline) = (table.clone(), writer.timeline().clone());
        let reader = thread::spawn(move || {
            let seen = burst(&read, &timeline);
            assert!(seen.0 != seen.1, "half a change set: {seen:?}");
        });
        table.insert(&mut writer, At(2));
        table.retire(&mut writer, one);
        writer.commit();
        reader.join().unwrap();
    });
}

/// The place of a retired record goes to the next one while a reader looks: it sees one or the other, never a mixture.
#[test]
fn a_place_is_used_again_without_a_reader_noticing() {
    model(|| {
        let (mut writer, table, one) = table_with_one();
        let (read, timeline) = (table.clone(), writer.timeline().clone());
        let reader = thread::spawn(move || {
            let guard = pin();
            let at = timeline.snapshot(&guard);
            let seen = |key| table_sees(&read, &at, key);
            let count = u32::from(seen(1)) + u32::from(seen(2)) + u32::from(seen(3));
            assert_eq!(count, 1, "at version {}", at.version());
        });
        let two = table.insert(&mut writer, At(2));
        table.retire(&mut writer, one);
        writer.commit();
        writer.reclaim();
        let three = table.insert(&mut writer, At(3));
        table.retire(&mut writer, two);
        writer.commit();
        let _ = three;
        reader.join().unwrap();
    });
}

fn table_sees(table: &Table<At, 1>, at: &super::Snapshot<'_>, key: u64) -> bool {
    table.find(0, hash(key), at, |record| record.0 == key).is_some()
}

#[test]
fn what_is_rolled_back_was_never_there() {
    model(|| {
        let (mut writer, table, one) = table_with_one();
        let (read, timeline) = (table.clone(), writer.timeline().clone());
        let reader = thread::spawn(move || assert_eq!(burst(&read, &timeline), (true, false)));
        table.insert(&mut writer, At(2));
        table.retire(&mut writer, one);
        writer.rollback();
        writer.commit();
        reader.join().unwrap();
    });
}

/// The index holds nine entries before it grows (one bucket), so the tenth builds new buckets under the reader's eyes.
#[test]
fn an_index_grows_under_a_reader() {
    model(|| {
        let (mut writer, table, _) = table_with_one();
        for key in 3..11 {
            table.insert(&mut writer, At(key));
        }
        writer.commit();
        let (read, timeline) = (table.clone(), writer.timeline().clone());
        let reader = thread::spawn(move || assert!(burst(&read, &timeline).0));
        table.insert(&mut writer, At(2));
        writer.commit();
        writer.reclaim();
        reader.join().unwrap();
    });
}

#[test]
fn a_replaced_value_stays_while_it_is_held() {
    model(|| {
        let cell = Arc::new(Swap::new(Box::new(1)));
        let read = cell.clone();
        let reader = thread::spawn(move || {
            let guard = pin();
            assert!([1, 2].contains(&**read.load(&guard)));
        });
        cell.store(Box::new(2));
        cell.reclaim();
        reader.join().unwrap();
    });
}
