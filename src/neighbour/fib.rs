//! The forwarding information base: routes and stations as the kernel tells them, and what the configuration adds.

use std::collections::BTreeMap;

use crate::units::{Ip, Mac, PortId, Prefix};

use super::next_hops::Towards;
use super::{NextHops, Station};

/// One route of the kernel's main table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pub prefix: Prefix,
    /// Among routes of one prefix the lowest wins.
    pub metric: u32,
    pub via: Via,
    /// The route's own MTU (RTAX_MTU), if it has one.
    pub mtu: Option<u16>,
}

/// How a route leads to its destinations. Interfaces are given by their index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// They are stations on this interface's link.
    Link { interface: u32 },
    /// By way of a router on this interface's link.
    Gateway { interface: u32, gateway: Ip },
    /// Not at all: blackhole, unreachable, prohibit.
    Reject,
}

impl Via {
    fn interface(self) -> Option<u32> {
        match self {
            Via::Link { interface } | Via::Gateway { interface, .. } => Some(interface),
            Via::Reject => None,
        }
    }
}

/// Gathers routes and stations. Written and read by the control thread alone; workers get [`Fib::next_hops`].
#[derive(Clone, Debug, Default)]
pub struct Fib {
    fixed: BTreeMap<Ip, Station>,
    router: Option<Ip>,
    interfaces: BTreeMap<u32, PortId>,
    routes: BTreeMap<(Ip, u8), Vec<Route>>,
    stations: BTreeMap<(Ip, u32), Mac>,
}

impl Fib {
    /// A base that knows the configured stations, and the router (if any) that replaces the kernel's default route of
    /// its address family. `replay` needs nothing else.
    #[must_use]
    pub fn new(fixed: impl IntoIterator<Item = (Ip, Station)>, router: Option<Ip>) -> Fib {
        Fib { fixed: fixed.into_iter().collect(), router, ..Fib::default() }
    }

    /// The interfaces whose routes lead to ports that packets may leave by. Routes over any other lead nowhere.
    pub fn set_interfaces(&mut self, interfaces: impl IntoIterator<Item = (u32, PortId)>) {
        self.interfaces = interfaces.into_iter().collect();
    }

    /// Adds a route, unless it is there.
    pub fn add_route(&mut self, route: Route) {
        let routes = self.routes.entry(key(route.prefix)).or_default();
        if !routes.contains(&route) {
            routes.push(route);
        }
    }

    /// Puts a route in the place of those with its prefix and metric.
    pub fn replace_route(&mut self, route: Route) {
        let routes = self.routes.entry(key(route.prefix)).or_default();
        routes.retain(|other| other.metric != route.metric);
        routes.push(route);
    }

    /// Takes a route out, if it is there.
    pub fn remove_route(&mut self, route: &Route) {
        if let Some(routes) = self.routes.get_mut(&key(route.prefix)) {
            routes.retain(|other| other != route);
            if routes.is_empty() {
                self.routes.remove(&key(route.prefix));
            }
        }
    }

    /// Forgets all routes: a full dump follows.
    pub fn clear_routes(&mut self) {
        self.routes.clear();
    }

    /// Notes the MAC of a station on an interface's link, or that it has none now. True if that is news.
    pub fn set_station(&mut self, interface: u32, ip: Ip, mac: Option<Mac>) -> bool {
        match mac {
            Some(mac) => self.stations.insert((ip, interface), mac) != Some(mac),
            None => self.stations.remove(&(ip, interface)).is_some(),
        }
    }

    /// Forgets all stations: a full dump follows.
    pub fn clear_stations(&mut self) {
        self.stations.clear();
    }

    /// Every station that is known by netlink: interface and address.
    pub fn stations(&self) -> impl Iterator<Item = (u32, Ip)> {
        self.stations.keys().map(|&(ip, interface)| (interface, ip))
    }

    /// The interface on which stations behind `port` are asked for.
    #[must_use]
    pub fn interface_of(&self, port: PortId) -> Option<u32> {
        self.interfaces.iter().find(|&(_, &by)| by == port).map(|(&interface, _)| interface)
    }

