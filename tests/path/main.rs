//! The walk of a packet, held against the design: packets in, packets out, verdicts and the state that moved.

mod arbitrary;
mod bursts;
mod case;
mod claims;
mod early;
mod fixtures;
mod generations;
mod hostile;
mod packet;
mod packet6;
#[path = "../support/fragments.rs"]
mod parts;
mod permutations;
mod restart;
mod scene;
mod transparent;
mod underlay;
mod world;
