//! Which sizes of bindings are in use around a port, so that a lookup probes no other.

use std::sync::atomic::{AtomicU32, Ordering};

/// Ports of one granule.
const GRANULE: usize = 64;
const GRANULES: usize = 65536 / GRANULE;

/// For every 64 ports, whatever the address: the exponents of the blocks that lie there, and whether services do.
/// 4 KiB, so it stays in the first-level cache; where services and blocks live in different parts of the port space,
/// as they do when somebody planned it, every lookup is a single probe.
///
/// Written by: the writer, before what it adds becomes visible. Read by: every worker. Bits are never taken back: one
/// that is out of date costs a probe that finds nothing.
#[derive(Debug)]
pub(super) struct Sizes {
    granules: Box<[AtomicU32; GRANULES]>,
}

impl Sizes {
    /// A service of one binding.
    pub(super) const SERVICE: u32 = 1 << 31;
    /// A service of several bindings.
    pub(super) const GROUP: u32 = 1 << 30;

    pub(super) fn new() -> Sizes {
        Sizes { granules: Box::new([const { AtomicU32::new(0) }; GRANULES]) }
    }

    /// What is in use around `port`: bit n for blocks of 2^n ports, SERVICE, GROUP.
    #[inline(always)]
    pub(super) fn around(&self, port: u16) -> u32 {
        self.granules[usize::from(port) / GRANULE].load(Ordering::Relaxed)
    }

    /// Notes what lies at the 2^`log2` ports from `base`.
    pub(super) fn add(&self, base: u16, log2: u8, bits: u32) {
        let first = usize::from(base) / GRANULE;
        let count = (1usize << log2).div_ceil(GRANULE);
        for granule in self.granules.iter().skip(first).take(count) {
            if granule.load(Ordering::Relaxed) & bits != bits {
                granule.fetch_or(bits, Ordering::Relaxed);
            }
        }
    }

    /// Everything in use anywhere within the 2^`log2` ports from `base`.
    pub(super) fn within(&self, base: u16, log2: u8) -> u32 {
        let first = usize::from(base) / GRANULE;
        let count = (1usize << log2).div_ceil(GRANULE);
        self.granules.iter().skip(first).take(count).fold(0, |all, granule| all | granule.load(Ordering::Relaxed))
    }
}

/// The exponents of the blocks in a mask, smallest first.
#[inline]
pub(super) fn exponents(mask: u32) -> impl Iterator<Item = u8> {
    let mut left = mask & 0x1_ffff;
    std::iter::from_fn(move || {
        let next = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (next < 32).then_some(next as u8)
    })
}

/// The base of the aligned 2^`log2` ports that hold `port`.
#[inline]
pub(super) fn base_of(port: u16, log2: u8) -> u16 {
    (u32::from(port) >> log2 << log2) as u16
}
