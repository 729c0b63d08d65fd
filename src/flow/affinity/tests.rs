use super::*;
use crate::flow::Geometry;

const NOW: Tick = Tick(1_000_000);
const WEB: ReplicaId = ReplicaId::of(0x0123_4567_89ab_cdef);

fn state() -> State {
    let geometry = Geometry { servers: vec!["192.168.50.1".parse().unwrap()], ports: "20480-59903".parse().unwrap() };
    State::memory(&geometry).unwrap()
}

/// One of many flows that have the same eight places.
fn flow(nth: u64) -> FlowKey {
    FlowKey(NonZeroU64::new(7 << 32 | nth << 20 | 3).unwrap())
}

fn seconds(seconds: u64) -> Tick {
    NOW.after_ms(seconds * 1000)
}

/// Puts an entry of the flow into the `nth` of its places, as a worker does that found no other.
fn put(table: Affinity<'_>, flow: FlowKey, nth: usize, word: KeptWord) -> usize {
    let at = places(flow).nth(nth).unwrap();
    table.key_at(at).store(flow.0.get(), SeqCst);
    table.word(at).store(word.0, SeqCst);
    at
}

fn entry(signal: Signal, now: Tick) -> KeptWord {
    KeptWord(0).replaced(WEB, By::Client, signal, now)
}

fn is_taken(table: Affinity<'_>, at: usize) -> bool {
    KeptWord(table.word(at).load(SeqCst)).is_entry()
}

#[test]
fn of_two_that_workers_have_begun_the_lower_place_stays() {
    for [first, second] in [[1, 6], [6, 1]] {
        let state = state();
        let table = state.affinity();
        let word = entry(Signal::Segment, NOW).tentative();
        let [one, other] = [first, second].map(|nth| put(table, flow(1), nth, word));
        assert_eq!(table.confirm(flow(1), one, word, NOW), one < other);
        assert_eq!((is_taken(table, one), is_taken(table, other)), (one < other, other < one));
        assert_eq!(
            table.kept(flow(1), Signal::Segment, NOW).is_some(),
            one < other,
            "the other is to be confirmed yet"
        );
        assert!(one < other || table.confirm(flow(1), other, word, NOW));
    }
}

#[test]
fn one_that_stands_goes_before_one_that_was_begun_unless_it_has_expired() {
    for (nth, now, stays) in [(1, NOW, false), (6, NOW, false), (1, seconds(7441), true), (6, seconds(7441), true)] {
        let state = state();
        let table = state.affinity();
        let standing = put(table, flow(1), nth, entry(Signal::Segment, NOW));
        let word = entry(Signal::Segment, now).tentative();
        let begun = put(table, flow(1), 3, word);
        assert_eq!(table.confirm(flow(1), begun, word, now), stays);
        assert_eq!((is_taken(table, begun), is_taken(table, standing)), (stays, !stays));
    }
}

/// A killed worker leaves what it had claimed or begun.
#[test]
fn what_nobody_will_finish_is_taken_back() {
    let state = state();
    let table = state.affinity();
    put(table, flow(1), 0, entry(Signal::Segment, NOW));
    for nth in 2..8 {
        let word = entry(Signal::Segment, NOW);
        put(table, flow(nth as u64), nth, if nth % 2 == 0 { word.claimed() } else { word.tentative() });
    }
    let free = || {
        (0..8)
            .filter(|&nth| KeptWord(table.word(places(flow(1)).nth(nth).unwrap()).load(SeqCst)).phase() == Phase::Free)
    };
    assert_eq!(free().collect::<Vec<_>>(), [1]);
    table.recover();
    assert_eq!(free().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert!(table.kept(flow(1), Signal::Segment, NOW).is_some());
}

#[test]
fn the_connection_that_has_been_closed_for_longest_makes_way() {
    let state = state();
    let table = state.affinity();
    (0..8).for_each(|nth| assert!(table.sent(flow(nth), WEB, Signal::Segment, NOW)));
    for (nth, closed_at) in (0..).zip([50, 30, 10, 70, 20, 60, 40, 80]) {
        assert!(table.received(flow(nth), WEB, Signal::Rst, seconds(closed_at)));
    }
    let is_kept = |nth| table.kept(flow(nth), Signal::Segment, seconds(100)).is_some();
    for (newcomer, gone) in (8..).zip([2, 4, 1]) {
        assert!(is_kept(gone) && table.has_room(flow(newcomer), seconds(100)));
        assert!(table.sent(flow(newcomer), WEB, Signal::Syn, seconds(100)));
        assert!(!is_kept(gone) && is_kept(newcomer));
    }
    assert!((0..11).filter(|nth| ![2, 4, 1].contains(nth)).all(is_kept));
}

#[test]
fn a_flow_that_finds_all_its_places_alive_has_no_room() {
    let state = state();
    let table = state.affinity();
    for nth in 0..8 {
        assert!(table.has_room(flow(nth), NOW) && table.sent(flow(nth), WEB, Signal::Segment, NOW));
    }
    assert!(!table.has_room(flow(8), NOW) && !table.sent(flow(8), WEB, Signal::Segment, NOW));
    assert!(table.has_room(flow(0), NOW), "it has its entry");
    table.forget(flow(3));
    assert!(table.has_room(flow(8), NOW));
}

#[test]
fn what_goes_where_the_flow_was_kept_keeps_it_there() {
    let state = state();
    let table = state.affinity();
    let other = ReplicaId::of(7);
    table.sent(flow(1), WEB, Signal::Datagram, NOW);
    let kept = table.kept(flow(1), Signal::Datagram, seconds(200)).unwrap();
    assert!(table.sent_as_kept(flow(1), &kept, Signal::Datagram, seconds(200)));
    let kept = table.kept(flow(1), Signal::Datagram, seconds(500)).unwrap();
    // Another worker is quicker: it hears the flow's other replica.
    assert!(table.received(flow(1), other, Signal::Datagram, seconds(500)));
    assert!(table.sent_as_kept(flow(1), &kept, Signal::Datagram, seconds(501)), "what was sent has gone there");
    assert_eq!(table.kept(flow(1), Signal::Datagram, seconds(501)).unwrap().replica, WEB);
}

#[test]
fn a_flow_has_two_buckets_that_are_never_one() {
    for (key, buckets) in [(7 << 32 | 3, [3, 7]), (3 << 32 | 7, [7, 3]), (7 << 32 | 7, [7, 6]), (6 << 32 | 6, [6, 7])] {
        let places: Vec<usize> = places(FlowKey(NonZeroU64::new(key).unwrap())).collect();
        let expected = buckets.into_iter().flat_map(|bucket| (0..BUCKET).map(move |nth| bucket * BUCKET + nth));
        assert_eq!(places, expected.collect::<Vec<_>>());
    }
}
