//! `[[neighbour]]` and `[[policy]]`: stations that need no resolving, and pair rules between networks.

use toml::Spanned;

use crate::naming::{Action, PairRule};
use crate::units::{Ip, Mac};

use super::mistake::Mistakes;
use super::network::{self, check_known};
use super::port;
use super::reader::Section;
use super::{check_mac, check_station};

/// One `[[neighbour]]`: a station on the underlay, or outside, whose MAC is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    pub ip: Ip,
    pub mac: Mac,
    /// The uplink or external port that it is behind; `None`: the one that the kernel's routes lead to it by.
    pub port: Option<String>,
}

pub(super) struct NeighbourDraft {
    ip: Option<Spanned<Ip>>,
    mac: Option<Spanned<Mac>>,
    port: Option<Spanned<String>>,
}

pub(super) struct PolicyDraft {
    from: Option<Spanned<String>>,
    to: Option<Spanned<String>>,
    action: Option<Spanned<Action>>,
}

impl NeighbourDraft {
    pub(super) fn finish(self) -> Option<Neighbour> {
        let port = self.port.map(Spanned::into_inner);
        Some(Neighbour { ip: self.ip?.into_inner(), mac: self.mac?.into_inner(), port })
    }
}

impl PolicyDraft {
    pub(super) fn finish(self) -> Option<PairRule> {
        Some(PairRule { from: self.from?.into_inner(), to: self.to?.into_inner(), action: self.action?.into_inner() })
    }
}

pub(super) fn read_neighbour(section: &mut Section<'_, '_, '_>) -> NeighbourDraft {
    let ip = section.required::<Ip>("ip", "\"192.168.50.2\"");
    if let Some(ip) = &ip {
        check_station(ip, "ip", section.mistakes);
    }
    let mac = section.required::<Mac>("mac", "\"02:00:00:00:00:02\"");
    if let Some(mac) = &mac {
        check_mac(mac, "mac", section.mistakes);
    }
    NeighbourDraft { ip, mac, port: section.text("port") }
}

pub(super) fn read_policy(section: &mut Section<'_, '_, '_>) -> PolicyDraft {
    let from = section.required_text("from", "\"blue\"");
    let to = section.required_text("to", "\"green\"");
    if !section.has("action") {
        section.missing("action", "\"allow\"");
    }
    PolicyDraft { from, to, action: section.choice("action", &[("allow", Action::Allow), ("deny", Action::Deny)]) }
}

pub(super) fn check(
    neighbours: &[NeighbourDraft],
    policies: &[PolicyDraft],
    networks: &[network::Draft],
    ports: &[port::Draft],
    mistakes: &mut Mistakes<'_>,
) {
    for (i, neighbour) in neighbours.iter().enumerate() {
        check_port(neighbour, ports, mistakes);
        let Some(ip) = &neighbour.ip else { continue };
        if let Some(other) = neighbours[..i].iter().filter_map(|other| other.ip.as_ref()).find(|other| *other == ip) {
            let line = mistakes.line_of(&other.span());
            mistakes.add(&ip.span(), format!("neighbour {} is already on line {line}", ip.get_ref()));
        }
    }
    for (i, policy) in policies.iter().enumerate() {
        for name in [&policy.from, &policy.to].into_iter().flatten() {
            check_known(name, networks, mistakes);
        }
        let same = policies[..i].iter().find(|other| other.from == policy.from && other.to == policy.to);
        if let (Some(from), Some(to), Some(other)) =
            (&policy.from, &policy.to, same.and_then(|other| other.from.as_ref()))
        {
            let line = mistakes.line_of(&other.span());
            let message = format!("the pair {} -> {} has a rule on line {line} already", from.get_ref(), to.get_ref());
            mistakes.add(&from.span(), message);
        }
    }
}

/// Notes a station whose port is none that leads out, or that nothing tells the port of.
fn check_port(neighbour: &NeighbourDraft, ports: &[port::Draft], mistakes: &mut Mistakes<'_>) {
    let is_out = |port: &&port::Draft| port.role.as_ref().is_some_and(|role| *role.get_ref() != port::Kind::Access);
    let out = || ports.iter().filter(is_out);
    match (&neighbour.port, &neighbour.ip) {
        (Some(port), _) => {
            if !out().any(|other| other.name.as_ref() == Some(port)) {
                let message = format!("there is no uplink or external port `{}`", port.get_ref());
                mistakes.add(&port.span(), message);
            }
        }
        (None, Some(ip)) if out().filter(|port| port.is_uplink()).count() > 1 => {
            if let Some(bare) = out().find(|port| port.interface.is_none()) {
                let name = bare.name.as_ref().map_or("", |name| name.get_ref());
                let message = format!(
                    "behind which uplink is {}? Port `{name}` has no interface whose routes would tell: add `port = \"{name}\"`, or \
                     another",
                    ip.get_ref()
                );
                mistakes.add(&ip.span(), message);
            }
        }
        (None, _) => {}
    }
}
