//! Frames that the XDP program gave to the engine and that are the kernel's after all: fragments that came before the
//! first of their packet. They go back by a pair of interfaces whose one end is the kernel's.

use std::array;
use std::io::IoSlice;
use std::sync::OnceLock;

use super::pieces::view;
use super::worker::Worker;
use crate::afxdp::{MAX_SEGMENTS, PacketSocket, Segment, Umem};
use crate::frame::{pop_tags, set_macs};
use crate::path::{Context, Reason};
use crate::units::{Mac, PortId, VlanTags};

/// The way from one port back to the kernel.
#[derive(Debug)]
pub struct WayBack {
    /// The port that the frames have come by.
    pub port: PortId,
    /// On the engine's end.
    pub socket: PacketSocket,
    /// The MAC of the kernel's end: what is for another is not taken there.
    pub kernel: Mac,
}

/// The ways of all ports that have one. Written once, by the control side; read by workers.
#[derive(Debug, Default)]
pub struct WaysBack(OnceLock<Vec<WayBack>>);

impl WaysBack {
    /// From now on these are the ways. Once: false if there were some already.
    pub fn open(&self, ways: Vec<WayBack>) -> bool {
        self.0.set(ways).is_ok()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.get().map_or(0, Vec::len)
    }

    fn from(&self, port: PortId) -> Option<&WayBack> {
        self.0.get()?.iter().find(|way| way.port == port)
    }
}

impl Worker {
    /// Gives a frame that came in by `from` to the kernel. `chain` is empty afterwards. One system call a frame, as a kick
    /// would be; few come this way.
    pub(super) fn hand_back(&mut self, cx: &Context<'_>, from: PortId, chain: &mut Vec<Segment>) {
        let cells = &self.cells.ports[usize::from(from.0)];
        let tags = cx.around.port(from).map_or(VlanTags::NONE, |port| port.tags);
        match self.tables.back.from(from).map(|way| give(way, tags, &self.umem, chain)) {
            Some(true) => cells.host.add(1),
            // Without a way, or where the kernel does not take it.
            Some(false) | None => cells.dropped.add(Reason::FragmentUnclaimed),
        }
        self.release(chain);
    }
}

/// Beyond the way no interface takes VLAN tags off.
fn give(way: &WayBack, tags: VlanTags, umem: &Umem, chain: &mut [Segment]) -> bool {
    let mut rest = [&[][..]; MAX_SEGMENTS];
    let Some(mut frame) = view(umem, chain, &mut rest) else { return false };
    if !tags.is_none() && !pop_tags(&mut frame, tags) {
        return false;
    }
    let Some(&src) = frame.bytes().get(6..).and_then(|tail| tail.first_chunk()) else { return false };
    set_macs(&mut frame, way.kernel, Mac(src));
    let mut parts: [IoSlice<'_>; MAX_SEGMENTS] = array::from_fn(|_| IoSlice::new(&[]));
    let bytes = std::iter::once(frame.bytes()).chain(frame.rest().iter().copied());
    let count = parts.iter_mut().zip(bytes).map(|(part, bytes)| *part = IoSlice::new(bytes)).count();
    parts.get(..count).is_some_and(|parts| way.socket.send(parts).is_ok())
}
