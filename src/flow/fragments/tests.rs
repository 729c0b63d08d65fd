use proptest::prelude::*;

use super::*;
use crate::flow::Geometry;

const NOW: Tick = Tick(1_000_000);

fn state() -> State {
    let geometry = Geometry { servers: vec!["192.168.50.1".parse().unwrap()], ports: "20480-59903".parse().unwrap() };
    State::memory(&geometry).unwrap()
}

fn parcel(id: u32) -> Parcel {
    Parcel { src: "10.1.0.2".parse().unwrap(), dst: "10.2.0.2".parse().unwrap(), proto: Proto::UDP, id }
}

fn told(id: u32) -> Told {
    Told { proto: Proto::UDP, what: What::Udp, ports: (40000, 53), id }
}

fn part(start: u16, end: u16) -> Part {
    Part { start, end, is_last: false }
}

fn last(start: u16, end: u16) -> Part {
    Part { start, end, is_last: true }
}

/// A packet whose first fragment, of ten units, has come.
fn begun(table: Fragments<'_>) -> Known {
    let key = table.key(Origin::Beyond, &parcel(1));
    assert!(table.remember(key, told(77), part(0, 10), NOW));
    table.find(key, NOW).unwrap()
}

#[test]
fn later_fragments_learn_what_the_first_one_said_for_thirty_seconds() {
    let state = state();
    let table = state.fragments();
    let key = table.key(Origin::Beyond, &parcel(1));
    assert_eq!(table.find(key, NOW), None);
    let about = Told { proto: Proto::ICMPV6, what: What::EchoReply, ports: (65535, 1), id: u32::MAX };
    assert!(table.remember(key, about, part(0, 10), NOW));
    assert_eq!(table.find(key, NOW.after_ms(LIFE_MS - 1)).unwrap().told, about);
    assert_eq!(table.find(key, NOW.after_ms(LIFE_MS)), None);
}

#[test]
fn packets_are_told_apart_by_all_that_names_them() {
    let state = state();
    let table = state.fragments();
    let own = parcel(1);
    let between =
        |src: &str, dst: &str, proto| Parcel { src: src.parse().unwrap(), dst: dst.parse().unwrap(), proto, id: 1 };
    let six = |proto| between("fd00::1", "fd00::2", proto);
    let mut keys = vec![
        table.key(Origin::Beyond, &own),
        table.key(Origin::Station(PortId(0), Mac::ZERO), &own),
        table.key(Origin::Station(PortId(1), Mac::ZERO), &own),
        table.key(Origin::Station(PortId(0), Mac::BROADCAST), &own),
        table.key(Origin::Beyond, &Parcel { id: 2, ..own }),
        table.key(Origin::Beyond, &Parcel { proto: Proto::TCP, ..own }),
        table.key(Origin::Beyond, &Parcel { src: own.dst, dst: own.src, ..own }),
        table.key(Origin::Beyond, &six(Proto::UDP)),
        table.key(Origin::Beyond, &between("fd00:0:0:1::1", "fd00::2", Proto::UDP)),
        table.key(Origin::Beyond, &between("fd00::1", "fd00:0:0:1::2", Proto::UDP)),
    ];
    let count = keys.len();
    keys.sort_by_key(|key| key.0);
    keys.dedup();
    assert_eq!(keys.len(), count);
    assert_eq!(table.key(Origin::Beyond, &six(Proto::UDP)), table.key(Origin::Beyond, &six(Proto(60))));
}

#[test]
fn what_overlaps_spoils_the_packet_and_what_repeats_does_not() {
    let state = state();
    let table = state.fragments();
    let known = begun(table);
    assert_eq!(table.take(&known, part(10, 20)), Ok(()));
    assert_eq!(table.take(&known, part(10, 20)), Err(Unfit::Duplicate));
    assert_eq!(table.take(&known, part(0, 10)), Err(Unfit::Duplicate));
    assert_eq!(table.take(&known, part(30, 40)), Ok(()));
    assert_eq!(table.take(&known, part(19, 25)), Err(Unfit::Overlap));
    assert_eq!(table.take(&known, part(20, 30)), Err(Unfit::Overlap), "nothing more of it goes on");
}

