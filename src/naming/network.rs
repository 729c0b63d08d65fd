//! Networks (tenants) and who may reach whom.

use std::collections::HashMap;
use std::fmt;

use crate::units::{Ip, NetworkId, Prefix};

use super::hash::text_hash;

/// What becomes of a segment in the middle of a connection that nobody holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Midstream {
    /// Dropped, so that a binding that is absent for a moment kills nothing.
    #[default]
    Drop,
    /// Answered with a reset, so that clients of a dead replica need not wait.
    Reset,
}

/// A network as it is configured. Inside names overlap freely between networks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Network {
    pub name: String,
    /// The inside space.
    pub prefixes: Vec<Prefix>,
    /// What containers use as default router, one a family.
    pub gateways: Vec<Ip>,
    /// May reach the outside world.
    pub outside: bool,
    /// May reach other servers' own services.
    pub services: bool,
    /// Names of the networks that it may reach, one way.
    pub peers: Vec<String>,
    /// Members of one group reach each other.
    pub groups: Vec<String>,
    pub midstream: Midstream,
    /// The longest time between two router advertisements that nobody has asked for, in seconds; `None`: that of RFC 4861
    /// section 6.2.1.
    pub ra_interval_s: Option<u32>,
}

impl Network {
    /// What containers use as default router, of the family of `ip`.
    #[must_use]
    pub fn gateway_beside(&self, ip: Ip) -> Option<Ip> {
        self.gateways.iter().copied().find(|gateway| gateway.is_v4() == ip.is_v4())
    }

    /// True if the configuration gives it IPv6 addresses.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        let prefixes = self.prefixes.iter().map(|prefix| prefix.first());
        self.gateways.iter().copied().chain(prefixes).any(|ip| !ip.is_v4())
    }
}

/// What an explicit rule says of a pair of networks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Allow,
    Deny,
}

/// An explicit rule: `[[policy]] from = "…" to = "…" action = "…"`. It comes before all else; of two rules of one pair
/// the first holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairRule {
    pub from: String,
    pub to: String,
    pub action: Action,
}

/// Why a set of networks makes no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetworkError {
    /// Two networks of one name.
    Duplicate(String),
    /// `in_network` (or a policy rule, if none) speaks of a network that is not configured.
    Unknown { name: String, in_network: Option<String> },
    /// More than [`Networks::MAX`].
    TooMany,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetworkError::Duplicate(name) => write!(f, "network `{name}` is configured twice"),
            NetworkError::Unknown { name, in_network: Some(of) } => {
                write!(f, "network `{of}` has the peer `{name}`, which is not configured")
            }
            NetworkError::Unknown { name, in_network: None } => {
                write!(f, "a policy names the network `{name}`, which is not configured")
            }
            NetworkError::TooMany => write!(f, "more than {} networks", Networks::MAX),
        }
    }
}

impl std::error::Error for NetworkError {}

/// All networks of the configuration with their policy worked out. Never changes once built: another policy is another
/// of these, with the same names in the same order. Read by every worker.
#[derive(PartialEq, Eq, Debug)]
pub struct Networks {
    networks: Vec<Network>,
    by_name: HashMap<String, NetworkId>,
    name_hashes: Vec<u64>,
    /// One row of bits for each `from`, one bit for each `to`.
    reachable: Vec<u64>,
    /// The same of pairs that a rule denies.
    denied: Vec<u64>,
    row_words: usize,
    lookups: Vec<Vec<NetworkId>>,
}

impl Networks {
    /// How many networks there may be.
    pub const MAX: usize = 4096;

    /// Works out who reaches whom. The order of `networks` gives their ids.
    ///
    /// # Errors
    /// Names that are given twice or not at all, or too many networks.
    pub fn new(networks: Vec<Network>, rules: &[PairRule]) -> Result<Networks, NetworkError> {
        if networks.len() > Networks::MAX {
            return Err(NetworkError::TooMany);
        }
        let mut by_name = HashMap::with_capacity(networks.len());
        for (index, network) in networks.iter().enumerate() {
            if by_name.insert(network.name.clone(), NetworkId(index as u16)).is_some() {
                return Err(NetworkError::Duplicate(network.name.clone()));
            }
        }
        let row_words = networks.len().div_ceil(64);
        let mut built = Networks {
            name_hashes: networks.iter().map(|n| text_hash(&n.name)).collect(),
            reachable: vec![0; row_words * networks.len()],
            denied: vec![0; row_words * networks.len()],
            lookups: Vec::with_capacity(networks.len()),
            by_name,
            networks,
            row_words,
        };
        built.work_out(rules)?;
        Ok(built)
    }