    /// The port that the configured router is behind.
    fn port_of_router(&self, router: Ip) -> Option<PortId> {
        let configured = self.fixed.get(&router).and_then(|station| station.port);
        let routes = self.routes.values().flatten().filter(|route| route.prefix.contains(router));
        let usable = routes.filter_map(|route| Some((route, *self.interfaces.get(&route.via.interface()?)?)));
        let nearest = usable.min_by_key(|(route, _)| (u8::MAX - route.prefix.family_len(), route.metric));
        configured.or_else(|| nearest.map(|(_, port)| port))
    }

    /// What workers read.
    #[must_use]
    pub fn next_hops(&self) -> NextHops {
        let fixed = self.fixed.iter().map(|(&ip, &station)| (ip, station)).collect();
        let usable = |(&(ip, on), &mac): (&(Ip, u32), &Mac)| Some((ip, *self.interfaces.get(&on)?, mac));
        let mut stations: Vec<(Ip, PortId, Mac)> = self.stations.iter().filter_map(usable).collect();
        stations.sort_unstable();
        NextHops::new(fixed, self.ranges(), stations)
    }

    /// Cuts the nested prefixes into ranges that follow each other.
    fn ranges(&self) -> Vec<(Ip, Towards)> {
        let mut ranges: Vec<(Ip, Towards)> = Vec::with_capacity(2 * self.routes.len() + 2);
        let mut enter = |from: Ip, towards: Towards| {
            ranges.pop_if(|last| last.0 == from);
            if ranges.last().is_none_or(|last| last.1 != towards) {
                ranges.push((from, towards));
            }
        };
        // The prefixes that hold the address which the cut has come to, outermost first: their ends and targets.
        let mut open: Vec<(Ip, Towards)> = Vec::new();
        for (prefix, towards) in self.best_routes() {
            while let Some((end, _)) = open.pop_if(|(end, _)| *end < prefix.first()) {
                let outer = open.last().map_or(Towards::Nowhere, |&(_, towards)| towards);
                enter(next(end), outer);
            }
            enter(prefix.first(), towards);
            open.push((prefix.last(), towards));
        }
        while let Some((end, _)) = open.pop() {
            let outer = open.last().map_or(Towards::Nowhere, |&(_, towards)| towards);
            if end.bits() != u128::MAX {
                enter(next(end), outer);
            }
        }
        ranges
    }

    /// For each prefix what its best route leads to: by lowest address, and of those the shortest prefix first.
    fn best_routes(&self) -> Vec<(Prefix, Towards)> {
        let mut best: BTreeMap<(Ip, u8), (Prefix, Towards)> = BTreeMap::new();
        // Both families' default: without a route of its own, IPv4's mapped form must not fall under `::/0`.
        for all in ["0.0.0.0/0", "::/0"].into_iter().filter_map(|all| all.parse::<Prefix>().ok()) {
            best.insert(key(all), (all, Towards::Nowhere));
        }
        for (&at, routes) in &self.routes {
            // min_by_key gives the first of equals: the kernel's order.
            if let Some(route) = routes.iter().min_by_key(|route| route.metric) {
                best.insert(at, (route.prefix, self.towards(route)));
            }
        }
        if let Some(router) = self.router {
            let default = best.values_mut().find(|(all, _)| all.family_len() == 0 && all.contains(router));
            if let Some((_, towards)) = default {
                *towards = Towards::Gateway { gateway: router, port: self.port_of_router(router), mtu: None };
            }
        }
        best.into_values().collect()
    }

    fn towards(&self, route: &Route) -> Towards {
        let (mtu, port) = (route.mtu, route.via.interface().and_then(|on| self.interfaces.get(&on)).copied());
        match route.via {
            Via::Link { .. } if port.is_some() => Towards::Link { port, mtu },
            Via::Gateway { gateway, .. } if port.is_some() => Towards::Gateway { gateway, port, mtu },
            _ => Towards::Nowhere,
        }
    }
}

/// The order of [`Fib::ranges`]: an outer prefix comes before those inside it.
fn key(prefix: Prefix) -> (Ip, u8) {
    let family_bits = if prefix.first().is_v4() { 96 } else { 0 };
    (prefix.first(), family_bits + prefix.family_len())
}

