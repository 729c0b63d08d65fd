//! Routers that advertise themselves: to all who are behind an access port whose network has IPv6, asked or not.

use std::collections::HashSet;

use super::{Appliance, PortOnHost};
use crate::control::advertiser::{LONGEST_S, Link};
use crate::frame::{ADVERTISEMENT_FRAME_LEN, unsolicited_advertisement};
use crate::naming::{NamesWriter, View};
use crate::path::{Port, Role, Surroundings, router_behind};
use crate::table;
use crate::units::{NetworkId, PortId};

impl Appliance {
    /// Sends the advertisements that are due. While a large change set has its turn, the next one will.
    pub(super) fn advertise(&self) {
        let Ok(writer) = self.writer.try_lock() else { return };
        let guard = table::pin();
        let (around, names) = (self.tables.around.load(&guard), self.tables.names.view(&guard));
        let up = self.ports_up();
        let ipv6 = networks_with_ipv6(around, &names, &writer);
        drop(writer);
        let links = around.all_ports().filter(|(id, _)| up.contains(id));
        let links = links.filter_map(|(id, port)| link(around, &ipv6, id, port));
        let now = self.stages.elapsed().as_millis() as u64;
        let engine = self.engine.load();
        let mut advertiser = self.advertiser();
        for id in advertiser.due(links, now) {
            let Some(port) = around.port(id) else { continue };
            let Role::Access(access) = &port.role else { continue };
            let mut frame = [0; ADVERTISEMENT_FRAME_LEN];
            unsolicited_advertisement(&mut frame, &router_behind(around, port, access));
            // Where too many frames wait, it is sent at the next turn.
            if engine.inject(id, &frame) {
                advertiser.sent(id, now);
            }
        }
    }

    /// The ports whose interface and its other end are up.
    pub(super) fn ports_up(&self) -> HashSet<PortId> {
        let is_up = |port: &PortOnHost| port.link.up && port.link.running;
        self.on_host().iter().filter(|(_, port)| is_up(port)).map(|(&id, _)| id).collect()
    }
}

fn link(around: &Surroundings, ipv6: &HashSet<NetworkId>, id: PortId, port: &Port) -> Option<Link> {
    let Role::Access(access) = &port.role else { return None };
    let network = around.networks.get(access.network)?;
    let longest_s = network.ra_interval_s.unwrap_or(LONGEST_S);
    ipv6.contains(&access.network).then_some(Link { port: id, mac: port.mac, longest_s })
}

/// Networks that have IPv6 addresses by the configuration, or by a container that is bound to this server.
fn networks_with_ipv6(around: &Surroundings, names: &View<'_>, writer: &NamesWriter) -> HashSet<NetworkId> {
    let configured = around.networks.iter().filter(|(_, network)| network.has_ipv6()).map(|(id, _)| id);
    let here = writer.containers_here().filter_map(|handle| names.container(handle));
    let bound = here.filter(|container| !container.ip().is_v4()).map(|container| container.network());
    configured.chain(bound).collect()
}
