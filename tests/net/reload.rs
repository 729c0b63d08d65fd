//! SIGHUP: the mapping changes while packets flow.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use rustix::process::Signal;

use crate::lab::peers::{Greeter, PATIENCE, connect, connect_within, greeting, says_back};
use crate::lab::{Lab, SOON, until};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const ANOTHER: &str = "blue tcp 02:00:00:00:00:02 192.168.50.2:20490 02:42:0a:00:00:0a 10.0.0.10:8080\n";

/// A new binding serves as soon as both engines have read it; one that is taken away is refused again; connections of
/// other bindings notice nothing.
#[test]
fn a_reloaded_mapping_takes_effect_and_disturbs_nobody() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _more = Greeter::start(lab.at("web"), "more", 8080);
    let mut old = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
    greeting(&mut old);
    refused(&lab);

    let before = lab.mapping().to_owned();
    lab.set_mapping(&(before.clone() + ANOTHER));
    reload(&mut lab);
    let mut new = until("the new service", SOON, || connect(lab.at("carol"), (WEB, 8080)).ok());
    assert_eq!(greeting(&mut new), "I am more, you are 10.0.0.3");
    says_back(&mut old, b"still there?").expect("the old connection lives");

    lab.set_mapping(&before);
    reload(&mut lab);
    refused(&lab);
    says_back(&mut old, b"still there?").expect("the old connection lives");
}

/// A mapping with a mistake is refused whole, with its line in the log, and the old one stays.
#[test]
fn a_mapping_with_a_mistake_changes_nothing() {
    let mut lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let generation = lab.engine(1).get("/v1/status")["generation"].clone();
    let bad = lab.mapping().to_owned() + ANOTHER + "blue tcp nonsense\n";
    lab.set_mapping(&bad);
    let line = bad.lines().count();
    for server in [1, 2] {
        lab.engine(server).signal(Signal::HUP);
        until("the mistake in the log", SOON, || {
            lab.engine(server).log().contains(&format!("mapping.sixway:{line}")).then_some(())
        });
    }
    assert_eq!(lab.engine(1).get("/v1/status")["generation"], generation);
    refused(&lab);
    let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("the old mapping serves");
    greeting(&mut stream);
}

/// Tells both engines and waits until each has a new generation.
fn reload(lab: &mut Lab) {
    for server in [1, 2] {
        let generation = lab.engine(server).get("/v1/status")["generation"].clone();
        lab.engine(server).signal(Signal::HUP);
        until("a new generation", SOON, || {
            (lab.engine(server).get("/v1/status")["generation"] != generation).then_some(())
        });
    }
}

fn refused(lab: &Lab) {
    let error = connect_within(lab.at("carol"), (WEB, 8080), PATIENCE).expect_err("no such service");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
