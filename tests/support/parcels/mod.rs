//! Random packets of every kind, in words and in bytes. `etherparse` works out their checksums, from the fields as they are.

#![allow(dead_code, unused_imports)] // each test that takes it in uses a part of it

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
