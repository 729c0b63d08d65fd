//! Which container is behind which access port.

use super::port::{Access, Port, Role, Surroundings};
use super::verdict::Reason;
use super::walk::Walk;
use crate::naming::{Container, View};
use crate::table::Handle;
use crate::units::{Ip, Mac, PortId};

/// Identifies the container that sends as (`mac`, `ip`). The first port to show a pair that is bound to this server
/// holds it until the port goes down; anything else is spoofed.
pub(super) fn identify<'g, O>(
    walk: &Walk<'_, 'g, O>,
    access: &Access,
    mac: Mac,
    ip: Ip,
) -> Result<(Handle, &'g Container), Reason> {
    if access.pinned.is_some_and(|pinned| pinned != mac) || mac.is_group() {
        return Err(Reason::SpoofedSource);
    }
    let found = walk.cx.names.sender(access.network, mac, ip, access.id).ok_or(Reason::SpoofedSource)?;
    let (handle, container) = found;
    match container.held_by() {
        Some((port, _)) if port == walk.port => Ok(found),
        Some(_) => Err(Reason::HeldElsewhere),
        // The first packet of a pair: a moment to ask whether it belongs here at all.
        None if !walk.cx.names.is_bound_here(handle) => Err(Reason::SpoofedSource),
        None if walk.cx.dry_run => Ok(found),
        None if container.hold(walk.port, mac) == walk.port => Ok(found),
        None => Err(Reason::HeldElsewhere),
    }
}

/// Ports whose container the configuration pins hold it from the start. To be called whenever the mapping or the ports
/// have changed.
pub fn hold_pinned(names: &View<'_>, around: &Surroundings) {
    for (handle, container) in names.all_containers() {
        let Some(mac) = container.mac() else { continue };
        let pins = |port: &Port| {
            let Role::Access(access) = &port.role else { return false };
            access.network == container.network() && access.pinned == Some(mac) && access.id == container.id()
        };
        if let Some(index) = around.ports.iter().position(pins).filter(|_| names.is_bound_here(handle)) {
            container.hold(PortId(index as u16), mac);
        }
    }
}
