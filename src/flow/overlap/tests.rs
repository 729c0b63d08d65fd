use super::*;
use crate::flow::layout::Transport;
use crate::flow::pool::remote_word;
use crate::flow::{Geometry, Holding};
use crate::units::{Endpoint, Ip, PortRange, Proto};

const WEB: u64 = 0x77eb;
const NOW: Tick = Tick(1_000_000);

/// A state where the first four TCP ports are somebody's.
fn state() -> State {
    let server: Ip = "192.168.50.1".parse().unwrap();
    let ports = PortRange { first: 20480, last: 21503 };
    let state = State::memory(&Geometry { servers: vec![server], ports }).unwrap();
    let ports = PortRange { first: 20480, last: 20483 };
    state.assign(&Holding { server, proto: Proto::TCP, ports, owner: WEB }, NOW);
    state
}

/// What an inside port that calls the remote looks for in those ports.
fn search(inside: u32, remote: u64) -> Search {
    Search {
        transport: Transport::Tcp,
        base: 0,
        mask: 3,
        owner: WEB,
        inside,
        remote,
        print: Entry::print_of(mix(remote)),
    }
}

fn seconds(seconds: u64) -> Tick {
    NOW.after_ms(seconds * 1000)
}

fn record(by: &Search, signal: Signal, now: Tick) -> Entry {
    Entry(0).replaced(by.inside, by.print, signal, now).layered()
}

/// Puts a record into the `nth` cell of its run.
fn put(state: &State, by: &Search, nth: usize, entry: Entry, offset: u32) -> Overlap {
    let cell = state.run(by, Class::of(by)).nth(nth).unwrap();
    state.overlap_remotes()[cell as usize].store(by.remote, SeqCst);
    state.overlap_slots()[cell as usize].store(u64::from(by.base + offset), SeqCst);
    state.overlap_entries()[cell as usize].store(entry.0, SeqCst);
    Overlap { cell, entry, offset }
}

fn entry_of(state: &State, record: &Overlap) -> Entry {
    state.record(record.cell).0
}

/// Two workers begin a record for one way out, or for one way in.
#[test]
fn of_two_records_that_have_been_begun_the_first_of_the_run_stays() {
    for (rival, port_of_rival) in [(search(1000, 7), 1), (search(2000, 7), 2)] {
        let state = state();
        let own = search(1000, 7);
        let first = put(&state, &rival, 0, record(&rival, Signal::Syn, NOW).tentative(), port_of_rival);
        let second = put(&state, &own, 1, record(&own, Signal::Syn, NOW).tentative(), 2);
        state.confirm_overlap(&own, second, NOW);
        assert!(!entry_of(&state, &second).is_entry(), "it goes back");
        assert_eq!(entry_of(&state, &first), first.entry, "to be confirmed yet");
        let third = put(&state, &own, 1, record(&own, Signal::Syn, NOW).tentative(), 2);
        state.confirm_overlap(&rival, first, NOW);
        assert_eq!(entry_of(&state, &first), first.entry.confirmed());
        assert!(!entry_of(&state, &third).is_entry());
    }
}

#[test]
fn a_record_that_stands_goes_before_one_that_was_begun_unless_it_has_expired() {
    for (now, stays) in [(NOW, false), (seconds(7441), true)] {
        let state = state();
        let own = search(1000, 7);
        let begun = put(&state, &own, 0, record(&own, Signal::Segment, now).tentative(), 2);
        let standing = put(&state, &own, 1, record(&own, Signal::Segment, NOW), 1);
        state.confirm_overlap(&own, begun, now);
        assert_eq!((entry_of(&state, &begun).is_entry(), entry_of(&state, &standing).is_entry()), (stays, !stays));
    }
}

/// Other remotes have filled the run: nothing that lives is taken away.
#[test]
fn in_a_full_run_a_syn_gets_the_cell_of_the_record_that_has_been_closed_for_longest() {
    let state = state();
    let newcomer = search(1000, 7);
    for nth in 0..RUN as usize {
        let closed_at = match nth {
            10 => Some(300),
            20 => Some(100),
            30 => Some(200),
            _ => None,
        };
        let other = search(2000, 8);
        let entry = match closed_at {
            None => record(&other, Signal::Segment, NOW),
            Some(closed_at) => record(&other, Signal::Segment, seconds(closed_at)).in_phase(Phase::Closed),
        };
        let cell = put(&state, &newcomer, nth, entry, 0).cell;
        state.overlap_remotes()[cell as usize].store(other.remote, SeqCst);
    }
    let plan = |signal| state.plan_overlap(&newcomer, signal, seconds(301), &|_| false);
    let oldest = state.run(&newcomer, Class::of(&newcomer)).nth(20);
    assert!(matches!(plan(Signal::Syn), Plan::MakeOverlap { cell, .. } if Some(cell) == oldest));
    assert!(matches!(plan(Signal::Segment), Plan::Refuse(Refused::Exhausted)));
}

#[test]
fn a_look_finds_ones_own_record_that_has_been_begun_and_no_room_beside_anothers() {
    let state = state();
    let server: Ip = "192.168.50.1".parse().unwrap();
    let pool = state.pool(server, PortRange { first: 20480, last: 20483 }, false, WEB).unwrap();
    let remote = |host| Endpoint { proto: Proto::TCP, ip: Ip::from_v4_octets([198, 51, 100, host]), port: 443 };
    for inside in 1000..1004 {
        state.translate_out(&pool, inside, &remote(1), Signal::Segment, NOW).unwrap();
    }
    for offset in 0..4 {
        let by = search(2000 + offset, remote_word(Transport::Tcp, &remote(2)));
        let standing = record(&by, Signal::Segment, NOW);
        put(&state, &by, offset as usize, if offset == 0 { standing.tentative() } else { standing }, offset);
    }
    let look = |inside| state.peek_translation(&pool, inside, &remote(2), (Signal::Syn, NOW), |_| false);
    assert_eq!((look(2000), look(2001), look(3000)), (Ok(20480), Ok(20481), Err(Refused::Exhausted)));
    let answer = |inside| state.translate_out(&pool, inside, &remote(2), Signal::Syn, NOW);
    assert_eq!(
        (answer(3000), answer(2000)),
        (Err(Refused::Exhausted), Ok(20480)),
        "it has been finished for its owner"
    );
}
