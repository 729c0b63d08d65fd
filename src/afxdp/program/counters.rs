//! What became of the frames that a program saw.

use std::io;

use aya::maps::{MapData, PerCpuArray};

use super::claims::io_error;

/// What a program did with a frame. The order is that of `enum counter` in handover.h.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Counter {
    /// Claimed and handed to the engine's socket.
    Redirected,
    /// Claimed, and dropped because its queue has no socket: no engine runs, or it does not cover the queue.
    NoSocket,
    /// A later fragment that came before its first, and no engine keeps such.
    PassedUndecided,
    /// For one of our addresses, and the host's.
    PassedHost,
    /// A later fragment of a packet that is the host's.
    PassedFragment,
    /// For an address that is not ours.
    PassedNotOurs,
    /// Malformed, or ended before the fields that decide.
    PassedUnreadable,
    /// VLAN-tagged.
    PassedVlan,
    /// Neither IPv4 nor IPv6: ARP and the like.
    PassedOther,
}

impl Counter {
    /// Every counter, in the program's order.
    pub const ALL: [Counter; 9] = [
        Counter::Redirected,
        Counter::NoSocket,
        Counter::PassedUndecided,
        Counter::PassedHost,
        Counter::PassedFragment,
        Counter::PassedNotOurs,
        Counter::PassedUnreadable,
        Counter::PassedVlan,
        Counter::PassedOther,
    ];

    /// The counter's name, as metrics show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Counter::Redirected => "redirected",
            Counter::NoSocket => "no_socket",
            Counter::PassedUndecided => "passed_undecided",
            Counter::PassedHost => "passed_host",
            Counter::PassedFragment => "passed_fragment",
            Counter::PassedNotOurs => "passed_not_ours",
            Counter::PassedUnreadable => "passed_unreadable",
            Counter::PassedVlan => "passed_vlan",
            Counter::PassedOther => "passed_other",
        }
    }
}

/// Frames by what became of them, summed over CPUs, since the map was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Counters {
    /// How many frames went that way.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Every counter with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.into_iter().zip(self.0)
    }

    pub(super) fn read(map: &PerCpuArray<MapData, u64>) -> io::Result<Counters> {
        let mut sums = [0; Counter::ALL.len()];
        for (sum, index) in sums.iter_mut().zip(0..) {
            *sum = map.get(&index, 0).map_err(io_error)?.iter().fold(0, |sum, &cpu| cpu.wrapping_add(sum));
        }
        Ok(Counters(sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_its_index() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index, "{}", counter.as_str());
        }
    }
}
