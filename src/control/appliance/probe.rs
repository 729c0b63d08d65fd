//! Asking for the containers that are bound to this server, so that packets find their ports before they have spoken.

use crate::frame::{ARP_FRAME_LEN, SOLICITATION_FRAME_LEN, arp_request, neighbour_solicitation};
use crate::naming::{Container, View};
use crate::path::{Port, Role, Surroundings, link_local};
use crate::table::Handle;
use crate::units::{Ip, PortId};

/// Requests for every one of the `containers` that no port holds, one for each port that may turn out to: the frame, and
/// the port that it must leave by. A container that is pinned needs none.
pub(super) fn probes(
    names: &View<'_>,
    around: &Surroundings,
    containers: impl Iterator<Item = Handle>,
) -> Vec<(PortId, Vec<u8>)> {
    let mut probes = Vec::new();
    for container in containers.filter_map(|handle| names.container(handle)) {
        if !container.is_bound_here() || container.held_by().is_some() {
            continue;
        }
        for (id, port) in around.all_ports() {
            let Role::Access(access) = &port.role else { continue };
            if access.network != container.network() || access.pinned.is_some() {
                continue;
            }
            let gateway = around
                .networks
                .get(access.network)
                .and_then(|network| network.gateways.iter().copied().find(|ip| ip.is_v4()));
            probes.push((id, request(port, gateway, container)));
        }
    }
    probes
}

/// Who has the container's address?
fn request(port: &Port, gateway: Option<Ip>, container: &Container) -> Vec<u8> {
    if container.ip().is_v4() {
        let mut frame = vec![0; ARP_FRAME_LEN];
        arp_request(&mut frame, port.mac, gateway.unwrap_or(Ip::UNSPECIFIED_V4), container.ip());
        return frame;
    }
    let mut frame = vec![0; SOLICITATION_FRAME_LEN];
    neighbour_solicitation(&mut frame, (port.mac, link_local(port.mac)), container.ip(), container.mac());
    frame
}
