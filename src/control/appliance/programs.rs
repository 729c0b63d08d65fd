//! The XDP programs of all ports.

use std::io;
use std::os::fd::AsFd;

use super::PortOnHost;
use super::boot::BootError;
use super::claims::Wanted;
use crate::afxdp::program::{self, ClaimsMap, Kind, Mode, Want};
use crate::control::config::{self, Config};
use crate::control::kernel::Link;
use crate::engine::Engine;
use crate::path::{Role, Surroundings};

/// Attaches every port's program, or takes over the one that is there, and has it claim all of `wanted` besides what it
/// claims already.
pub(super) fn attach_all(
    config: &Config,
    around: &Surroundings,
    links: &[Link],
    wanted: &Wanted,
) -> Result<Vec<PortOnHost>, BootError> {
    let mut ports = Vec::with_capacity(links.len());
    for (link, port) in links.iter().zip(&around.ports) {
        let kind = kind_of(&port.role);
        let program = program::attach(&link.name, kind, &config.engine.pin_dir, Want { frags: needs_frags(link) })
            .map_err(|err| BootError::Attach(port.name.clone(), err))?;
        report_attached(&port.name, &program);
        ports.push(PortOnHost { link: link.clone(), program });
    }
    widen_all(config, around, &mut ports, wanted)?;
    Ok(ports)
}

/// Has every program claim all of `wanted` besides what it claims already.
pub(super) fn widen_all(
    config: &Config,
    around: &Surroundings,
    ports: &mut [PortOnHost],
    wanted: &Wanted,
) -> Result<(), BootError> {
    claim_all(config, around, ports, |claims, role, arp| wanted.widen(claims, role, arp))
}

/// Has every program claim nothing but `wanted`: of what a former engine left, the rest goes.
pub(super) fn narrow_all(
    config: &Config,
    around: &Surroundings,
    ports: &mut [PortOnHost],
    wanted: &Wanted,
) -> Result<(), BootError> {
    claim_all(config, around, ports, |claims, role, arp| wanted.narrow(claims, role, arp))
}

fn claim_all(
    config: &Config,
    around: &Surroundings,
    ports: &mut [PortOnHost],
    claim: impl Fn(&mut ClaimsMap, &Role, bool) -> io::Result<()>,
) -> Result<(), BootError> {
    for ((on_host, port), configured) in ports.iter_mut().zip(&around.ports).zip(&config.ports) {
        if let Some(claims) = on_host.program.claims() {
            let claimed = claim(claims, &port.role, answers_arp(&configured.role));
            claimed.map_err(|err| BootError::Program(port.name.clone(), err))?;
        }
    }
    Ok(())
}

/// Puts the engine's sockets into the programs' maps: from then on packets come.
pub(super) fn connect(engine: &Engine, ports: &mut [PortOnHost]) -> Result<(), BootError> {
    for queue in engine.queues() {
        let Some(port) = ports.get_mut(usize::from(queue.port.0)) else { continue };
        let set = port.program.set_socket(queue.queue, queue.fd.as_fd());
        set.map_err(|err| BootError::Program(port.link.name.clone(), err))?;
    }
    Ok(())
}

fn report_attached(port: &str, program: &program::Attached) {
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

/// A chunk of 4 KiB holds packets of up to 3520 bytes of IP beside headroom and Ethernet header; larger ones come in
/// several.
fn needs_frags(link: &Link) -> bool {
    const LARGEST_SINGLE: u32 = 3500;
    link.mtu > LARGEST_SINGLE
}

/// Whether packets of several buffers arrive at each port by the programs that are there already. None unless every port
/// has one.
pub(super) fn frags_at_work(links: &[Link]) -> Option<Vec<bool>> {
    let frags = |link: &Link| Some(program::mode(&link.name).ok()?? == Mode::Native && needs_frags(link));
    links.iter().map(frags).collect()
}
