//! `[[neighbour]]` and `[[policy]]`: stations that need no resolving, and pair rules between networks.

use toml::Spanned;

use crate::naming::{Action, PairRule};
use crate::units::{Ip, Mac};

use super::mistake::Mistakes;
use super::network::{self, check_known};
use super::reader::Section;
use super::{check_mac, check_station};

/// One `[[neighbour]]`: a station on the underlay whose MAC is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    pub ip: Ip,
    pub mac: Mac,
}

pub(super) struct NeighbourDraft {
    ip: Option<Spanned<Ip>>,
    mac: Option<Spanned<Mac>>,
}

pub(super) struct PolicyDraft {
    from: Option<Spanned<String>>,
    to: Option<Spanned<String>>,
    action: Option<Spanned<Action>>,
}

impl NeighbourDraft {
    pub(super) fn finish(self) -> Option<Neighbour> {
        Some(Neighbour { ip: self.ip?.into_inner(), mac: self.mac?.into_inner() })
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
    NeighbourDraft { ip, mac }
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
    mistakes: &mut Mistakes<'_>,
) {
    for (i, neighbour) in neighbours.iter().enumerate() {
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
