//! The hashes of the room: fixed seeds, the same on every server and after every restart.
//!
//! All are folded multiplications (as in wyhash): fast, and spread well enough for tables. They are no defence
//! against chosen collisions, and need none: the mapping is the operator's own, and a flow's hash only picks a replica.

use crate::units::{Endpoint, Ip, Mac, NetworkId};

const K0: u64 = 0xa076_1d64_78bd_642f;
const K1: u64 = 0xe703_7ed1_a0b4_28db;
const K2: u64 = 0x8ebc_6af0_9c88_c6e3;
const K3: u64 = 0x5899_65cc_7537_4cc3;

/// Mixes two words into one. `b` must not be K1, nor `a` K0: a factor of zero would forget the other.
#[inline]
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ K0) * u128::from(b ^ K1);
    (product as u64) ^ (product >> 64) as u64
}

/// An address and one more word.
#[inline]
fn ip_and(ip: Ip, word: u64) -> u64 {
    let bits = ip.bits();
    mix(mix(bits as u64, word), (bits >> 64) as u64 ^ K2)
}

/// The hash that Maglev's choice rests on (design section 2, "Several replicas"): over the tuple as received.
#[inline]
#[must_use]
pub fn flow_hash(src: Endpoint, dst: Endpoint) -> u64 {
    let ports = u64::from(src.port) << 32 | u64::from(dst.port) << 16 | u64::from(src.proto.0);
    mix(ip_and(src.ip, ports), ip_and(dst.ip, K2))
}

/// Where the binding of a wire name is found: 2^`log2` ports from `base`.
#[inline]
pub(super) fn wire_hash(server: Ip, base: u16, log2: u8) -> u32 {
    let hash = ip_and(server, u64::from(base) << 8 | u64::from(log2));
    (hash ^ hash >> 32) as u32
}

/// The 64 bits of a hash that a record keeps as 32.
#[inline]
pub(super) fn widen(hash: u32) -> u64 {
    mix(u64::from(hash), K2)
}

/// Where the bindings of an inside name are found. The protocol is not part of it: `any` serves several.
#[inline]
pub(super) fn inside_hash(network: NetworkId, ip: Ip, base: u16, log2: u8) -> u64 {
    ip_and(ip, u64::from(network.0) << 24 | u64::from(base) << 8 | u64::from(log2))
}

/// Where the containers that send as (MAC, IP) are found.
#[inline]
pub(super) fn pair_hash(network: NetworkId, mac: Option<Mac>, ip: Ip) -> u64 {
    let [a, b, c, d, e, f] = mac.map_or([0; 6], |mac| mac.0);
    ip_and(ip, u64::from_le_bytes([a, b, c, d, e, f, 1, 0]) ^ u64::from(network.0) << 49)
}

/// Where all containers of an address are found.
#[inline]
pub(super) fn address_hash(network: NetworkId, ip: Ip) -> u64 {
    ip_and(ip, u64::from(network.0) ^ K3)
}

/// Where a server or a public address is found.
#[inline]
pub(super) fn ip_hash(ip: Ip) -> u64 {
    ip_and(ip, K3)
}

/// A text, in eights.
pub(super) fn text_hash(text: &str) -> u64 {
    let bytes = text.as_bytes();
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash, u64::from_le_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neighbours in any part of a key are far apart in both halves of its hash: tables use each by itself.
    #[test]
    fn hashes_of_neighbours_differ() {
        let v4 = |n: u32| Ip::from_v4_bits(0x0a00_0000 + n);
        let v6 = |n: u32| Ip::from_v6_octets((0xfd00_u128 << 112 | u128::from(n)).to_be_bytes());
        let of_ip: [(&str, fn(Ip) -> u64); 6] = [
            ("ip", ip_hash),
            ("address in the first network", |ip| address_hash(NetworkId(0), ip)),
            ("address in another", |ip| address_hash(NetworkId(7), ip)),
            ("inside name", |ip| inside_hash(NetworkId(0), ip, 80, 0)),
            ("pair", |ip| pair_hash(NetworkId(0), None, ip)),
            ("wire name", |ip| widen(wire_hash(ip, 20480, 0))),
        ];
        for (what, hash) in of_ip {
            for ip in [v4 as fn(u32) -> Ip, v6] {
                let hashes: Vec<u64> = (0..10_000).map(|n| hash(ip(n))).collect();
                spread(what, &hashes);
            }
        }
        let ports: Vec<u64> = (0..10_000).map(|port| inside_hash(NetworkId(0), v4(1), port, 0)).collect();
        spread("ports", &ports);
        let networks: Vec<u64> = (0..4096).map(|network| address_hash(NetworkId(network), v4(1))).collect();
        spread("networks", &networks);
    }

    fn spread(what: &str, hashes: &[u64]) {
        for half in [0, 32] {
            let mut seen: Vec<u32> = hashes.iter().map(|hash| (hash >> half) as u32).collect();
            seen.sort_unstable();
            seen.dedup();
            assert!(
                hashes.len() - seen.len() < 10,
                "{what}: {} of {} are left of half {half}",
                seen.len(),
                hashes.len()
            );
        }
    }
}
