//! What must outlive the process: translation entries, the replicas that flows stay on, last-sent clocks, owners of wire
//! names and their quarantine.
//!
//! All of it lies in one mapped file of 64-bit words ([`State`]). Packet workers read and write it together, by atomic
//! operations only: no lock, allocation, system call or clock read. The control plane assigns owners and sweeps.
//! A process that is killed between any two instructions leaves words that the next one can use. Packets that are under
//! way in fragments ([`Fragments`]) are remembered beside it, in memory that ends with the process.

mod affinity;
mod clocks;
mod echo;
mod entry;
mod fragments;
mod hash;
mod header;
mod kept;
mod layout;
mod listing;
mod overlap;
mod owners;
mod phase;
mod pool;
mod signal;
mod state;
pub mod timers;
mod translate;

pub use affinity::{Affinity, ENTRIES as AFFINITY_ENTRIES, FlowKey, Kept, Purpose};
pub use clocks::Side;
pub use echo::ECHO_CLAIM_WORDS;
pub use fragments::{
    FragmentKey, Fragments, Known, LIFE_MS as FRAGMENT_LIFE_MS, Origin, PACKETS as FRAGMENTED_PACKETS, Parcel, Part,
    Told, Unfit, What,
};
pub use layout::{Geometry, Slot, Transport};
pub use listing::Translated;
pub use owners::{Holding, Resting};
pub use pool::Pool;
pub use signal::Signal;
pub use state::{Fresh, State};
pub use timers::Timers;
pub use translate::Refused;
