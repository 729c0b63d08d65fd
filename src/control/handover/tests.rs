//! An engine in a thread of its own, and successors that come and go.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::{Door, Predecessor, Successor, Wish};

const SOON: Duration = Duration::from_secs(5);

fn some_file() -> OwnedFd {
    File::open("/proc/self/exe").unwrap().into()
}

/// Has `engine` receive the successor that `successor` plays.
fn story<T: Send>(name: &str, engine: impl FnOnce(Successor) + Send, successor: impl FnOnce(PathBuf) -> T + Send) -> T {
    let path = std::env::temp_dir().join(format!("sixway-{}-{name}.handover", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let door = runtime.block_on(async { Door::open(&path) }).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let told = thread::scope(|scope| {
        let playing = scope.spawn(|| successor(path.clone()));
        let came = runtime.block_on(door.next()).unwrap();
        assert_eq!(came.pid().unsigned_abs(), std::process::id());
        engine(came);
        playing.join().unwrap()
    });
    drop(door);
    assert!(!path.exists());
    told
}

fn workers(file: &OwnedFd) -> Vec<(String, Vec<std::os::fd::BorrowedFd<'_>>)> {
    vec![("worker 0".to_owned(), vec![file.as_fd(), file.as_fd()])]
}

#[test]
fn an_engine_hands_over_what_its_successor_asks_for() {
    let engine = |successor: Successor| {
        let file = some_file();
        assert_eq!(successor.show(&workers(&file)).unwrap(), Some(Wish::Stop));
        successor.give([file.as_fd(), file.as_fd()], Some(file.as_fd()), None).unwrap();
        assert!(successor.has_taken());
    };
    story("whole", engine, |path| {
        let (predecessor, sets) = Predecessor::look(&path, SOON).unwrap().unwrap();
        assert_eq!((sets[0].0.as_str(), sets[0].1.len()), ("worker 0", 2));
        let estate = predecessor.stop().unwrap();
        assert!(estate.holder.is_some() && estate.held.is_none());
        predecessor.taken().unwrap();
    });
}

#[test]
fn a_successor_that_only_looks_changes_nothing() {
    let engine = |successor: Successor| assert_eq!(successor.show(&workers(&some_file())).unwrap(), None);
    story("look", engine, |path| drop(Predecessor::look(&path, SOON).unwrap().unwrap()));
}

#[test]
fn a_successor_that_dies_half_way_has_not_taken_over() {
    let engine = |successor: Successor| {
        let file = some_file();
        assert_eq!(successor.show(&workers(&file)).unwrap(), Some(Wish::LetGo));
        successor.give([file.as_fd(), file.as_fd()], None, Some(file.as_fd())).unwrap();
        assert!(!successor.has_taken());
    };
    story("half", engine, |path| {
        let (predecessor, _) = Predecessor::look(&path, SOON).unwrap().unwrap();
        assert!(predecessor.let_go().unwrap().held.is_some());
    });
}

#[test]
fn without_an_engine_there_is_nobody_to_take_over_from() {
    let path = std::env::temp_dir().join(format!("sixway-{}-nobody.handover", std::process::id()));
    assert!(Predecessor::look(&path, Duration::ZERO).unwrap().is_none());
}

#[test]
fn an_engine_that_does_not_listen_yet_is_waited_for() {
    let path = std::env::temp_dir().join(format!("sixway-{}-late.handover", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What an engine that was killed leaves: a file, and nobody behind it.
    runtime.block_on(async { Door::open(&path) }).map(Door::leave).unwrap();
    thread::scope(|scope| {
        let looking = scope.spawn(|| Predecessor::look(&path, SOON).unwrap().is_some());
        let came = runtime.block_on(async { Door::open(&path).unwrap().next().await }).unwrap();
        assert_eq!(came.show(&[]).unwrap(), None);
        assert!(looking.join().unwrap());
    });
}

#[test]
fn a_door_that_was_left_is_not_taken_away_from_the_successor() {
    let path = std::env::temp_dir().join(format!("sixway-{}-left.handover", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let open = || runtime.block_on(async { Door::open(&path) }).unwrap();
    let (former, successors) = (open(), open());
    former.leave();
    assert!(path.exists());
    drop(successors);
    assert!(!path.exists());
}
