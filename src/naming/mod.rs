//! Floor 2: six-tuples, bindings, the mapping file, and the live tables behind `outer` and `inner`.

mod change;
mod describe;
mod groups;
mod hash;
mod json;
mod lead;
mod live;
mod maglev;
mod mapping;
mod name;
mod network;
mod owners;
mod placed;
mod prepared;
mod record;
mod rules;
mod service;
mod sizes;
mod spec;
mod staging;
mod view;
mod writer;

pub use change::{Change, Clash, Located, OwnerChange, Rule, Wanted};
pub use hash::flow_hash;
pub use lead::Lead;
pub use live::Names;
pub use mapping::{Mistake, Words, locate, parse_key, parse_mapping, read_mapping};
pub use name::{Inside, Public, Wire};
pub use network::{Action, Midstream, Network, NetworkError, Networks, PairRule};
pub use prepared::Prepared;
pub use record::{Binding, Container, ContainerId, Held, Server};
pub use service::Service;
pub use spec::{BindingKey, BindingSpec, Fault, KeyPorts, Part, Ports, Protocol, Published};
pub use view::{Address, Outer, Placed, View};
pub use writer::NamesWriter;
