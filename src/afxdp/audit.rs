//! Where every frame is: the proof that none is lost.

use super::ledger::Place;
use super::{Socket, Umem};
use crate::units::QueueId;

/// The frames of one socket, counted twice: by the ledger's marks and by ring positions. The two have nothing in common
/// but the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketAudit {
    pub ifindex: u32,
    pub queue: QueueId,
    /// Frames marked as given to the kernel for receive.
    pub posted: u32,
    /// Fill entries ever produced less rx entries ever consumed.
    pub posted_by_rings: u32,
    /// Frames marked as given to the kernel for transmit.
    pub sent: u32,
    /// Tx entries ever produced less completions ever consumed.
    pub sent_by_rings: u32,
}

/// A count of all frames of a UMEM by the place where they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameAudit {
    /// Frames that there are.
    pub total: u32,
    /// Frames on the free list, each once and marked as free.
    pub free: u32,
    /// Frames that the application holds, by its buffers.
    pub held: u32,
    /// Frames marked as held.
    pub held_by_ledger: u32,
    /// Frames of sockets that are being torn down.
    pub retired: u32,
    pub sockets: Vec<SocketAudit>,
    /// Frames that are nowhere, or in two places, or with a socket that was not named.
    pub astray: u32,
}

impl FrameAudit {
    /// Counts the frames of `umem`, whose live sockets are `sockets`. Walks all frames: not for the packet path.
    pub fn of<'a>(umem: &Umem, sockets: impl IntoIterator<Item = &'a Socket>) -> FrameAudit {
        let sockets: Vec<&Socket> = sockets.into_iter().collect();
        let total = umem.frames();
        let mut audit = FrameAudit {
            total,
            free: 0,
            held: umem.held(),
            held_by_ledger: 0,
            retired: 0,
            sockets: sockets.iter().map(|socket| SocketAudit::by_rings(socket)).collect(),
            astray: 0,
        };
        let mut listed = vec![false; total as usize];
        for &frame in umem.free_list() {
            match listed.get_mut(frame as usize) {
                Some(listed) if !*listed => *listed = true,
                _ => audit.astray += 1,
            }
        }
        for (frame, listed) in (0..total).zip(listed) {
            let socket = |of| sockets.iter().position(|socket| socket.slot() == of);
            match (umem.ledger.place(frame), listed) {
                (Some(Place::Free), true) => audit.free += 1,
                (Some(Place::Held), false) => audit.held_by_ledger += 1,
                (Some(Place::Retired { .. }), false) => audit.retired += 1,
                (Some(Place::Posted { slot, .. }), false) => match socket(slot) {
                    Some(at) => audit.sockets[at].posted += 1,
                    None => audit.astray += 1,
                },
                (Some(Place::Sent { slot, .. }), false) => match socket(slot) {
                    Some(at) => audit.sockets[at].sent += 1,
                    None => audit.astray += 1,
                },
                _ => audit.astray += 1,
            }
        }
        audit.astray += umem.retired().abs_diff(audit.retired);
        audit
    }

    /// True if every frame is in exactly one place and all counts agree.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let with_kernel: u32 = self.sockets.iter().map(|socket| socket.posted + socket.sent).sum();
        self.astray == 0
            && self.held == self.held_by_ledger
            && self.sockets.iter().all(SocketAudit::agrees)
            && self.free + self.held + self.retired + with_kernel == self.total
    }
}

impl SocketAudit {
    fn by_rings(socket: &Socket) -> SocketAudit {
        SocketAudit {
            ifindex: socket.ifindex(),
            queue: socket.queue(),
            posted: 0,
            posted_by_rings: socket.posted(),
            sent: 0,
            sent_by_rings: socket.outstanding(),
        }
    }

    fn agrees(&self) -> bool {
        self.posted == self.posted_by_rings && self.sent == self.sent_by_rings
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_umem_without_sockets_are_free_or_held() {
        let mut umem = Umem::new(16).unwrap();
        let buffers: Vec<_> = (0..5).filter_map(|_| umem.take()).collect();
        let audit = FrameAudit::of(&umem, []);
        assert!(audit.adds_up(), "{audit:?}");
        assert_eq!((audit.total, audit.free, audit.held), (16, 11, 5));
        buffers.into_iter().for_each(|buffer| umem.release(buffer));
        assert_eq!(FrameAudit::of(&umem, []).free, 16);
    }

    #[test]
    fn a_frame_that_went_astray_is_found() {
        let mut umem = Umem::new(4).unwrap();
        let lost = umem.pop_free().unwrap();
        let audit = FrameAudit::of(&umem, []);
        assert!(!audit.adds_up() && audit.astray == 1, "{audit:?}");
        umem.put_free(lost);
        assert!(FrameAudit::of(&umem, []).adds_up());
        let buffer = umem.take().unwrap();
        umem.ledger.set(buffer.frame(), Place::Free);
        assert!(!FrameAudit::of(&umem, []).adds_up(), "marked as free, but not on the list");
        umem.release(buffer);
    }
}
