//! Floor 2: six-tuples, bindings, the mapping file, and the live tables behind `outer` and `inner`.

mod hash;
mod name;
mod network;
mod spec;

pub use hash::flow_hash;
pub use name::{Inside, Public, Wire};
pub use network::{Action, Midstream, Network, NetworkError, Networks, PairRule};
pub use spec::{BindingKey, BindingSpec, Fault, KeyPorts, Part, Ports, Protocol, Published};