#[test]
fn nothing_reaches_beyond_the_end() {
    for parts in [[last(20, 30), part(30, 40)], [part(30, 40), last(20, 30)], [last(20, 30), last(30, 31)]] {
        let state = state();
        let table = state.fragments();
        let known = begun(table);
        assert_eq!(table.take(&known, parts[0]), Ok(()));
        assert_eq!(table.take(&known, parts[1]), Err(Unfit::Overlap), "{parts:?}");
    }
}

#[test]
fn a_packet_in_too_many_parts_is_not_followed_any_further() {
    let state = state();
    let table = state.fragments();
    let known = begun(table);
    let taken = (1..60).filter(|&n| table.take(&known, part(n * 20, n * 20 + 10)).is_ok()).count();
    assert_eq!(taken, PLACE_WORDS - 3 - 1);
    assert_eq!(table.take(&known, part(1500, 1510)), Err(Unfit::Scattered));
    assert_eq!(table.take(&known, part(10, 20)), Ok(()), "what joins a run needs no room");
}

#[test]
fn another_first_fragment_is_a_copy_until_the_packet_is_complete_or_a_second_old() {
    let state = state();
    let table = state.fragments();
    let known = begun(table);
    assert!(table.is_under_way(&known, NOW.after_ms(COPY_MS - 1)));
    assert!(!table.is_under_way(&known, NOW.after_ms(COPY_MS)));
    table.take(&known, last(20, 25)).unwrap();
    assert!(table.is_under_way(&known, NOW));
    table.take(&known, part(10, 20)).unwrap();
    assert!(!table.is_under_way(&known, NOW));
}

#[test]
fn the_next_packet_of_the_same_identification_knows_nothing_of_the_one_before() {
    let state = state();
    let table = state.fragments();
    let known = begun(table);
    table.take(&known, part(15, 20)).unwrap();
    table.take(&known, part(16, 18)).unwrap_err();
    table.take(&known, part(17, 30)).unwrap_err();
    let key = table.key(Origin::Beyond, &parcel(1));
    assert!(table.remember(key, told(78), part(0, 10), NOW));
    let next = table.find(key, NOW).unwrap();
    assert_eq!(next.told.id, 78);
    assert_eq!(table.take(&next, part(10, 30)), Ok(()));
    assert_eq!(table.take(&known, part(40, 50)), Err(Unfit::Overlap), "the one before is over");
    assert_eq!(table.forgotten(), 0, "nor is it missed: its sender has given it up");
}

#[test]
fn a_first_fragment_that_is_the_last_says_where_the_packet_ends() {
    let state = state();
    let table = state.fragments();
    let key = table.key(Origin::Beyond, &parcel(1));
    assert!(table.remember(key, told(77), last(0, 10), NOW));
    let known = table.find(key, NOW).unwrap();
    assert!(!table.is_under_way(&known, NOW), "all of it has come");
    assert_eq!(table.take(&known, part(10, 20)), Err(Unfit::Overlap));
}

/// The `nth` key of a set.
fn key_in(set: u64, nth: u64) -> FragmentKey {
    FragmentKey(NonZeroU64::new((set << 32) + 2 + nth).unwrap())
}

#[test]
fn a_packet_is_missed_if_its_place_is_taken_within_its_life() {
    for (age, missed) in [(LIFE_MS - 1, 1), (LIFE_MS, 0)] {
        let state = state();
        let table = state.fragments();
        (0..8).for_each(|nth| assert!(table.remember(key_in(3, nth), told(1), part(0, 10), NOW)));
        assert!(table.remember(key_in(3, 8), told(1), part(0, 10), NOW.after_ms(age)));
        assert_eq!(table.forgotten(), missed, "{age}");
    }
}

