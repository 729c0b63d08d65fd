//! Ways back to the kernel for what XDP programs hand over before anybody knows whose it is.

use std::io;

use super::Host;
use crate::afxdp::PacketSocket;
use crate::control::kernel::pair;
use crate::engine::{Tables, WayBack};
use crate::path::Surroundings;
use crate::units::PortId;

/// Opens a way back for every port towards the underlay or the outside, and has the programs of those that have one hand
/// over fragments that come before the first of their packet. Without a way these stay the kernel's.
pub(super) fn open_ways(around: &Surroundings, ports: &mut Host, tables: &Tables) {
    let mut ways = Vec::new();
    for (&id, on_host) in &*ports {
        if !around.port(id).is_some_and(|port| port.role.leads_out()) {
            continue;
        }
        match way_back(id, &on_host.link.name) {
            Ok(way) => ways.push(way),
            Err(error) => {
                let port = &on_host.configured.name;
                tracing::warn!(
                    port,
                    "fragments that come before the first of their packet are left to the kernel: {error}"
                );
            }
        }
    }
    let with_way: Vec<PortId> = ways.iter().map(|way| way.port).collect();
    if !tables.back.open(ways) {
        return;
    }
    for id in with_way {
        let Some(on_host) = ports.get_mut(&id) else { continue };
        if let Err(error) = on_host.program.set_keeps_early(true) {
            tracing::warn!(port = on_host.configured.name, "its XDP program: {error}");
        }
    }
}

fn way_back(port: PortId, interface: &str) -> io::Result<WayBack> {
    let pair = pair(interface)?;
    Ok(WayBack { port, socket: PacketSocket::open(pair.engine)?, kernel: pair.kernel })
}
