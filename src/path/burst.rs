//! Many packets at once: while one packet's memory is on its way, the others are looked at (VPP's way, and Maglev's).

use super::observe::Silent;
use super::port::Role;
use super::recent::Recent;
use super::verdict::Verdict;
use super::walk::{Context, walk_parsed};
use super::worker_state::WorkerState;
use crate::frame::{self, Frame, Malformed, Packet, Parsed};
use crate::naming::{Inside, Wire};
use crate::units::PortId;

/// The most frames of one burst.
pub const BURST: usize = 32;

/// Walks up to [`BURST`] frames that came in by `port`, each as [`walk`](super::walk) does, and writes their verdicts.
/// Frames beyond the shorter of the two slices, or beyond `BURST`, are left alone: returns how many were walked.
pub fn walk_burst(
    cx: &Context<'_>,
    local: &mut WorkerState,
    port: PortId,
    frames: &mut [Frame<'_>],
    verdicts: &mut [Verdict],
) -> usize {
    let count = frames.len().min(verdicts.len()).min(BURST);
    // Built in place and passed by reference: a parsed packet is three cache lines long.
    let parsed: [Result<Parsed, Malformed>; BURST] =
        std::array::from_fn(|nth| frames[..count].get(nth).map_or(Err(Malformed::Truncated), frame::parse));
    let packets =
        || parsed[..count].iter().filter_map(|p| if let Ok(Parsed::Ip(packet)) = p { Some(packet) } else { None });
    match cx.around.port(port).map(|port| &port.role) {
        Some(Role::Access(access)) => {
            // Senders are not asked for: behind an access port there is mostly one.
            let names = &cx.names;
            let inside = |packet: &Packet| Inside(packet.dst_endpoint());
            packets().for_each(|packet| names.prefetch_outer(access.network, inside(packet)));
            packets().for_each(|packet| names.prefetch_outer_record(access.network, inside(packet)));
        }
        Some(_) => {
            packets().for_each(|packet| {
                cx.names.prefetch_inner(Wire(packet.dst_endpoint()));
                cx.names.prefetch_inner(Wire(packet.src_endpoint()));
            });
            packets().for_each(|packet| {
                cx.names.prefetch_inner_record(Wire(packet.dst_endpoint()));
                cx.names.prefetch_inner_record(Wire(packet.src_endpoint()));
            });
        }
        None => {}
    }
    let recent = Recent::default();
    for ((frame, parsed), verdict) in frames[..count].iter_mut().zip(&parsed).zip(verdicts) {
        *verdict = walk_parsed(cx, local, port, &recent, frame, parsed, &mut Silent);
    }
    count
}
