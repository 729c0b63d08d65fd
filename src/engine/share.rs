//! What one worker has memory for: the queues that it begins with, and those of ports to come.

use super::assignment::worker_of;
use super::config::PortConfig;
use crate::units::{PortId, QueueId};

/// Frames of a worker beside those that wait in its receive rings: bursts, packets that wait or cross, and all that is
/// being sent. If every transmit ring is full at once, receive rings are refilled a moment later. More would be more
/// memory to zero before the first packet.
const SPARE_FRAMES: u32 = 1024;

/// The queues that one worker's memory is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Entries of the rx and fill rings of a queue that was configured.
    ring_size: u32,
    configured: usize,
    /// Queues of live ports: those that there are and those to come.
    pub live: usize,
}

impl Share {
    /// What worker `index` of `workers` needs for these ports, and for `spare` queues of live ones in all.
    pub fn of(index: usize, workers: usize, ports: &[PortConfig], spare: usize, ring_size: Option<u32>) -> Share {
        let live = queues_of(index, workers, ports).filter(|(port, _)| port.live).count();
        let configured = queues_of(index, workers, ports).count() - live;
        let ring_size = ring_size.unwrap_or_else(|| ring_size_for(configured));
        Share { ring_size, configured, live: live.max(spare) }
    }

    /// Entries of the rx and fill rings of each queue of a port.
    pub fn ring_of(&self, port: &PortConfig) -> u32 {
        if port.live { live_ring_size_for(self.live).min(self.ring_size) } else { self.ring_size }
    }

    /// Frames for all receive rings, and some to hold and to send.
    pub fn frames(&self) -> u32 {
        let live = live_ring_size_for(self.live).min(self.ring_size);
        self.configured as u32 * self.ring_size + self.live as u32 * live + SPARE_FRAMES
    }

    /// Queues that it may come to serve.
    pub fn most_queues(&self) -> usize {
        self.configured + self.live
    }
}

/// The queues that worker `index` of `workers` serves.
pub(super) fn queues_of(
    index: usize,
    workers: usize,
    ports: &[PortConfig],
) -> impl Iterator<Item = (PortConfig, QueueId)> {
    ports.iter().flat_map(move |port| own_queues(port, index, workers).map(|queue| (*port, queue)))
}

/// Those of one port.
pub(super) fn own_queues(port: &PortConfig, index: usize, workers: usize) -> impl Iterator<Item = QueueId> + use<> {
    let id = port.id;
    (0..port.queues).map(QueueId).filter(move |&queue| worker_of(id, queue, workers) == index)
}

/// How many ports an engine with these has room for in its tables: ids are below that.
pub(super) fn most_ports(ports: &[PortConfig], shares: &[Share]) -> usize {
    let used = ports.iter().map(|&PortConfig { id: PortId(id), .. }| usize::from(id) + 1).max().unwrap_or(0);
    let to_come: usize = shares.iter().map(|share| share.live).sum();
    (used + to_come).min(usize::from(u16::MAX))
}

/// Entries of the rx and fill rings of each of a worker's queues: deep where they are few, so that memory stays within
/// bounds. 2048 hold the window of a TCP connection; 1024 do not, and the sender's bursts run over.
fn ring_size_for(queues: usize) -> u32 {
    match queues {
        0..=8 => 2048,
        9..=16 => 1024,
        17..=64 => 512,
        _ => 256,
    }
}

/// The same for live ports: nobody knows how many there will be, and every boot has to make the memory.
fn live_ring_size_for(queues: usize) -> u32 {
    ring_size_for(queues).min(512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::afxdp::Copying;

    fn port(id: u16, queues: u32, live: bool) -> PortConfig {
        PortConfig { id: PortId(id), ifindex: 1, queues, multi_buffer: false, copying: Copying::Always, live }
    }

    #[test]
    fn memory_for_ports_to_come_does_not_depend_on_how_many_have_come() {
        let configured = [port(0, 1, false), port(1, 1, false)];
        let frames = |more: &[PortConfig], spare| Share::of(0, 1, &[&configured, more].concat(), spare, None).frames();
        let empty = frames(&[], 8);
        assert_eq!(empty, 2 * 2048 + 8 * 512 + 1024);
        assert_eq!(frames(&[port(2, 1, true), port(5, 4, true)], 8), empty);
        assert_eq!(frames(&[port(2, 9, true)], 8), empty + 512, "those that are there have memory in any case");
        assert_eq!(frames(&[], 0), 2 * 2048 + 1024);
        assert_eq!(frames(&[], 200), 2 * 2048 + 200 * 256 + 1024);
    }

    #[test]
    fn configured_ports_have_deep_rings_whatever_may_come() {
        let share = Share::of(0, 1, &[port(0, 1, false)], 300, None);
        assert_eq!((share.ring_of(&port(0, 1, false)), share.ring_of(&port(1, 1, true))), (2048, 256));
        assert_eq!(share.most_queues(), 301);
    }
}
