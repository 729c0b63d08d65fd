//! Each port's interface: driver, native XDP, zero-copy, MTU, offloads, queues.

use std::fs;

use crate::control::assemble::SINGLE_BUFFER_MTU;
use crate::control::config::{Config, Port, Role};
use crate::control::kernel::{Capability, Link, capability, links};

use super::finding::Finding;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let links = match links() {
        Ok(links) => links,
        Err(error) => return vec![Finding::fail("interfaces", format!("netlink: {error}"), "run as root")],
    };
    let uplinks = || config.ports.iter().filter(|port| matches!(port.role, Role::Uplink { .. }));
    let of = |port: &Port| links.iter().find(|link| Some(&link.name) == port.interface.as_ref());
    let uplink_mtu = uplinks().filter_map(of).map(|link| link.mtu).min();
    let mut findings = Vec::new();
    for port in &config.ports {
        let subject = format!("port {}", port.name);
        if let Some(routes) = port.routes.as_ref().filter(|routes| links.iter().all(|link| link.name != **routes)) {
            let found =
                format!("there is no interface {routes}, whose routes are to count: all its routes lead nowhere");
            findings.push(Finding::fail(subject.clone(), found, "`ip link` lists those that are"));
        }
        match (of(port), &port.interface) {
            (Some(link), _) => {
                let capability = capability(link.index).unwrap_or_default();
                let judged = judge(port, link, &capability, config.engine.cores.len().max(1), uplink_mtu);
                findings.extend(judged.into_iter().map(|finding| Finding { subject: subject.clone(), ..finding }));
            }
            (None, Some(interface)) => {
                let found = format!("there is no interface {interface} in this network namespace");
                findings.push(Finding::fail(subject, found, "`ip link` lists those that are"));
            }
            (None, None) => {
                let found = "it has no interface: it can only be replayed";
                findings.push(Finding::warn(subject, found, "give it `interface`"));
            }
        }
    }
    if uplinks().next().is_none() {
        let advice = "give one port `role = \"uplink\"`";
        findings.push(Finding::warn("uplink", "there is none: only containers of this server meet", advice));
    }
    findings
}

fn judge(port: &Port, link: &Link, capability: &Capability, workers: usize, uplink_mtu: Option<u32>) -> Vec<Finding> {
    let name = &link.name;
    let mut findings = vec![driver(link, capability)];
    if !link.up {
        findings.push(Finding::warn("", format!("{name} is down"), format!("ip link set {name} up")));
    } else if !link.running {
        findings.push(Finding::warn("", format!("{name} has no carrier"), "see to its cable, or its peer"));
    }
    findings.push(mtu(port, link, capability, uplink_mtu));
    findings.extend(offloads(link, capability));
    findings.extend(vlan(port, link, capability));
    findings.push(queues(link, capability, workers));
    findings
}

fn driver(link: &Link, capability: &Capability) -> Finding {
    let driver = link.kind.clone().or_else(|| hardware_driver(link)).unwrap_or_else(|| "unknown driver".into());
    let name = &link.name;
    match (capability.has_native_xdp(), capability.has_zero_copy()) {
        (Some(false), _) => Finding::warn(
            "",
            format!("{name} ({driver}) has no native XDP: packets take the slow, generic way"),
            "use a NIC whose driver has it",
        ),
        (Some(true), Some(true)) => Finding::ok("", format!("{name} ({driver}): native XDP, zero-copy")),
        (Some(true), _) if driver == "veth" => {
            Finding::ok("", format!("{name} ({driver}): native XDP, copied, as every veth"))
        }
        (Some(true), _) => Finding::warn(
            "",
            format!("{name} ({driver}): native XDP, but packets are copied"),
            "a NIC whose driver has AF_XDP zero-copy carries several times more",
        ),
        (None, _) => Finding::warn(
            "",
            format!("{name} ({driver}): the kernel does not say what XDP it has"),
            "use kernel 6.3 or later to see it; `sixway stats` says what was got",
        ),
    }
}

