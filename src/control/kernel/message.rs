//! Netlink's messages in the words of [`crate::neighbour`].

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteNextHopFlags, RouteType, RouteVia,
};

use crate::neighbour::{Route, Via};
use crate::units::{Ip, Mac, Prefix};

/// A route of the main table, or `None` for one that packets from containers never take: of another table, local,
/// broadcast, multicast, or of another family.
pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let any = match message.header.address_family {
        AddressFamily::Inet => Ip::UNSPECIFIED_V4,
        AddressFamily::Inet6 => Ip::from_v6_octets([0; 16]),
        _ => return None,
    };
    let mut table = u32::from(message.header.table);
    let (mut dst, mut gateway, mut interface, mut metric, mut mtu) = (any, None, None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(address) => dst = route_address(address)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(route_mtu),
            RouteAttribute::MultiPath(paths) => {
                // The first path that works stands for all: packets of one connection must not change theirs.
                let first = paths.iter().find(|path| !path.flags.contains(RouteNextHopFlags::Dead))?;
                interface = Some(first.interface_index);
                gateway = first.attributes.iter().find_map(via).or(gateway);
            }
            RouteAttribute::Oif(index) => interface = Some(*index),
            other => gateway = via(other).or(gateway),
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return None;
    }
    let via = match (message.header.kind, interface, gateway) {
        (RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit, _, _) => Via::Reject,
        (RouteType::Unicast, Some(interface), Some(gateway)) => Via::Gateway { interface, gateway },
        (RouteType::Unicast, Some(interface), None) => Via::Link { interface },
        _ => return None,
    };
    let prefix = Prefix::new(dst, message.header.destination_prefix_length).ok()?;
    Some(Route { prefix, metric, via, mtu })
}

fn via(attribute: &RouteAttribute) -> Option<Ip> {
    match attribute {
        RouteAttribute::Gateway(address) => route_address(address),
        RouteAttribute::Via(RouteVia::Inet(ip)) => Some((*ip).into()),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    }
}

fn route_address(address: &RouteAddress) -> Option<Ip> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn route_mtu(metric: &RouteMetric) -> Option<u16> {
    match metric {
        RouteMetric::Mtu(mtu) => u16::try_from(*mtu).ok(),
        _ => None,
    }
}

/// Whose address a neighbour entry is about, and its MAC while that may be used: interface, address, MAC.
pub(super) fn station(message: &NeighbourMessage) -> Option<(u32, Ip, Option<Mac>)> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(Ip::from(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(Ip::from(*v6)),
            NeighbourAttribute::LinkLayerAddress(octets) => mac = octets.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    // NUD_VALID of include/net/neighbour.h, less NOARP: its MAC is no station's.
    let valid = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    Some((message.header.ifindex, ip?, mac.filter(|_| valid)))
}

/// The question for a station's MAC: a neighbour entry that the kernel is told to use and so to resolve.
pub(super) fn question(interface: u32, ip: Ip) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if ip.is_v4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = interface;
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::Destination(ip.to_std().into()));
    message
}

#[cfg(test)]
mod tests {
    use rtnetlink::RouteMessageBuilder;
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    fn v4() -> RouteMessageBuilder<std::net::Ipv4Addr> {
        RouteMessageBuilder::<std::net::Ipv4Addr>::new()
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn routes_are_on_the_link_or_by_a_gateway() {
        let link = v4().destination_prefix([192, 168, 50, 0].into(), 24).output_interface(7).build();
        let via = Via::Link { interface: 7 };
        assert_eq!(route(&link), Some(Route { prefix: prefix("192.168.50.0/24"), metric: 0, via, mtu: None }));
        let default = v4().gateway([192, 168, 50, 254].into()).output_interface(7).priority(100).build();
        let via = Via::Gateway { interface: 7, gateway: "192.168.50.254".parse().unwrap() };
        assert_eq!(route(&default), Some(Route { prefix: prefix("0.0.0.0/0"), metric: 100, via, mtu: None }));
    }

    #[test]
    fn a_route_may_have_an_mtu_reject_or_take_several_paths() {
        let mut narrow = v4().destination_prefix([10, 0, 0, 0].into(), 8).output_interface(7).build();
        narrow.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Hoplimit(3), RouteMetric::Mtu(1400)]));
        assert_eq!(route(&narrow).and_then(|route| route.mtu), Some(1400));
        let blackhole = v4().destination_prefix([10, 0, 0, 0].into(), 8).kind(RouteType::BlackHole).build();
        assert_eq!(route(&blackhole).map(|route| route.via), Some(Via::Reject));
        let mut path = RouteNextHop::default();
        path.interface_index = 9;
        path.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet([192, 168, 50, 1].into())));
        let (mut dead, mut last) = (path.clone(), path.clone());
        (dead.interface_index, dead.flags, last.interface_index) = (8, RouteNextHopFlags::Dead, 7);
        let mut several = v4().build();
        several.attributes.push(RouteAttribute::MultiPath(vec![dead.clone(), path, last]));
        let via = Via::Gateway { interface: 9, gateway: "192.168.50.1".parse().unwrap() };
        assert_eq!(route(&several).map(|route| route.via), Some(via), "the first that works");
        several.attributes = vec![RouteAttribute::MultiPath(vec![dead])];
        assert_eq!(route(&several), None);
    }

    #[test]
    fn other_tables_and_local_routes_are_not_for_containers() {
        let table = v4().output_interface(7).table_id(100).build();
        let local = v4().output_interface(7).kind(RouteType::Local).build();
        assert_eq!((route(&table), route(&local)), (None, None));
    }

    #[test]
    fn a_station_has_a_mac_while_its_state_is_valid() {
        let mut message = question(7, "192.168.50.2".parse().unwrap());
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 2]));
        let ip = "192.168.50.2".parse().unwrap();
        assert_eq!(station(&message), Some((7, ip, None)));
        message.header.state = NeighbourState::Stale;
        assert_eq!(station(&message), Some((7, ip, Some(Mac([2, 0, 0, 0, 0, 2])))));
        message.header.state = NeighbourState::Failed;
        assert_eq!(station(&message), Some((7, ip, None)));
    }
}
