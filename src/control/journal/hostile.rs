//! The journal's reader, fed with what no engine writes. `PROPTEST_CASES` says how many files (a million take minutes).

use proptest::prelude::*;

use super::frame::{self, End, HEADER, PREAMBLE};
use super::record::{self, FileMark};
use super::recover::recover;
use crate::naming::{BindingSpec, Health, HealthNote, Words, parse_binding};

const ID: u64 = 0x6b1f_0c8e_5d2a_9347;

/// What befalls a file. Places are parts of its length.
#[derive(Clone, Debug)]
enum Wound {
    Overwritten(prop::sample::Index, Vec<u8>),
    Inserted(prop::sample::Index, Vec<u8>),
    Zeroed(prop::sample::Index, usize),
    CutOut(prop::sample::Index, usize),
    /// A part of the file, once more in another place.
    Repeated(prop::sample::Index, usize, prop::sample::Index),
    Truncated(prop::sample::Index),
}

impl Wound {
    fn to(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let part = |at: usize, len: usize| at..(at + len).min(bytes.len());
        match self {
            Wound::Overwritten(at, with) => {
                let part = part(at.index(bytes.len()), with.len());
                let len = part.len();
                bytes[part].copy_from_slice(&with[..len]);
            }
            Wound::Inserted(at, what) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, what.iter().copied());
            }
            Wound::Zeroed(at, len) => {
                let part = part(at.index(bytes.len()), *len);
                bytes[part].fill(0);
            }
            Wound::CutOut(at, len) => {
                let part = part(at.index(bytes.len()), *len);
                bytes.drain(part);
            }
            Wound::Repeated(from, len, to) => {
                let again = bytes[part(from.index(bytes.len()), *len)].to_vec();
                let to = to.index(bytes.len());
                bytes.splice(to..to, again);
            }
            Wound::Truncated(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

fn wound() -> impl Strategy<Value = Wound> {
    let at = any::<prop::sample::Index>;
    let some = || prop::collection::vec(any::<u8>(), 1..80);
    prop_oneof![
        (at(), some()).prop_map(|(at, with)| Wound::Overwritten(at, with)),
        (at(), some()).prop_map(|(at, what)| Wound::Inserted(at, what)),
        (at(), 1..300_usize).prop_map(|(at, len)| Wound::Zeroed(at, len)),
        (at(), 1..300_usize).prop_map(|(at, len)| Wound::CutOut(at, len)),
        (at(), 1..600_usize, at()).prop_map(|(from, len, to)| Wound::Repeated(from, len, to)),
        at().prop_map(Wound::Truncated),
    ]
}

/// Lines as they are, lines that are nearly so, and noise.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![Just(u64::MAX), any::<u64>(), 0..100_u64];
    let text = prop_oneof![
        (number(), any::<u32>()).prop_map(|(len, sum)| format!("= {len} {sum:08x}")),
        (number(), number()).prop_map(|(generation, at)| format!(". {generation} {at}")),
        (number(), number()).prop_map(|(generation, at)| format!("@ {generation} {at}")),
        ("[-+:]", 0..300_u16, any::<u16>())
            .prop_map(|(mark, n, port)| format!("{mark} blue tcp - 192.168.50.2:{port} - 10.2.0.{n}:80")),
        "[-+:=.@] ?[a-z0-9.:/* =-]{0,60}",
    ];
    prop_oneof![4 => text.prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

fn web(n: usize) -> BindingSpec {
    let line = format!("blue tcp - 192.168.50.2:{} - 10.2.0.{n}:80", 20_480 + n);
    parse_binding(line.as_bytes(), &mut Words::default()).unwrap().unwrap()
}

/// A journal of `sets` change sets, each of which adds a binding and says something of it, and where each frame ends.
fn journal(sets: usize) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = frame::preamble(ID).into_bytes();
    let mut ends = Vec::new();
    for nth in 0..=sets {
        let text = match nth {
            0 => record::base(FileMark::default()),
            n => {
                let (binding, before) = (web(n), Health::Unknown);
                let (server, key) = (binding.server_ip, binding.exact_key());
                let note = HealthNote { state: Health::Unhealthy, before, server, binding: key };
                record::change(n as u64, 1000, std::iter::empty::<BindingSpec>(), std::iter::once(&binding), &[note])
            }
        };
        frame::put(&mut bytes, ID, nth as u64 + 1, text.as_bytes());
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// Up to where two files are the same.
fn same(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever befalls a file, all that is whole before the first wound is read, and nothing that was not written. If more
    /// follows, the end is said to be torn, or corrupt where what was written later is still there.
    #[test]
    fn wounds_cost_nothing_before_the_first(sets in 1..12_usize, wounds in prop::collection::vec(wound(), 1..5)) {
        let (whole, ends) = journal(sets);
        let mut bytes = whole.clone();
        wounds.iter().for_each(|wound| wound.to(&mut bytes));
        let unharmed = same(&whole, &bytes);
        let good = if unharmed < PREAMBLE { 0 } else { ends.iter().filter(|&&end| end <= unharmed).count() };

        let mut recovered = recover(&bytes);
        prop_assert_eq!(recovered.frames, good as u64);
        // A head with another number is good, and no frame after it is.
        let ends_at = ends[..good].last().copied().unwrap_or(PREAMBLE);
        prop_assert!(recovered.good == ends_at || (unharmed < PREAMBLE && recovered.good == 0));
        let rest = &bytes[recovered.good..];
        prop_assert_eq!(recovered.end == End::Clean, rest.iter().all(|&byte| byte == 0));
        let starts = std::iter::once(PREAMBLE).chain(ends.iter().copied());
        let later = starts.zip(&ends).skip(good).any(|(start, &end)| contains(rest, &whole[start..end]));
        if later && unharmed >= PREAMBLE {
            prop_assert_eq!(recovered.end, End::Corrupt, "written later, and still there");
        }
        let mapping = recovered.take_mapping(Vec::new());
        let expected: Vec<String> = (1..good).map(|n| web(n).to_string()).collect();
        let mut found: Vec<String> = mapping.iter().map(|binding| binding.value.to_string()).collect();
        found.sort_by_key(|line| expected.iter().position(|known| known == line));
        prop_assert_eq!(found, expected);
    }

    /// Frames with right checksums and numbers, and whatever text: what can be read before the first that can't stays, and
    /// the place of that one is named.
    #[test]
    fn texts_that_say_nothing_are_named(
        texts in prop::collection::vec((prop::collection::vec(line(), 0..5), any::<bool>(), 0..12_u8), 0..8),
    ) {
        let (mut bytes, _) = journal(3);
        let mut places = Vec::new();
        for (nth, (lines, is_ended, skips)) in texts.iter().enumerate() {
            let mut text = lines.join(&b'\n');
            if *is_ended {
                text.push(b'\n');
            }
            let skipped = u64::from(*skips == 0);
            let reads = text.strip_suffix(b"\n").is_some_and(|text| {
                text.split(|&byte| byte == b'\n').all(|line| record::read(line, &mut Words::default()).is_some())
            });
            places.push((bytes.len(), skipped == 0 && reads));
            frame::put(&mut bytes, ID, nth as u64 + 5 + skipped, &text);
        }
        let mut recovered = recover(&bytes);
        let wrong = places.iter().position(|&(_, is_good)| !is_good);
        let good = wrong.unwrap_or(places.len());
        prop_assert_eq!(recovered.frames, 4 + good as u64);
        prop_assert_eq!(recovered.good, wrong.map_or(bytes.len(), |nth| places[nth].0));
        prop_assert_eq!(recovered.end, if wrong.is_some() { End::Corrupt } else { End::Clean });
        prop_assert!(recovered.take_mapping(Vec::new()).len() < 4 + 8 * 5);
    }

    /// Anything at all, with or without the head of a journal.
    #[test]
    fn noise_is_read_to_its_end(noise in prop::collection::vec(line(), 0..40), cut: prop::sample::Index, begun: bool) {
        let mut bytes = if begun { frame::preamble(ID).into_bytes() } else { Vec::new() };
        let head = bytes.len();
        bytes.extend(noise.join(&b'\n'));
        bytes.truncate(head.max(cut.index(bytes.len() + 1)));
        let recovered = recover(&bytes);
        prop_assert!(recovered.good <= bytes.len());
        prop_assert_eq!(recovered.end == End::Clean, bytes[recovered.good..].iter().all(|&byte| byte == 0));
        prop_assert_eq!(recovered.frames, 0);
    }
}

/// Heads of frames that all claim the rest of the file: looking into each to its end would take days.
#[test]
fn a_file_full_of_heads_is_read_at_once() {
    const HEADS: usize = 30_000;
    let (mut bytes, ends) = journal(2);
    for nth in 0..HEADS {
        let len = (HEADS - nth - 1) * HEADER;
        bytes.extend(format!("{:016x} {len:08x} {:08x}\n", nth + 4, 0xdead_beef_u32).into_bytes());
    }
    let recovered = recover(&bytes);
    assert_eq!((recovered.frames, recovered.good, recovered.end), (3, ends[2], End::Corrupt));
}
