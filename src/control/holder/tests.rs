//! A holder in a thread of its own, and engines that come and go.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use super::{Holder, end, keeper};

/// A holder and where it listens.
struct Kept {
    path: PathBuf,
    thread: JoinHandle<io::Result<()>>,
}

impl Kept {
    fn start(name: &str) -> Kept {
        let path = std::env::temp_dir().join(format!("sixway-{}-{name}.holder", std::process::id()));
        let listener = crate::control::peer::listen_at(&path).unwrap();
        let thread = thread::spawn(move || keeper::serve(listener));
        Kept { path, thread }
    }

    fn end(self) {
        assert!(end(&self.path).unwrap());
        self.thread.join().unwrap().unwrap();
        fs::remove_file(&self.path).unwrap();
    }
}

fn some_file() -> OwnedFd {
    fs::File::open("/proc/self/exe").unwrap().into()
}

fn set<'a>(name: &str, fds: &[&'a OwnedFd]) -> (String, Vec<BorrowedFd<'a>>) {
    (name.to_owned(), fds.iter().map(|&fd| OwnedFd::as_fd(fd)).collect())
}

#[test]
fn what_an_engine_leaves_is_the_next_ones() {
    let kept = Kept::start("next");
    let (first, nothing) = Holder::ask(&kept.path).unwrap().unwrap();
    assert!(nothing.is_empty());
    let file = some_file();
    first.keep(&[set("old", &[&file])]).unwrap();
    first.keep(&[set("worker 0", &[&file, &file]), set("worker 1", &[&file; 100])]).unwrap();
    drop(first); // it dies

    let (second, sets) = Holder::ask(&kept.path).unwrap().unwrap();
    let counts: Vec<(&str, usize)> = sets.iter().map(|(name, fds)| (name.as_str(), fds.len())).collect();
    assert_eq!(counts, [("worker 0", 2), ("worker 1", 100)]);
    drop(second); // it dies before it hands anything in
    let (_, sets) = Holder::ask(&kept.path).unwrap().unwrap();
    assert!(sets.is_empty(), "what was given away is not kept");
    kept.end();
}

#[test]
fn of_two_engines_the_second_is_told_to_wait() {
    let kept = Kept::start("two");
    let (first, _) = Holder::ask(&kept.path).unwrap().unwrap();
    let file = some_file();
    first.keep(&[set("worker 0", &[&file])]).unwrap();
    let refused = Holder::ask(&kept.path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    assert!(first.is_there());
    drop(first);
    let (_, sets) = Holder::ask(&kept.path).unwrap().unwrap();
    assert_eq!(sets.len(), 1);
    kept.end();
}

#[test]
fn an_engine_that_dies_half_way_through_leaves_what_was_complete() {
    let kept = Kept::start("half");
    let (first, _) = Holder::ask(&kept.path).unwrap().unwrap();
    let file = some_file();
    first.keep(&[set("worker 0", &[&file])]).unwrap();
    crate::afxdp::handover::send(&first.connection, "keep worker 1", &[file.as_fd()]).unwrap();
    drop(first);
    let (_, sets) = Holder::ask(&kept.path).unwrap().unwrap();
    assert_eq!(sets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["worker 0"]);
    kept.end();
}

#[test]
fn nobody_else_may_ask_and_the_end_is_seen() {
    let kept = Kept::start("mode");
    assert_eq!(fs::metadata(&kept.path).unwrap().permissions().mode() & 0o777, 0o600);
    let (engine, _) = Holder::ask(&kept.path).unwrap().unwrap();
    let path = kept.path.clone();
    kept.end();
    assert!(!engine.is_there());
    assert!(Holder::ask(&path).unwrap().is_none(), "nobody listens");
    assert!(!end(&path).unwrap());
}
