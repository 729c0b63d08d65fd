//! Wire names that change owner rest, counted from the former owner's loss.

use super::{WEB, at, block, geometry, range, remote, server, state};
use sixway::flow::{Holding, Side, Signal, State};
use sixway::units::{PortRange, Proto, Tick};

const BACKUP: u64 = 0xbac;

fn holding(ports: PortRange, owner: u64) -> Holding {
    Holding { server: server(), proto: Proto::TCP, ports, owner }
}

fn rests(state: &State, port: u16, now: Tick) -> bool {
    state.resting(state.slot(server(), Proto::TCP, port).expect("ours"), now)
}

#[test]
fn a_name_that_nobody_held_does_not_rest() {
    let state = state();
    assert_eq!(state.assign(&holding(range(20500, 20510), WEB), at(100)), 0);
    assert!(!rests(&state, 20500, at(100)) && state.quarantine(at(100)).is_empty());
}

#[test]
fn a_name_that_changes_hands_rests_and_forgets() {
    let state = state();
    let ports = range(20736, 20991);
    let pool = block(&state, ports, WEB, at(0));
    let to = remote(Proto::TCP, "198.51.100.1", 443);
    let wire = state.translate_out(&pool, 40_000, &to, Signal::Syn, at(90)).unwrap();
    let slot = state.slot(server(), Proto::TCP, 20736).unwrap();
    state.touch(slot, Side::Outside, Signal::Syn, at(90));
    assert_eq!(state.assign(&holding(ports, BACKUP), at(100)), 256);
    assert!(rests(&state, 20736, at(100)) && rests(&state, 20991, at(159)) && !rests(&state, 20736, at(160)));
    assert!(!state.admits(slot, Side::Outside, Signal::Segment, at(100)));
    let pool = state.pool(server(), ports, false, BACKUP).unwrap();
    assert_eq!(state.peek_in(&pool, wire, &to, at(100)), None, "the new owner inherits nothing");
}

#[test]
fn the_rest_counts_from_the_loss() {
    let state = state();
    state.assign(&holding(range(20500, 20500), WEB), at(0));
    state.release(server(), Proto::TCP, range(20500, 20500), at(100));
    state.release(server(), Proto::TCP, range(20500, 20500), at(120));
    assert!(!rests(&state, 20500, at(120)), "whose should it be?");
    state.assign(&holding(range(20500, 20500), BACKUP), at(140));
    assert!(rests(&state, 20500, at(159)) && !rests(&state, 20500, at(160)));
    state.assign(&holding(range(20500, 20500), WEB), at(200));
    assert!(rests(&state, 20500, at(259)), "back again is a change of hands too");
}

#[test]
fn a_container_that_gets_its_name_back_carries_on() {
    let state = state();
    state.assign(&holding(range(20500, 20500), WEB), at(0));
    let slot = state.slot(server(), Proto::TCP, 20500).unwrap();
    state.touch(slot, Side::Outside, Signal::Segment, at(50));
    state.release(server(), Proto::TCP, range(20500, 20500), at(100));
    assert_eq!(state.assign(&holding(range(20500, 20500), WEB), at(101)), 0);
    assert!(!rests(&state, 20500, at(101)) && state.admits(slot, Side::Outside, Signal::Segment, at(101)));
    state.assign(&holding(range(20500, 20500), BACKUP), at(130));
    assert!(rests(&state, 20500, at(189)), "the loss that was made good does not count");
}

#[test]
fn a_mapping_is_settled_as_a_whole() {
    let state = state();
    state.settle(&[holding(range(20500, 20503), WEB), holding(range(20600, 20600), WEB)], at(0));
    let changed = state.settle(&[holding(range(20502, 20503), BACKUP), holding(range(20600, 20600), WEB)], at(10));
    assert_eq!(changed, 2);
    assert!(rests(&state, 20502, at(10)) && !rests(&state, 20600, at(10)) && !rests(&state, 20500, at(10)));
    state.settle(&[holding(range(20500, 20503), BACKUP)], at(30));
    assert!(rests(&state, 20500, at(69)) && !rests(&state, 20500, at(70)), "lost when it left the mapping");
}

#[test]
fn status_lists_runs_and_force_ends_them() {
    let state = state();
    state.assign(&holding(range(20500, 20509), WEB), at(0));
    state.assign(&Holding { proto: Proto::ESP, ..holding(range(0, 0), WEB) }, at(0));
    state.assign(&holding(range(20500, 20504), BACKUP), at(100));
    state.assign(&holding(range(20505, 20509), BACKUP), at(110));
    state.assign(&Holding { proto: Proto::ESP, ..holding(range(0, 0), BACKUP) }, at(110));
    let list: Vec<_> =
        state.quarantine(at(120)).iter().map(|run| (run.wire.to_string(), run.ports, run.until)).collect();
    assert_eq!(
        list,
        [
            ("tcp 192.168.50.1:20500".to_owned(), range(20500, 20504), at(160)),
            ("tcp 192.168.50.1:20505".to_owned(), range(20505, 20509), at(170)),
            ("esp 192.168.50.1".to_owned(), range(0, 0), at(170)),
        ]
    );
    state.wake(server(), Proto::TCP, range(20505, 20508));
    assert!(!rests(&state, 20508, at(120)) && rests(&state, 20509, at(120)));
    assert_eq!(state.quarantine(at(165)).len(), 2);
    state.set_quarantine(0);
    assert!(!rests(&state, 20509, at(120)) && state.quarantine(at(120)).is_empty());
}

#[test]
fn the_file_says_who_owned_what() {
    let path = std::env::temp_dir().join(format!("sixway-flow-owners-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (state, _) = State::open(&path, &geometry(), [1; 16]).unwrap();
    state.settle(&[holding(range(20500, 20501), WEB)], at(0));
    state.release(server(), Proto::TCP, range(20501, 20501), at(80));
    drop(state);
    let (state, fresh) = State::open(&path, &geometry(), [1; 16]).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fresh, None);
    state.settle(&[holding(range(20500, 20501), BACKUP)], at(100));
    assert!(rests(&state, 20500, at(159)), "lost while nobody looked: counted from now");
    assert!(rests(&state, 20501, at(139)) && !rests(&state, 20501, at(140)), "lost before the restart");
}
