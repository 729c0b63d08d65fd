//! Which container is behind which access port.

use super::port::{Access, Port, Role, Surroundings};
use super::verdict::Reason;
use super::walk::Walk;
use crate::naming::{Container, View};
use crate::table::Handle;
use crate::units::{Ip, Mac};

/// Identifies the container that sends as (`mac`, `ip`). The first port to show a pair that is bound to this server
/// holds it until the port goes down; anything else is spoofed.
#[inline(always)]
pub(super) fn identify<'g, O>(
    walk: &Walk<'_, 'g, O>,
    access: &Access,
    mac: Mac,
    ip: Ip,
) -> Result<(Handle, &'g Container), Reason> {
    if access.pinned.is_some_and(|pinned| pinned != mac) || mac.is_group() {
        return Err(Reason::SpoofedSource);
    }
    let sender = || walk.cx.names.sender(access.network, mac, ip, access.id);
    let found = walk.recent.sender(mac, ip, sender).ok_or(Reason::SpoofedSource)?;
    let (_, container) = found;
    if !container.is_bound_here() {
        return Err(Reason::SpoofedSource);
    }
    match container.held_by() {
        Some(held) if held.port() == walk.port => Ok(found),
        Some(_) => Err(Reason::HeldElsewhere),
        None if walk.cx.dry_run => Ok(found),
        None if container.hold(walk.port, mac) => Ok(found),
        None => Err(Reason::HeldElsewhere),
    }
}

/// Ports whose container the configuration pins hold it from the start. To be called whenever the ports have changed.
pub fn hold_pinned(names: &View<'_>, around: &Surroundings) {
    let here = names.all_containers().filter(|(_, container)| container.is_bound_here());
    hold_pinned_among(names, around, here.map(|(handle, _)| handle));
}

/// As [`hold_pinned`], for containers whose bindings to this server have changed or are about to.
pub fn hold_pinned_among(names: &View<'_>, around: &Surroundings, containers: impl Iterator<Item = Handle>) {
    for container in containers.filter_map(|handle| names.container(handle)) {
        let Some(mac) = container.mac() else { continue };
        let pins = |port: &Port| {
            let Role::Access(access) = &port.role else { return false };
            access.network == container.network() && access.pinned == Some(mac) && access.id == container.id()
        };
        if let Some((id, _)) = around.all_ports().find(|(_, port)| pins(port)) {
            container.hold(id, mac);
        }
    }
}
