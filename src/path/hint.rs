//! Hints that a replica is dead: its own container refuses what came to a service that is probed. A hint goes to those who
//! probe, and takes nobody out of service by itself.

use std::collections::HashMap;

use super::walk::Walk;
use crate::frame::{L4, Packet, TcpFlags};
use crate::naming::Binding;
use crate::units::{Endpoint, Ip, Mac, NetworkId, PortId, Proto, Tick};

/// Hints of one burst that are kept; more are lost.
const MOST: usize = 8;
/// Between two hints of one replica, in milliseconds: what its container sends keeps the control side no busier.
const GAP_MS: u64 = 20;
/// Replicas that are told apart for that; two of one place share its hints.
const PLACES: usize = 256;

/// The inside names that are probed: by address and port, the protocol of each check there and its number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Probed(HashMap<(NetworkId, Ip, u16), Vec<(Proto, u16)>>);

impl Probed {
    /// The names in the order of their checks; none for one that is not known.
    #[must_use]
    pub fn new(names: impl Iterator<Item = Option<(NetworkId, Endpoint)>>) -> Probed {
        let mut probed = Probed::default();
        for (check, name) in (0..=u16::MAX).zip(names) {
            let Some((network, Endpoint { proto, ip, port })) = name else { continue };
            probed.0.entry((network, ip, port)).or_default().push((proto, check));
        }
        probed
    }

    /// The check of this inside name; if there is none, another one of the binding that has it.
    fn check_of(&self, binding: &Binding, name: Endpoint) -> Option<u16> {
        let checks = self.0.get(&(binding.network(), name.ip, name.port))?;
        let of = |serves: &dyn Fn(Proto) -> bool| checks.iter().find(|(proto, _)| serves(*proto));
        of(&|proto| proto == name.proto).or_else(|| of(&|proto| binding.proto().serves(proto))).map(|&(_, check)| check)
    }
}

/// The container behind an access port, or one of several, refuses what a check is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hint {
    /// The number of the check.
    pub check: u16,
    pub port: PortId,
    pub mac: Mac,
}

/// Hints that one worker has not yet handed over.
#[derive(Debug)]
pub struct Hints {
    noted: [Hint; MOST],
    count: usize,
    /// When a replica has given one last, by the hash of who it is.
    latest: Box<[Option<Tick>; PLACES]>,
}

impl Default for Hints {
    fn default() -> Hints {
        Hints { noted: [Hint::default(); MOST], count: 0, latest: Box::new([None; PLACES]) }
    }
}

impl Hints {
    /// Takes out what was noted.
    #[inline]
    pub fn take(&mut self) -> &[Hint] {
        let count = std::mem::take(&mut self.count);
        &self.noted[..count]
    }

    fn note(&mut self, hint: Hint, now: Tick) {
        let Some(place) = self.noted.get_mut(self.count) else { return };
        let [.., a, b, c] = hint.mac.0;
        let who = u64::from_be_bytes([a, b, c, 0, hint.port.0 as u8, (hint.port.0 >> 8) as u8, 0, 0]);
        let hash = (who ^ u64::from(hint.check)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let latest = &mut self.latest[hash as usize % PLACES];
        if latest.is_none_or(|latest| now.0.saturating_sub(latest.0) >= GAP_MS) {
            (*latest, *place) = (Some(now), hint);
            self.count += 1;
        }
    }
}

/// True if a container refuses with this packet: a reset, or ICMP port or protocol unreachable, of either family. Which
/// connection it is about does not matter: one that the application itself has reset costs a probe.
#[inline(always)]
pub(super) fn refuses(packet: &Packet) -> bool {
    match packet.l4 {
        L4::Tcp { flags, .. } => flags.has(TcpFlags::RST),
        // RFC 792: destination unreachable; protocol, port.
        L4::IcmpError { kind, code, .. } if packet.src.is_v4() => matches!((kind, code), (3, 2 | 3)),
        // RFC 4443: destination unreachable, port; parameter problem, next header.
        L4::IcmpError { kind, code, .. } => matches!((kind, code), (1, 4) | (4, 1)),
        _ => false,
    }
}

/// Notes that the container of `mac` refuses what came to its inside name, which is the binding's, if that is probed.
#[cold]
#[inline(never)]
pub(super) fn note<O>(walk: &mut Walk<'_, '_, O>, binding: &Binding, name: Endpoint, mac: Mac) {
    let check = walk.cx.around.probed.check_of(binding, name);
    if let (Some(check), false) = (check, walk.cx.dry_run) {
        walk.local.hints.note(Hint { check, port: walk.port, mac }, walk.cx.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(last: u8) -> Hint {
        Hint { check: 1, port: PortId(3), mac: Mac([2, 0, 0, 0, 0, last]) }
    }

    #[test]
    fn one_replica_gives_a_hint_now_and_then() {
        let mut hints = Hints::default();
        (0..1000).for_each(|_| hints.note(hint(1), Tick(5000)));
        assert_eq!(hints.take(), [hint(1)]);
        assert_eq!(hints.take(), []);
        hints.note(hint(1), Tick(5000 + GAP_MS - 1));
        assert_eq!(hints.take(), [], "too soon");
        hints.note(hint(1), Tick(5000 + GAP_MS));
        assert_eq!(hints.take(), [hint(1)]);
    }

    #[test]
    fn others_are_heard_beside_one_that_floods() {
        let mut hints = Hints::default();
        for _ in 0..1000 {
            hints.note(hint(1), Tick(0));
        }
        let other = Hint { port: PortId(4), ..hint(1) };
        let far = Hint { port: PortId(3 + 256), ..hint(1) };
        for more in [hint(2), other, far] {
            hints.note(more, Tick(0));
        }
        assert_eq!(hints.take(), [hint(1), hint(2), other, far]);
        (0..=255).for_each(|last| hints.note(hint(last), Tick(1000)));
        assert_eq!(hints.take().len(), MOST, "bounded");
    }
}
