//! Live translation entries, for those who ask: read as they are, while workers change them.

use std::sync::atomic::Ordering::SeqCst;

use super::entry::Entry;
use super::phase::Phase;
use super::state::State;
use crate::units::{Endpoint, Ip, Tick};

/// A connection that is translated, or all connections of one inside port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translated {
    /// The name that it has on the wire.
    pub wire: Endpoint,
    pub inside_port: u16,
    /// The one remote that the entry is for: those that share their wire port with another inside port. Not known of
    /// IPv6.
    pub remote: Option<Endpoint>,
    /// `opening`, `established`, `closing`, `closed` or `datagrams`.
    pub state: &'static str,
    /// Seconds since the inside last sent.
    pub idle: u32,
}

impl State {
    /// Some live entries: of at most `places` places from `first`. And where to go on, unless those were the last.
    #[must_use]
    pub fn translated(&self, first: u32, places: u32, now: Tick) -> (Vec<Translated>, Option<u32>) {
        let (slots, all) = (self.layout.slots, self.layout.slots + self.layout.overlaps);
        let end = first.saturating_add(places).min(all);
        let mut found = Vec::new();
        for place in first..end {
            let (entry, slot, remote) = match place.checked_sub(slots) {
                None => (Entry(self.entries()[place as usize].load(SeqCst)), place, None),
                Some(cell) => {
                    let (entry, remote, slot) = self.record(cell);
                    (entry, slot as u32, Some(remote))
                }
            };
            if slot >= slots || entry.is_tentative() || !entry.is_live(&self.timers, self.layout.transport(slot), now) {
                continue;
            }
            let wire = self.layout.wire_name(slot);
            // An IPv4 remote is kept whole (`remote_word`).
            let remote = remote.filter(|word| word >> 63 == 0).map(|word| Endpoint {
                ip: Ip::from_v4_bits(word as u32),
                port: (word >> 32) as u16,
                ..wire
            });
            let (inside_port, state, idle) = (entry.port(), in_a_word(entry.phase()), entry.age(now));
            found.push(Translated { wire, inside_port, remote, state, idle });
        }
        (found, (end < all).then_some(end))
    }
}

fn in_a_word(state: Phase) -> &'static str {
    use Phase::*;
    match state {
        Opening | SeveralOpening => "opening",
        Established | SeveralEstablished => "established",
        FinOut | FinIn | FinOutIn | FinInOut => "closing",
        Closed | ResetOpening | ResetEstablished => "closed",
        Datagram | SeveralDatagram => "datagrams",
        Free | Claimed => "none",
    }
}
