//! Floor 3: next hops on the underlay, sans-I/O. [`Fib`] gathers what the kernel and the configuration say, on the
//! control thread; [`NextHops`] is what packet workers read, replaced whole.

mod fib;
mod next_hops;

pub use fib::{Fib, Route, Via};
pub use next_hops::{NextHop, NextHops, Station};
