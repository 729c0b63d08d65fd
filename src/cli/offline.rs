//! An engine without interfaces, with empty state: what `replay` and `explain --config` look at.

use std::path::Path;

use crate::control::assemble::{Assembly, fixed_hops, state_in_memory};
use crate::control::config::{Config, Mistake};
use crate::flow::State;
use crate::neighbour::NextHops;
use crate::path::hold_pinned;
use crate::table;
use crate::units::Tick;

pub(super) struct Offline {
    pub(super) assembly: Assembly,
    pub(super) state: State,
    pub(super) hops: NextHops,
}

impl Offline {
    /// Reads configuration and mapping. Pinned containers are held; next hops are those that are configured.
    ///
    /// # Errors
    /// Every mistake in either.
    pub(super) fn load(file: &Path) -> Result<Offline, Vec<Mistake>> {
        let config = Config::load(file)?;
        let assembly = Assembly::new(&config, |_| None)?;
        let state =
            state_in_memory(&assembly, Tick(0)).map_err(|error| vec![Mistake::in_file(file, error.to_string())])?;
        hold_pinned(&assembly.names.view(&table::pin()), &assembly.around);
        Ok(Offline { assembly, state, hops: fixed_hops(&config).next_hops() })
    }
}
