use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;
use crate::flow::{Geometry, Side, Signal};
use crate::naming::{Names as Mapping, NamesWriter, Network, Networks, Public, Wire, parse_mapping};
use crate::units::{Endpoint, Ip, PortRange, Proto};

const OWNED: PortRange = PortRange { first: 20480, last: 59903 };
const NOW: Tick = Tick(100_000);
/// The last name of the block that changes hands: the last to be told of it.
const LAST: u16 = 40959;
const WEB: &str = "blue any - 192.168.50.1:32768-40959 02:00:00:00:00:01 10.0.0.1:*\n";
const BACKUP: &str = "blue any - 192.168.50.1:32768-40959 02:00:00:00:00:02 10.0.0.2:*\n";

fn server() -> Ip {
    "192.168.50.1".parse().unwrap()
}

/// A server that holds `mapping` and nothing else.
fn server_with(mapping: &str) -> (Arc<Mapping>, NamesWriter, State) {
    let networks = Networks::new(vec![Network { name: "blue".to_owned(), ..Network::default() }], &[]).unwrap();
    let (names, mut writer) = Mapping::new(Arc::new(networks), &[server()], OWNED);
    let state = State::memory(&Geometry { servers: vec![server()], ports: OWNED }).unwrap();
    let bindings = parse_mapping(mapping).unwrap();
    let prepared = writer.prepare_replacement(&bindings).unwrap();
    put_in_force(prepared, &state, NOW, false, &mut Nobody).unwrap();
    (names, writer, state)
}

struct Nobody;

impl Followers for Nobody {
    fn claim(&mut self, _: &Names) -> io::Result<()> {
        Ok(())
    }
    fn ready(&mut self, _: &View<'_>, _: &Change) {}
    fn unclaim(&mut self, _: &Names) {}
}

/// Workers look at the mapping all the time. As soon as one sees the new owner of a name, the name rests and remembers
/// nothing of the former owner.
#[test]
fn a_name_rests_before_packets_see_its_new_owner() {
    for _ in 0..10 {
        let (names, mut writer, state) = server_with(WEB);
        let wire = Endpoint { proto: Proto::UDP, ip: server(), port: LAST };
        let slot = state.slot(server(), Proto::UDP, LAST).unwrap();
        state.touch(slot, Side::Outside, Signal::Datagram, NOW);
        let looking = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                loop {
                    let guard = table::pin();
                    let binding = names.view(&guard).inner(Wire(wire)).unwrap().binding;
                    looking.store(true, SeqCst);
                    if binding.ip() == "10.0.0.2".parse().unwrap() {
                        return (state.resting(slot, NOW), state.admits(slot, Side::Outside, Signal::Datagram, NOW));
                    }
                }
            });
            while !looking.load(SeqCst) {
                std::hint::spin_loop();
            }
            let bindings = parse_mapping(BACKUP).unwrap();
            let prepared = writer.prepare_replacement(&bindings).unwrap();
            put_in_force(prepared, &state, NOW, false, &mut Nobody).unwrap();
            assert_eq!(worker.join().unwrap(), (true, false), "(rests, may be entered from outside)");
        });
    }
}

/// A worker that looked before the names rested notes a moment later what it sent: that is forgotten as well.
#[test]
fn what_was_under_way_is_forgotten() {
    let (_names, mut writer, state) = server_with(WEB);
    let slot = state.slot(server(), Proto::UDP, LAST).unwrap();
    let (looked, in_a_burst) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let state = &state;
        scope.spawn(move || {
            let _burst = table::pin();
            looked.send(state.resting(slot, NOW)).unwrap();
            while !state.resting(slot, NOW) {
                std::hint::spin_loop();
            }
            state.touch(slot, Side::Outside, Signal::Datagram, NOW);
        });
        assert!(!in_a_burst.recv().unwrap());
        let bindings = parse_mapping(BACKUP).unwrap();
        put_in_force(writer.prepare_replacement(&bindings).unwrap(), state, NOW, false, &mut Nobody).unwrap();
    });
    assert!(!state.admits(slot, Side::Outside, Signal::Datagram, NOW));
}

