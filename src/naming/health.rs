//! Whether the container behind a binding answers, as somebody who probes it has said.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::change::{Clash, Located, Wanted};
use super::mapping::parse_key;
use super::name::Inside;
use super::record::{Binding, Flags, Illness, illness_hash};
use super::spec::{BindingKey, BindingSpec, KeyPorts, Ports};
use super::staging::Staging;
use super::view::View;
use crate::table::Handle;
use crate::units::{Endpoint, Ip};

/// What is known of a binding's container. It belongs to the binding's identity: it is kept when the binding gets other
/// options, and is unknown again when the binding moves to another server or is removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nobody has said: packets treat it as healthy.
    #[default]
    Unknown,
    Healthy,
    /// It gets no new connections, and those that it has are not sent to it.
    Unhealthy,
}

/// What somebody says of a binding: `{"binding":{…},"state":"unhealthy"}`, with the binding's key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthReport {
    pub binding: BindingKey,
    pub state: Health,
    /// Said by the engine of containers of its own server, whose word others take. In a request it means nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub own: bool,
}

impl HealthReport {
    /// What somebody says.
    #[must_use]
    pub fn new(binding: BindingKey, state: Health) -> HealthReport {
        HealthReport { binding, state, own: false }
    }

    /// True for what a server says of its own containers, and knows.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.own && self.state != Health::Unknown
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What became known of a binding, with all that it takes to remember it or to take it back. As text it is
/// `unhealthy healthy 192.168.50.2 blue tcp 02:42:0a:02:00:02 10.2.0.2:80`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthNote {
    pub state: Health,
    pub before: Health,
    /// Where the binding leads: what is known of it there means nothing elsewhere.
    pub server: Ip,
    pub binding: BindingKey,
}

impl fmt::Display for HealthNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.state, self.before, self.server, self.binding)
    }
}

impl FromStr for HealthNote {
    type Err = ();

    fn from_str(text: &str) -> Result<HealthNote, ()> {
        let mut words = text.splitn(4, ' ');
        let mut word = || words.next().ok_or(());
        let (state, before) = (word()?.parse()?, word()?.parse()?);
        let server = word()?.parse().map_err(|_| ())?;
        let binding = parse_key(word()?).map_err(|_| ())?;
        Ok(HealthNote { state, before, server, binding })
    }
}

impl Health {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

impl FromStr for Health {
    type Err = ();

    fn from_str(text: &str) -> Result<Health, ()> {
        let all = [Health::Unknown, Health::Healthy, Health::Unhealthy];
        all.into_iter().find(|health| health.as_str() == text).ok_or(())
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Flags {
    pub(super) fn health(self) -> Health {
        match (self.has(Flags::UNHEALTHY), self.has(Flags::HEALTHY)) {
            (true, _) => Health::Unhealthy,
            (false, true) => Health::Healthy,
            (false, false) => Health::Unknown,
        }
    }

    pub(super) fn with_health(self, health: Health) -> Flags {
        let rest = self.0 & !(Flags::UNHEALTHY | Flags::HEALTHY);
        Flags(match health {
            Health::Unknown => rest,
            Health::Healthy => rest | Flags::HEALTHY,
            Health::Unhealthy => rest | Flags::UNHEALTHY,
        })
    }
}

impl Binding {
    /// What is known of its container.
    #[must_use]
    pub fn health(&self) -> Health {
        self.flags.health()
    }

    /// True if its container does not answer.
    #[inline]
    #[must_use]
    pub fn is_unhealthy(&self) -> bool {
        self.flags.has(Flags::UNHEALTHY)
    }

    /// True if it may be given new connections: neither draining nor unhealthy. One that stands by gets them only while
    /// no active one is there.
    #[inline]
    #[must_use]
    pub fn is_eligible(&self) -> bool {
        !self.flags.has(Flags::DRAIN | Flags::UNHEALTHY)
    }
}

impl<'g> View<'g> {
    /// The binding of a key.
    #[must_use]
    pub fn find_key(&self, key: &BindingKey) -> Option<&'g Binding> {
        let network = self.network(&key.network)?;
        let is_it = |binding: &&'g Binding| {
            binding.proto() == key.proto
                && self.spec(binding).is_some_and(|spec| {
                    let is_of_ports = match key.ports {
                        KeyPorts::SameNumbers => spec.is_same_numbers(),
                        KeyPorts::Exactly(ports) => spec.inside == ports,
                    };
                    // An id stands in for the MAC.
                    is_of_ports && spec.id == key.id && (key.id.is_some() || spec.mac == key.mac)
                })
        };
        let proto = key.proto.each(key.ip).next()?;
        let end = |port| Inside(Endpoint { proto, ip: key.ip, port });
        match key.ports {
            KeyPorts::Exactly(Ports::Block(range)) => self.block(network, end(range.first)).filter(is_it),
            KeyPorts::Exactly(ports) => self.service(network, end(ports.base_and_log2().0))?.members().find(is_it),
            KeyPorts::SameNumbers => self
                .bindings()
                .filter(|binding| binding.is_block() && binding.ip() == key.ip && binding.network() == network)
                .find(is_it),
        }
    }

