//! A running server: its programs, tables and workers, put up from a configuration and kept in step with the mapping
//! and the kernel until it is told to stop.

mod advertising;
mod back;
mod boot;
mod changeover;
mod checks;
mod claims;
mod handover;
mod held;
mod keeping;
mod news;
mod observed;
mod own;
mod policy;
mod ports;
mod preparation;
mod probe;
mod programs;
mod reload;
mod remembered;
mod run;
mod stages;
mod state_file;
mod succession;
mod takeover;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex as Turn, Notify};

use crate::afxdp::program::Attached;
use crate::control::advertiser::Advertiser;
use crate::control::changes::History;
use crate::control::config::{Config, Port};
use crate::control::health::Prober;
use crate::control::journal::Journal;
use crate::control::kernel::Link;
use crate::engine::{Engine, EngineConfig, Tables};
use crate::naming::NamesWriter;
use crate::units::{Ip, PortId};
use stages::Stages;
use succession::Succession;

pub use boot::BootError;
pub use remembered::forget_live_ports;
pub use run::{Manner, run};

/// The running server. Workers read `tables`; all else belongs to the control thread.
pub struct Appliance {
    config: Config,
    tables: Arc<Tables>,
    engine: ArcSwap<Engine>,
    /// The workers' configuration, with nothing left to them.
    workers: Mutex<EngineConfig>,
    /// Since it began to come up.
    stages: Stages,
    state_file: PathBuf,
    /// Where live ports are remembered.
    ports_file: PathBuf,
    succession: Mutex<Succession>,
    history: History,
    /// Told when those who probe should look again: a port went down, or somebody has said something of health.
    look_again: Notify,
    /// Locked by the control thread alone, for as long as one call takes.
    prober: Mutex<Prober>,
    /// The same of when to advertise.
    advertiser: Mutex<Advertiser>,
    /// The turn to change the mapping. Whoever has it may take long: it is waited for, and never blocks the control thread.
    writer: Arc<Turn<NamesWriter>>,
    /// Locked for moments, and so are the surroundings of `tables` when they are replaced.
    on_host: Mutex<Host>,
    /// The kernel's addresses that the XDP programs know of. Whoever changes them has the turn first.
    told: Mutex<Arc<[Ip]>>,
    /// None if change sets are not kept, or while another engine takes over. Locked for moments; who changes the mapping
    /// has the turn first.
    journal: Mutex<Option<Journal>>,
}

/// The ports on this host.
type Host = BTreeMap<PortId, PortOnHost>;

/// A port's interface, and the program on it.
struct PortOnHost {
    configured: Port,
    /// Attached while an engine ran: it is not of the configuration.
    live: bool,
    link: Link,
    program: Attached,
}

impl Appliance {
    fn on_host(&self) -> MutexGuard<'_, Host> {
        self.on_host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, EngineConfig> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prober(&self) -> MutexGuard<'_, Prober> {
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Arc<[Ip]>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advertiser(&self) -> MutexGuard<'_, Advertiser> {
        self.advertiser.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succession(&self) -> MutexGuard<'_, Succession> {
        self.succession.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
