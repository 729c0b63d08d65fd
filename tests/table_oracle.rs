//! The table against the simplest thing that could be right: one `BTreeMap` a version.
//!
//! Any sequence of changes, commits and rollbacks is played on both; readers pin at any point and must go on seeing
//! exactly the map of the version they pinned, whatever happens meanwhile.

use proptest::prelude::*;
use sixway::table::{self, Handle, Record, Snapshot, Table, Writer, hash};
use std::collections::BTreeMap;

/// Found by its key in index 0, and by its colour, which many share and zero has not, in index 1.
struct Item {
    key: u64,
    colour: u64,
}

impl Record for Item {
    fn hash_of(&self, index: usize) -> Option<u64> {
        match index {
            0 => Some(hash_key(self.key)),
            _ => (self.colour != 0).then(|| hash_colour(self.colour)),
        }
    }
}

/// A third of the keys share one hash: full buckets, overflow and equal tags all happen.
fn hash_key(key: u64) -> u64 {
    if key.is_multiple_of(3) { 42 << 56 } else { hash::words(&[key]) }
}

fn hash_colour(colour: u64) -> u64 {
    hash::words(&[colour, colour])
}

const KEYS: u64 = 48;
const COLOURS: u64 = 4;

#[derive(Clone, Debug)]
enum Op {
    Put {
        key: u64,
        colour: u64,
    },
    Delete {
        key: u64,
    },
    Commit,
    Rollback,
    Reclaim,
    /// A reader pins, and lets go after so many further operations.
    Pin {
        operations: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..KEYS, 0..COLOURS).prop_map(|(key, colour)| Op::Put { key, colour }),
        4 => (0..KEYS).prop_map(|key| Op::Delete { key }),
        3 => Just(Op::Commit),
        1 => Just(Op::Rollback),
        1 => Just(Op::Reclaim),
        1 => (1usize..20).prop_map(|operations| Op::Pin { operations }),
    ]
}

type Map = BTreeMap<u64, (Handle, u64)>;

struct World {
    writer: Writer,
    table: std::sync::Arc<Table<Item, 2>>,
    committed: Map,
    staged: Map,
}

impl World {
    /// Plays the operations; a reader that pins is checked after each one until it lets go.
    fn play(&mut self, ops: &[Op], held: &[(Snapshot<'_>, &Map)]) {
        let mut at = 0;
        while at < ops.len() {
            if let Op::Pin { operations } = ops[at] {
                let rest = &ops[at + 1..];
                let played = &rest[..operations.min(rest.len())];
                let (guard, timeline, seen) = (table::pin(), self.writer.timeline().clone(), self.committed.clone());
                let mut held = held.to_vec();
                held.push((timeline.snapshot(&guard), &seen));
                self.play(played, &held);
                at += 1 + played.len();
            } else {
                self.change(&ops[at]);
                self.check(held);
                at += 1;
            }
        }
    }

    fn change(&mut self, op: &Op) {
        match *op {
            Op::Put { key, colour } => {
                if let Some((old, _)) = self.staged.remove(&key) {
                    assert!(self.table.retire(&mut self.writer, old));
                }
                let handle = self.table.insert(&mut self.writer, Item { key, colour });
                self.staged.insert(key, (handle, colour));
            }
            Op::Delete { key } => {
                if let Some((old, _)) = self.staged.remove(&key) {
                    assert!(self.table.retire(&mut self.writer, old));
                    assert!(!self.table.retire(&mut self.writer, old), "a record is retired once");
                }
            }
            Op::Commit => {
                let next = self.writer.next_version();
                assert_eq!(self.writer.commit(), next);
                self.committed = self.staged.clone();
            }
            Op::Rollback => {
                self.writer.rollback();
                self.staged = self.committed.clone();
            }
            Op::Reclaim => {
                self.writer.reclaim();
            }
            Op::Pin { .. } => unreachable!("played by `play`"),
        }
    }

    fn check(&self, held: &[(Snapshot<'_>, &Map)]) {
        for (snapshot, map) in held {
            self.check_snapshot(snapshot, map);
        }
        let (guard, timeline) = (table::pin(), self.writer.timeline());
        self.check_snapshot(&timeline.snapshot(&guard), &self.committed);
        self.check_staged();
    }

    fn check_snapshot(&self, at: &Snapshot<'_>, map: &Map) {
        let hashes: Vec<u64> = (0..KEYS).map(hash_key).collect();
        let mut burst = vec![None; hashes.len()];
        self.table.find_burst(0, &hashes, at, &mut burst, |key, item| item.key == key as u64);
        for key in 0..KEYS {
            let found = self.table.find(0, hash_key(key), at, |item| item.key == key);
            assert_eq!(found.map(|(handle, item)| (handle, item.colour)), map.get(&key).copied(), "key {key}");
            assert_eq!(found.map(|(handle, _)| handle), burst[key as usize].map(|(handle, _)| handle));
            if let Some((handle, item)) = found {
                assert!(std::ptr::eq(self.table.get(handle, at).unwrap(), item));
            }
        }
        for colour in 0..COLOURS {
            let mut found = Vec::new();
            self.table.find_all(1, hash_colour(colour), at, |_, item| found.push((item.colour, item.key)));
            found.sort_unstable();
            let of_colour =
                |(&key, &(_, its)): (&u64, &(Handle, u64))| (its == colour && its != 0).then_some((its, key));
            assert_eq!(found, map.iter().filter_map(of_colour).collect::<Vec<_>>());
        }
        assert_eq!(listed(self.table.iter(at)), listed_map(map));
    }

    fn check_staged(&self) {
        for key in 0..KEYS {
            let found = self.table.find_staged(0, hash_key(key), &self.writer, |item| item.key == key);
            assert_eq!(found.map(|(handle, item)| (handle, item.colour)), self.staged.get(&key).copied());
        }
        assert_eq!(listed(self.table.iter_staged(&self.writer)), listed_map(&self.staged));
        assert_eq!(self.table.len(), self.staged.len());
    }
}

fn listed<'a>(items: impl Iterator<Item = (Handle, &'a Item)>) -> Vec<(u64, Handle, u64)> {
    let mut listed: Vec<_> = items.map(|(handle, item)| (item.key, handle, item.colour)).collect();
    listed.sort_unstable();
    listed
}

fn listed_map(map: &Map) -> Vec<(u64, Handle, u64)> {
    map.iter().map(|(&key, &(handle, colour))| (key, handle, colour)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 300 }, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn every_snapshot_sees_the_map_of_its_version(
        ops in prop::collection::vec(op(), 0..if cfg!(miri) { 40 } else { 250 })
    ) {
        let mut writer = Writer::new();
        let table = writer.table();
        World { writer, table, committed: Map::new(), staged: Map::new() }.play(&ops, &[]);
    }
}
