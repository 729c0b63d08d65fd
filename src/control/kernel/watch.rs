//! Keeps next hops current: dumps the kernel's links, routes and neighbours, then follows their changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage, address::AddressMessage, link::LinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::mpsc;

use crate::neighbour::{Fib, NextHops};
use crate::units::{Ip, PortId};

use super::address::{AddressTable, Addresses};
use super::dump::dump;
use super::link::Link;
use super::message;

/// News from the kernel.
#[derive(Clone, Debug)]
pub enum Change {
    /// What workers read from now on.
    NextHops(NextHops),
    /// The kernel has other addresses.
    Addresses(Addresses),
    /// An interface appeared or changed: up, down, renamed, another MTU.
    Link(Link),
    /// An interface is gone, or in another network namespace.
    LinkGone { name: String, index: u32 },
}

/// Asks for the MACs of stations. Clones ask the same watcher.
#[derive(Clone, Debug)]
pub struct Resolver(mpsc::Sender<(PortId, Ip)>);

/// The questions that [`watch`] sends on to the kernel.
#[derive(Debug)]
pub struct Questions(mpsc::Receiver<(PortId, Ip)>);

/// How many questions may wait. More than that are dropped: packets go on arriving, and ask again.
const MAX_QUESTIONS: usize = 256;
/// How often stations are asked whether they are still there: `base_reachable_time` of the kernel. A station that only
/// the engine talks to looks unused to the kernel, which would neither verify nor keep it.
const REFRESH: Duration = Duration::from_secs(30);

impl Resolver {
    /// A resolver and the questions that it asks.
    #[must_use]
    pub fn new() -> (Resolver, Questions) {
        let (sender, receiver) = mpsc::channel(MAX_QUESTIONS);
        (Resolver(sender), Questions(receiver))
    }

    /// Has the kernel resolve `hop`, a station behind `port`. Never blocks. False if too many questions wait, or nobody watches.
    pub fn resolve(&self, port: PortId, hop: Ip) -> bool {
        self.0.try_send((port, hop)).is_ok()
    }
}

/// Follows the kernel for as long as the future is polled, on a current-thread runtime. `fib` holds what the
/// configuration says; `ways` are the interfaces whose routes and neighbours count, each with the port that packets leave by
/// then. Links are watched all, for ports come and go, and so are addresses.
/// Reports first what there is, next hops last, then every change; of next hops and addresses only the state after a burst of
/// changes.
///
/// # Errors
/// Netlink's; a lost message is none, for then everything is dumped again.
pub async fn watch(
    fib: Fib,
    ways: impl IntoIterator<Item = (String, PortId)>,
    mut questions: Questions,
    report: impl FnMut(Change),
) -> io::Result<()> {
    // Two sockets: a change carries the sequence number of whoever made it, which must not be taken for an answer.
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ];
    let (changes, _keep_open, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::spawn(changes);
    let (mut requests, handle, _) = rtnetlink::new_connection()?;
    requests.set_forward_done(true);
    tokio::spawn(requests);
    let mut watcher = Watcher {
        handle,
        fib,
        ways: ways.into_iter().collect(),
        links: BTreeMap::new(),
        addresses: AddressTable::default(),
        told: None,
        report,
    };
    let mut refresh = tokio::time::interval(REFRESH);
    let mut stale = Stale::ALL;
    loop {
        watcher.bring_up_to_date(stale).await?;
        if stale.own {
            watcher.tell_addresses();
        }
        if stale.next_hops {
            watcher.publish();
        }
        stale = Stale::default();
        tokio::select! {
            message = messages.next() => {
                let Some((message, _)) = message else { return Err(io::ErrorKind::BrokenPipe.into()) };
                stale.add(watcher.take(message));
                while let Some(Some((message, _))) = messages.next().now_or_never() {
                    stale.add(watcher.take(message));
                }
            }
            Some((port, hop)) = questions.0.recv() => watcher.ask(port, hop),
            _ = refresh.tick() => watcher.refresh(),
        }
    }
}

