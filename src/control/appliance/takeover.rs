//! Coming up in the place of an engine that runs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::back::open_ways;
use super::boot::{BootError, appliance, report_inherited, share_echo_claims, start, tables_of};
use super::claims::Wanted;
use super::preparation::Preparation;
use super::programs::{attach_all, connect, narrow_all, widen_all};
use super::stages::Stages;
use super::succession::Succession;
use super::{Appliance, PortOnHost, held, keeping, remembered};
use crate::control::handover::{Predecessor, socket_beside};
use crate::control::server::ControlSocket;
use crate::engine::fits;
use crate::neighbour::NextHops;
use crate::table;

/// How long an engine that has the control socket may take until it listens for its successor: it may be coming up itself.
const UNTIL_IT_LISTENS: Duration = Duration::from_secs(5);

/// Comes up in the place of an engine that runs. All that takes long is done while that one forwards packets: the
/// programs are looked at, and what its workers have is mapped. Then it stops, the state is opened, and new workers go on
/// with its rings. `hops`: what the kernel says of next hops. Returns the control socket, too.
///
/// # Errors
/// See [`BootError`]; the former engine then goes on, as soon as this process has ended.
pub(super) fn take_over(
    mut prepared: Preparation,
    hops: Option<NextHops>,
    holder: Option<&Path>,
) -> Result<(Appliance, ControlSocket), BootError> {
    let stages = prepared.stages;
    let names = Arc::clone(&prepared.assembly.names);
    let wanted = Wanted::gather(&prepared.assembly.around, &names.view(&table::pin()));
    let mut ports = attach_all(&prepared.config.engine.pin_dir, &prepared.assembly.around, &prepared.ports, &wanted)?;
    stages.done("programs looked at");
    let frags: Vec<bool> = ports.values().map(|port| port.program.frags()).collect();
    prepared.set_frags(&frags);

    let path = prepared.config.control.socket.clone();
    let shown = Predecessor::look(&socket_beside(&path), UNTIL_IT_LISTENS).map_err(BootError::Predecessor)?;
    let gone = || BootError::Predecessor(io::Error::new(io::ErrorKind::NotFound, "it does not listen for a successor"));
    let (predecessor, sets) = shown.ok_or_else(gone)?;
    // From here on the former engine changes nothing; what it did since the mapping was read is in its journal.
    let (known, now) = remembered::read(&prepared.ports_file);
    if now != prepared.remembered {
        let is_known = |port: &PortOnHost| known.iter().any(|known| known.ifindex == port.link.index);
        for port in ports.into_values().filter(|port| port.live && !is_known(port)) {
            // Detached while this engine looked at it, which put the program back.
            if let Err(error) = port.program.detach() {
                tracing::warn!(port = port.configured.name, "its XDP program: {error}");
            }
        }
        return Err(BootError::PortsChanged);
    }
    let wanted = match keeping::catch_up(&mut prepared)? {
        false => wanted,
        true => {
            let wanted = Wanted::gather(&prepared.assembly.around, &names.view(&table::pin()));
            widen_all(&prepared.assembly.around, &mut ports, &wanted)?;
            wanted
        }
    };
    let (mut succession, mut left) = Succession::after(holder, sets);
    let fits = fits(&prepared.engine, &mut left);
    stages.done("packet memory mapped");
    let estate = if fits { predecessor.stop() } else { predecessor.let_go() }.map_err(BootError::Predecessor)?;
    let stopped = Stages::begin();
    if fits {
        prepared.engine.inherited = left;
    } else {
        drop(left);
        tracing::warn!("the former engine has other queues: all sockets are bound anew, packets until then are lost");
    }
    let (tables, state_file) = tables_of(&mut prepared)?;
    if let Some(hops) = hops {
        tables.hops.store(hops);
    }
    if let Some(held) = estate.held {
        let guard = table::pin();
        // Who is not known speaks, or is asked, and is found.
        if let Err(error) = held::read(held, &names.view(&guard), tables.around.load(&guard)) {
            tracing::warn!("which port holds which container is found out anew: {error}");
        }
    }
    share_echo_claims(&prepared.assembly.around, &mut ports, &tables)?;
    let engine = start(&mut prepared, &frags, &tables)?;
    connect(&engine, &mut ports)?;
    let silence = stopped.elapsed();
    // If it has ended by itself, so much the better.
    let _ = predecessor.taken();
    stages.done("packets come");
    tracing::info!("workers took over within {:.1} ms", silence.as_secs_f64() * 1000.0);
    report_inherited(&engine, true);
    estate.holder.into_iter().for_each(|connection| succession.take_holder(connection));
    succession.provide(&engine);
    open_ways(&prepared.assembly.around, &mut ports, &tables);
    // From here on there is nobody to go on in its place.
    if let Err(error) = narrow_all(&prepared.assembly.around, &mut ports, &wanted) {
        tracing::error!("what the former mapping claimed is still claimed: {error}");
    }
    let socket = ControlSocket::inherit(&path, &prepared.config.control, estate.control);
    let socket = socket.map_err(BootError::Predecessor)?;
    Ok((appliance(prepared, tables, state_file, engine, succession, ports), socket))
}
