//! What a process leaves behind, however it ends.

use super::{WEB, at, block, geometry, range, remote, server};
use sixway::flow::{Fresh, Geometry, Purpose, Side, Signal, State};
use sixway::units::{Endpoint, Proto};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const BOOT: [u8; 16] = *b"one of the boots";
/// Where the child of [`a_kill_at_any_instruction_loses_no_entry`] finds its state.
const FILE: &str = "SIXWAY_TEST_FLOW_FILE";

fn path(story: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sixway-flow-{story}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn entries_and_clocks_outlive_the_process() {
    let path = path("outlive");
    let (state, fresh) = State::open(&path, &geometry(), BOOT).unwrap();
    assert_eq!(fresh, Some(Fresh::New));
    let ports = range(20736, 20737);
    let pool = block(&state, ports, WEB, at(0));
    let to = |host| remote(Proto::TCP, &format!("198.51.100.{host}"), 443);
    let flows = [(1, to(1)), (2, to(1)), (3, to(2)), (4, to(2))];
    let wires = flows.map(|(inside, to)| state.translate_out(&pool, inside, &to, Signal::Segment, at(0)).unwrap());
    let slot = state.slot(server(), Proto::TCP, 20736).unwrap();
    state.touch(slot, Side::Outside, Signal::Segment, at(0));
    drop(state);

    let (state, fresh) = State::open(&path, &geometry(), BOOT).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fresh, None);
    assert!(state.admits(slot, Side::Outside, Signal::Segment, at(7000)));
    for ((inside, to), wire) in flows.into_iter().zip(wires) {
        assert_eq!(state.translate_in(&pool, wire, &to, Signal::Segment, at(7000)), Some(inside));
        assert_eq!(state.translate_out(&pool, inside, &to, Signal::Segment, at(7000)), Ok(wire));
    }
}

#[test]
fn a_state_that_does_not_fit_is_started_anew_and_says_why() {
    let path = path("fit");
    let open = |geometry: &Geometry, boot| State::open(&path, geometry, boot).unwrap();
    let (state, _) = open(&geometry(), BOOT);
    let pool = block(&state, range(20736, 20991), WEB, at(0));
    let to = remote(Proto::UDP, "198.51.100.1", 53);
    let wire = state.translate_out(&pool, 1, &to, Signal::Datagram, at(0)).unwrap();
    drop(state);
    assert_eq!(open(&geometry(), *b"one of the roots").1, Some(Fresh::OtherBoot), "by its second half");
    let (state, fresh) = open(&geometry(), *b"two of the roots");
    assert_eq!(fresh, Some(Fresh::OtherBoot), "by its first half");
    block(&state, range(20736, 20991), WEB, at(0));
    assert_eq!(state.peek_in(&pool, wire, &to, at(0)), None);
    drop(state);
    let moved = Geometry { servers: vec![super::ip("192.168.50.9")], ..geometry() };
    assert_eq!(open(&moved, *b"two of the roots").1, Some(Fresh::OtherGeometry));
    let wider = Geometry { ports: range(20480, 22527), ..geometry() };
    assert_eq!(open(&wider, *b"two of the roots").1, Some(Fresh::OtherGeometry));
    assert_eq!(open(&wider, *b"two of the roots").1, None);
    let as_many = Geometry { ports: range(22528, 24575), ..geometry() };
    assert_eq!(open(&as_many, *b"two of the roots").1, Some(Fresh::OtherGeometry));
    let length = std::fs::metadata(&path).unwrap().len() as usize;
    std::fs::write(&path, vec![0x5a; length]).unwrap();
    assert_eq!(open(&as_many, *b"two of the roots").1, Some(Fresh::Foreign));
    std::fs::remove_file(&path).unwrap();
}

