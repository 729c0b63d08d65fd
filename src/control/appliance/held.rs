//! Which container each access port was found to hold, as one engine tells the next: a line each of the container's
//! identity, its MAC and the port's name.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::naming::View;
use crate::path::Surroundings;
use crate::units::{Mac, PortId};

/// What is held now, in a memfd.
///
/// # Errors
/// No memory, or no descriptor for it.
pub(super) fn write(names: &View<'_>, around: &Surroundings) -> io::Result<OwnedFd> {
    let mut text = String::new();
    for (_, container) in names.all_containers() {
        let Some(held) = container.held_by() else { continue };
        if let Some(port) = around.port(held.port()) {
            let _ = writeln!(text, "{:x} {} {}", container.identity(), held.mac(), port.name);
        }
    }
    let mut file = File::from(memfd_create("sixway-held", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    Ok(file.into())
}

/// Has the same ports hold the same containers, as far as both are still there. What can't be read is passed over: the
/// container speaks, or is asked, and is found again.
pub(super) fn read(held: OwnedFd, names: &View<'_>, around: &Surroundings) -> io::Result<()> {
    let (mut file, mut text) = (File::from(held), String::new());
    file.rewind()?;
    file.read_to_string(&mut text)?;
    let mut known: Vec<(u64, PortId, Mac)> = text.lines().filter_map(|line| parse(line, around)).collect();
    known.sort_unstable_by_key(|(identity, ..)| *identity);
    for (_, container) in names.all_containers().filter(|(_, container)| container.is_bound_here()) {
        if let Ok(at) = known.binary_search_by_key(&container.identity(), |(identity, ..)| *identity) {
            let (_, port, mac) = known[at];
            container.hold(port, mac);
        }
    }
    Ok(())
}

fn parse(line: &str, around: &Surroundings) -> Option<(u64, PortId, Mac)> {
    let (identity, rest) = line.split_once(' ')?;
    let (mac, name) = rest.split_once(' ')?;
    Some((u64::from_str_radix(identity, 16).ok()?, around.port_called(name)?, mac.parse().ok()?))
}