/// What no longer shows the kernel's state.
#[derive(Clone, Copy, Default)]
struct Stale {
    links: bool,
    routes: bool,
    stations: bool,
    addresses: bool,
    /// The tables are right, but what workers read is older.
    next_hops: bool,
    /// The same of what was told of addresses.
    own: bool,
}

impl Stale {
    const ALL: Stale = Stale { links: true, routes: true, stations: true, addresses: true, next_hops: true, own: true };
    const NOTHING: Stale =
        Stale { links: false, routes: false, stations: false, addresses: false, next_hops: false, own: false };
    const NEXT_HOPS: Stale = Stale { next_hops: true, ..Stale::NOTHING };
    const ROUTES: Stale = Stale { routes: true, ..Stale::NEXT_HOPS };
    const ROUTES_AND_OWN: Stale = Stale { own: true, ..Stale::ROUTES };

    fn add(&mut self, other: Stale) {
        self.links |= other.links;
        self.routes |= other.routes;
        self.stations |= other.stations;
        self.addresses |= other.addresses;
        self.next_hops |= other.next_hops;
        self.own |= other.own;
    }
}

struct Watcher<R> {
    handle: Handle,
    fib: Fib,
    ways: BTreeMap<String, PortId>,
    /// All links by index, as last reported.
    links: BTreeMap<u32, Link>,
    addresses: AddressTable,
    /// What was told of them last.
    told: Option<Addresses>,
    report: R,
}

