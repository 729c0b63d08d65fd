//! What the kernel knows of links, addresses, routes and neighbours, over netlink (rtnetlink(7)).

mod address;
mod capability;
mod dump;
mod link;
mod message;
mod pair;
mod watch;

pub use address::Addresses;
pub use capability::{Capability, Queues, capability};
pub use link::{Link, links};
pub use pair::{Pair, pair, remove_pairs};
pub use watch::{Change, Questions, Resolver, watch};
