//! What workers read.

use std::sync::Arc;

use super::back::WaysBack;
use crate::flow::State;
use crate::naming::Names;
use crate::neighbour::NextHops;
use crate::path::{Context, Surroundings};
use crate::table::{Guard, Swap};
use crate::units::Tick;

/// All tables of one engine. Read by its workers, pinned once a round; written by the control side, but for the state,
/// in which workers keep translation entries and clocks.
pub struct Tables {
    pub names: Arc<Names>,
    pub around: Swap<Surroundings>,
    pub state: State,
    pub hops: Swap<NextHops>,
    /// Where there is one, what is the kernel's goes back to it.
    pub back: WaysBack,
}

impl Tables {
    /// One consistent view for a burst.
    #[must_use]
    pub fn context<'g>(&'g self, guard: &'g Guard, now: Tick) -> Context<'g> {
        Context {
            names: self.names.view(guard),
            around: self.around.load(guard),
            state: &self.state,
            hops: self.hops.load(guard),
            now,
            dry_run: false,
        }
    }
}
