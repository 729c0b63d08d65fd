//! The claims on echo replies that the XDP programs of uplinks and external ports read.
//!
//! For each identifier the second (of `CLOCK_BOOTTIME`) from which replies with it are no longer the engine's; the
//! program leaves them to the kernel then. Writers: packet workers. Readers: the XDP programs, each its own array, since a
//! reply may come by another port than its request has left by.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::clocks::Side;
use super::entry::Entry;
use super::layout::{Slot, Transport};
use super::signal::Signal;
use super::state::State;
use crate::table::mapped::Words;
use crate::units::{Proto, Tick};

/// 32-bit words of the array: two an identifier, of which the first is the claim. The kernel lays the `u32`s of a
/// mappable array 8 bytes apart (`kernel/bpf/arraymap.c`, `array_map_alloc`).
pub const ECHO_CLAIM_WORDS: usize = 2 * 65536;

impl State {
    /// Mirrors the claims into each of `claims` from now on, starting with what the state remembers. False, and nothing
    /// changes, if one is too small or others are attached.
    pub fn attach_echo_claims(&self, claims: Vec<Words<AtomicU32>>, now: Tick) -> bool {
        let is_too_small = |claims: &Words<AtomicU32>| claims.len() < ECHO_CLAIM_WORDS;
        if claims.iter().any(is_too_small) || self.echo_claims.set(claims).is_err() {
            return false;
        }
        let ports = self.layout.geometry.ports;
        for &server in &self.layout.geometry.servers {
            for port in ports.first..=ports.last {
                let Some(slot) = self.slot(server, Proto::ICMP, port) else { continue };
                if self.expects_echo(slot, now) {
                    self.claim_echo(slot, now);
                }
            }
        }
        true
    }

    /// True if replies with this identifier are ours: it is translated, or has lately been sent with.
    #[must_use]
    pub fn expects_echo(&self, slot: Slot, now: Tick) -> bool {
        let translated =
            || Entry(self.entries()[slot.index as usize].load(Relaxed)).is_live(&self.timers, Transport::Echo, now);
        let warm = |side| self.admits(slot, side, Signal::Datagram, now);
        translated() || warm(Side::Outside) || warm(Side::Peers)
    }

    /// A request leaves by the port: its replies are ours for as long as they may come.
    #[inline]
    pub(super) fn claim_echo(&self, slot: Slot, now: Tick) {
        let Some(claims) = self.echo_claims.get() else { return };
        let id = self.layout.wire_name(slot.index).port;
        for claim in claims.iter().filter_map(|claims| claims.get(2 * usize::from(id))) {
            claim.store(now.seconds().saturating_add(self.timers.echo + 1), Relaxed);
        }
    }
}
