//! The hashes of the room: fixed seeds, the same on every server and after every restart.
//!
//! All are folded multiplications (as in wyhash): fast, and spread well enough for tables. They are no defence
//! against chosen collisions, and need none: the mapping is the operator's own, and a flow's hash only picks a replica.

use crate::units::{Endpoint, Ip, Mac, NetworkId};

const K0: u64 = 0xa076_1d64_78bd_642f;
const K1: u64 = 0xe703_7ed1_a0b4_28db;
const K2: u64 = 0x8ebc_6af0_9c88_c6e3;

/// Mixes two words into one. Neither may be the constant that turns its factor to zero: words here are small numbers
/// with a mark in the high bits, addresses, and hashes.
#[inline]
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ K0) * u128::from(b ^ K1);
    (product as u64) ^ (product >> 64) as u64
}

/// An address and one more word.
#[inline]
fn ip_and(ip: Ip, word: u64) -> u64 {
    let (high, low) = ip.halves();
    mix(mix(low, word), high ^ K2)
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

/// The 64 bits of a hash that a record keeps as 32: its low bits choose a bucket as they are, the high ones are mixed.
#[inline]
pub(super) fn widen(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(K2)
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
    ip_and(ip, u64::from_be_bytes([0, 1, a, b, c, d, e, f]) ^ u64::from(network.0) << 49)
}

/// Where all containers of an address are found.
#[inline]
pub(super) fn address_hash(network: NetworkId, ip: Ip) -> u64 {
    ip_and(ip, 1 << 62 | u64::from(network.0))
}

/// Where a server or a public address is found.
#[inline]
pub(super) fn ip_hash(ip: Ip) -> u64 {
    ip_and(ip, 1 << 61)
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

    /// Keys of real mappings are dense: consecutive addresses, ports and MACs. Both halves of each hash must spread
    /// them, since tables take the bucket from one and the tag from the other.
    #[test]
    fn dense_names_spread_evenly() {
        let ip = |n: u64| Ip::from_v4_bits(0x0a00_0000 + n as u32);
        type Hash = fn(u64, Ip) -> u64;
        let hashes: [(&str, Hash); 7] = [
            ("wire, by port", |n, _| widen(wire_hash(Ip::from_v4_bits(0xc0a8_3201), n as u16, 0))),
            ("wire, by server", |_, ip| widen(wire_hash(ip, 20480, 0))),
            ("inside, by address", |_, ip| inside_hash(NetworkId(0), ip, 80, 0)),
            ("inside, by network", |n, _| inside_hash(NetworkId(n as u16), Ip::from_v4_bits(1), 80, 0)),
            ("pair", |n, ip| pair_hash(NetworkId(0), Some(Mac((n << 16).to_be_bytes()[..6].try_into().unwrap())), ip)),
            ("address", |_, ip| address_hash(NetworkId(0), ip)),
            ("server", |_, ip| ip_hash(ip)),
        ];
        for (what, hash) in hashes {
            for shift in [0, 32] {
                let mut load = vec![0u32; 1024];
                (0..4096).for_each(|n| load[(hash(n, ip(n)) >> shift) as usize % 1024] += 1);
                // Poisson with mean 4: beyond 20 with a chance of 1e-8 a bucket.
                assert!(load.iter().all(|&load| load < 20), "{what}, bits from {shift}: {:?}", load.iter().max());
            }
        }
    }
}
