//! Whatever the bytes: one verdict, no panic, and nothing leaves that is worse than what came.

use std::cell::RefCell;

use proptest::prelude::*;
use sixway::path::{Observer, Step, Verdict};

use crate::arbitrary::{frame, mutated, noise};
use crate::case::verify;
use crate::packet::{ACK, echo_request, mac, other, tcp, udp};
use crate::parts::fragment;
use crate::scene::{MAC_A, MAC_B, MAC_ROUTER, server_a};
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
            // Who calls a name that is public is told by the way that its answers go.
            let by_router = port == "uplink" && dst_mac == mac(MAC_ROUTER).0;
            prop_assert!(by_router || dst_mac == &frame[6..12], "answers go back to whom the frame came from");
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
            matches!(outcome.verdict, Verdict::Answer { .. }) || has_pseudo_sum(frame),
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

/// Fragments of a few packets, at random places and of random lengths, cut again and again by others' rules.
fn fragments_of_few() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let content: Vec<u8> = (0..=255).cycle().take(2000).collect();
    let one = (0..4_u32, prop_oneof![4 => 0..40_usize, 1 => 8000..8191_usize], 0..120_usize, any::<bool>(), 0..5_usize);
    proptest::collection::vec(one, 1..60).prop_map(move |pieces| {
        let of = |(id, offset, len, more, which): (u32, usize, usize, bool, usize)| {
            let (port, whole) = match which {
                0 => ("native", udp("10.1.0.2:20740", "10.2.0.2:53").from("native")),
                1 => ("plain", tcp("10.1.0.3:40000", "10.2.0.2:80", ACK).from("plain")),
                2 => ("native", echo_request("10.1.0.2", "10.2.0.2", 7).from("native")),
                3 => ("uplink", udp("192.168.50.2:20481", "192.168.50.1:20740").eth(MAC_B, MAC_A)),
                _ => ("public", other("10.1.0.4", "10.2.0.2", 50).from("public")),
            };
            let whole = whole.payload(&content).bytes();
            let start = (34 + offset * 8).min(whole.len());
            let end = (start + if more { len / 8 * 8 } else { len }).min(whole.len());
            let piece = if offset < 8000 { whole[start..end].to_vec() } else { content[..len].to_vec() };
            (port, fragment(&whole, &piece, offset, more, id))
        };
        pieces.into_iter().map(of).collect()
    })
}

/// Whatever comes in whatever order: of no packet that leaves does a byte leave twice, so no receiver can be made to
/// choose between two.
#[test]
fn no_byte_of_a_fragmented_packet_leaves_twice() {
    let mut world = server_a();
    let world = RefCell::new(&mut world);
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) }, |(frames in fragments_of_few())| {
        let mut world = world.borrow_mut();
        world.later(31);
        let mut left = std::collections::HashMap::<Vec<u8>, Vec<std::ops::Range<usize>>>::new();
        for (port, frame) in frames {
            let outcome = world.receive(port, &frame);
            // What is forwarded; answers to firsts quote them, which is no fragment.
            let Some(out) = outcome.out.filter(|out| out[20] & 0x20 != 0 || out[20..22] != [0, 0]) else { continue };
            if verify(&out).is_err() {
                return Err(TestCaseError::fail(format!("{out:02x?}")));
            }
            let name = [&out[18..20], &out[23..24], &out[26..34]].concat();
            let from = usize::from(u16::from_be_bytes([out[20] & 0x1f, out[21]])) * 8;
            let range = from..from + usize::from(u16::from_be_bytes([out[16], out[17]])) - 20;
            if out[20] & 0x40 != 0 {
                continue;
            }
            let others = left.entry(name).or_default();
            prop_assert!(others.iter().all(|other| other.end <= range.start || range.end <= other.start), "{others:?} {range:?}");
            others.push(range);
        }
    });
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