impl<R: FnMut(Change)> Watcher<R> {
    /// Dumps what is stale.
    async fn bring_up_to_date(&mut self, stale: Stale) -> io::Result<()> {
        if stale.links {
            let before: Vec<u32> = self.links.keys().copied().collect();
            let mut seen = BTreeSet::new();
            for answer in dump(&self.handle, RouteNetlinkMessage::GetLink(LinkMessage::default())).await? {
                if let RouteNetlinkMessage::NewLink(message) = answer {
                    seen.insert(message.header.index);
                    self.take_link(&message);
                }
            }
            for index in before.into_iter().filter(|index| !seen.contains(index)) {
                self.take_link_gone(index);
            }
        }
        if stale.routes {
            let mut routes = Vec::new();
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let mut request = RouteMessage::default();
                request.header.address_family = family;
                routes.extend(dump(&self.handle, RouteNetlinkMessage::GetRoute(request)).await?);
            }
            self.fib.clear_routes();
            for answer in &routes {
                if let RouteNetlinkMessage::NewRoute(message) = answer {
                    message::route(message).into_iter().for_each(|route| self.fib.add_route(route));
                }
            }
        }
        if stale.stations {
            let request = NeighbourMessage::default();
            let stations = dump(&self.handle, RouteNetlinkMessage::GetNeighbour(request)).await?;
            self.fib.clear_stations();
            for answer in &stations {
                if let RouteNetlinkMessage::NewNeighbour(message) = answer {
                    self.take_station(message);
                }
            }
        }
        if stale.addresses {
            let addresses = dump(&self.handle, RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?;
            self.addresses.clear();
            for answer in &addresses {
                if let RouteNetlinkMessage::NewAddress(message) = answer {
                    self.addresses.set(message);
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        let ports = self.ports();
        self.fib.set_interfaces(ports);
        (self.report)(Change::NextHops(self.fib.next_hops()));
    }

    fn tell_addresses(&mut self) {
        let addresses = self.addresses.shown(&self.ports());
        if self.told.as_ref() != Some(&addresses) {
            self.told = Some(addresses.clone());
            (self.report)(Change::Addresses(addresses));
        }
    }

    /// The ports that packets leave by, by interface.
    fn ports(&self) -> BTreeMap<u32, PortId> {
        let way = |link: &Link| Some((link.index, *self.ways.get(&link.name)?));
        self.links.values().filter_map(way).collect()
    }

    /// Takes one change in. What it makes stale must be brought up to date.
    fn take(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) -> Stale {
        let replaces = message.header.flags & NLM_F_REPLACE != 0;
        match message.payload {
            // What a bridge says of its ports is nothing about the interfaces.
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message),
            ) if message.header.interface_family != AddressFamily::Unspec => Stale::NOTHING,
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => self.take_link(&message),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
                self.take_link_gone(message.header.index)
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(message)) => match message::route(&message) {
                // Paths of an IPv6 route come one by one: the dump tells what they make together.
                _ if message.attributes.iter().any(|a| matches!(a, RouteAttribute::MultiPath(_))) => Stale::ROUTES,
                Some(route) if replaces => {
                    self.fib.replace_route(route);
                    Stale::NEXT_HOPS
                }
                Some(route) => {
                    self.fib.add_route(route);
                    Stale::NEXT_HOPS
                }
                None => Stale::NOTHING,
            },
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(message)) => match message::route(&message) {
                Some(route) => {
                    self.fib.remove_route(&route);
                    Stale::NEXT_HOPS
                }
                None => Stale::NOTHING,
            },
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => self.take_station(&message),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => {
                match message::station(&message) {
                    Some((interface, ip, _)) if self.fib.set_station(interface, ip, None) => Stale::NEXT_HOPS,
                    _ => Stale::NOTHING,
                }
            }
            // With an address go the routes that it brought, without a word of them (fib_sync_down_addr).
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => {
                self.addresses.set(&message);
                Stale::ROUTES_AND_OWN
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
                self.addresses.remove(&message);
                Stale::ROUTES_AND_OWN
            }
            NetlinkPayload::Overrun(_) => Stale::ALL,
            _ => Stale::NOTHING,
        }
    }

    fn take_station(&mut self, message: &NeighbourMessage) -> Stale {
        match message::station(message) {
            Some((interface, ip, mac)) if self.fib.set_station(interface, ip, mac) => Stale::NEXT_HOPS,
            _ => Stale::NOTHING,
        }
    }

    fn take_link(&mut self, message: &LinkMessage) -> Stale {
        let link = Link::from_message(message);
        let before = self.links.insert(link.index, link.clone());
        if before.as_ref() == Some(&link) {
            return Stale::NOTHING;
        }
        let is_way = [Some(&link), before.as_ref()].into_iter().flatten().any(|link| self.is_way(link));
        (self.report)(Change::Link(link));
        // A link that goes down loses its IPv4 routes, without a word of them (fib_sync_down_dev).
        if is_way { Stale::ROUTES_AND_OWN } else { Stale::NOTHING }
    }

    fn is_way(&self, link: &Link) -> bool {
        self.ways.contains_key(&link.name)
    }

    fn take_link_gone(&mut self, index: u32) -> Stale {
        let Some(link) = self.links.remove(&index) else { return Stale::NOTHING };
        let stale = if self.is_way(&link) { Stale::ROUTES_AND_OWN } else { Stale::NOTHING };
        self.addresses.forget(index);
        (self.report)(Change::LinkGone { name: link.name, index });
        stale
    }

    /// Has the kernel resolve `hop` behind `port`, or verify it if it is resolved.
    fn ask(&mut self, port: PortId, hop: Ip) {
        if let Some(interface) = self.fib.interface_of(port) {
            self.ask_on(interface, hop);
        }
    }

    fn ask_on(&mut self, interface: u32, ip: Ip) {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message::question(interface, ip)));
        request.header.flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
        // What becomes of it comes as a change of the neighbour table; a refusal leaves the hop unresolved.
        let _ = self.handle.notify(request);
    }

    fn refresh(&mut self) {
        let is_way = |index: &u32| self.links.get(index).is_some_and(|link| self.is_way(link));
        let stations: Vec<(u32, Ip)> = self.fib.stations().filter(|(interface, _)| is_way(interface)).collect();
        for (interface, ip) in stations {
            self.ask_on(interface, ip);
        }
    }
}

#[cfg(test)]
mod tests;
