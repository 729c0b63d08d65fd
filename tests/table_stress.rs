//! The table under real threads: readers that never rest and a writer that changes its mind all the time.

use sixway::table::{self, Record, Swap, Writer, hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A ball under one of the cups; each move is one change set. The text is on the heap, so that miri and the allocator
/// notice if a reader is left with a freed one.
struct Ball {
    ball: u64,
    cup: u64,
    note: String,
}

impl Ball {
    fn under(ball: u64, cup: u64) -> Ball {
        Ball { ball, cup, note: format!("ball {ball} under cup {cup}") }
    }
}

impl Record for Ball {
    fn hash_of(&self, _index: usize) -> Option<u64> {
        Some(key(self.ball, self.cup))
    }
}

fn key(ball: u64, cup: u64) -> u64 {
    hash::words(&[ball, cup])
}

const BALLS: u64 = 4;
const CUPS: u64 = 8;

/// Every snapshot must find each ball under exactly one cup, and all balls moved equally often: half a change set
/// would show as no ball, two, or one that is ahead of the others.
#[test]
fn readers_see_each_change_set_whole_while_thousands_are_committed() {
    let moves = if cfg!(miri) { 30 } else { 20_000 };
    let mut writer = Writer::new();
    let table = writer.table::<Ball, 1>();
    let mut places: Vec<_> = (0..BALLS).map(|ball| table.insert(&mut writer, Ball::under(ball, 0))).collect();
    writer.commit();
    let (timeline, done, seen) = (writer.timeline().clone(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut guard = table::pin();
                while !done.load(Ordering::Relaxed) {
                    let at = timeline.snapshot(&guard);
                    let cup = (0..BALLS).map(|ball| {
                        let find = |cup| table.find(0, key(ball, cup), &at, |it| (it.ball, it.cup) == (ball, cup));
                        let found: Vec<_> = (0..CUPS).filter_map(find).collect();
                        assert_eq!(found.len(), 1, "ball {ball} at version {}", at.version());
                        assert_eq!(found[0].1.note, format!("ball {ball} under cup {}", found[0].1.cup));
                        found[0].1.cup
                    });
                    let cups: Vec<u64> = cup.collect();
                    assert!(cups.iter().all(|&cup| cup == cups[0]), "{cups:?} at version {}", at.version());
                    seen.fetch_add(1, Ordering::Relaxed);
                    guard.repin();
                }
            });
        }
        for step in 1..=moves {
            for (ball, place) in places.iter_mut().enumerate() {
                let there = table.insert(&mut writer, Ball::under(ball as u64, step % CUPS));
                assert!(table.retire(&mut writer, *place));
                *place = there;
            }
            if step % 5 == 0 {
                // The move is taken back, and made again.
                let before: Vec<_> = table.iter_staged(&writer).map(|(handle, _)| handle).collect();
                assert_eq!(before.len(), BALLS as usize);
                writer.rollback();
                let ball_now = |ball| table.iter_staged(&writer).find(|(_, it)| it.ball == ball).unwrap().0;
                let old: Vec<_> = (0..BALLS).map(ball_now).collect();
                for (ball, place) in places.iter_mut().enumerate() {
                    *place = table.insert(&mut writer, Ball::under(ball as u64, step % CUPS));
                    assert!(table.retire(&mut writer, old[ball]));
                }
            }
            writer.commit();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(seen.load(Ordering::Relaxed) > 0);
    assert_eq!(table.len(), BALLS as usize);
}

/// Counts those of its kind that exist.
struct Counted {
    key: u64,
    alive: Arc<AtomicUsize>,
}

impl Counted {
    fn new(key: u64, alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, Ordering::Relaxed);
        Counted { key, alive: alive.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Record for Counted {
    fn hash_of(&self, _index: usize) -> Option<u64> {
        Some(hash::words(&[self.key]))
    }
}

#[test]
fn a_pinned_reader_keeps_what_it_holds_and_only_that_long() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut writer = Writer::new();
    let table = writer.table::<Counted, 1>();
    let old = table.insert(&mut writer, Counted::new(1, &alive));
    writer.commit();
    let (timeline, guard) = (writer.timeline().clone(), table::pin());
    let before = timeline.snapshot(&guard);
    table.retire(&mut writer, old);
    writer.commit();
    for _ in 0..10 {
        writer.reclaim();
    }
    assert_eq!(table.get(old, &before).map(|record| record.key), Some(1));
    assert!(table.get(old, &timeline.snapshot(&guard)).is_none());
    assert_eq!((alive.load(Ordering::Relaxed), writer.unreclaimed()), (1, 1));
    drop(guard);
    while writer.unreclaimed() > 0 {
        writer.reclaim();
    }
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
#[should_panic(expected = "another timeline")]
fn a_snapshot_opens_no_table_of_another_timeline() {
    let (mut one, other) = (Writer::new(), Writer::new());
    let table = one.table::<Counted, 1>();
    let guard = table::pin();
    let _ = table.find(0, 0, &other.timeline().snapshot(&guard), |_| true);
}

/// A reader that holds a value of a `Swap` has it undisturbed; the writer drops it, once, when the reader is gone.
#[test]
fn a_swapped_value_is_dropped_by_the_writer_after_its_last_reader() {
    let alive = Arc::new(AtomicUsize::new(0));
    let swap = Swap::new(Counted::new(0, &alive));
    let stores = if cfg!(miri) { 20 } else { 20_000 };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let guard = table::pin();
                let value = swap.load(&guard);
                assert!(value.key >= last && value.alive.load(Ordering::Relaxed) > 0);
                last = value.key;
            }
        });
        (1..=stores).for_each(|key| swap.store(Counted::new(key, &alive)));
        done.store(true, Ordering::Relaxed);
    });
    while swap.reclaim() > 0 {}
    assert_eq!(alive.load(Ordering::Relaxed), 1);
    drop(swap);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}
