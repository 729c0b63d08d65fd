//! The ports that translation may use, and how a search walks over them.

use super::layout::Transport;
use super::owners::named;
use super::state::State;
use crate::units::{Endpoint, Ip, PortRange, mix};

/// The part of a client block that translated connections leave from, with the block's owner. Cheap to make per packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pool {
    pub(super) server: u16,
    pub(super) first: u16,
    pub(super) log2: u8,
    pub(super) owner: u64,
    /// Added to inside ports: bit 16 for connections to public names.
    pub(super) calls: u32,
}

/// The bit of an entry that says so.
pub(super) const PUBLIC_NAME: u32 = 1 << 16;

impl State {
    /// The pool of the client block whose server ports are `block`: all of it, or the last 1/8 of a native one. `owner`
    /// is the identity hash that [`State::assign`] was given. `None` if the range is unaligned, not of a ServerIP of
    /// ours, not wholly in the owned range, or native and smaller than 8.
    #[inline]
    #[must_use]
    pub fn pool(&self, server: Ip, block: PortRange, native: bool, owner: u64) -> Option<Pool> {
        let server = self.layout.server(server)?;
        let owner = named(owner);
        let owned = self.layout.geometry.ports;
        let log2 = block.aligned_log2()?;
        if !owned.contains(block.first) || !owned.contains(block.last) {
            return None;
        }
        if !native {
            return Some(Pool { server, first: block.first, log2, owner, calls: 0 });
        }
        let log2 = log2.checked_sub(3)?;
        Some(Pool { server, first: block.last - ((1u32 << log2) - 1) as u16, log2, owner, calls: 0 })
    }
}

impl Pool {
    /// The same ports for connections of the inside to public names: an inside port has an entry of its own for those,
    /// so that what comes back can be told from what calls by inside names, and be given the name that was called.
    #[must_use]
    pub fn for_public_names(self) -> Pool {
        Pool { calls: PUBLIC_NAME, ..self }
    }

    /// The server ports that translation uses.
    #[must_use]
    pub fn ports(&self) -> PortRange {
        PortRange { first: self.first, last: self.first + self.mask() as u16 }
    }

    pub(super) fn mask(&self) -> u32 {
        (1 << self.log2) - 1
    }
}

/// An inside port, the pool that it leaves by and the remote that it talks to: what one search is about.
#[derive(Clone, Copy)]
pub(super) struct Search {
    pub transport: Transport,
    /// Slot of the pool's first port.
    pub base: u32,
    /// Size of the pool, less one.
    pub mask: u32,
    pub owner: u64,
    /// As [`Entry::inside`](super::entry::Entry::inside) has it.
    pub inside: u32,
    /// The remote, whole if it is IPv4.
    pub remote: u64,
    /// A few bits of its hash.
    pub print: u16,
}

/// No inside port is placed further from the port that it prefers, in steps of the search.
pub(super) const MAX_REACH: u32 = 4096;

impl Search {
    /// The port that RFC 4787 section 4.2.2 would have us keep: base + p mod size.
    pub fn home(&self) -> u32 {
        self.inside & self.mask & 0xffff
    }

    /// The `step`-th offset to look at. Steps go through a cache line or two at a time, and there through the ports of
    /// the same parity first (RFC 4787 REQ-4).
    pub fn offset(&self, step: u32) -> u32 {
        let group = self.mask & 15;
        let within = step & group;
        let half = group.div_ceil(2);
        let within = if within < half { 2 * within } else { (2 * within + 1) & group };
        (self.home() + (step & !group) + within) & self.mask
    }

    /// How many steps reach every port that may be used.
    pub fn limit(&self) -> u32 {
        (self.mask + 1).min(MAX_REACH)
    }
}

/// The remote as one word that differs for different remotes: exactly so for IPv4, by 63 bits of a hash for IPv6. An
/// echo's remote has no port.
pub(super) fn remote_word(transport: Transport, remote: &Endpoint) -> u64 {
    let port = match transport {
        Transport::Tcp | Transport::Udp => u64::from(remote.port),
        Transport::Echo | Transport::Portless => 0,
    };
    if remote.ip.is_v4() {
        return u64::from(remote.ip.v4_bits()) | port << 32;
    }
    let bits = remote.ip.bits();
    mix(mix(mix(bits as u64) ^ (bits >> 64) as u64) ^ port) | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(mask: u32, inside: u32) -> Search {
        Search { transport: Transport::Udp, base: 0, mask, owner: 1, inside, remote: 0, print: 0 }
    }

    #[test]
    fn a_search_starts_at_home_and_sees_each_port_once() {
        for log2 in 0..=10 {
            let search = search((1 << log2) - 1, 51_237);
            assert_eq!(search.offset(0), search.home());
            let mut seen: Vec<u32> = (0..search.limit()).map(|step| search.offset(step)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..1 << log2), "2^{log2}");
        }
    }

    #[test]
    fn remotes_of_both_families_differ_by_every_bit() {
        let six = |bits: u128| Ip::from_v6_octets(bits.to_be_bytes());
        let ip = six(0x2001_0db8_0123_4567_89ab_cdef_0000_0001);
        let own = Endpoint { proto: crate::units::Proto::UDP, ip, port: 0x5a5a };
        let words = |remote| [remote_word(Transport::Udp, &remote), remote_word(Transport::Echo, &remote)];
        for bit in 0..128 {
            let [word, echo] = words(Endpoint { ip: six(ip.bits() ^ 1 << bit), ..own });
            assert!(word >> 63 == 1 && word != words(own)[0] && echo != words(own)[1], "bit {bit}");
        }
        for bit in 0..16 {
            let [word, echo] = words(Endpoint { port: own.port ^ 1 << bit, ..own });
            assert!(word >> 63 == 1 && word != words(own)[0] && echo == words(own)[1], "port bit {bit}");
        }
        let four = Endpoint { ip: Ip::from_v4_bits(0xffff_ffff), port: 0xffff, ..own };
        assert_eq!(words(four), [0xffff_ffff_ffff, 0xffff_ffff], "no hash of IPv6");
    }

    #[test]
    fn parity_is_kept_while_a_near_port_of_it_is_free() {
        let search = search(255, 51_237);
        assert!((0..8).all(|step| search.offset(step) & 1 == 1));
    }
}