    /// What is known of all bindings.
    pub fn known_health(&self) -> impl Iterator<Item = HealthNote> {
        self.bindings().filter_map(|binding| {
            let state = binding.health();
            if state == Health::Unknown {
                return None;
            }
            let spec = self.spec(binding)?;
            Some(HealthNote { state, before: Health::Unknown, server: spec.server_ip, binding: spec.exact_key() })
        })
    }
}

/// What is known of a binding from now on.
pub(super) struct Judged {
    pub report: HealthReport,
    pub before: Health,
    pub server: Ip,
}

impl Staging<'_> {
    /// Notes what is known of these bindings from now on.
    pub(super) fn judge(&mut self, reports: &[Located<HealthReport>]) {
        for Located { line, value: report } in reports {
            match self.find_key(&report.binding) {
                Ok(handle) => {
                    let Some(binding) = self.binding(handle) else { continue };
                    let (flags, before) = (binding.flags, binding.health());
                    let Some(server) = self.names.servers.get_staged(binding.server, self.writer) else { continue };
                    let (server, own) = (server.ip, server.local);
                    if before != report.state {
                        self.set_flags(handle, flags.with_health(report.state));
                        let report = HealthReport { own, ..report.clone() };
                        self.staged.health.push(Judged { report, before, server });
                    }
                }
                Err((rule, message)) => {
                    let binding = Located { line: *line, value: Wanted::Health(report.clone()) };
                    self.clashes.push(Clash { rule, part: rule.part(), binding, other: None, message });
                }
            }
        }
    }

    /// What is known of a binding, if it stays on its server.
    pub(super) fn health_where_it_is(&self, handle: Handle, spec: &BindingSpec) -> Health {
        let known = self.binding(handle).and_then(|binding| {
            let server = self.names.servers.get_staged(binding.server, self.writer)?;
            (server.ip == spec.server_ip).then(|| binding.health())
        });
        known.unwrap_or_default()
    }

    /// Notes that nothing is known any more of a binding that is gone from where it was.
    pub(super) fn forget(&mut self, handle: Handle) {
        if self.binding(handle).is_some_and(|binding| binding.health() != Health::Unknown) {
            self.staged.forgotten.push(handle);
        }
    }

    /// Counts the unhealthy bindings of containers anew where they changed.
    pub(super) fn count_unhealthy(&mut self) {
        let mut changes: BTreeMap<Handle, i64> = BTreeMap::new();
        for (container, by) in self.staged.unhealthy.iter() {
            *changes.entry(container).or_default() += i64::from(by);
        }
        for (container, by) in changes.into_iter().filter(|&(_, by)| by != 0) {
            let illnesses = &self.names.illnesses;
            let is_it = |illness: &Illness| illness.container == container;
            let before = illnesses.find_staged(0, illness_hash(container), self.writer, is_it);
            let before = before.map(|(handle, illness)| (handle, illness.bindings));
            if let Some((handle, _)) = before {
                illnesses.retire(self.writer, handle);
            }
            let bindings = i64::from(before.map_or(0, |(_, bindings)| bindings)) + by;
            if let Some(bindings) = u32::try_from(bindings).ok().filter(|&bindings| bindings > 0) {
                illnesses.insert(self.writer, Illness { container, bindings });
            }
        }
    }
}
