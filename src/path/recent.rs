//! What the packet before found: the packets of a burst mostly come from one container.

use std::cell::Cell;

use crate::flow::Pool;
use crate::naming::{Binding, Container, Placed};
use crate::table::Handle;
use crate::units::{Ip, Mac, Proto};

/// The last sender of a burst and its client block: of one view and one access port, and no longer good with another.
#[derive(Default)]
pub(super) struct Recent<'g> {
    sender: Cell<Option<Sender<'g>>>,
    block: Cell<Option<Placed<'g>>>,
    pool: Cell<Option<(&'g Binding, Pool)>>,
}

#[derive(Clone, Copy)]
struct Sender<'g> {
    mac: Mac,
    ip: Ip,
    found: (Handle, &'g Container),
}

impl<'g> Recent<'g> {
    /// The container that sends as (MAC, IP): the one before, or what `find` finds.
    #[inline(always)]
    pub fn sender(
        &self,
        mac: Mac,
        ip: Ip,
        find: impl FnOnce() -> Option<(Handle, &'g Container)>,
    ) -> Option<(Handle, &'g Container)> {
        match self.sender.get() {
            Some(last) if last.mac == mac && last.ip == ip => Some(last.found),
            _ => {
                let found = find()?;
                self.sender.set(Some(Sender { mac, ip, found }));
                Some(found)
            }
        }
    }

    /// The client block that `container` sends by from an inside port: the one before, if its inside range covers the
    /// port (no other block of the container does), or what `find` finds.
    #[inline(always)]
    pub fn block(
        &self,
        container: Handle,
        proto: Proto,
        port: u16,
        find: impl FnOnce() -> Option<Placed<'g>>,
    ) -> Option<Placed<'g>> {
        if let Some(last) = self.block.get() {
            let block = last.binding;
            if block.container() == container && block.inside_ports().contains(port) && block.proto().serves(proto) {
                return Some(last);
            }
        }
        let found = find()?;
        self.block.set(Some(found));
        Some(found)
    }

    /// The ports of `block` that translation uses: those of before, or what `find` finds.
    #[inline(always)]
    pub fn pool(&self, block: &'g Binding, find: impl FnOnce() -> Option<Pool>) -> Option<Pool> {
        match self.pool.get() {
            Some((of, pool)) if std::ptr::eq(of, block) => Some(pool),
            _ => {
                let found = find()?;
                self.pool.set(Some((block, found)));
                Some(found)
            }
        }
    }
}
