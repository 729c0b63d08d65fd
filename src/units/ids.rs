//! Identifiers and clocks.

/// Index of a port (an interface under the engine) in the engine's port table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct PortId(pub u16);

/// Index of a receive/transmit queue of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QueueId(pub u32);

/// Index of a network (tenant) in the order of the configuration. At most 4096 networks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NetworkId(pub u16);

/// Length of a frame in bytes, Ethernet header included, FCS excluded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FrameLen(pub u32);

/// A point in time, in milliseconds: of `CLOCK_BOOTTIME` in the engine, of the capture's stamps in replay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Whole seconds, as the clocks of `flow` store them. Wraps after 136 years.
    #[must_use]
    pub fn seconds(self) -> u32 {
        (self.0 / 1000) as u32
    }

    /// This point moved by `ms` milliseconds.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Tick {
        Tick(self.0.saturating_add(ms))
    }
}
