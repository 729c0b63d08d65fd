//! `[server]`: who this server is on the underlay.

use std::path::{Path, PathBuf};

use toml::Spanned;

use crate::units::{Ip, PortRange};

use super::check_station;
use super::reader::Section;

/// `[server]`: this server's wire addresses and the mapping that it serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its ServerIPs, at least one.
    pub ips: Vec<Ip>,
    /// The owned range: the server ports that belong to the engine, equal on all servers.
    pub ports: PortRange,
    /// The mapping file.
    pub mapping: PathBuf,
    /// Where `mapping` stands in the configuration, for a message about a file that is not there.
    pub mapping_at: super::Position,
    /// The next hop for destinations that have no route or only the default route of the kernel.
    pub router: Option<Ip>,
    /// Next hops of what leaves under public names, where the underlay must see replies pass a gateway. Empty: they go by
    /// the routes, as all else does.
    pub gateways: Vec<Ip>,
    /// How long a wire name rests after its inside owner changed, in seconds.
    pub quarantine_s: u32,
}

/// Default of `quarantine_s`: long enough for every server to have taken the newer mapping.
const QUARANTINE_S: u32 = 60;

pub(super) fn read(section: &mut Section<'_, '_, '_>, directory: &Path) -> Option<Server> {
    if !section.has("ip") && !section.has("ips") {
        section.missing("ip", "\"192.168.50.1\"");
    }
    let one = section.parsed::<Ip>("ip");
    let several = section.list::<Ip>("ips");
    if section.has("ip") && section.has("ips") {
        section.mistakes.add(&section.span(), "[server] has `ip` and `ips`: give one of them");
    }
    let ips: Vec<_> = one.into_iter().chain(several).collect();
    for (i, ip) in ips.iter().enumerate() {
        check_station(ip, "ip", section.mistakes);
        if ips[..i].contains(ip) {
            section.mistakes.add(&ip.span(), format!("{} is given twice", ip.get_ref()));
        }
    }
    if let Some(value) = section.value("ips").filter(|v| v.get_ref().as_array().is_some_and(|a| a.is_empty())) {
        section.mistakes.add(&value.span(), "`ips` is empty: a server has at least one address");
    }
    let ports = section.required::<PortRange>("ports", "\"20480-59903\"");
    if let Some(range) = ports.as_ref().filter(|range| range.get_ref().first == 0) {
        section.mistakes.add(&range.span(), "`ports` must not hold port 0, which no packet may carry");
    }
    let mapping = section.required_text("mapping", "\"mapping.sixway\"");
    let router = section.parsed::<Ip>("router");
    if let Some(router) = &router {
        check_station(router, "router", section.mistakes);
        if ips.contains(router) {
            section.mistakes.add(&router.span(), format!("`router`: {} is this server itself", router.get_ref()));
        }
    }
    let gateways = read_return(section, &ips);
    let quarantine_s = section.integer("quarantine_s", 0..=86_400);
    let mapping = mapping?;
    Some(Server {
        ips: ips.into_iter().map(|ip| ip.into_inner()).collect(),
        ports: ports?.into_inner(),
        mapping_at: section.mistakes.position(mapping.span().start),
        mapping: directory.join(mapping.into_inner()),
        router: router.map(|ip| ip.into_inner()),
        gateways,
        quarantine_s: quarantine_s.map_or(QUARANTINE_S, |s| s.into_inner()),
    })
}

/// `return`: by which way the answers to clients outside leave.
fn read_return(section: &mut Section<'_, '_, '_>, ips: &[Spanned<Ip>]) -> Vec<Ip> {
    let by_gateway = section.choice("return", &[("direct", false), ("gateway", true)]);
    let by_gateway = by_gateway.is_some_and(Spanned::into_inner);
    let gateways = section.list::<Ip>("gateways");
    for gateway in &gateways {
        check_station(gateway, "gateways", section.mistakes);
        if ips.contains(gateway) {
            section.mistakes.add(&gateway.span(), format!("`gateways`: {} is this server itself", gateway.get_ref()));
        }
    }
    match section.value("gateways") {
        None if by_gateway => section.missing("gateways", "[\"192.168.50.254\"]"),
        Some(value) if !by_gateway => {
            section.mistakes.add(&value.span(), "`gateways` are used with `return = \"gateway\"` only");
        }
        Some(value) if value.get_ref().as_array().is_some_and(|array| array.is_empty()) => {
            section.mistakes.add(&value.span(), "`gateways` is empty: by which one are replies to leave?");
        }
        _ => {}
    }
    gateways.into_iter().map(Spanned::into_inner).collect()
}
