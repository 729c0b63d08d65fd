//! Whatever the bytes: one verdict, no panic, and nothing leaves that is worse than what came.

use std::cell::RefCell;

use proptest::prelude::*;
use sixway::path::{Observer, Step, Verdict};

use crate::arbitrary::{frame, mutated, noise};
use crate::case::verify;
use crate::scene::server_a;
use crate::world::World;

/// Counts the ends of a walk.
#[derive(Default)]
struct Ends(Vec<Verdict>);

impl Observer for Ends {
    fn step(&mut self, step: Step) {
        if let Step::Decided(verdict) = step {
            self.0.push(verdict);
        }
    }
}

/// Walks the frame and holds what becomes of it against what came.
fn hold(world: &mut World, port: &str, frame: &[u8]) -> Result<(), TestCaseError> {
    let mut ends = Ends::default();
    let outcome = world.observe(port, frame, false, &mut ends);
    prop_assert_eq!(&ends.0, &[outcome.verdict], "exactly one verdict");
    let Some(out) = outcome.out else { return Ok(()) };
    let (by, dst_mac, src_mac) = match outcome.verdict {
        Verdict::Forward { port } | Verdict::Answer { port, .. } | Verdict::Hold { port, .. } => {
            (port, &out[..6], &out[6..12])
        }
        other => return Err(TestCaseError::fail(format!("{other:?} sends"))),
    };
    prop_assert_eq!(src_mac, &world.assembly.around.port(by).unwrap().mac.0, "from the port's own MAC");
    let (before, after) = (verify(frame), verify(&out));
    match outcome.verdict {
        Verdict::Answer { port: back, .. } => {
            prop_assert_eq!(back, world.port(port), "answers go back where the frame came from");
            prop_assert_eq!(dst_mac, &frame[6..12]);
        }
        _ => {
            prop_assert_eq!(out[22], frame[22] - 1, "the TTL falls by one");
            prop_assert_eq!(out.len(), frame.len());
            let payload = frame.len().saturating_sub(4).max(76);
            prop_assert_eq!(out.get(payload..), frame.get(payload..), "no payload byte is touched");
        }
    }
    let is_partial = before.is_err() && after.is_ok();
    if is_partial {
        prop_assert!(
            has_pseudo_sum(frame) || matches!(outcome.verdict, Verdict::Answer { .. }),
            "a bad checksum stays bad"
        );
    } else {
        prop_assert_eq!(before.is_ok(), after.is_ok(), "{:?} became {:?}", before, after);
    }
    Ok(())
}

/// True if the transport checksum is the folded sum of the pseudo header alone.
fn has_pseudo_sum(frame: &[u8]) -> bool {
    let ip = &frame[14..];
    let at = usize::from(ip[0] & 15) * 4;
    let (at_checksum, len) = match ip[9] {
        6 => (at + 16, u32::from(u16::from_be_bytes([ip[2], ip[3]])) - at as u32),
        17 => (at + 6, u32::from(u16::from_be_bytes([ip[at + 4], ip[at + 5]]))),
        _ => return false,
    };
    let mut sum: u32 = ip[12..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    sum += u32::from(ip[9]) + len;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u32::from(u16::from_be_bytes([ip[at_checksum], ip[at_checksum + 1]])) == sum
}

/// Runs a property over one server that lives through all of them.
fn with_server<S>(cases: u32, strategy: S)
where
    S: Strategy<Value = (&'static str, Vec<u8>)>,
{
    let world = RefCell::new(server_a());
    proptest!(ProptestConfig::with_cases(cases), |((port, frame) in strategy)| {
        let mut world = world.borrow_mut();
        // Budgets for answers come back.
        world.later(1);
        hold(&mut world, port, &frame)?;
    });
}

#[test]
fn well_formed_packets_get_one_verdict_and_leave_well_formed() {
    with_server(4000, frame());
}

#[test]
fn mutated_packets_get_one_verdict_and_leave_no_better_than_they_came() {
    with_server(8000, mutated());
}

#[test]
fn noise_gets_one_verdict() {
    with_server(4000, noise());
}

#[test]
fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let world = RefCell::new(server_a());
    proptest!(ProptestConfig::with_cases(150), |((port, frame) in frame())| {
        let mut world = world.borrow_mut();
        world.later(1);
        let before = world.remembered();
        let said = world.observe(port, &frame, true, &mut Ends::default());
        prop_assert_eq!(before, world.remembered());
        let done = world.receive(port, &frame);
        prop_assert_eq!(said.verdict, done.verdict);
    });
}
