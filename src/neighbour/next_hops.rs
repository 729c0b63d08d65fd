//! Which station a packet goes to next. Built by [`Fib`](super::Fib); never changes once built, read by every worker.

use crate::units::{Ip, Mac};

/// Where a packet goes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHop {
    /// To this station. `uplink` is the interface's index and `mtu` the route's own MTU, where a route of the kernel
    /// says so; `None` means the uplink and its MTU.
    Ready { mac: Mac, uplink: Option<u32>, mtu: Option<u16> },
    /// To the station with the address `hop`, whose MAC is not known now.
    Unresolved { hop: Ip },
    /// Nowhere: no route, or one that rejects.
    NoRoute,
}

/// Routes and stations at one moment.
#[derive(Clone, Debug, Default)]
pub struct NextHops {
    /// Configured stations, by address.
    fixed: Box<[(Ip, Mac)]>,
    /// The routing table cut into ranges: each entry holds from its address up to the next one's.
    ranges: Box<[(Ip, Towards)]>,
    /// The kernel's stations, by address and interface.
    stations: Box<[(Ip, u32, Mac)]>,
}

/// What a range of addresses is routed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Towards {
    Nowhere,
    /// The destination is a station on the link.
    Link {
        interface: Option<u32>,
        mtu: Option<u16>,
    },
    /// By way of `gateway`.
    Gateway {
        gateway: Ip,
        interface: Option<u32>,
        mtu: Option<u16>,
    },
}

impl NextHops {
    /// The lists must be sorted by their addresses.
    pub(super) fn new(fixed: Vec<(Ip, Mac)>, ranges: Vec<(Ip, Towards)>, stations: Vec<(Ip, u32, Mac)>) -> NextHops {
        debug_assert!(fixed.is_sorted() && stations.is_sorted() && ranges.is_sorted_by_key(|&(ip, _)| ip));
        NextHops { fixed: fixed.into(), ranges: ranges.into(), stations: stations.into() }
    }

    /// Where a packet to `dst` goes next. A `server_mac`, from the binding, decides; then configured stations; then
    /// the longest matching route.
    #[must_use]
    pub fn resolve(&self, dst: Ip, server_mac: Option<Mac>) -> NextHop {
        if let Some(mac) = server_mac.or_else(|| self.fixed_station(dst)) {
            return NextHop::Ready { mac, uplink: None, mtu: None };
        }
        let (hop, uplink, mtu) = match self.towards(dst) {
            Towards::Nowhere => return NextHop::NoRoute,
            Towards::Link { interface, mtu } => (dst, interface, mtu),
            Towards::Gateway { gateway, interface, mtu } => (gateway, interface, mtu),
        };
        match self.fixed_station(hop).or_else(|| self.station(hop, uplink)) {
            Some(mac) => NextHop::Ready { mac, uplink, mtu },
            None => NextHop::Unresolved { hop },
        }
    }

    /// The interface on which `hop` must be asked for.
    #[must_use]
    pub fn interface_towards(&self, hop: Ip) -> Option<u32> {
        match self.towards(hop) {
            Towards::Nowhere => None,
            Towards::Link { interface, .. } | Towards::Gateway { interface, .. } => interface,
        }
    }

    fn towards(&self, dst: Ip) -> Towards {
        let after = self.ranges.partition_point(|&(first, _)| first <= dst);
        after.checked_sub(1).and_then(|at| self.ranges.get(at)).map_or(Towards::Nowhere, |&(_, towards)| towards)
    }

    fn fixed_station(&self, ip: Ip) -> Option<Mac> {
        let at = self.fixed.binary_search_by_key(&ip, |&(ip, _)| ip).ok()?;
        self.fixed.get(at).map(|&(_, mac)| mac)
    }

    /// The MAC of `ip` on `interface`; on any, if the interface is not known.
    fn station(&self, ip: Ip, interface: Option<u32>) -> Option<Mac> {
        let first = self.stations.partition_point(|&(at, on, _)| (at, on) < (ip, interface.unwrap_or(0)));
        let &(found, on, mac) = self.stations.get(first)?;
        (found == ip && interface.is_none_or(|interface| interface == on)).then_some(mac)
    }
}
