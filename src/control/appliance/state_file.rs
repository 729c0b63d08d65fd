//! The state that outlives the process.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::{fs, path::Path};

use rustix::time::{ClockId, clock_gettime};

use crate::control::config::Config;
use crate::flow::{Fresh, Geometry, State};
use crate::units::Tick;

/// Opens the state file of this server in this network namespace, and says why it starts empty, if it does.
///
/// # Errors
/// The file or its directory can't be made, and the path that this is about.
pub(super) fn open(config: &Config) -> Result<(State, Option<Fresh>, PathBuf), (PathBuf, io::Error)> {
    let path = config.engine.state_file(network_namespace(), config.server.ips[0]);
    let open = || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let geometry = Geometry { servers: config.server.ips.clone(), ports: config.server.ports };
        State::open(&path, &geometry, boot_id()?)
    };
    match open() {
        Ok((state, fresh)) => {
            state.set_quarantine(config.server.quarantine_s);
            Ok((state.with_timers(config.timers), fresh, path))
        }
        Err(err) => Err((path, err)),
    }
}

/// The inode number of the network namespace that the process is in (namespaces(7)).
pub(super) fn network_namespace() -> u64 {
    fs::metadata("/proc/self/ns/net").map_or(0, |metadata| metadata.ino())
}

/// What tells this boot from others (random(4)).
pub(super) fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map(u128::to_be_bytes).map_err(io::Error::other)
}

/// Now, on the clock that the workers use and the XDP program too.
pub(super) fn now() -> Tick {
    let now = clock_gettime(ClockId::Boottime);
    Tick(now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000)
}
