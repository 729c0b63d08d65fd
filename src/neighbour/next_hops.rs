//! Which station a packet goes to next. Built by [`Fib`](super::Fib); never changes once built, read by every worker.

use crate::units::{Ip, Mac, PortId};

/// Where a packet goes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHop {
    /// To this station, by `port`; `None` where neither a route nor the configuration says which. `mtu` is the route's
    /// own, where it has one.
    Ready { mac: Mac, port: Option<PortId>, mtu: Option<u16> },
    /// To the station with the address `hop`, whose MAC is not known now.
    Unresolved { hop: Ip, port: Option<PortId> },
    /// Nowhere: no route, or one that rejects.
    NoRoute,
}

/// Routes and stations at one moment.
#[derive(Clone, Debug, Default)]
pub struct NextHops {
    /// Configured stations, by address.
    fixed: Box<[(Ip, Station)]>,
    /// The routing table cut into ranges: each entry holds from its address up to the next one's.
    ranges: Box<[(Ip, Towards)]>,
    /// The kernel's stations, by address and port.
    stations: Box<[(Ip, PortId, Mac)]>,
}

/// A configured station.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Station {
    pub mac: Mac,
    /// The port that it is behind; `None`: the one that the routes lead to it by.
    pub port: Option<PortId>,
}

/// What a range of addresses is routed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Towards {
    Nowhere,
    /// The destination is a station on the link.
    Link {
        port: Option<PortId>,
        mtu: Option<u16>,
    },
    /// By way of `gateway`.
    Gateway {
        gateway: Ip,
        port: Option<PortId>,
        mtu: Option<u16>,
    },
}

impl Towards {
    fn port(self) -> Option<PortId> {
        match self {
            Towards::Nowhere => None,
            Towards::Link { port, .. } | Towards::Gateway { port, .. } => port,
        }
    }
}

impl NextHops {
    /// The lists must be sorted by their addresses.
    pub(super) fn new(
        fixed: Vec<(Ip, Station)>,
        ranges: Vec<(Ip, Towards)>,
        stations: Vec<(Ip, PortId, Mac)>,
    ) -> NextHops {
        debug_assert!(fixed.is_sorted() && stations.is_sorted() && ranges.is_sorted_by_key(|&(ip, _)| ip));
        NextHops { fixed: fixed.into(), ranges: ranges.into(), stations: stations.into() }
    }

    /// Where a packet to `dst` goes next. A `server_mac`, from the binding, decides; then configured stations; then
    /// the longest matching route.
    #[must_use]
    pub fn resolve(&self, dst: Ip, server_mac: Option<Mac>) -> NextHop {
        if let Some(mac) = server_mac.or_else(|| self.fixed_station(dst).map(|station| station.mac)) {
            return NextHop::Ready { mac, port: self.port_towards(dst), mtu: None };
        }
        let (hop, port, mtu) = match self.towards(dst) {
            Towards::Nowhere => return NextHop::NoRoute,
            Towards::Link { port, mtu } => (dst, port, mtu),
            Towards::Gateway { gateway, port, mtu } => (gateway, port, mtu),
        };
        match self.station(hop, port) {
            Some(mac) => NextHop::Ready { mac, port, mtu },
            None => NextHop::Unresolved { hop, port },
        }
    }

    /// The port that packets to `dst` leave by: what the configuration says of that station, else the longest matching
    /// route.
    #[must_use]
    pub fn port_towards(&self, dst: Ip) -> Option<PortId> {
        let configured = self.fixed_station(dst).and_then(|station| station.port);
        configured.or_else(|| self.towards(dst).port())
    }

    /// The MAC of the station `ip` behind `port`; behind any, if the port is not known.
    #[must_use]
    pub fn station(&self, ip: Ip, port: Option<PortId>) -> Option<Mac> {
        self.fixed_station(ip).map(|station| station.mac).or_else(|| self.kernels_station(ip, port))
    }

    fn towards(&self, dst: Ip) -> Towards {
        let after = self.ranges.partition_point(|&(first, _)| first <= dst);
        after.checked_sub(1).and_then(|at| self.ranges.get(at)).map_or(Towards::Nowhere, |&(_, towards)| towards)
    }

    fn fixed_station(&self, ip: Ip) -> Option<Station> {
        let at = self.fixed.binary_search_by_key(&ip, |&(ip, _)| ip).ok()?;
        self.fixed.get(at).map(|&(_, station)| station)
    }

    fn kernels_station(&self, ip: Ip, port: Option<PortId>) -> Option<Mac> {
        let first = self.stations.partition_point(|&(at, by, _)| (at, by) < (ip, port.unwrap_or_default()));
        let &(found, by, mac) = self.stations.get(first)?;
        (found == ip && port.is_none_or(|port| port == by)).then_some(mac)
    }
}
