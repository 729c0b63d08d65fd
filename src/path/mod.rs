//! The walk of a packet: `walk` takes a frame, a port, the time and one view of all tables, and gives a verdict. No
//! I/O; it runs the same under AF_XDP, over captures and in benches.
//!
//! ```text
//! access --> holder --> destination --> source --+--> uplink
//!                                                +--> arrival --> access   (same server)
//! uplink --> ingress (sender) ----------------------> arrival --> access
//! ```

mod arp;
mod arrival;
mod burst;
mod claims;
mod decision;
mod destination;
mod egress;
mod holder;
mod ingress;
mod observe;
mod port;
mod recent;
mod reply;
mod source;
mod verdict;
mod walk;
mod worker_state;

pub use burst::{BURST, walk_burst};
pub use claims::claims;
pub use holder::hold_pinned;
pub use observe::{Found, Observer, Silent, SourceName, Step};
pub use port::{Access, Port, Role, Surroundings};
pub use verdict::{Answer, Reason, Verdict};
pub use walk::{Context, walk};
pub use worker_state::{ANSWERS_PER_SECOND, WorkerState};
