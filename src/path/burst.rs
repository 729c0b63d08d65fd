//! Many packets at once: while one packet's memory is on its way, the others are looked at (VPP's way, and Maglev's).

use super::ahead::{self, Ahead};
use super::observe::Silent;
use super::port::Role;
use super::recent::Recent;
use super::tags;
use super::verdict::Verdict;
use super::walk::{Context, Walk, walk_parsed};
use super::worker_state::WorkerState;
use crate::frame::{self, Frame, Malformed, Parsed};
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
    let mut parsed = [const { Err(Malformed::Truncated) }; BURST];
    let tags = tags::of(cx, port);
    for (frame, parsed) in frames[..count].iter_mut().zip(&mut parsed) {
        if tags::take_off(frame, tags) {
            frame::parse_into(frame, parsed);
        } else {
            *parsed = Err(Malformed::VlanTagged);
        }
    }
    let mut ahead = [Ahead::default(); BURST];
    if let Some(own) = cx.around.port(port) {
        let role = &own.role;
        for (parsed, ahead) in parsed[..count].iter().zip(&mut ahead) {
            if let Ok(Parsed::Ip(packet)) = parsed {
                *ahead = Ahead::begin(cx, role, packet);
            }
        }
        ahead[..count].iter_mut().for_each(|ahead| ahead.follow(cx, role));
    }
    let recent = Recent::default();
    match cx.around.port(port).map(|own| &own.role) {
        Some(Role::Access(access)) if ahead[..count].iter().any(|ahead| ahead.destination.may_be_shared()) => {
            ahead::choose(cx, access, &recent, &parsed[..count], &mut ahead[..count]);
        }
        Some(Role::External | Role::Uplink { external: true }) => {
            ahead::published(cx, &parsed[..count], &mut ahead[..count]);
        }
        _ => {}
    }
    let verdicts = &mut verdicts[..count];
    for (((frame, parsed), verdict), ahead) in frames[..count].iter_mut().zip(&parsed).zip(&mut *verdicts).zip(&ahead) {
        let mut walk = Walk { cx, local, port, recent: &recent, ahead, observer: &mut Silent, ident: None };
        walk_parsed(&mut walk, frame, parsed, verdict);
    }
    if cx.around.has_tags {
        for (frame, verdict) in frames[..count].iter_mut().zip(verdicts) {
            tags::put_on(cx, port, frame, verdict);
        }
    }
    count
}