#[test]
fn packets_of_one_set_take_no_places_of_another() {
    let state = state();
    let table = state.fragments();
    assert!(table.remember(key_in(0, 0), told(1), part(0, 10), NOW));
    for nth in 0..100 {
        assert!(table.remember(key_in(1, nth), told(2), part(0, 10), NOW.after_ms(nth)));
    }
    assert!(table.find(key_in(0, 0), NOW.after_ms(100)).is_some());
    assert_eq!((table.under_way(NOW.after_ms(100)), table.forgotten()), (1 + 8, 92));
}

#[test]
fn a_place_that_another_worker_is_writing_is_left_to_it() {
    let state = state();
    let table = state.fragments();
    (0..PACKETS).for_each(|place| table.key_at(place).store(BUSY, SeqCst));
    assert!(!table.remember(key_in(0, 0), told(1), part(0, 10), NOW));
    table.key_at(5).store(0, SeqCst);
    assert!(table.remember(key_in(0, 0), told(1), part(0, 10), NOW));
    assert_eq!(table.find(key_in(0, 0), NOW).unwrap().place, 5);
}

/// A reader looks again once it has read: the packet may be being written down anew, or have been.
#[test]
fn what_was_read_while_another_worker_wrote_is_not_believed() {
    let state = state();
    let table = state.fragments();
    let key = key_in(0, 0);
    assert!(table.remember(key, told(1), part(0, 10), NOW));
    let before = table.find(key, NOW).unwrap();
    let still_holds = |known: Known| table.still_holds(known.place, key, known.number);
    assert!(still_holds(before));
    table.key_at(before.place).store(BUSY, SeqCst);
    assert!(!still_holds(before));
    table.key_at(before.place).store(key.0.get(), SeqCst);
    assert!(table.remember(key, told(2), part(0, 10), NOW));
    assert!(!still_holds(before) && still_holds(table.find(key, NOW).unwrap()));
}

#[test]
fn a_flood_of_packets_takes_the_places_of_the_oldest_and_says_so() {
    let state = state();
    let table = state.fragments();
    let flood = 8 * PACKETS as u32;
    for id in 0..flood {
        let key = table.key(Origin::Beyond, &parcel(id));
        assert!(table.remember(key, told(id), part(0, 10), NOW.after_ms(u64::from(id) / 100)));
    }
    let now = NOW.after_ms(u64::from(flood) / 100);
    let is_known = |id: &u32| table.find(table.key(Origin::Beyond, &parcel(*id)), now).is_some();
    assert_eq!((0..flood).filter(is_known).count(), PACKETS);
    assert_eq!(table.forgotten(), u64::from(flood) - PACKETS as u64);
    assert_eq!((table.under_way(now), table.under_way(now.after_ms(LIFE_MS))), (PACKETS, 0));
    assert!((flood - 1000..flood).all(|id| is_known(&id)), "the oldest went first");
}

#[test]
fn what_is_over_is_not_missed() {
    let state = state();
    let table = state.fragments();
    for id in 0..8 * PACKETS as u32 {
        let key = table.key(Origin::Beyond, &parcel(id));
        table.remember(key, told(id), part(0, 10), NOW);
        table.take(&table.find(key, NOW).unwrap(), last(10, 20)).unwrap();
    }
    assert_eq!(table.forgotten(), 0);
}

