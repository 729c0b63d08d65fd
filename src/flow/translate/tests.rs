use super::*;
use crate::flow::phase::Phase;
use crate::flow::{Geometry, Holding};
use crate::units::{Ip, PortRange, Proto};

const WEB: u64 = 0x77eb;
const NOW: Tick = Tick(1_000_000);
const PORTS: PortRange = PortRange { first: 20480, last: 20483 };
const DATAGRAM: Signal = Signal::Datagram;

fn geometry() -> Geometry {
    Geometry { servers: vec![server()], ports: PortRange { first: 20480, last: 21503 } }
}

fn server() -> Ip {
    "192.168.50.1".parse().unwrap()
}

/// The pool of a container that has four ports.
fn pool(state: &State) -> Pool {
    state.assign(&Holding { server: server(), proto: Proto::UDP, ports: PORTS, owner: WEB }, NOW);
    state.pool(server(), PORTS, false, WEB).unwrap()
}

fn remote(host: u32) -> Endpoint {
    Endpoint { proto: Proto::UDP, ip: Ip::from_v4_bits(0xc633_6400 | host), port: 53 }
}

/// Puts an entry of the inside port at an offset of the pool.
fn put(state: &State, pool: &Pool, inside: u16, offset: u32, now: Tick) -> Entry {
    let search = state.search(pool, inside, &remote(1));
    let entry = Entry(0).replaced(search.inside, search.print, DATAGRAM, now);
    state.entries()[search.index(offset)].store(entry.0, SeqCst);
    let home = &state.reaches()[search.index(search.home())];
    home.store(u64::from(search.limit()), SeqCst);
    entry
}

/// As a worker does that has not yet looked whether another one was first.
fn begin(state: &State, pool: &Pool, inside: u16, offset: u32, now: Tick) -> Entry {
    let entry = put(state, pool, inside, offset, now).tentative();
    state.entries()[state.search(pool, inside, &remote(1)).index(offset)].store(entry.0, SeqCst);
    entry
}

fn entry_at(state: &State, pool: &Pool, offset: u32) -> Entry {
    Entry(state.entries()[state.search(pool, 0, &remote(1)).index(offset)].load(SeqCst))
}

#[test]
fn of_two_entries_that_have_been_begun_the_lower_port_stays() {
    for [one, other] in [[1, 2], [2, 1]] {
        let state = State::memory(&geometry()).unwrap();
        let pool = pool(&state);
        let begun = begin(&state, &pool, 1000, one, NOW);
        let rival = begin(&state, &pool, 1000, other, NOW);
        state.confirm(&state.search(&pool, 1000, &remote(1)), one, begun, NOW);
        let (own, left) = (entry_at(&state, &pool, one), entry_at(&state, &pool, other));
        if one < other {
            assert!(own == begun.confirmed() && !left.is_entry());
        } else {
            assert!(!own.is_entry() && left == rival, "the other is to be confirmed yet");
        }
    }
}

/// A worker finds an entry at the preferred port that another one has begun, and a lower one that goes before it.
#[test]
fn what_has_been_begun_carries_nothing_before_it_is_confirmed() {
    let state = State::memory(&geometry()).unwrap();
    let pool = pool(&state);
    begin(&state, &pool, 1001, 1, NOW);
    assert_eq!(state.peek_translation(&pool, 1001, &remote(1), (DATAGRAM, NOW), |_| false), Ok(20481), "it is its own");
    assert_eq!(state.peek_out(&pool, 1001, &remote(1), NOW), None);
    assert_eq!(state.peek_in(&pool, 20481, &remote(1), NOW), None);
    assert_eq!(state.translate_out(&pool, 1001, &remote(1), DATAGRAM, NOW), Ok(20481));
    assert!(!entry_at(&state, &pool, 1).is_tentative());

    put(&state, &pool, 1002, 0, NOW);
    begin(&state, &pool, 1002, 2, NOW);
    assert_eq!(state.translate_out(&pool, 1002, &remote(1), DATAGRAM, NOW), Ok(20480));
    assert!(!entry_at(&state, &pool, 2).is_entry());
}

/// Nothing else is free than a port where another inside port's entry may yet be taken back.
#[test]
fn a_pool_is_not_full_before_what_has_been_begun_in_it_is_settled() {
    let state = State::memory(&geometry()).unwrap();
    let pool = pool(&state);
    for (inside, offset) in [(1000, 0), (1001, 1), (1002, 2)] {
        put(&state, &pool, inside, offset, NOW);
    }
    begin(&state, &pool, 1000, 3, NOW);
    let peeked = state.peek_translation(&pool, 2000, &remote(1), (DATAGRAM, NOW), |_| false);
    assert_eq!(peeked, Err(Refused::Exhausted), "a look settles nothing");
    assert_eq!(state.translate_out(&pool, 2000, &remote(1), DATAGRAM, NOW), Ok(20483));
    assert_eq!(state.peek_in(&pool, 20480, &remote(1), NOW), Some(1000));
}

/// A killed worker leaves entries and records that it had claimed or begun: they have carried no packet.
#[test]
fn what_nobody_will_finish_is_taken_back_when_the_file_is_opened() {
    let path = std::env::temp_dir().join(format!("sixway-flow-begun-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (state, _) = State::open(&path, &geometry(), [7; 16]).unwrap();
    let pool = pool(&state);
    let standing = put(&state, &pool, 1000, 0, NOW);
    let begun = begin(&state, &pool, 1001, 1, NOW);
    let [one, other, third] = [0, 1, 2].map(|cell| &state.overlap_entries()[cell]);
    one.store(begun.0, SeqCst);
    other.store(standing.in_phase(Phase::Claimed).0, SeqCst);
    third.store(standing.0, SeqCst);
    drop(state);
    let (state, fresh) = State::open(&path, &geometry(), [7; 16]).unwrap();
    assert_eq!(fresh, None);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), state.bytes() as u64);
    std::fs::remove_file(&path).unwrap();
    assert_eq!((entry_at(&state, &pool, 0), entry_at(&state, &pool, 1).phase()), (standing, Phase::Free));
    let phases = [0, 1, 2].map(|cell| Entry(state.overlap_entries()[cell].load(SeqCst)).phase());
    assert_eq!(phases, [Phase::Free, Phase::Free, Phase::Datagram]);
}

#[test]
fn what_a_worker_has_only_begun_is_listed_for_nobody() {
    let state = State::memory(&geometry()).unwrap();
    let pool = pool(&state);
    let offsets = || state.translated(0, u32::MAX, NOW).0.iter().map(|entry| entry.inside_port).collect::<Vec<_>>();
    put(&state, &pool, 1000, 0, NOW);
    begin(&state, &pool, 2000, 1, NOW);
    assert_eq!(offsets(), [1000]);
}
