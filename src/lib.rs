//! sixway: a userspace packet-forwarding appliance that gives containers names that never change.
//!
//! The house, lowest floor first; a module imports only from lower floors (`tests/floors.rs` holds that).
#![deny(unsafe_code)]

// What unit tests share with the tests in `tests/` calls this crate by its name.
#[cfg(test)]
extern crate self as sixway;

/// Floor 0: small types with meaning: addresses, ports, clocks.
pub mod units;

/// Floor 1: frames to and from the kernel: UMEM, rings, sockets, the XDP programs. Knows no protocols.
#[allow(unsafe_code)] // the other
pub mod afxdp;
/// Floor 1: views over packet bytes, checksums and rewrites. No tables, no I/O.
pub mod frame;
/// Floor 1: versioned, epoch-protected, lock-free tables. Knows no packets.
#[allow(unsafe_code)] // the one of two places where it lives: every block names its invariant
pub mod table;

/// Floor 2: six-tuples, bindings, the mapping file, `outer` and `inner`, services.
pub mod naming;

/// Floor 3: translation entries, last-sent clocks, quarantine: the state that outlives the process.
pub mod flow;
/// Floor 3: ARP and next hops, sans-I/O.
pub mod neighbour;

/// Floor 4: the walk of a packet, from frame to verdict.
pub mod path;

/// Floor 5: workers, polling, counters, ports: the only place where frames meet drivers.
pub mod engine;

/// Floor 6: configuration, the control socket, the kernel's tables.
pub mod control;

/// Floor 7: arguments and rendering.
pub mod cli;
