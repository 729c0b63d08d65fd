//! The kernel's news, from before the server is up: what comes meanwhile waits.

use std::io;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::control::assemble::fixed_hops;
use crate::control::config::Config;
use crate::control::kernel::{Addresses, Change, Questions, watch};
use crate::neighbour::NextHops;
use crate::units::PortId;

/// News that come as long as the runtime runs.
pub(super) struct News {
    changes: mpsc::UnboundedReceiver<Change>,
    watching: JoinHandle<io::Result<()>>,
    /// Taken out already, and not noted yet.
    early: Vec<Change>,
}

impl News {
    /// Begins to follow links, addresses, and routes over the configured uplinks and external ports.
    pub fn follow(runtime: &Runtime, config: &Config, questions: Questions) -> News {
        let (report, changes) = mpsc::unbounded_channel();
        let ways: Vec<(String, PortId)> = ways(config).collect();
        let fib = fixed_hops(config);
        let watching = runtime.spawn(watch(fib, ways, questions, move |change| {
            // Nobody listens any more: the server is ending.
            let _ = report.send(change);
        }));
        News { changes, watching, early: Vec::new() }
    }

    /// Waits for the first word on next hops and on the kernel's addresses. Nothing of either if the kernel can't be
    /// followed.
    pub async fn beginning(&mut self) -> (Option<NextHops>, Addresses) {
        let mut known = Addresses::default();
        while let Some(change) = self.changes.recv().await {
            match change {
                Change::NextHops(hops) => return (Some(hops), known),
                Change::Addresses(addresses) => known = addresses,
                other => self.early.push(other),
            }
        }
        (None, known)
    }

    /// Notes all news for as long as the kernel can be followed.
    ///
    /// # Errors
    /// It can't any more.
    pub async fn heed(mut self, mut note: impl FnMut(Change)) -> io::Result<()> {
        self.early.drain(..).for_each(&mut note);
        while let Some(change) = self.changes.recv().await {
            note(change);
        }
        self.watching.await.map_err(io::Error::other)?
    }
}

/// The interfaces that routes out of this server may name, and the ports that they mean.
fn ways(config: &Config) -> impl Iterator<Item = (String, PortId)> {
    let ports = (0..).map(PortId).zip(&config.ports).filter(|(_, port)| port.role.leads_out());
    ports.filter_map(|(id, port)| Some((port.routed_as()?.to_owned(), id)))
}
