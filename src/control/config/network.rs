//! `[[network]]`: the tenants.

use toml::Spanned;

use crate::naming::{Midstream, Network, Networks};
use crate::units::{Ip, Prefix};

use super::mistake::Mistakes;
use super::reader::Section;
use super::{check_name, check_station};

/// What RFC 4861 section 6.2.1 allows as MaxRtrAdvInterval, in seconds.
const RA_INTERVALS_S: std::ops::RangeInclusive<u32> = 4..=1800;

/// A network as far as it could be read.
pub(super) struct Draft {
    pub(super) name: Option<Spanned<String>>,
    prefixes: Vec<Spanned<Prefix>>,
    gateways: Vec<Spanned<Ip>>,
    outside: bool,
    services: bool,
    peers: Vec<Spanned<String>>,
    groups: Vec<Spanned<String>>,
    midstream: Midstream,
    ra_interval_s: Option<u32>,
}

impl Draft {
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.get_ref() == name)
    }

    pub(super) fn has_gateway_beside(&self, ip: Ip) -> bool {
        self.gateways.iter().any(|gateway| gateway.get_ref().is_v4() == ip.is_v4())
    }

    pub(super) fn finish(self) -> Option<Network> {
        let inner = |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
        Some(Network {
            name: self.name?.into_inner(),
            prefixes: self.prefixes.into_iter().map(Spanned::into_inner).collect(),
            gateways: self.gateways.into_iter().map(Spanned::into_inner).collect(),
            outside: self.outside,
            services: self.services,
            peers: inner(self.peers),
            groups: inner(self.groups),
            midstream: self.midstream,
            ra_interval_s: self.ra_interval_s,
        })
    }
}

pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Draft {
    let name = section.required_text("name", "\"blue\"");
    if let Some(name) = &name {
        check_name(name, section.mistakes);
    }
    let prefixes = section.list::<Prefix>("prefixes");
    let gateways = section.one_or_more::<Ip>("gateway");
    for (i, gateway) in gateways.iter().enumerate() {
        check_station(gateway, "gateway", section.mistakes);
        if gateways[..i].iter().any(|other| other.get_ref().is_v4() == gateway.get_ref().is_v4()) {
            section.mistakes.add(&gateway.span(), "a network has one `gateway` of each address family");
        }
    }
    let flag = |flag: Option<Spanned<bool>>| flag.is_some_and(Spanned::into_inner);
    let midstream = section.choice("midstream", &[("drop", Midstream::Drop), ("reset", Midstream::Reset)]);
    Draft {
        name,
        prefixes,
        gateways,
        outside: flag(section.flag("outside")),
        services: flag(section.flag("services")),
        peers: section.texts("peers"),
        groups: section.texts("groups"),
        midstream: midstream.map_or(Midstream::Drop, Spanned::into_inner),
        ra_interval_s: section.integer("ra_interval_s", RA_INTERVALS_S).map(Spanned::into_inner),
    }
}

pub(super) fn check(networks: &[Draft], mistakes: &mut Mistakes<'_>) {
    if let Some(name) = networks.get(Networks::MAX).and_then(|network| network.name.as_ref()) {
        mistakes.add(&name.span(), format!("there are more than {} networks", Networks::MAX));
    }
    for (i, network) in networks.iter().enumerate() {
        let earlier = networks[..i].iter().filter_map(|other| other.name.as_ref());
        if let Some(name) = &network.name {
            check_repeated("network", name, earlier, mistakes);
        }
        check_prefixes(&network.prefixes, mistakes);
        for peer in &network.peers {
            check_known(peer, networks, mistakes);
        }
    }
}

/// Notes `name`, if no network is called so.
pub(super) fn check_known(name: &Spanned<String>, networks: &[Draft], mistakes: &mut Mistakes<'_>) {
    let names: Vec<&str> = networks.iter().filter_map(|n| n.name.as_ref()).map(|n| n.get_ref().as_str()).collect();
    if !names.contains(&name.get_ref().as_str()) {
        let hint = super::nearest::nearest(name.get_ref(), &names);
        let hint = hint.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        mistakes.add(&name.span(), format!("there is no network `{}`{hint}", name.get_ref()));
    }
}

/// Notes `name`, if one of `earlier` is the same, and says where.
pub(super) fn check_repeated<'d>(
    what: &str,
    name: &Spanned<String>,
    mut earlier: impl Iterator<Item = &'d Spanned<String>>,
    mistakes: &mut Mistakes<'_>,
) {
    if let Some(other) = earlier.find(|other| *other == name) {
        let line = mistakes.line_of(&other.span());
        mistakes.add(&name.span(), format!("{what} `{}` is already on line {line}", name.get_ref()));
    }
}

fn check_prefixes(prefixes: &[Spanned<Prefix>], mistakes: &mut Mistakes<'_>) {
    for (i, prefix) in prefixes.iter().enumerate() {
        let overlapping = prefixes[..i].iter().find(|other| other.get_ref().overlaps(*prefix.get_ref()));
        if let Some(other) = overlapping {
            let message = format!("prefix {} overlaps {} of the same network", prefix.get_ref(), other.get_ref());
            mistakes.add(&prefix.span(), message);
        }
    }
}
