//! The walk of a packet, held against the design: packets in, packets out, verdicts and the state that moved.

mod case;
mod fixtures;
mod packet;
mod scene;
mod world;
