//! Random packets of every kind, in words and in bytes. `etherparse` works out their checksums, from the fields as they are.

#![allow(dead_code, unused_imports)] // each test that takes it in uses a part of it

use std::net::IpAddr;

mod parcel;
mod random;
mod shape;

pub use parcel::{Checksum, End, L4, Parcel, looks_partial};
pub use random::Random;
pub use shape::{Shape, later_flags};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// The bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A MAC as configurations and mappings have it.
pub fn mac_text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// An address and a port, or neither colon nor port, as mappings have it.
pub fn name(ip: IpAddr, port: &str) -> String {
    match (ip, port) {
        (IpAddr::V4(ip), "") => ip.to_string(),
        (IpAddr::V4(ip), port) => format!("{ip}:{port}"),
        (IpAddr::V6(ip), "") => format!("[{ip}]"),
        (IpAddr::V6(ip), port) => format!("[{ip}]:{port}"),
    }
}
