//! Words that outlive whoever wrote them. (miri has no shared mappings.)
#![cfg(not(miri))]

use sixway::table::mapped::{Opened, Words};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A file of this test's own, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn file(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("sixway-mapped-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn new<A: sixway::table::mapped::Word>(opened: Opened<A>) -> Words<A> {
    match opened {
        Opened::New(words) => words,
        _ => panic!("the file was there before"),
    }
}

fn kept<A: sixway::table::mapped::Word>(opened: Opened<A>) -> Words<A> {
    match opened {
        Opened::Kept(words) => words,
        _ => panic!("the file was not kept"),
    }
}

#[test]
fn a_file_is_made_at_its_exact_size_and_kept_the_next_time() {
    let file = Scratch::file("kept");
    let words: Words<AtomicU64> = new(Words::file(&file.0, 1000).unwrap());
    assert!(words.len() == 1000 && words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
    assert_eq!(std::fs::metadata(&file.0).unwrap().len(), 8000);
    words[999].store(7, Ordering::Relaxed);

    let other: Words<AtomicU64> = kept(Words::file(&file.0, 1000).unwrap());
    assert_eq!(other[999].load(Ordering::Relaxed), 7, "both map the same memory");
    drop(words);
    other[0].store(9, Ordering::Relaxed);
    drop(other);
    assert_eq!(std::fs::read(&file.0).unwrap()[0], 9);
}

#[test]
fn a_file_of_another_size_is_left_to_the_caller_and_replaced_without_harm_to_its_users() {
    let file = Scratch::file("size");
    let old: Words<AtomicU32> = new(Words::file(&file.0, 10).unwrap());
    old[9].store(5, Ordering::Relaxed);
    assert!(matches!(Words::<AtomicU32>::file(&file.0, 4096).unwrap(), Opened::WrongSize(40)));

    let fresh: Words<AtomicU32> = Words::replace(&file.0, 4096).unwrap();
    assert_eq!(std::fs::metadata(&file.0).unwrap().len(), 4096 * 4);
    assert_eq!((old[9].load(Ordering::Relaxed), fresh[9].load(Ordering::Relaxed)), (5, 0));
}

#[test]
fn a_descriptor_is_mapped_shared() {
    let memfd = rustix::fs::memfd_create("words", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memfd, 64).unwrap();
    let (one, other) =
        (Words::<AtomicU64>::from_fd(&memfd, 8).unwrap(), Words::<AtomicU64>::from_fd(&memfd, 8).unwrap());
    one[3].store(11, Ordering::Relaxed);
    assert_eq!(other[3].load(Ordering::Relaxed), 11);
}

#[test]
fn memory_is_zeroed_and_large_ones_cost_nothing_until_touched() {
    let words = Words::<AtomicU64>::memory(1 << 30).unwrap();
    assert_eq!(words[(1 << 30) - 1].load(Ordering::Relaxed), 0);
}

#[test]
fn nothing_and_too_much_are_refused() {
    assert!(Words::<AtomicU64>::memory(0).is_err());
    assert!(Words::<AtomicU64>::memory(usize::MAX).is_err());
    let missing = std::env::temp_dir().join("sixway-no-such-directory").join("state");
    assert!(Words::<AtomicU64>::file(&missing, 1).is_err());
}