    /// True if packets of `from` may go to `to`. The first that speaks decides: an explicit pair rule; one and the
    /// same network; a shared group; `peers` of `from`; else no.
    #[must_use]
    pub fn reachable(&self, from: NetworkId, to: NetworkId) -> bool {
        self.says(&self.reachable, from, to)
    }

    /// True if containers of `from` may call what `to` publishes, by its public names: those that may reach it, and those
    /// that anybody outside could be, unless a rule denies the pair.
    #[must_use]
    pub fn publicly_reachable(&self, from: NetworkId, to: NetworkId) -> bool {
        let is_open = |id| self.get(id).is_some_and(|network| network.outside);
        self.reachable(from, to) || is_open(from) && is_open(to) && !self.says(&self.denied, from, to)
    }

    fn says(&self, rows: &[u64], from: NetworkId, to: NetworkId) -> bool {
        let (row, column) = (usize::from(from.0), usize::from(to.0));
        column < self.networks.len()
            && rows.get(row * self.row_words + column / 64).is_some_and(|word| word >> (column % 64) & 1 == 1)
    }

    /// The networks in which a packet of `from` may look an inside name up, in order: its own, its peers as listed,
    /// then all else that it may reach, in the order of the configuration.
    #[must_use]
    pub fn lookups(&self, from: NetworkId) -> &[NetworkId] {
        self.lookups.get(usize::from(from.0)).map_or(&[], Vec::as_slice)
    }

    /// True if `ip` lies in a prefix of the network.
    #[must_use]
    pub fn in_prefixes(&self, of: NetworkId, ip: Ip) -> bool {
        self.get(of).is_some_and(|network| network.prefixes.iter().any(|prefix| prefix.contains(ip)))
    }

    /// The network of that id.
    #[must_use]
    pub fn get(&self, id: NetworkId) -> Option<&Network> {
        self.networks.get(usize::from(id.0))
    }

    /// The id of the network of that name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<NetworkId> {
        self.by_name.get(name).copied()
    }

    /// The name, or an empty one if there is no such network.
    #[must_use]
    pub fn name(&self, id: NetworkId) -> &str {
        self.get(id).map_or("", |network| &network.name)
    }

    /// Every network with its id, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (NetworkId, &Network)> {
        self.networks.iter().enumerate().map(|(index, network)| (NetworkId(index as u16), network))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// A number that stands for the network's name on every server and after every restart, unlike its id.
    pub(super) fn name_hash(&self, id: NetworkId) -> u64 {
        self.name_hashes.get(usize::from(id.0)).copied().unwrap_or(0)
    }

    fn work_out(&mut self, rules: &[PairRule]) -> Result<(), NetworkError> {
        let mut members: HashMap<&str, Vec<NetworkId>> = HashMap::new();
        for (index, network) in self.networks.iter().enumerate() {
            for group in &network.groups {
                members.entry(group).or_default().push(NetworkId(index as u16));
            }
        }
        let mut allowed = Vec::new();
        let mut peers = Vec::with_capacity(self.networks.len());
        for (index, network) in self.networks.iter().enumerate() {
            let from = NetworkId(index as u16);
            allowed.push((from, from));
            for group in &network.groups {
                allowed.extend(members[group.as_str()].iter().map(|&to| (from, to)));
            }
            let mut listed = Vec::with_capacity(network.peers.len());
            for peer in &network.peers {
                let to = self.id(peer).ok_or_else(|| NetworkError::Unknown {
                    name: peer.clone(),
                    in_network: Some(network.name.clone()),
                })?;
                allowed.push((from, to));
                listed.push(to);
            }
            peers.push(listed);
        }
        for (from, to) in allowed {
            set(&mut self.reachable, self.row_words, (from, to), true);
        }
        // The first rule of a pair holds, so it is the last to be written.
        for rule in rules.iter().rev() {
            let id = |name: &String| {
                self.id(name).ok_or_else(|| NetworkError::Unknown { name: name.clone(), in_network: None })
            };
            let (from, to) = (id(&rule.from)?, id(&rule.to)?);
            for (rows, action) in [(&mut self.reachable, Action::Allow), (&mut self.denied, Action::Deny)] {
                set(rows, self.row_words, (from, to), rule.action == action);
            }
        }
        for (index, listed) in peers.into_iter().enumerate() {
            let from = NetworkId(index as u16);
            let mut order = Vec::new();
            let mut seen = vec![false; self.networks.len()];
            let everyone = (0..self.networks.len() as u16).map(NetworkId);
            for to in std::iter::once(from).chain(listed).chain(everyone) {
                if self.reachable(from, to) && !std::mem::replace(&mut seen[usize::from(to.0)], true) {
                    order.push(to);
                }
            }
            self.lookups.push(order);
        }
        Ok(())
    }
}

