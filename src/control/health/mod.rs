//! Whether containers answer: probes by the server that holds them, through their access ports.
//!
//! Everything here is without I/O and clock: [`Prober`] is told whom the checks are about, what time it is and what came
//! in, and says what to send and what to think of whom. The control thread does the rest.

mod check;
mod damping;
mod exchange;
mod judge;
mod prober;

pub use check::{Check, Kind, Tally};
pub use damping::Damping;
pub use exchange::{End, Exchange, Outcome};
pub use judge::{Judge, Thresholds};
pub use prober::{Outgoing, Place, Prober, Subject};
