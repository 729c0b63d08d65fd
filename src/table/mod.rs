//! Versioned, epoch-protected, lock-free tables: one writer, any number of readers that never wait.
//!
//! Readers (packet workers) pin once a burst ([`pin`]), take a [`Snapshot`] of the [`Timeline`] and look records up in
//! any number of [`Table`]s of that timeline. The one [`Writer`] stages a change set over all of its tables; no reader
//! sees any of it until [`Writer::commit`] publishes the whole by one release store, and [`Writer::rollback`] takes it
//! back as if it had never been. What a committed change set retired is freed by the writer, one grace period later:
//! no record, bucket array or replaced value is ever freed by a reader.
//!
//! ```
//! use sixway::table::{self, Record, Writer, hash};
//!
//! struct Route { key: u64, to: u64 }
//! impl Record for Route {
//!     fn hash_of(&self, _index: usize) -> Option<u64> { Some(hash::words(&[self.key])) }
//! }
//!
//! let mut writer = Writer::new();
//! let routes = writer.table::<Route, 1>();
//! routes.insert(&mut writer, Route { key: 7, to: 1 });
//!
//! let timeline = writer.timeline().clone();
//! let guard = table::pin();
//! let before = timeline.snapshot(&guard);
//! writer.commit();
//! let after = timeline.snapshot(&guard);
//!
//! let find = |at| routes.find(0, hash::words(&[7]), &at, |route| route.key == 7).map(|(_, route)| route.to);
//! assert_eq!((find(before), find(after)), (None, Some(1)));
//! ```

/// A fast, fixed, non-cryptographic hash of keys made of `u64` words.
pub mod hash;
/// Memory of atomic words that is shared with other processes, the kernel, or nobody.
pub mod mapped;

/// Pinned readers and the end of grace periods: crossbeam-epoch, or a model of it under loom.
#[cfg_attr(loom, path = "epoch_model.rs")]
mod epoch;
/// Hash buckets of one cache line each, growing by replacement.
mod index;
/// When a record exists: the versions from which and up to which readers see it.
mod lifetime;
/// The atomics in use: the standard library's, or loom's.
mod primitive;
/// Tables of records: the readers' lookups and the writer's changes.
mod records;
/// Records at stable places, found by handle.
mod slab;
/// A cell whose whole value is replaced at once.
mod swap;
/// The committed version, and readers' snapshots of it.
mod timeline;
/// The one writer of a timeline: staging, commit, rollback, reclamation.
mod writer;
/// Zeroed memory at a fixed place, in huge pages where it is large.
mod zeroed;

pub use epoch::{Guard, let_readers_pass, pin};
pub use primitive::prefetch;
pub use records::{Record, Table};
pub use slab::Handle;
pub use swap::Swap;
pub use timeline::{Snapshot, Timeline};
pub use writer::Writer;

#[cfg(all(test, loom))]
mod model;
