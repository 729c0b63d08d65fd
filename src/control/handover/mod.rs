//! How a running engine hands over to its successor without losing a packet.
//!
//! The engine listens on a Unix socket beside the control socket, for its own user alone. What a successor can do while
//! the engine runs, it has done before it asks. Messages (SOCK_SEQPACKET, each a name with descriptors or without):
//!
//! ```text
//! successor                        engine
//!   look              ─────▶
//!                     ◀─────   NAME + descriptors of each worker, ...       as a holder keeps them
//!                     ◀─────   shown                                        it goes on working
//!   stop, or let go   ─────▶                                                its workers end
//!                     ◀─────   control, holder, held + descriptors
//!                     ◀─────   stopped                                      packets wait in the rings
//!   taken             ─────▶                                                packets are forwarded; it exits
//! ```
//! With `let go` the engine closes its sockets and forgets about its holder's: for a successor whose ports are others. As
//! long as the successor has not said `taken`, the engine goes on with what it has as soon as the connection closes: the
//! kernel closes it however the successor ends, and by then nobody else uses the rings.

mod predecessor;
mod successor;

use std::path::{Path, PathBuf};

pub use predecessor::{Estate, Predecessor};
pub use successor::{Door, Successor, Wish};

/// Where the engine that has a control socket listens for its successor.
#[must_use]
pub fn socket_beside(control: &Path) -> PathBuf {
    control.with_added_extension("handover")
}

const LOOK: &str = "look";
const SHOWN: &str = "shown";
const STOP: &str = "stop";
const LET_GO: &str = "let go";
const STOPPED: &str = "stopped";
const TAKEN: &str = "taken";

/// The control socket: its listener, and the lock that says whose it is.
const CONTROL: &str = "control";
/// The connection to the holder, with the right to what it keeps.
const HOLDER: &str = "holder";
/// Which container each port was found to hold.
const HELD: &str = "held";

#[cfg(test)]
mod tests;
