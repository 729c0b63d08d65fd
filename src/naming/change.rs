//! What a change set did, or why it was refused.

use std::fmt;

use crate::table::Handle;
use crate::units::{Endpoint, Ip, PortRange, Proto};

use super::health::HealthReport;
use super::replica::ReplicaId;
use super::spec::{BindingKey, BindingSpec, Part};

/// Something with the line that it came from, in a file or a request; counted from 1, 0 for "none".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located<T> {
    pub line: u32,
    pub value: T,
}

/// What an accepted change set did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// The generation that packets see from now on; the former one, if nothing changed.
    pub generation: u64,
    /// Bindings that are new, differ from the one of their identity before, or are gone.
    pub added: usize,
    pub replaced: usize,
    pub removed: usize,
    /// The wire names of our own ServerIPs that changed hands. Owners are those of [`View::owner`](super::View::owner).
    pub owners: Vec<OwnerChange>,
    /// Public names that some binding gained or lost; another may have them still.
    pub published: Vec<Endpoint>,
    /// Portless wire names that something was done to: all of our own ServerIPs, and published ones of others.
    pub portless: Vec<Endpoint>,
    /// ServerIPs that bindings were put on or taken from.
    pub servers: Vec<Ip>,
    /// Containers whose bindings to our own ServerIPs changed.
    pub containers: Vec<Handle>,
    /// Bindings whose health is another than before.
    pub health: usize,
    /// Replicas that have left their service: their connections are lost. In order.
    pub replicas_gone: Vec<ReplicaId>,
}

impl Change {
    /// True if bindings are added, replaced or removed.
    #[must_use]
    pub fn is_of_mapping(&self) -> bool {
        self.added + self.replaced + self.removed > 0
    }
}

/// Wire names of one of our own ServerIPs that have another inside owner than before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnerChange {
    pub server: Ip,
    pub proto: Proto,
    /// 0-0 for a portless protocol.
    pub ports: PortRange,
    /// `None`: was unbound.
    pub before: Option<u64>,
    /// `None`: is unbound now.
    pub now: Option<u64>,
}

/// Which rule a change set broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The binding is wrong by itself.
    Malformed,
    /// The network is not configured.
    UnknownNetwork,
    /// Server ports outside the owned range.
    NotOwned,
    /// Two bindings of one identity.
    SameIdentity,
    /// Two bindings of one wire name.
    WireOverlap,
    /// Two client blocks of one inside address share inside ports.
    InsideOverlap,
    /// A service port within the block of another container of the same inside address.
    ServiceInBlock,
    /// A service port within its own container's native range.
    ServiceInNative,
    /// A public name that another network publishes.
    PublicTaken,
    /// A key to delete that names no binding.
    NoSuchBinding,
    /// A key to delete that names several.
    Ambiguous,
}

impl Rule {
    /// Where in the line of the mapping file one would look.
    #[must_use]
    pub fn part(self) -> Part {
        match self {
            Rule::NotOwned | Rule::WireOverlap => Part::Server,
            Rule::SameIdentity | Rule::InsideOverlap | Rule::ServiceInBlock | Rule::ServiceInNative => Part::Container,
            Rule::PublicTaken => Part::Public,
            Rule::Malformed | Rule::UnknownNetwork | Rule::NoSuchBinding | Rule::Ambiguous => Part::Network,
        }
    }
}

/// What a change set wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    Put(BindingSpec),
    Delete(BindingKey),
    /// To know this of the binding of the key.
    Health(HealthReport),
}

/// Why a change set was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clash {
    pub rule: Rule,
    /// The part of the binding that is to blame.
    pub part: Part,
    pub binding: Located<Wanted>,
    /// The other side; line 0, if it was there before.
    pub other: Option<Located<BindingSpec>>,
    /// What is wrong and what to do about it, without the other side's text.
    pub message: String,
}

impl fmt::Display for Clash {
    /// The message and the other side: `…: line 7: blue tcp …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.other {
            Some(Located { line: 0, value }) => write!(f, ": {value}"),
            Some(Located { line, value }) => write!(f, ": line {line}: {value}"),
            None => Ok(()),
        }
    }
}
