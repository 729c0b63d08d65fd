//! `[[port]]`: the interfaces that the engine works on.

use toml::Spanned;
use toml::de::DeValue;

use crate::units::{Ip, Mac, VlanTags};

use super::mistake::Mistakes;
use super::network::{self, check_known, check_repeated};
use super::reader::Section;
use super::{check_mac, check_name, check_station};

/// One `[[port]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub name: String,
    /// The interface's name; ports without one can only be replayed.
    pub interface: Option<String>,
    pub role: Role,
    /// Its own MAC, where there is no interface to ask.
    pub address: Option<Mac>,
    /// Its MTU, where there is no interface to ask.
    pub mtu: Option<u16>,
    /// The addresses of an uplink or external port, where there is no interface to ask.
    pub ips: Vec<Ip>,
    /// The VLAN tags that frames bear on an uplink or external port.
    pub tags: VlanTags,
    /// The device whose routes and neighbours are the port's, where it is not the interface itself: the kernel's own for
    /// the VLAN.
    pub routes: Option<String>,
}

impl Port {
    /// The device that the kernel's routes name for it.
    #[must_use]
    pub fn routed_as(&self) -> Option<&str> {
        self.routes.as_deref().or(self.interface.as_deref())
    }
}

/// What a port is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// The NIC on the underlay. `external`: clients outside arrive here too, and `arp` says whether public IPs are
    /// claimed and answered for here.
    Uplink { external: bool, arp: bool },
    /// The host end of one container's veth. `mac` pins the container, `id` tells containers apart that share it.
    Access { network: String, mac: Option<Mac>, id: Option<String> },
    /// A gateway's NIC towards clients outside.
    External { arp: bool },
}

impl Role {
    /// True for ports that lead out of the server: routes say which of them a packet leaves by.
    #[must_use]
    pub fn leads_out(&self) -> bool {
        !matches!(self, Role::Access { .. })
    }
}

/// A port as far as it could be read.
pub(super) struct Draft {
    pub(super) name: Option<Spanned<String>>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) role: Option<Spanned<Kind>>,
    network: Option<Spanned<String>>,
    mac: Option<Spanned<Mac>>,
    id: Option<Spanned<String>>,
    external: bool,
    arp: bool,
    address: Option<Spanned<Mac>>,
    mtu: Option<Spanned<u32>>,
    ips: Vec<Spanned<Ip>>,
    tags: VlanTags,
    pub(super) routes: Option<Spanned<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Uplink,
    Access,
    External,
}

/// Longest interface name: IFNAMSIZ of linux/if.h without its closing NUL.
const MAX_INTERFACE: usize = 15;
/// Least MTU: what every IPv4 host must be able to take in (RFC 791 section 3.1).
const MIN_MTU: u32 = 576;

impl Draft {
    pub(super) fn is_uplink(&self) -> bool {
        self.role.as_ref().is_some_and(|role| *role.get_ref() == Kind::Uplink)
    }

    pub(super) fn finish(self) -> Option<Port> {
        let role = match self.role?.into_inner() {
            Kind::Uplink => Role::Uplink { external: self.external, arp: self.arp },
            Kind::External => Role::External { arp: self.arp },
            Kind::Access => Role::Access {
                network: self.network?.into_inner(),
                mac: self.mac.map(Spanned::into_inner),
                id: self.id.map(Spanned::into_inner),
            },
        };
        Some(Port {
            name: self.name?.into_inner(),
            interface: self.interface.map(Spanned::into_inner),
            role,
            address: self.address.map(Spanned::into_inner),
            mtu: self.mtu.and_then(|mtu| u16::try_from(mtu.into_inner()).ok()),
            ips: self.ips.into_iter().map(Spanned::into_inner).collect(),
            tags: self.tags,
            routes: self.routes.map(Spanned::into_inner),
        })
    }
}

pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Draft {
    let name = section.required_text("name", "\"uplink\"");
    if let Some(name) = &name {
        check_name(name, section.mistakes);
    }
    let interface = section.text("interface");
    let address = section.parsed::<Mac>("address");
    match &interface {
        Some(interface) => check_interface(interface, section.mistakes),
        None if !section.has("interface") && !section.has("address") => section.missing("interface", "\"eth1\""),
        None => {}
    }
    if !section.has("role") {
        section.missing("role", "\"access\"");
    }
    let roles = [("uplink", Kind::Uplink), ("access", Kind::Access), ("external", Kind::External)];
    let role = section.choice("role", &roles);
    let mac = section.parsed::<Mac>("mac");
    for (mac, key) in [(&address, "address"), (&mac, "mac")] {
        if let Some(mac) = mac {
            check_mac(mac, key, section.mistakes);
        }
    }
    let flag = |flag: Option<Spanned<bool>>| flag.is_some_and(Spanned::into_inner);
    let draft = Draft {
        name,
        interface,
        role,
        network: section.text("network"),
        mac,
        id: section.text("id"),
        external: flag(section.flag("external")),
        arp: flag(section.flag("arp")),
        address,
        mtu: section.integer("mtu", MIN_MTU..=u32::from(u16::MAX)),
        ips: section.list("ips"),
        tags: read_tags(section),
        routes: section.text("routes"),
    };
    for ip in &draft.ips {
        check_station(ip, "ips", section.mistakes);
    }
    if let Some(routes) = &draft.routes {
        check_interface(routes, section.mistakes);
        if !section.has("interface") {
            section
                .mistakes
                .add(&routes.span(), "`routes` has no meaning without `interface`: there is no kernel to ask");
        }
    }
    check_role(&draft, section);
    draft
}

/// `vlan`: one identifier, or the service provider's and then the customer's.
fn read_tags(section: &mut Section<'_, '_, '_>) -> VlanTags {
    let Some(value) = section.value("vlan") else { return VlanTags::NONE };
    let id = |value: &DeValue<'_>| value.as_integer().and_then(|id| id.as_str().parse::<u16>().ok());
    let ids: Option<Vec<u16>> = match value.get_ref().as_array() {
        Some(several) => several.iter().map(|one| id(one.get_ref())).collect(),
        None => id(value.get_ref()).map(|one| vec![one]),
    };
    let tags = ids.filter(|ids| !ids.is_empty()).and_then(|ids| VlanTags::new(&ids));
    if tags.is_none() {
        let message =
            "`vlan` must be a number from 1 to 4094, or two in brackets, the outer first: `vlan = [200, 100]`";
        section.mistakes.add(&value.span(), message);
    }
    tags.unwrap_or_default()
}

/// Notes the keys that the port's role has no use for, or misses.
fn check_role(port: &Draft, section: &mut Section<'_, '_, '_>) {
    let Some(role) = port.role.as_ref().map(|role| *role.get_ref()) else { return };
    let (word, foreign): (_, &[&'static str]) = match role {
        Kind::Access => ("access", &["external", "arp", "ips", "vlan", "routes"]),
        Kind::Uplink => ("uplink", &["network", "mac", "id"]),
        Kind::External => ("external", &["network", "mac", "id", "external"]),
    };
    for key in foreign {
        if let Some(value) = section.value(key) {
            section.mistakes.add(&value.span(), format!("`{key}` has no meaning on a port with role \"{word}\""));
        }
    }
    if role == Kind::Access && !section.has("network") {
        section.mistakes.add(&section.span(), "an access port needs `network`, like `network = \"blue\"`");
    }
    if let Some(arp) = section.value("arp").filter(|_| role == Kind::Uplink && port.arp && !port.external) {
        section.mistakes.add(&arp.span(), "`arp` on an uplink needs `external = true`");
    }
}

fn check_interface(interface: &Spanned<String>, mistakes: &mut Mistakes<'_>) {
    // dev_valid_name() in net/core/dev.c.
    let name = interface.get_ref();
    let bad = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace();
    if name.is_empty() || name.len() > MAX_INTERFACE || name == "." || name == ".." || name.contains(bad) {
        mistakes.add(&interface.span(), format!("\"{name}\" is no interface name"));
    }
}

pub(super) fn check(ports: &[Draft], networks: &[network::Draft], mistakes: &mut Mistakes<'_>) {
    for (i, port) in ports.iter().enumerate() {
        let earlier = &ports[..i];
        if let Some(name) = &port.name {
            check_repeated("port", name, earlier.iter().filter_map(|other| other.name.as_ref()), mistakes);
        }
        if let Some(interface) = &port.interface {
            let others = earlier.iter().filter_map(|other| other.interface.as_ref());
            check_repeated("interface", interface, others, mistakes);
        }
        if let Some(network) = &port.network {
            check_known(network, networks, mistakes);
        }
        check_pinned(port, earlier, mistakes);
    }
}

/// Notes a container that two ports claim to hold.
fn check_pinned(port: &Draft, earlier: &[Draft], mistakes: &mut Mistakes<'_>) {
    let Some(mac) = &port.mac else { return };
    let same =
        |other: &&Draft| other.network == port.network && other.mac.as_ref() == Some(mac) && (other.id == port.id);
    if let Some(other) = earlier.iter().find(same).and_then(|other| other.mac.as_ref()) {
        let line = mistakes.line_of(&other.span());
        let message =
            format!("{} is pinned to the port on line {line} already; `id` tells such containers apart", mac.get_ref());
        mistakes.add(&mac.span(), message);
    }
}
