//! The first page of the file: whose state this is, and whether it can be trusted.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::layout::Layout;
use super::state::Fresh;

const MAGIC: u64 = u64::from_be_bytes(*b"6wayflow");
/// Raised whenever a word of the file changes its meaning.
const VERSION: u64 = 3;

const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 1;
const AT_BOOT: usize = 2;
const AT_PORTS: usize = 4;
const AT_SERVERS: usize = 5;
const AT_SECRET: usize = 511;

/// Why the words cannot be used as they are; `None` if they can.
pub(super) fn mismatch(words: &[AtomicU64], layout: &Layout, boot_id: [u8; 16]) -> Option<Fresh> {
    let is = |at: usize, value: u64| words[at].load(SeqCst) == value;
    if is(AT_MAGIC, 0) {
        return Some(Fresh::New);
    }
    if !is(AT_MAGIC, MAGIC) {
        return Some(Fresh::Foreign);
    }
    if !is(AT_VERSION, VERSION) {
        return Some(Fresh::OtherVersion);
    }
    let [boot_high, boot_low] = halves(u128::from_be_bytes(boot_id));
    if !is(AT_BOOT, boot_high) || !is(AT_BOOT + 1, boot_low) {
        return Some(Fresh::OtherBoot);
    }
    (!geometry(layout).all(|(at, value)| is(at, value))).then_some(Fresh::OtherGeometry)
}

/// Empties the file and makes it ours. The magic goes first and comes back last, so that a process which is killed
/// half-way leaves a file that counts as new.
pub(super) fn start_empty(words: &[AtomicU64], layout: &Layout, boot_id: [u8; 16]) {
    for word in words {
        word.store(0, SeqCst);
    }
    let [boot_high, boot_low] = halves(u128::from_be_bytes(boot_id));
    words[AT_VERSION].store(VERSION, SeqCst);
    words[AT_BOOT].store(boot_high, SeqCst);
    words[AT_BOOT + 1].store(boot_low, SeqCst);
    for (at, value) in geometry(layout) {
        words[at].store(value, SeqCst);
    }
    // Keyed by the kernel's random numbers.
    words[AT_SECRET].store(RandomState::new().hash_one(boot_id), SeqCst);
    words[AT_MAGIC].store(MAGIC, SeqCst);
}

/// What the keys of flows are hashed with, so that nobody can choose flows that meet.
pub(super) fn secret(words: &[AtomicU64]) -> u64 {
    words[AT_SECRET].load(SeqCst)
}

/// The header words that hold the geometry. The count of servers is among them, and the words behind the last server
/// are never compared.
fn geometry(layout: &Layout) -> impl Iterator<Item = (usize, u64)> {
    let geometry = &layout.geometry;
    let range = u64::from(geometry.ports.first) << 16 | u64::from(geometry.ports.last);
    let count = (geometry.servers.len() as u64) << 32;
    let servers = geometry.servers.iter().flat_map(|ip| halves(ip.bits())).enumerate();
    std::iter::once((AT_PORTS, count | range)).chain(servers.map(|(nth, word)| (AT_SERVERS + nth, word)))
}

fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}
