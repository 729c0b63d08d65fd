//! Servers that hold different generations of the mapping at the same time: whatever the mix, no packet reaches another
//! tenant, and connections whose two bindings stay as they are go on.
//!
//! Two tenants of the same inside addresses live on two or three servers. A random history of mappings moves, removes,
//! adds and drains their containers, and hands few wire names around between them. Each server takes each generation in
//! its own time, or skips it where it may, but is never behind for as long as names rest, unless it is away: then no packet
//! passes it, and when it is back it takes, in order, what others may still be at. Frames may be late, too.

mod history;
mod servers;
mod talk;

use proptest::prelude::*;

use history::{Edit, History, edits};
use talk::Talk;

/// Names rest for 60 seconds: a server is less than that behind, a late frame included.
const MOST_BEHIND: u64 = 54;
const MOST_LATE: u64 = 5;

/// What happens next.
#[derive(Clone, Debug)]
enum Turn {
    /// The next generation is published.
    Publish,
    /// A server takes the next generation,
    Step(usize),
    /// or the latest.
    Jump(usize),
    /// A server is away while some generations are published, and for some seconds more.
    Absence {
        server: usize,
        generations: usize,
        seconds: u64,
    },
    Wait(u64),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => Just(Turn::Publish),
        4 => (0..3usize).prop_map(Turn::Step),
        2 => (0..3usize).prop_map(Turn::Jump),
        2 => (0..3usize, 1..4usize, prop_oneof![0..20u64, 40..80u64])
            .prop_map(|(server, generations, seconds)| Turn::Absence { server, generations, seconds }),
        2 => (0..6u64).prop_map(Turn::Wait),
        2 => (20..70u64).prop_map(Turn::Wait),
    ];
    proptest::collection::vec(turn, 8..40)
}

fn play(servers: usize, seed: u64, edits: &[Vec<Edit>], turns: &[Turn]) -> (usize, usize) {
    let mut talk = Talk::new(History::new(servers, edits), seed);
    talk.everybody();
    for turn in turns {
        match *turn {
            Turn::Publish => talk.servers.publish(),
            Turn::Step(server) if server < servers => talk.servers.take(server, false),
            Turn::Jump(server) if server < servers => talk.servers.take(server, true),
            Turn::Absence { server, generations, seconds } if server < servers => {
                talk.servers.leave(server);
                for _ in 0..generations {
                    talk.servers.publish();
                    (0..servers).for_each(|other| talk.servers.take(other, false));
                    talk.everybody();
                }
                talk.wait(seconds);
                talk.servers.come_back(server);
            }
            Turn::Step(_) | Turn::Jump(_) | Turn::Absence { .. } => continue,
            Turn::Wait(seconds) => talk.wait(seconds),
        }
        talk.everybody();
    }
    talk.converge();
    talk.everybody();
    (talk.delivered, talk.carried_on)
}

fn check(servers: usize, cases: u32) {
    let mut totals = (0, 0);
    let config =
        ProptestConfig { cases, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let totals_of = std::cell::RefCell::new(&mut totals);
    let outcome = runner.run(&(any::<u64>(), edits(), turns()), |(seed, edits, turns)| {
        let (delivered, carried_on) = play(servers, seed, &edits, &turns);
        let mut totals = totals_of.borrow_mut();
        totals.0 += delivered;
        totals.1 += carried_on;
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{servers} servers: {} packets delivered, {} of them on open connections", totals.0, totals.1);
    assert!(totals.1 > 1000, "they hardly talk: {totals:?}");
}

#[test]
fn two_servers_at_every_mix_of_generations_mix_up_nobody() {
    check(2, 48);
}

#[test]
fn three_servers_at_every_mix_of_generations_mix_up_nobody() {
    check(3, 32);
}
