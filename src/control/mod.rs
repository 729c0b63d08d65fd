//! Floor 6: configuration, the kernel's own tables and the control socket: everything that tells the engine what to do.

/// When routers advertise themselves.
pub mod advertiser;
/// A running server.
pub mod appliance;
/// From configuration and mapping to what the engine runs on.
pub mod assemble;
/// Changes of the mapping while packets flow.
pub mod changes;
/// The configuration file: its shape, and every mistake in it by line and column.
pub mod config;
/// An explanation of a walk, as JSON.
pub mod explanation;
/// How a running engine hands over to its successor.
pub mod handover;
/// Whether containers answer.
pub mod health;
/// Who keeps packet memory and sockets while no engine runs.
pub mod holder;
/// Accepted change sets on disk.
pub mod journal;
/// What the kernel knows: links, routes and neighbours, over netlink.
pub mod kernel;
/// Unix sockets between processes of one user.
mod peer;
/// Questions about packets, as they are typed.
pub mod question;
/// The control socket and what can be asked over it.
pub mod server;
