//! Frames that are no packets: dropped, and of some their sender is told what is wrong with them, if it is one that would be
//! told of anything.

use super::decision::Stop;
use super::holder;
use super::observe::Observer;
use super::port::{Port, Role};
use super::reply;
use super::verdict::{Reason, Verdict};
use super::walk::{Walk, must_be_routable};
use crate::frame::{self, Frame, Malformed, Packet};
use crate::units::Mac;

/// Ends the walk of a frame that could not be parsed.
#[cold]
pub(super) fn end<O: Observer>(
    walk: &mut Walk<'_, '_, O>,
    own: &Port,
    frame: &mut Frame<'_>,
    why: Malformed,
) -> Verdict {
    let reason = Reason::from(why);
    let is_for_us = |packet: &Packet| packet.eth_dst == own.mac || own.mac == Mac::ZERO;
    match frame::header_problem(frame, why) {
        Some((packet, error)) if is_for_us(&packet) && may_speak(walk, own, &packet) => {
            reply::carry_out(walk, frame, &packet, Stop::Error { error, reason })
        }
        _ => Verdict::Drop(reason),
    }
}

/// True if the sender is who it says, as far as can be known, and could have sent this to be carried.
fn may_speak<O>(walk: &Walk<'_, '_, O>, own: &Port, packet: &Packet) -> bool {
    match &own.role {
        Role::Access(access) => holder::identify(walk, access, packet.eth_src, packet.src).is_ok(),
        Role::Uplink { .. } | Role::External => must_be_routable(packet).is_ok(),
    }
}