/// The driver's name in sysfs, whose buses are the same in every network namespace.
fn hardware_driver(link: &Link) -> Option<String> {
    let (bus, address) = link.device.as_ref()?;
    let driver = fs::read_link(format!("/sys/bus/{bus}/devices/{address}/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

fn mtu(port: &Port, link: &Link, capability: &Capability, uplink_mtu: Option<u32>) -> Finding {
    let (name, mtu) = (&link.name, link.mtu);
    if mtu > SINGLE_BUFFER_MTU && capability.has_multi_buffer() == Some(false) {
        let found = format!("MTU {mtu} needs several buffers a packet, which its driver has not for XDP");
        return Finding::fail("", found, format!("ip link set {name} mtu {SINGLE_BUFFER_MTU}, or less"));
    }
    match uplink_mtu {
        Some(uplink) if matches!(port.role, Role::Access { .. }) && mtu > uplink => Finding::warn(
            "",
            format!("MTU {mtu} is larger than the uplink's {uplink}: large packets are refused on the way out"),
            format!("give both ends of {name} MTU {uplink}"),
        ),
        _ => Finding::ok("", format!("MTU {mtu}")),
    }
}

/// Receive offloads that merge packets: drivers refuse native XDP beside them.
fn offloads(link: &Link, capability: &Capability) -> Vec<Finding> {
    let merging = [("rx-lro", "lro"), ("rx-gro-hw", "rx-gro-hw")];
    let on = merging.iter().filter(|(feature, _)| capability.features.iter().any(|on| on == feature));
    let fail = |(feature, option): &(&str, &str)| {
        let advice = format!("ethtool -K {} {option} off", link.name);
        Finding::fail("", format!("{feature} is on, which native XDP does not go with"), advice)
    };
    on.map(fail).collect()
}

/// Offloads that take a VLAN tag out of the frame, where no XDP program sees it.
fn vlan(port: &Port, link: &Link, capability: &Capability) -> Option<Finding> {
    let (one, two) = ("rx-vlan-hw-parse", "rx-vlan-stag-hw-parse");
    let is_on = |feature: &str| capability.features.iter().any(|on| on == feature);
    let feature = match port.tags.ids().len() {
        0 => return None,
        1 => Some(one).filter(|feature| is_on(feature)),
        _ => [two, one].into_iter().find(|feature| is_on(feature)),
    }?;
    let name = &link.name;
    // On a veth it is the sender that keeps the tag out of the frame.
    let advice = match link.kind.as_deref() {
        Some("veth") => format!("at the peer of {name}: ethtool -K PEER txvlan off tx-vlan-stag-hw-insert off"),
        _ => format!("ethtool -K {name} {feature} off"),
    };
    Some(Finding::warn("", format!("{feature} is on: XDP may not see the VLAN tags that frames came with"), advice))
}

fn queues(link: &Link, capability: &Capability, workers: usize) -> Finding {
    let (rx, rx_max) = capability.queues.map_or(link.queues, |queues| (queues.rx, queues.rx_max));
    if rx == 0 {
        return Finding::ok("", "the driver does not say how many queues it has");
    }
    let plural = if workers == 1 { "" } else { "s" };
    let found = format!("{rx} of {rx_max} receive queues in use, {workers} worker{plural}");
    let idle = usize::try_from(rx).is_ok_and(|rx| rx < workers) && rx < rx_max;
    if idle && !matches!(link.kind.as_deref(), Some("veth")) {
        let advice = format!("ethtool -L {} combined {}", link.name, workers.min(rx_max as usize));
        return Finding::warn("", found, advice);
    }
    Finding::ok("", found)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::control::kernel::Queues;
    use crate::units::VlanTags;

    const NATIVE: u64 = 1;
    const ZERO_COPY: u64 = 8;
    const MULTI_BUFFER: u64 = 32;

    fn nic() -> Link {
        Link {
            name: "eth1".into(),
            index: 7,
            mac: None,
            mtu: 1500,
            up: true,
            running: true,
            kind: None,
            device: None,
            queues: (8, 8),
        }
    }

    fn access() -> Port {
        let role = Role::Access { network: "blue".into(), mac: None, id: None };
        Port {
            name: "web1".into(),
            interface: Some("eth1".into()),
            role,
            address: None,
            mtu: None,
            ips: Vec::new(),
            tags: VlanTags::NONE,
            routes: None,
        }
    }

    fn can(xdp: u64) -> Capability {
        let queues = Some(Queues { rx: 4, tx: 4, rx_max: 8, tx_max: 8 });
        Capability { xdp: Some(xdp), features: vec!["rx-gro".into()], queues }
    }

    /// The worst that is found of it, and all the advice.
    fn verdict(link: &Link, capability: &Capability, workers: usize) -> (Level, String) {
        let findings = judge(&access(), link, capability, workers, Some(1500));
        let worst = findings.iter().map(|f| f.level).max_by_key(|level| *level as u8).unwrap();
        (worst, findings.into_iter().filter_map(|f| f.advice).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn a_good_nic_is_found_good() {
        assert_eq!(verdict(&nic(), &can(NATIVE | ZERO_COPY), 4), (Level::Ok, String::new()));
    }

    #[test]
    fn what_is_wrong_has_a_way_out() {
        let all = NATIVE | ZERO_COPY | MULTI_BUFFER;
        assert_eq!(verdict(&nic(), &can(NATIVE), 4).0, Level::Warn);
        let veth = Link { kind: Some("veth".into()), ..nic() };
        assert_eq!(verdict(&veth, &can(NATIVE), 4).0, Level::Ok);
        let merging = Capability { features: vec!["rx-lro".into()], ..can(all) };
        assert_eq!(verdict(&nic(), &merging, 4), (Level::Fail, "ethtool -K eth1 lro off".into()));
        let down = Link { up: false, ..nic() };
        assert_eq!(verdict(&down, &can(all), 4), (Level::Warn, "ip link set eth1 up".into()));
        let jumbo = Link { mtu: 9000, ..nic() };
        assert_eq!(verdict(&jumbo, &can(NATIVE | ZERO_COPY), 4).0, Level::Fail);
        assert_eq!(verdict(&jumbo, &can(all), 4), (Level::Warn, "give both ends of eth1 MTU 1500".into()));
        assert_eq!(verdict(&nic(), &can(all), 6), (Level::Warn, "ethtool -L eth1 combined 6".into()));
    }

    #[test]
    fn tags_must_be_left_in_the_frame() {
        let on =
            |features: &[&str]| Capability { features: features.iter().map(|&f| f.into()).collect(), ..can(NATIVE) };
        let advice = |ids: &[u16], link: &Link, capability: &Capability| {
            let port = Port { tags: VlanTags::new(ids).unwrap(), ..access() };
            vlan(&port, link, capability).and_then(|finding| finding.advice)
        };
        let both = on(&["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"]);
        assert_eq!(advice(&[], &nic(), &both), None);
        assert_eq!(advice(&[100], &nic(), &on(&["rx-vlan-stag-hw-parse"])), None);
        assert_eq!(advice(&[100], &nic(), &both).unwrap(), "ethtool -K eth1 rx-vlan-hw-parse off");
        assert_eq!(advice(&[200, 100], &nic(), &both).unwrap(), "ethtool -K eth1 rx-vlan-stag-hw-parse off");
        let veth = Link { kind: Some("veth".into()), ..nic() };
        assert!(advice(&[100], &veth, &both).unwrap().starts_with("at the peer of eth1: ethtool -K PEER txvlan off"));
    }
}
