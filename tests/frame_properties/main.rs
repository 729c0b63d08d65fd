//! The `frame` room against an independent library: every packet is built by etherparse, and what a rewrite or an
//! answer leaves must be, byte for byte, what etherparse builds from scratch for the packet that we want.

mod answers;
mod errors;
mod fragments;
mod hostile;
#[path = "../support/fragments.rs"]
mod parts;
mod rewriting;
mod spec;
