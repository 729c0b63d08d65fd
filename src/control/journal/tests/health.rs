//! What is known of health, kept and carried over.

use super::*;

/// It is kept like any change, over a new journal too; what was moved is not known any more, and is not again when it comes
/// back.
#[test]
fn what_is_known_of_health_is_there_after_a_restart() {
    use Health::{Healthy, Unhealthy, Unknown};
    let directory = Directory::new("health");
    let mut engine = Engine::start(&directory);
    let outcome = engine.judge(0, Unhealthy).unwrap();
    engine.wait(outcome).unwrap();
    assert!(!engine.journal.is_due(), "the mapping file says the rest");
    drop(engine);
    let mut engine = Engine::start(&directory);
    assert_eq!(engine.known(), [(0, Unhealthy)]);
    for (n, state) in [(1, Healthy), (2, Unhealthy), (3, Unhealthy), (4, Healthy)] {
        let put = engine.put(web(n, 20_480 + n)).unwrap();
        engine.wait(put).unwrap();
        let outcome = engine.judge(n, state).unwrap();
        engine.wait(outcome).unwrap();
    }
    let elsewhere = BindingSpec { server_ip: "192.168.50.3".parse().unwrap(), ..web(3, 20_483) };
    let other_port = web(2, 20_492);
    for binding in [elsewhere, web(3, 20_483), other_port] {
        let outcome = engine.put(binding).unwrap();
        engine.wait(outcome).unwrap();
    }
    let outcome = engine.judge(4, Unknown).unwrap();
    engine.wait(outcome).unwrap();
    let expected = [(0, Unhealthy), (1, Healthy), (2, Unhealthy)];
    assert_eq!(engine.known(), expected);
    drop(engine);
    let mut engine = Engine::start(&directory);
    assert_eq!(engine.known(), expected);
    engine.snapshot();
    let outcome = engine.judge(1, Unhealthy).unwrap();
    engine.wait(outcome).unwrap();
    drop(engine);
    let engine = Engine::start(&directory);
    assert_eq!(engine.known(), [(0, Unhealthy), (1, Unhealthy), (2, Unhealthy)]);
    assert_eq!(directory.aside(), [""; 0]);
}

/// Health makes no mapping newer than the file: an edited one is loaded, and what is known of its bindings goes along.
#[test]
fn health_goes_over_to_an_edited_mapping_file() {
    let directory = Directory::new("carried");
    let mapping = directory.0.join("mapping");
    let line = |n| format!("{}\n", web(n, 20_480 + n));
    fs::write(&mapping, line(0) + &line(1) + &line(2)).unwrap();
    let mut engine = Engine::start(&directory);
    for n in 0..3 {
        let outcome = engine.judge(n, Health::Unhealthy).unwrap();
        engine.wait(outcome).unwrap();
    }
    let moved = line(1).replace("192.168.50.2", "192.168.50.3");
    let edited = line(0) + &moved + &line(9);
    fs::write(&mapping, &edited).unwrap();
    drop(engine);
    let engine = Engine::start(&directory);
    assert_eq!((engine.len(), engine.known()), (3, vec![(0, Health::Unhealthy)]));
    assert_eq!(directory.aside(), ["superseded"]);
    drop(engine);
    let mut engine = Engine::start(&directory);
    assert_eq!(engine.known(), [(0, Health::Unhealthy)], "it is in the new journal");
    let outcome = engine.judge(9, Health::Healthy).unwrap();
    engine.wait(outcome).unwrap();

    // A reload of the file, which takes the place of the journal.
    let known: Vec<_> = engine.names.view(&crate::table::pin()).known_health().collect();
    let rebased = engine.journal.rebase(FileMark::of(edited.as_bytes()), &known);
    rebased.blocking_recv().unwrap().unwrap();
    drop(engine);
    let engine = Engine::start(&directory);
    assert_eq!(engine.known(), [(0, Health::Unhealthy), (9, Health::Healthy)]);
    assert_eq!(directory.aside().len(), 1);
}

/// With the binding that it is about, or alone; what was known before is known again.
#[test]
fn health_that_the_disk_does_not_take_is_taken_back() {
    use Health::{Healthy, Unhealthy};
    let directory = Directory::new("unhealthy");
    let mut engine = Engine::start(&directory);
    let outcome = engine.judge(0, Healthy).unwrap();
    engine.wait(outcome).unwrap();
    engine.journal.fail_next();
    let mut outcomes = vec![engine.judge(0, Unhealthy).unwrap()];
    // Once the disk is known to have failed, nothing is taken any more.
    if let Ok(outcome) = engine.put(web(1, 20_481)) {
        outcomes.push(outcome);
        outcomes.extend(engine.judge(1, Unhealthy));
    }
    for outcome in outcomes {
        engine.wait(outcome).expect_err("the disk failed");
    }
    assert_eq!((engine.len(), engine.known()), (1, vec![(0, Healthy)]));
    drop(engine);
    let engine = Engine::start(&directory);
    assert_eq!(engine.known(), [(0, Healthy)]);
}
