//! Whether the container behind a binding answers, as somebody who probes it has said.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::change::{Clash, Located, Wanted};
use super::record::{Binding, Flags, Illness, illness_hash};
use super::spec::{BindingKey, BindingSpec};
use super::staging::Staging;
use crate::table::Handle;

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

impl Staging<'_> {
    /// Notes what is known of these bindings from now on.
    pub(super) fn judge(&mut self, reports: &[Located<HealthReport>]) {
        for Located { line, value: report } in reports {
            match self.find_key(&report.binding) {
                Ok(handle) => {
                    let Some(flags) = self.binding(handle).map(|binding| binding.flags) else { continue };
                    if flags.health() != report.state {
                        self.set_flags(handle, flags.with_health(report.state));
                        self.staged.health.push(report.clone());
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
