//! The XDP programs of all ports.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::boot::BootError;
use super::claims::Wanted;
use super::preparation::Planned;
use super::{Host, PortOnHost};
use crate::afxdp::program::{self, ClaimsMap, Kind, Mode, Want};
use crate::control::assemble::SINGLE_BUFFER_MTU;
use crate::control::config;
use crate::control::kernel::Link;
use crate::engine::Engine;
use crate::path::{Role, Surroundings};

/// Attaches every port's program, or takes over the one that is there, and has it claim all of `wanted` besides what it
/// claims already.
pub(super) fn attach_all(
    pin_dir: &Path,
    around: &Surroundings,
    planned: &[Planned],
    wanted: &Wanted,
) -> Result<Host, BootError> {
    let mut ports = Host::new();
    for Planned { id, port, live, link } in planned {
        let Some(kind) = around.port(*id).map(|port| kind_of(&port.role)) else { continue };
        let program = program::attach(&link.name, kind, pin_dir, Want { tags: port.tags, frags: needs_frags(link) })
            .map_err(|err| BootError::Attach(port.name.clone(), err))?;
        report_attached(&port.name, &program);
        ports.insert(*id, PortOnHost { configured: port.clone(), live: *live, link: link.clone(), program });
    }
    widen_all(around, &mut ports, wanted)?;
    Ok(ports)
}

/// Has every program claim all of `wanted` besides what it claims already.
pub(super) fn widen_all(around: &Surroundings, ports: &mut Host, wanted: &Wanted) -> Result<(), BootError> {
    claim_all(around, ports, |claims, role, arp| wanted.widen(claims, role, arp))
}

/// Has every program claim nothing but `wanted`: of what a former engine left, the rest goes.
pub(super) fn narrow_all(around: &Surroundings, ports: &mut Host, wanted: &Wanted) -> Result<(), BootError> {
    claim_all(around, ports, |claims, role, arp| wanted.narrow(claims, role, arp))
}

fn claim_all(
    around: &Surroundings,
    ports: &mut Host,
    claim: impl Fn(&mut ClaimsMap, &Role, bool) -> io::Result<()>,
) -> Result<(), BootError> {
    for (&id, on_host) in ports {
        let arp = answers_arp(&on_host.configured.role);
        if let (Some(claims), Some(port)) = (on_host.program.claims(), around.port(id)) {
            let claimed = claim(claims, &port.role, arp);
            claimed.map_err(|err| BootError::Program(port.name.clone(), err))?;
        }
    }
    Ok(())
}

/// Puts the engine's sockets into the programs' maps: from then on packets come.
pub(super) fn connect(engine: &Engine, ports: &mut Host) -> Result<(), BootError> {
    for queue in engine.queues().iter() {
        let Some(port) = ports.get_mut(&queue.port) else { continue };
        let set = port.program.set_socket(queue.queue, queue.fd.as_fd());
        set.map_err(|err| BootError::Program(port.link.name.clone(), err))?;
    }
    Ok(())
}

pub(super) fn report_attached(port: &str, program: &program::Attached) {
    if let Some(why) = program.fallback() {
        tracing::warn!(port, "the XDP program runs in generic mode, which is slower: {why}");
    }
    if let Err(why) = program.pinned() {
        tracing::warn!(port, "the XDP program is NOT pinned and will not outlive this process: {why}");
    }
    for stale in program.cleared() {
        tracing::info!(pin = %stale.path.display(), "a stale pin was cleared");
    }
}

pub(super) fn kind_of(role: &Role) -> Kind {
    match role {
        Role::Uplink { external } => Kind::Uplink { external: *external },
        Role::External => Kind::External,
        Role::Access(_) => Kind::Access,
    }
}

pub(super) fn answers_arp(role: &config::Role) -> bool {
    match role {
        config::Role::Uplink { arp, .. } | config::Role::External { arp } => *arp,
        config::Role::Access { .. } => false,
    }
}

/// True if packets of its MTU come in several buffers.
pub(super) fn needs_frags(link: &Link) -> bool {
    link.mtu > SINGLE_BUFFER_MTU
}

/// Whether packets of several buffers arrive at each port by the programs that are there already. None unless every port
/// has one.
pub(super) fn frags_at_work(planned: &[Planned]) -> Option<Vec<bool>> {
    let frags = |link: &Link| Some(program::mode(&link.name).ok()?? == Mode::Native && needs_frags(link));
    planned.iter().map(|planned| frags(&planned.link)).collect()
}
