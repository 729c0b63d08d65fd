//! Asking for the containers that are bound to this server, so that packets find their ports before they have spoken.

use crate::frame::{ARP_FRAME_LEN, arp_request};
use crate::naming::View;
use crate::path::{Role, Surroundings};
use crate::table::Handle;
use crate::units::{Ip, PortId};

/// ARP requests for every one of the `containers` that no port holds, one for each port that may turn out to: the frame, and the
/// port that it must leave by. A container that is pinned needs none.
pub(super) fn probes(
    names: &View<'_>,
    around: &Surroundings,
    containers: impl Iterator<Item = Handle>,
) -> Vec<(PortId, [u8; ARP_FRAME_LEN])> {
    let mut probes = Vec::new();
    for container in containers.filter_map(|handle| names.container(handle)) {
        // IPv6 containers speak first: they solicit their router.
        if !container.is_bound_here() || container.held_by().is_some() || !container.ip().is_v4() {
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
            let mut frame = [0; ARP_FRAME_LEN];
            arp_request(&mut frame, port.mac, gateway.unwrap_or(Ip::UNSPECIFIED_V4), container.ip());
            probes.push((id, frame));
        }
    }
    probes
}
