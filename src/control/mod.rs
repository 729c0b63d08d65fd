//! Configuration, the kernel's own tables and the control socket: everything that tells the engine what to do.

/// The configuration file: its shape, and every mistake in it by line and column.
pub mod config;
