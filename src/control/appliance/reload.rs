//! Another mapping, while packets flow.

use super::Appliance;
use super::claims::Wanted;
use super::programs::answers_arp;
use super::state_file;
use crate::control::assemble::load_mapping;
use crate::control::config::Mistake;
use crate::flow::Holding;
use crate::naming::Change;
use crate::path::hold_pinned;
use crate::table;

impl Appliance {
    /// Reads the mapping file again and puts it in force as one change set.
    ///
    /// # Errors
    /// Every mistake in it; the mapping then stays as it was.
    pub fn reload_mapping(&self) -> Result<Change, Vec<Mistake>> {
        let mut control = self.control();
        let change = load_mapping(&self.config, &mut control.writer)?;
        let now = state_file::now();
        for owner in &change.owners {
            match owner.now {
                Some(new) => {
                    let holding = Holding { server: owner.server, proto: owner.proto, ports: owner.ports, owner: new };
                    self.tables.state.assign(&holding, now);
                }
                None => self.tables.state.release(owner.server, owner.proto, owner.ports, now),
            }
        }
        let guard = table::pin();
        let (around, names) = (self.tables.around.load(&guard), self.tables.names.view(&guard));
        hold_pinned(&names, around);
        let wanted = Wanted::gather(around, &names);
        for ((on_host, port), configured) in control.ports.iter_mut().zip(&around.ports).zip(&self.config.ports) {
            let Some(claims) = on_host.program.claims() else { continue };
            let arp = answers_arp(&configured.role);
            let taken = wanted.widen(claims, &port.role, arp).and_then(|()| wanted.narrow(claims, &port.role, arp));
            if let Err(err) = taken {
                tracing::error!(port = port.name, "its XDP program did not take the new claims: {err}");
            }
        }
        Ok(change)
    }
}
