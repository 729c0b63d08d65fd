//! Small types with meaning, shared by every floor. Values are in host order unless a name says otherwise.

mod address;
mod endpoint;
mod ids;
mod random;
mod vlan;

pub use address::{Ip, Mac, ParseAddressError, Prefix};
pub use endpoint::{Endpoint, PortRange, Proto};
pub use ids::{FrameLen, NetworkId, PortId, QueueId, Tick};
pub use random::{Random, mix};
pub use vlan::VlanTags;
