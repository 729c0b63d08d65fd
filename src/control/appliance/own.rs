//! The kernel's own addresses: packets and XDP programs follow them.

use std::io;

use super::Appliance;
use super::claims::public_ip;
use super::programs::answers_arp;
use crate::control::kernel::Addresses;
use crate::path::Surroundings;
use crate::table;
use crate::units::Ip;

impl Appliance {
    /// Takes note of the addresses that the kernel has now.
    pub(super) fn note_addresses(&self, addresses: &Addresses) {
        {
            let _nobody_else = self.on_host();
            let around = surrounded(self.tables.around.load(&table::pin()), addresses);
            self.tables.around.store(around);
            self.tables.around.reclaim();
        }
        self.tell_of_addresses();
    }

    /// Tells the XDP programs which public addresses have become the kernel's, and which are no longer: it answers echo for
    /// its own. A change set that is on its way to them comes first; then it is told at the next turn.
    pub(super) fn tell_of_addresses(&self) {
        let Ok(_turn) = self.writer.try_lock() else { return };
        let mut told = self.told();
        let guard = table::pin();
        let (around, names) = (self.tables.around.load(&guard), self.tables.names.view(&guard));
        if *told == around.kernels {
            return;
        }
        let only_in = |these: &[Ip], those: &[Ip]| -> Vec<Ip> {
            these.iter().copied().filter(|ip| those.binary_search(ip).is_err()).collect()
        };
        let changed = [only_in(&told, &around.kernels), only_in(&around.kernels, &told)].concat();
        for ip in changed.into_iter().filter(|&ip| around.is_gateway && names.is_public_ip(ip)) {
            let owner = if around.is_of_host(ip) { "the kernel" } else { "the engine" };
            match self.claim_echo(around, ip) {
                Ok(()) => {
                    tracing::info!(%ip, "echo requests for this public address are answered by {owner} from now on")
                }
                Err(error) => tracing::error!(%ip, "its echo requests do not go to {owner}: {error}"),
            }
        }
        told.clone_from(&around.kernels);
    }

    /// Has each program that knows of public addresses hand over echo requests for this one, or leave them to the kernel.
    fn claim_echo(&self, around: &Surroundings, ip: Ip) -> io::Result<()> {
        self.on_host().values_mut().filter(|port| port.configured.role.leads_out()).try_for_each(|port| {
            let arp = answers_arp(&port.configured.role);
            port.program.claims().map_or(Ok(()), |claims| claims.set_public_ip(ip, public_ip(around, ip, arp)))
        })
    }
}

/// The surroundings when the kernel has these addresses.
pub(super) fn surrounded(around: &Surroundings, addresses: &Addresses) -> Surroundings {
    around.with_addresses(addresses.all.clone(), &addresses.by_port)
}
