//! A running server: its programs, tables and workers, put up from a configuration and kept in step with the mapping
//! and the kernel until it is told to stop.

mod boot;
mod claims;
mod observed;
mod probe;
mod reload;
mod run;
mod state_file;
mod succession;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::afxdp::program::Attached;
use crate::control::config::Config;
use crate::control::kernel::Link;
use crate::engine::{Engine, Tables};
use crate::naming::NamesWriter;
use succession::Succession;

pub use boot::{BootError, boot};
pub use run::run;

/// The running server. Workers read `tables`; all else belongs to the control thread.
pub struct Appliance {
    config: Config,
    tables: Arc<Tables>,
    engine: Engine,
    started: Instant,
    state_file: PathBuf,
    succession: Succession,
    /// Locked by the control thread alone, for as long as one call takes.
    control: Mutex<Control>,
}

/// What the control thread changes.
struct Control {
    writer: NamesWriter,
    /// By port; none of a port whose interface is not there.
    ports: Vec<Option<PortOnHost>>,
}

/// A port's interface, and the program on it.
struct PortOnHost {
    link: Link,
    program: Attached,
}

impl Appliance {
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