fn set(rows: &mut [u64], row_words: usize, (from, to): (NetworkId, NetworkId), to_be: bool) {
    let word = &mut rows[usize::from(from.0) * row_words + usize::from(to.0) / 64];
    let bit = 1 << (to.0 % 64);
    if to_be { *word |= bit } else { *word &= !bit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, peers: &[&str], groups: &[&str]) -> Network {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Network { name: name.to_owned(), peers: owned(peers), groups: owned(groups), ..Network::default() }
    }

    fn rule(from: &str, to: &str, action: Action) -> PairRule {
        PairRule { from: from.to_owned(), to: to.to_owned(), action }
    }

    #[test]
    fn a_stranger_is_denied_and_oneself_is_not() {
        let nets = Networks::new(vec![network("blue", &[], &[]), network("red", &[], &[])], &[]).unwrap();
        let (blue, red) = (nets.id("blue").unwrap(), nets.id("red").unwrap());
        assert!(nets.reachable(blue, blue) && !nets.reachable(blue, red));
        assert_eq!(nets.lookups(blue), [blue]);
        assert!(!nets.reachable(blue, NetworkId(2)) && !nets.reachable(NetworkId(9), blue));
    }

    #[test]
    fn peers_are_one_way_and_looked_up_as_listed() {
        let nets = Networks::new(
            vec![
                network("grey", &[], &["ops"]),
                network("blue", &["green", "red"], &["ops"]),
                network("red", &[], &[]),
                network("green", &[], &[]),
            ],
            &[],
        )
        .unwrap();
        let id = |name| nets.id(name).unwrap();
        assert!(nets.reachable(id("blue"), id("red")) && !nets.reachable(id("red"), id("blue")));
        assert!(nets.reachable(id("grey"), id("blue")) && nets.reachable(id("blue"), id("grey")));
        assert_eq!(nets.lookups(id("blue")), ["blue", "green", "red", "grey"].map(id));
    }

    #[test]
    fn a_pair_rule_comes_before_all_else_and_the_first_holds() {
        let nets = vec![network("blue", &["red"], &["g"]), network("red", &[], &["g"])];
        let deny = [rule("blue", "red", Action::Deny), rule("blue", "red", Action::Allow)];
        let nets = Networks::new(nets, &deny).unwrap();
        let (blue, red) = (nets.id("blue").unwrap(), nets.id("red").unwrap());
        assert!(!nets.reachable(blue, red) && nets.reachable(red, blue));
        assert_eq!(nets.lookups(blue), [blue]);
    }

    #[test]
    fn names_must_exist_once() {
        let twice = Networks::new(vec![network("a", &[], &[]), network("a", &[], &[])], &[]).unwrap_err();
        assert_eq!(twice.to_string(), "network `a` is configured twice");
        let unknown = Networks::new(vec![network("a", &["b"], &[])], &[]).unwrap_err();
        assert_eq!(unknown.to_string(), "network `a` has the peer `b`, which is not configured");
        let policy = Networks::new(vec![network("a", &[], &[])], &[rule("a", "x", Action::Allow)]).unwrap_err();
        assert_eq!(policy.to_string(), "a policy names the network `x`, which is not configured");
    }
}
