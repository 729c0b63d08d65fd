//! Memory over a day's worth of changes. In a process of its own: a reader that another test pins would hold up what
//! is measured here.

use sixway::table::{Record, Writer, hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
fn memory_stays_flat_over_a_million_changes() {
    let (records, changes) = if cfg!(miri) { (10, 60) } else { (1_000, 1_000_000) };
    let alive = Arc::new(AtomicUsize::new(0));
    let mut writer = Writer::new();
    let table = writer.table::<Counted, 1>();
    let mut places: Vec<_> = (0..records).map(|key| table.insert(&mut writer, Counted::new(key, &alive))).collect();
    writer.commit();
    let mut settled = 0;
    for change in 0..changes {
        let victim = (change * 7 % records) as usize;
        table.retire(&mut writer, places[victim]);
        places[victim] = table.insert(&mut writer, Counted::new(records + change, &alive));
        if change % 10 == 9 {
            writer.commit();
        }
        if change == changes / 2 {
            settled = table.memory_bytes();
        }
    }
    writer.commit();
    assert!(table.memory_bytes() <= settled, "{} bytes, {settled} half way", table.memory_bytes());
    assert_eq!(table.len(), records as usize);
    while writer.unreclaimed() > 0 {
        writer.reclaim();
    }
    assert_eq!(alive.load(Ordering::Relaxed), records as usize, "what was retired is dropped");
    drop((writer, table));
    assert_eq!(alive.load(Ordering::Relaxed), 0, "and the rest with the table");
}
