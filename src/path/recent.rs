//! What the packet before found: the packets of a burst mostly come from one container.

use std::cell::Cell;

use crate::naming::{Binding, Container};
use crate::table::Handle;
use crate::units::{Ip, Mac, Proto};

/// The last sender of a burst and its client block: of one view and one access port, and no longer good with another.
#[derive(Default)]
pub(super) struct Recent<'g> {
    sender: Cell<Option<Sender<'g>>>,
    block: Cell<Option<&'g Binding>>,
}

#[derive(Clone, Copy)]
struct Sender<'g> {
    mac: Mac,
    ip: Ip,
    found: (Handle, &'g Container),
}

impl<'g> Recent<'g> {
    /// The container that sends as (MAC, IP): the one before, or what `find` finds.
    #[inline]
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
    #[inline]
    pub fn block(
        &self,
        container: Handle,
        proto: Proto,
        port: u16,
        find: impl FnOnce() -> Option<&'g Binding>,
    ) -> Option<&'g Binding> {
        let covers = |block: &&Binding| {
            block.container() == container && block.inside_ports().contains(port) && block.proto().serves(proto)
        };
        match self.block.get().filter(covers) {
            Some(block) => Some(block),
            None => {
                let found = find()?;
                self.block.set(Some(found));
                Some(found)
            }
        }
    }
}
