//! Servers and gateways are transparent: what one end sends arrives at the other as it was, but for what a router changes
//! and the names that are documented to change, and the answer and any error about it come back in the sender's own words.
//!
//! Random conversations of every kind are had in memory, and each packet that comes out is compared, byte by byte, with a
//! packet that etherparse makes of what its receiver should see. A failure is made as small as it gets on a fresh estate.
//!
//! ```text
//! SIXWAY_PROOF_PACKETS=N    so many packets instead of a million
//! SIXWAY_PROOF_SEED=N       the same conversations again
//! ```

mod beyond;
mod estate;
mod inside;
mod journey;
#[path = "../../support/parcels/mod.rs"]
mod parcels;
mod talk;
mod tally;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use crate::packet::udp;
use crate::underlay::Underlay;
use estate::Estate;
use journey::{Failure, Meeting};
use parcels::Random;
use talk::{Talk, WAYS};
use tally::Tally;

const PACKETS: u64 = 1_000_000;
/// Conversations that share the memory of their servers.
const BATCH: usize = 2000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")))
}

/// Four sorts: answers leave directly or by a gateway, and servers' MACs are known from the mapping or by asking.
fn estate(batch: u64) -> Estate {
    Estate::new(batch & 1 == 1, batch & 2 == 0)
}

/// The conversations of one batch, until one of them fails.
fn run_batch(seed: u64, batch: u64, tally: &mut Tally) -> Result<(), String> {
    let mut random = Random::of(seed, batch);
    let mut estate = estate(batch);
    for nth in 0..BATCH {
        let talk = Talk::random(&mut random, &estate);
        if let Err(failure) = Meeting::new(&mut estate, tally, false).hold(&talk) {
            let place = format!("SIXWAY_PROOF_SEED={seed}, conversation {nth} of batch {batch}");
            return Err(format!("{place}\n{}\n{}", failure.what, smallest(batch, talk)));
        }
        tally.conversations += 1;
    }
    Ok(())
}

fn alone(batch: u64, talk: &Talk) -> Option<Box<Failure>> {
    Meeting::new(&mut estate(batch), &mut Tally::default(), true).hold(talk).err()
}

/// The smallest conversation that fails by itself, and every step of the packet that it fails by.
fn smallest(batch: u64, mut talk: Talk) -> String {
    let Some(mut failure) = alone(batch, &talk) else {
        return format!("By itself this conversation does not fail:\n{talk:?}");
    };
    'simpler: loop {
        for simpler in talk.simpler() {
            if let Some(still) = alone(batch, &simpler) {
                (talk, failure) = (simpler, still);
                continue 'simpler;
            }
        }
        break;
    }
    format!("The least of it that fails by itself:\n{talk:?}\n{}\n{}", failure.what, failure.trip.join("\n"))
}

#[test]
fn a_million_packets_arrive_and_their_answers_and_errors_come_back() {
    let wanted = setting("SIXWAY_PROOF_PACKETS").unwrap_or(PACKETS);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = setting("SIXWAY_PROOF_SEED").unwrap_or(now.as_nanos() as u64 % 1_000_000_000);
    println!("seed {seed}");
    let (began, next, done) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut all = Tally::default();
        while done.load(Ordering::Relaxed) < wanted {
            let mut tally = Tally::default();
            run_batch(seed, next.fetch_add(1, Ordering::Relaxed), &mut tally)?;
            done.fetch_add(tally.packets, Ordering::Relaxed);
            all.add(tally);
        }
        Ok::<Tally, String>(all)
    };
    let mut sum = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join().expect("a worker") {
                Ok(tally) => sum.add(tally),
                Err(failure) => panic!("{failure}"),
            }
        }
    });
    let (packets, talks) = (sum.packets, sum.conversations);
    println!("{packets} packets of {talks} conversations came out as they had to, in {:.0?}:", began.elapsed());
    sum.lines().iter().for_each(|line| println!("{line}"));
    assert!(WAYS.iter().all(|&way| sum.ways().any(|seen| seen == way)), "every way was gone");
}

#[test]
fn a_traceroute_shows_gateway_server_and_container() {
    let mut underlay = Underlay::new();
    let mut hop = |ttl: u8| {
        let probe = udp("10.1.0.3:40000", "10.2.0.2:53").ttl(ttl).from("plain");
        let told = underlay.send("plain", &probe.bytes());
        (told.verdict, told.out)
    };
    let (verdict, out) = hop(1);
    assert_eq!(verdict, "answer plain time_exceeded");
    assert_eq!(out.unwrap()[26..30], [169, 254, 1, 1]);
    let (verdict, out) = hop(2);
    assert_eq!(verdict, "forward plain");
    assert_eq!(out.unwrap()[26..30], [192, 168, 50, 2]);
    let (verdict, out) = hop(3);
    assert_eq!(verdict, "forward far");
    assert_eq!(out.unwrap()[22], 1);
}