#[test]
fn force_ends_the_rest_at_once() {
    let (_names, mut writer, state) = server_with(WEB);
    let bindings = parse_mapping(BACKUP).unwrap();
    put_in_force(writer.prepare_replacement(&bindings).unwrap(), &state, NOW, true, &mut Nobody).unwrap();
    assert!(state.quarantine(NOW).is_empty());
}

/// What the programs would be told, and what packets see meanwhile of the public name 203.0.113.9:80.
struct Programs<'a> {
    names: &'a Mapping,
    told: Vec<(&'static str, bool)>,
    full: bool,
}

impl Programs<'_> {
    fn note(&mut self, what: &'static str) {
        let public = Endpoint { proto: Proto::TCP, ip: "203.0.113.9".parse().unwrap(), port: 80 };
        let guard = table::pin();
        self.told.push((what, self.names.view(&guard).public(Public(public)).is_some()));
    }
}

impl Followers for Programs<'_> {
    fn claim(&mut self, _: &Names) -> io::Result<()> {
        self.note("claim");
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn ready(&mut self, _: &View<'_>, _: &Change) {
        self.note("ready");
    }
    fn unclaim(&mut self, _: &Names) {
        self.note("unclaim");
    }
}

#[test]
fn a_public_name_is_claimed_before_and_unclaimed_after() {
    let (names, mut writer, state) = server_with("");
    let one = "blue tcp - 192.168.50.1:20480 - 10.0.0.1:80 public=203.0.113.9\n";
    let two = "blue tcp - 192.168.50.1:20481 - 10.0.0.2:80 public=203.0.113.9\n";
    let mut programs = Programs { names: &names, told: Vec::new(), full: false };
    let mut replace = |mapping: String, programs: &mut Programs<'_>| {
        let bindings = parse_mapping(mapping).unwrap();
        put_in_force(writer.prepare_replacement(&bindings).unwrap(), &state, NOW, false, programs).map(|_| ())
    };
    replace(one.to_owned(), &mut programs).unwrap();
    assert_eq!(std::mem::take(&mut programs.told), [("claim", false), ("ready", false)]);
    // A second replica, and the first one's end: the name stays.
    replace(one.to_owned() + two, &mut programs).unwrap();
    replace(two.to_owned(), &mut programs).unwrap();
    assert_eq!(std::mem::take(&mut programs.told), [("ready", true), ("ready", true)]);
    replace(String::new(), &mut programs).unwrap();
    assert_eq!(std::mem::take(&mut programs.told), [("ready", true), ("unclaim", false)]);

    programs.full = true;
    replace(one.to_owned(), &mut programs).unwrap_err();
    programs.full = false;
    replace(String::new(), &mut programs).unwrap();
    assert_eq!(programs.told, [("claim", false), ("ready", false)], "refused: there was nothing to take away");
}

/// A service that comes to lie in its own container's block: a connection that was translated onto its port would be
/// answered to the service.
#[test]
fn a_new_service_ends_what_was_translated_onto_its_port() {
    let (names, mut writer, state) = server_with(WEB);
    let owner = |port| {
        let guard = table::pin();
        let view = names.view(&guard);
        let found = view.inner(Wire(Endpoint { proto: Proto::TCP, ip: server(), port })).unwrap();
        (view.owner(found.binding), found.binding.wire_ports())
    };
    let (owner, block) = owner(LAST);
    let pool = state.pool(server(), block, false, owner).unwrap();
    let remote = Endpoint { proto: Proto::TCP, ip: "192.168.50.2".parse().unwrap(), port: 20480 };
    for inside in [LAST, LAST - 1] {
        assert_eq!(state.translate_out(&pool, inside, &remote, Signal::Syn, NOW), Ok(inside));
    }
    let bindings = parse_mapping("blue tcp - 192.168.50.1:20480 02:00:00:00:00:01 10.0.0.1:40959").unwrap();
    put_in_force(writer.prepare(&bindings, &[]).unwrap(), &state, NOW, false, &mut Nobody).unwrap();
    assert_eq!(state.peek_in(&pool, LAST, &remote, NOW), None);
    assert_eq!(state.peek_in(&pool, LAST - 1, &remote, NOW), Some(LAST - 1), "others go on");
}
