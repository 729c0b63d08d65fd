//! The walk of a packet: `walk` takes a frame, a port, the time and one view of all tables, and gives a verdict. No
//! I/O; it runs the same under AF_XDP, over captures and in benches.
//!
//! ```text
//! access --> holder --> destination --> source --+--> uplink
//!                                                +--> arrival --> access   (same server)
//! uplink --> ingress (sender) ----------------------> arrival --> access
//! outside -> gateway (replica) ------------------+--> uplink
//!                                                +--> arrival --> access   (same server)
//! ```
//!
//! The order within a walk: the frame is for this port's MAC, whole and without source route; the sender is who it says;
//! the TTL lasts; the destination is found, then the name that the source leaves under (an entry or a clock may be
//! written here), then who may enter; the way out and its MTU; and only then a byte is touched. Whatever stops a walk
//! before that leaves the frame as it came, or turns it into an answer to its sender.
//!
//! A later fragment is walked as its packet's first one was ([`fragments`]).
//!
//! An ICMP error is walked as the flow that it quotes, turned round: `Flow::src` is the quoted destination. It reads state
//! and never changes it.

mod ahead;
mod arp;
mod arrival;
mod burst;
mod claims;
mod client_error;
mod decision;
mod destination;
mod egress;
mod fragments;
mod gateway;
mod hint;
mod holder;
mod ingress;
mod ndp;
mod observe;
mod port;
mod probe;
mod problem;
mod recent;
mod replica;
mod reply;
mod source;
mod tags;
mod verdict;
mod walk;
mod worker_state;

pub use burst::{BURST, walk_burst};
pub use claims::{Claim, Claimant, claims};
pub use fragments::{PATIENCE_MS as FRAGMENT_PATIENCE_MS, given_up, has_come};
pub use hint::{Hint, Hints, Probed};
pub use holder::{hold_pinned, hold_pinned_among};
pub use ndp::{link_local, router_behind};
pub use observe::{Chosen, Found, Observer, Silent, SourceName, Step};
pub use port::{Access, OwnAddresses, Port, Role, Surroundings};
pub use probe::FIRST_PROBE_PORT;
pub use verdict::{Answer, Reason, Verdict};
pub use walk::{Context, walk};
pub use worker_state::{ANSWERS_PER_SECOND, WorkerState};