/// Nobody who knows the program can choose flows that meet in the table.
#[test]
fn every_file_has_a_secret_of_its_own_and_keeps_it() {
    let paths = [path("secret-one"), path("secret-two")];
    let key = |path: &PathBuf| {
        let (state, _) = State::open(path, &geometry(), BOOT).unwrap();
        let (own, other) = (remote(Proto::TCP, "10.1.0.3", 40_000), remote(Proto::TCP, "10.2.0.2", 80));
        state.affinity().key(Purpose::Destination, WEB, &own, &other)
    };
    let [first, second] = [key(&paths[0]), key(&paths[1])];
    assert_ne!(first, second);
    assert_eq!(key(&paths[0]), first);
    paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

/// Whatever the words hold, nothing panics and nothing is read out of bounds.
#[test]
fn a_file_full_of_garbage_with_a_good_header_is_survived() {
    let path = path("garbage");
    drop(State::open(&path, &geometry(), BOOT).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let mut word = 1u64;
    for chunk in bytes[4096..].chunks_exact_mut(8) {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&(word ^ word >> 33).to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let (state, fresh) = State::open(&path, &geometry(), BOOT).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fresh, None);
    let ports = range(20736, 20991);
    for now in [at(0), at(1 << 40)] {
        let pool = block(&state, ports, WEB, now);
        for inside in 0..2000 {
            let to = remote(Proto::TCP, "198.51.100.1", inside);
            let _ = state.translate_out(&pool, inside, &to, Signal::Syn, now);
            let _ = state.translate_in(&pool, 20480 + inside, &to, Signal::Syn, now);
        }
        state.sweep(now);
        let _ = state.translated(0, u32::MAX, now);
        let _ = state.quarantine(now);
        state.settle(&[], now);
    }
}

fn to(host: u16) -> Endpoint {
    remote(Proto::UDP, &format!("198.51.100.{host}"), 53)
}

/// The child: two workers open flows as fast as they can, and say which port each got once they know. Without a file to
/// work on this is no test.
#[test]
fn child() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let (state, _) = State::open(path.as_ref(), &geometry(), BOOT).unwrap();
    let pool = block(&state, range(20736, 20799), WEB, at(0));
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (state, pool) = (&state, &pool);
            scope.spawn(move || {
                // The block is full after the first 64, and exhausted after 8 remotes' worth of them.
                for nth in 0..64 * 8 {
                    let (inside, host) = (1000 + (nth ^ worker), 1 + nth / 64);
                    let wire = state.translate_out(pool, inside, &to(host), Signal::Datagram, at(0)).unwrap();
                    let line = format!("{inside} {host} {wire}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_kill_at_any_instruction_loses_no_entry() {
    for patience in (0..40).map(|round| 20 * round) {
        let path = path(&format!("kill-{patience}"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restart::child", "--nocapture", "--test-threads=1"])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = HashMap::new();
        let mut note = |line: &str| {
            let mut numbers = line.split(' ').map(str::parse::<u16>);
            if let (Some(Ok(inside)), Some(Ok(host)), Some(Ok(wire)), None) =
                (numbers.next(), numbers.next(), numbers.next(), numbers.next())
            {
                let before = told.insert((inside, host), wire);
                assert!(before.is_none_or(|before| before == wire), "{inside} to {host}: {before:?}, then {wire}");
            }
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.by_ref().take(4 + patience).for_each(|line| note(&line.unwrap()));
        child.kill().unwrap();
        // What was said before the end still comes, but for a last line that may be torn.
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        rest.pop();
        rest.iter().for_each(|line| note(line));
        child.wait().unwrap();

        let (state, fresh) = State::open(&path, &geometry(), BOOT).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(fresh, None, "killed while it carried packets, not while it began");
        let pool = block(&state, range(20736, 20799), WEB, at(1));
        for (&(inside, host), &wire) in &told {
            assert_eq!(state.peek_out(&pool, inside, &to(host), at(1)), Some(wire), "{inside} to {host}");
            assert_eq!(state.peek_in(&pool, wire, &to(host), at(1)), Some(inside), "{wire} from {host}");
        }
        for nth in 0..64 * 8 {
            let made = state.translate_out(&pool, 1000 + nth, &to(1 + nth / 64), Signal::Datagram, at(1));
            assert!(made.is_ok(), "a port stayed lost: {nth} {made:?}");
        }
    }
}
