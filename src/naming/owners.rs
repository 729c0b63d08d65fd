//! Which wire names of our own changed hands between two versions of the mapping.

use crate::units::{Endpoint, Ip, PortRange, Proto};

use super::change::OwnerChange;
use super::name::Wire;
use super::spec::Protocol;
use super::view::View;

/// Compares the owners of all `touched` wire names. The result is in order, without overlaps, in runs of ports.
pub(super) fn compare(before: &View<'_>, now: &View<'_>, touched: &[(Ip, Protocol, PortRange)]) -> Vec<OwnerChange> {
    let mut extents: Vec<(Ip, Proto, PortRange)> =
        touched.iter().flat_map(|&(ip, proto, ports)| proto.each(ip).map(move |proto| (ip, proto, ports))).collect();
    extents.sort_unstable();
    let mut changes: Vec<OwnerChange> = Vec::new();
    // The first port of the current server and protocol that was not yet looked at.
    let mut seen: Option<(Ip, Proto, u32)> = None;
    for (server, proto, ports) in extents {
        let done = seen.filter(|&(ip, of, _)| (ip, of) == (server, proto)).map_or(0, |(_, _, next)| next);
        for port in u32::from(ports.first).max(done)..=u32::from(ports.last) {
            compare_port(before, now, (server, proto, port as u16), &mut changes);
        }
        seen = Some((server, proto, done.max(u32::from(ports.last) + 1)));
    }
    changes
}

fn compare_port(before: &View<'_>, now: &View<'_>, name: (Ip, Proto, u16), changes: &mut Vec<OwnerChange>) {
    let (server, proto, port) = name;
    let owner = |view: &View<'_>| {
        let found = view.inner(Wire(Endpoint { proto, ip: server, port }))?;
        Some(view.owner(found.binding))
    };
    let (was, is) = (owner(before), owner(now));
    if was == is {
        return;
    }
    if let Some(last) = changes.last_mut()
        && (last.server, last.proto, last.before, last.now) == (server, proto, was, is)
        && last.ports.last.checked_add(1) == Some(port)
    {
        last.ports.last = port;
        return;
    }
    changes.push(OwnerChange { server, proto, ports: PortRange { first: port, last: port }, before: was, now: is });
}