/// Against a plain list of what has been taken: whatever comes in whatever order, no byte goes on twice.
#[test]
fn no_byte_of_a_packet_goes_on_twice() {
    let parts = proptest::collection::vec((0..60_u16, 1..12_u16, prop::bool::weighted(0.1)), 1..60);
    proptest!(ProptestConfig::with_cases(2000), |(parts in parts)| {
        let state = state();
        let table = state.fragments();
        let known = begun(table);
        let mut taken = [false; 80];
        taken[..10].fill(true);
        let (mut end, mut is_spoilt) = (None, false);
        for (start, len, is_last) in parts {
            let part = Part { start, end: start + len, is_last };
            let range = usize::from(start)..usize::from(start + len);
            let beyond = end.is_some_and(|end| part.end > end || is_last && part.end != end)
                || is_last && taken[range.end..].contains(&true);
            let held = taken[range.clone()].iter().filter(|&&taken| taken).count();
            match table.take(&known, part) {
                Ok(()) => {
                    prop_assert!(!is_spoilt && !beyond && held == 0, "{part:?}");
                    taken[range].fill(true);
                    end = end.or(is_last.then_some(part.end));
                }
                // A run that was closed from both sides is two for the table: what spans them is refused as well.
                Err(Unfit::Duplicate) => {
                    prop_assert!(held == range.len());
                    end = end.or(is_last.then_some(part.end));
                }
                Err(Unfit::Overlap) => {
                    prop_assert!(is_spoilt || beyond || held > 0, "{part:?}");
                    is_spoilt = true;
                }
                Err(Unfit::Scattered) => prop_assert!(false, "few parts: {part:?}"),
            }
        }
    });
}

/// Two workers look before either has put its part in: one run is made longer, and another one begun.
#[test]
fn workers_that_take_parts_of_the_same_bytes_at_once_do_not_both_go_on() {
    let state = state();
    let table = state.fragments();
    let known = begun(table);
    let [_, _, end, runs @ ..] = table.place(known.place) else { panic!("a place has words") };
    let parts = [part(10, 20), part(15, 25)];
    let [one, other] = parts.map(|part| place_of(runs, known.number, part).unwrap());
    assert_ne!(one.0, other.0);
    assert_eq!(settle(end, runs, known.number, parts[0], one), Some(Ok(())));
    assert_eq!(settle(end, runs, known.number, parts[1], other), Some(Err(Unfit::Overlap)));
    assert_eq!(table.take(&known, part(30, 40)), Err(Unfit::Overlap), "the packet is spoilt");
    assert_eq!(spoil(end, known.number), Unfit::Overlap, "for good, if another worker finds the same");
    assert_eq!(table.take(&known, part(30, 40)), Err(Unfit::Overlap));
}

/// The same place is had by one of them; the other looks again.
#[test]
fn workers_that_want_the_same_place_take_turns() {
    let state = state();
    let table = state.fragments();
    let known = begun(table);
    let [_, _, end, runs @ ..] = table.place(known.place) else { panic!("a place has words") };
    let parts = [part(20, 30), part(40, 50)];
    let [one, other] = parts.map(|part| place_of(runs, known.number, part).unwrap());
    assert_eq!(one.0, other.0);
    assert_eq!(settle(end, runs, known.number, parts[0], one), Some(Ok(())));
    assert_eq!(settle(end, runs, known.number, parts[1], other), None);
    assert_eq!(table.take(&known, parts[1]), Ok(()));
}

/// The end becomes known between a worker's two looks at it.
#[test]
fn a_part_that_was_put_in_beyond_the_end_spoils_the_packet() {
    let state = state();
    let table = state.fragments();
    let known = begun(table);
    let [_, _, end, runs @ ..] = table.place(known.place) else { panic!("a place has words") };
    let late = part(40, 50);
    let place = place_of(runs, known.number, late).unwrap();
    assert_eq!(agree_on_end(end, known.number, last(20, 30)), Ok(()));
    assert_eq!(settle(end, runs, known.number, late, place), Some(Err(Unfit::Overlap)));
}

#[test]
fn many_workers_together_forward_each_part_once() {
    let state = state();
    let table = state.fragments();
    let known = begun(table);
    let went: usize = std::thread::scope(|scope| {
        let work = || (1..20).filter(|&n| table.take(&known, part(n * 10, n * 10 + 10)).is_ok()).count();
        let threads = [(); 4].map(|()| scope.spawn(work));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // Copies that come at the very same time may spoil their packet, which is no harm.
    assert!(went <= 19, "{went}");
}