/// The address after `ip`, which is not the last.
fn next(ip: Ip) -> Ip {
    Ip::from_v6_octets((ip.bits() + 1).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::NextHop;
    use super::*;

    const ETH1: u32 = 7;
    const OTHER: u32 = 8;
    /// The port on `ETH1`.
    const UPLINK: PortId = PortId(3);

    fn ip(text: &str) -> Ip {
        text.parse().unwrap()
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    fn route(prefix: &str, via: Via) -> Route {
        Route { prefix: prefix.parse().unwrap(), metric: 0, via, mtu: None }
    }

    fn link(prefix: &str) -> Route {
        route(prefix, Via::Link { interface: ETH1 })
    }

    fn gateway(prefix: &str, gateway: &str) -> Route {
        route(prefix, Via::Gateway { interface: ETH1, gateway: ip(gateway) })
    }

    fn ready(last: u8) -> NextHop {
        NextHop::Ready { mac: mac(last), port: Some(UPLINK), mtu: None }
    }

    fn unresolved(hop: &str) -> NextHop {
        NextHop::Unresolved { hop: ip(hop), port: Some(UPLINK) }
    }

    fn station(last: u8) -> Station {
        Station { mac: mac(last), port: None }
    }

    /// A server on 192.168.50.0/24 whose default router is .254.
    fn server() -> Fib {
        let mut fib = Fib::new([], None);
        fib.set_interfaces([(ETH1, UPLINK)]);
        fib.add_route(link("192.168.50.0/24"));
        fib.add_route(gateway("0.0.0.0/0", "192.168.50.254"));
        fib.set_station(ETH1, ip("192.168.50.2"), Some(mac(2)));
        fib.set_station(ETH1, ip("192.168.50.254"), Some(mac(0xfe)));
        fib
    }

    #[test]
    fn the_bindings_server_mac_decides() {
        let hops = server().next_hops();
        let by_binding = NextHop::Ready { mac: mac(9), port: Some(UPLINK), mtu: None };
        assert_eq!(hops.resolve(ip("192.168.50.2"), Some(mac(9))), by_binding);
    }

    #[test]
    fn neighbours_are_reached_directly_and_all_else_by_the_router() {
        let hops = server().next_hops();
        assert_eq!(hops.resolve(ip("192.168.50.2"), None), ready(2));
        assert_eq!(hops.resolve(ip("8.8.8.8"), None), ready(0xfe));
        assert_eq!(hops.resolve(ip("192.168.50.3"), None), unresolved("192.168.50.3"));
        assert_eq!(hops.resolve(ip("2001:db8::1"), None), NextHop::NoRoute);
        assert_eq!(hops.port_towards(ip("192.168.50.3")), Some(UPLINK));
    }

    #[test]
    fn a_station_that_is_gone_must_be_asked_for_again() {
        let mut fib = server();
        assert!(!fib.set_station(ETH1, ip("192.168.50.254"), Some(mac(0xfe))), "no news");
        assert!(fib.set_station(ETH1, ip("192.168.50.254"), None));
        let hops = fib.next_hops();
        assert_eq!(hops.resolve(ip("8.8.8.8"), None), unresolved("192.168.50.254"));
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let mut fib = server();
        fib.set_station(ETH1, ip("192.168.50.253"), Some(mac(0xfd)));
        fib.add_route(gateway("10.0.0.0/8", "192.168.50.253"));
        fib.add_route(route("10.9.0.0/16", Via::Reject));
        let back = Route { metric: 100, ..gateway("10.9.9.0/24", "192.168.50.254") };
        fib.add_route(back);
        fib.add_route(Route { metric: 50, mtu: Some(1400), ..gateway("10.9.9.0/24", "192.168.50.253") });
        let hops = fib.next_hops();
        assert_eq!(hops.resolve(ip("10.1.2.3"), None), ready(0xfd));
        assert_eq!(hops.resolve(ip("10.9.1.1"), None), NextHop::NoRoute);
        let narrow = NextHop::Ready { mac: mac(0xfd), port: Some(UPLINK), mtu: Some(1400) };
        assert_eq!(hops.resolve(ip("10.9.9.1"), None), narrow);
        assert_eq!(hops.resolve(ip("10.10.0.0"), None), ready(0xfd));
        assert_eq!(hops.resolve(ip("11.0.0.0"), None), ready(0xfe));
        fib.replace_route(Route { metric: 50, ..gateway("10.9.9.0/24", "192.168.50.2") });
        assert_eq!(fib.next_hops().resolve(ip("10.9.9.1"), None), ready(2));
        fib.remove_route(&Route { metric: 50, ..gateway("10.9.9.0/24", "192.168.50.2") });
        assert_eq!(fib.next_hops().resolve(ip("10.9.9.1"), None), ready(0xfe));
    }

    #[test]
    fn routes_over_other_interfaces_lead_nowhere() {
        let mut fib = server();
        fib.add_route(route("172.16.0.0/12", Via::Link { interface: OTHER }));
        fib.set_station(OTHER, ip("192.168.50.3"), Some(mac(3)));
        let hops = fib.next_hops();
        assert_eq!(hops.resolve(ip("172.16.0.1"), None), NextHop::NoRoute);
        assert_eq!(hops.resolve(ip("192.168.50.3"), None), unresolved("192.168.50.3"));
    }

    #[test]
    fn the_next_hops_interface_decides_the_port() {
        let mut fib = server();
        let wan = PortId(9);
        fib.set_interfaces([(ETH1, UPLINK), (OTHER, wan)]);
        fib.add_route(route("198.18.0.0/24", Via::Link { interface: OTHER }));
        fib.set_station(OTHER, ip("198.18.0.1"), Some(mac(0xe1)));
        // One link-local router on each link, as with most IPv6 routers.
        for (interface, last) in [(ETH1, 0xa1), (OTHER, 0xa2)] {
            fib.add_route(route("fe80::/64", Via::Link { interface }));
            fib.set_station(interface, ip("fe80::1"), Some(mac(last)));
        }
        fib.add_route(route("2001:db8::/32", Via::Gateway { interface: OTHER, gateway: ip("fe80::1") }));
        fib.replace_route(route("0.0.0.0/0", Via::Gateway { interface: OTHER, gateway: ip("198.18.0.1") }));
        let by = |last, port| NextHop::Ready { mac: mac(last), port: Some(port), mtu: None };
        let hops = fib.next_hops();
        assert_eq!(hops.resolve(ip("192.168.50.2"), None), by(2, UPLINK));
        assert_eq!(hops.resolve(ip("198.18.0.1"), Some(mac(9))), by(9, wan), "the binding's MAC, on the route's link");
        assert_eq!(hops.resolve(ip("8.8.8.8"), None), by(0xe1, wan));
        assert_eq!(hops.resolve(ip("2001:db8::1"), None), by(0xa2, wan), "the station of the route's own link");
        assert_eq!(hops.station(ip("fe80::1"), Some(UPLINK)), Some(mac(0xa1)));
        assert_eq!(fib.interface_of(wan), Some(OTHER));

        // The route moves back to the other link, then the link is gone.
        fib.replace_route(gateway("0.0.0.0/0", "192.168.50.254"));
        assert_eq!(fib.next_hops().resolve(ip("8.8.8.8"), None), by(0xfe, UPLINK));
        fib.set_interfaces([(ETH1, UPLINK)]);
        assert_eq!(fib.next_hops().resolve(ip("198.18.0.1"), None), NextHop::NoRoute);
    }

    #[test]
    fn the_configuration_may_say_which_port_a_station_is_behind() {
        let east = PortId(4);
        let router = ("192.168.50.254", Station { mac: mac(0xfe), port: Some(east) });
        let known = [(ip(router.0), router.1), (ip("192.168.60.2"), Station { mac: mac(2), port: Some(UPLINK) })];
        let hops = Fib::new(known, Some(ip("192.168.50.254"))).next_hops();
        let by = |last, port| NextHop::Ready { mac: mac(last), port: Some(port), mtu: None };
        assert_eq!(hops.resolve(ip("192.168.60.2"), None), by(2, UPLINK));
        assert_eq!(hops.resolve(ip("192.168.60.2"), Some(mac(9))), by(9, UPLINK));
        assert_eq!(hops.resolve(ip("8.8.8.8"), None), by(0xfe, east));
    }

    #[test]
    fn a_default_route_for_ipv6_does_not_swallow_ipv4() {
        let mut fib = Fib::new([], None);
        fib.set_interfaces([(ETH1, UPLINK)]);
        fib.add_route(gateway("::/0", "fe80::1"));
        let hops = fib.next_hops();
        assert_eq!(hops.resolve(ip("2001:db8::1"), None), unresolved("fe80::1"));
        assert_eq!(hops.resolve(ip("255.255.255.254"), None), NextHop::NoRoute);
        assert_eq!(hops.resolve(ip("::1:0:0:0"), None), unresolved("fe80::1"));
    }

    #[test]
    fn the_configuration_comes_before_the_kernel() {
        let mut fib = server();
        fib.fixed.insert(ip("192.168.50.2"), station(0x22));
        fib.router = Some(ip("192.168.50.2"));
        let hops = fib.next_hops();
        let fixed = NextHop::Ready { mac: mac(0x22), port: Some(UPLINK), mtu: None };
        assert_eq!(hops.resolve(ip("192.168.50.2"), None), fixed);
        assert_eq!(hops.resolve(ip("8.8.8.8"), None), ready(0x22));
    }

    #[test]
    fn replay_knows_neighbours_then_the_router_then_nothing() {
        let known = [(ip("192.168.50.2"), station(2)), (ip("192.168.50.254"), station(0xfe))];
        let hops = Fib::new(known, Some(ip("192.168.50.254"))).next_hops();
        let ready = |last| NextHop::Ready { mac: mac(last), port: None, mtu: None };
        assert_eq!(hops.resolve(ip("192.168.50.2"), None), ready(2));
        assert_eq!(hops.resolve(ip("192.168.50.3"), None), ready(0xfe));
        assert_eq!(Fib::new(known, None).next_hops().resolve(ip("192.168.50.3"), None), NextHop::NoRoute);
        assert_eq!(NextHops::default().resolve(ip("192.168.50.3"), None), NextHop::NoRoute);
    }

    fn any_prefix() -> impl Strategy<Value = Prefix> {
        // Few bits, so that prefixes nest; both families, so that they meet in one space.
        (any::<bool>(), 0u8..=6, 0u32..64).prop_map(|(v4, len, bits)| {
            let top = (bits >> (6 - len)).checked_shl(u32::from(6 - len)).unwrap() << 26;
            let ip = if v4 { Ip::from_v4_bits(top) } else { Ip::from_v6_octets((u128::from(top) << 96).to_be_bytes()) };
            Prefix::new(ip, len).unwrap()
        })
    }

    proptest! {
        /// The ranges say for every address what a search of all routes says.
        #[test]
        fn ranges_agree_with_a_search_of_all_routes(prefixes in prop::collection::vec(any_prefix(), 0..12)) {
            let mut fib = Fib::new([], None);
            fib.set_interfaces((0..100).map(|on| (on, PortId(on as u16))));
            for (at, &prefix) in prefixes.iter().enumerate() {
                fib.replace_route(Route { prefix, metric: 0, via: Via::Link { interface: at as u32 }, mtu: None });
            }
            let hops = fib.next_hops();
            let edges = prefixes.iter().flat_map(|prefix| [prefix.first(), prefix.last()]);
            let around = edges.flat_map(|ip| [ip.bits().wrapping_sub(1), ip.bits(), ip.bits().wrapping_add(1)]);
            for bits in around {
                let dst = Ip::from_v6_octets(bits.to_be_bytes());
                let longest = prefixes.iter().enumerate().filter(|(_, prefix)| prefix.contains(dst));
                let longest = longest.max_by_key(|&(at, prefix)| (prefix.family_len(), at)).map(|(at, _)| at as u32);
                let port = longest.map(|at| PortId(at as u16));
                let expected = longest.map_or(NextHop::NoRoute, |_| NextHop::Unresolved { hop: dst, port });
                prop_assert_eq!(hops.resolve(dst, None), expected);
                prop_assert_eq!(hops.port_towards(dst), port, "{}", dst);
            }
        }
    }
}
