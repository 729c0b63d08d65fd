//! VLAN tags of ports: off before a frame is parsed, on when it is known by which port it leaves. In between nobody knows
//! of them.

use super::verdict::{Reason, Verdict};
use super::walk::Context;
use crate::frame::{self, Frame};
use crate::units::{PortId, VlanTags};

/// The tags that frames bear where they come in.
#[inline(always)]
pub(super) fn of(cx: &Context<'_>, port: PortId) -> VlanTags {
    cx.around.port(port).map_or(VlanTags::NONE, |own| own.tags)
}

/// Takes the tags of its port off a frame. False if it does not bear them.
#[inline(always)]
pub(super) fn take_off(frame: &mut Frame<'_>, tags: VlanTags) -> bool {
    tags.is_none() || frame::pop_tags(frame, tags)
}

/// Puts those of the port that it leaves by on a frame; on the kernel's, and on one that is to be walked again, those that
/// it came with.
#[cold]
pub(super) fn put_on(cx: &Context<'_>, came_by: PortId, frame: &mut Frame<'_>, verdict: &mut Verdict) {
    let by = match *verdict {
        Verdict::Forward { port }
        | Verdict::Cut { port, .. }
        | Verdict::Answer { port, .. }
        | Verdict::Hold { port, .. } => port,
        Verdict::Host | Verdict::Await { .. } => came_by,
        Verdict::Drop(_) | Verdict::Consume | Verdict::Heard => return,
    };
    if !frame::push_tags(frame, of(cx, by)) {
        *verdict = Verdict::Drop(Reason::NoRoom);
    }
}
