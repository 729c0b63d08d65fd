//! SIGHUP: policy changes while packets flow.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::lab::peers::{Greeter, PATIENCE, connect, connect_within, greeting, says_back};
use crate::lab::{Lab, SOON, until};
use crate::tenants::{PEERED, peered};

const DAVE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 4), 7);

fn apart() -> String {
    PEERED.replace("peers = [\"blue\"]", "peers = []")
}

/// Gives one engine another policy.
fn reload(lab: &mut Lab, server: u8, networks: &str) {
    lab.set_networks(networks);
    let reloads = |lab: &mut Lab| lab.engine(server).log().matches("were reloaded").count();
    let before = reloads(lab);
    lab.engine(server).signal(Signal::HUP);
    until("the reload", SOON, || (reloads(lab) > before).then_some(()));
}

/// A peering that is taken away stops a connection at once, at either end alone: the caller's server sends nothing, the
/// other takes nothing. Put back, the connection goes on.
#[test]
fn a_peering_is_taken_away_and_put_back_under_a_connection() {
    let mut lab = peered();
    let _dave = Greeter::start(lab.at("dave"), "dave", 7);
    let mut stream = connect(lab.at("bob"), DAVE).expect("bob reaches his peer");
    greeting(&mut stream);
    for (server, port, reason) in [(1, "bob", "no_binding"), (2, "uplink", "network_denied")] {
        let generation = lab.engine(server).get("/v1/status")["generation"].clone();
        reload(&mut lab, server, &apart());
        let before = lab.engine(server).drops(Some(port), reason);
        silent(&mut stream, b"are you there?");
        assert!(lab.engine(server).drops(Some(port), reason) > before, "{}", lab.engine(server).all_drops());
        assert!(connect_within(lab.at("bob"), DAVE, Duration::from_millis(500)).is_err(), "nor is there a new one");
        assert_eq!(lab.engine(server).get("/v1/status")["generation"], generation, "the mapping is the same");

        reload(&mut lab, server, PEERED);
        let mut answer = [0; 14];
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.read_exact(&mut answer).expect("the connection goes on");
        assert_eq!(&answer, b"are you there?");
        says_back(&mut stream, b"and again").expect("the connection goes on");
    }
    // Both ends at once, by an explicit rule that comes before the peering.
    let denied = PEERED.to_owned() + "[[policy]]\nfrom = \"green\"\nto = \"blue\"\naction = \"deny\"\n";
    [1, 2].into_iter().for_each(|server| reload(&mut lab, server, &denied));
    silent(&mut stream, b"anybody?");
}

/// Nothing comes back for a while.
fn silent(stream: &mut TcpStream, words: &[u8]) {
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket option");
    stream.write_all(words).expect("there is room");
    let silence = stream.read(&mut [0; 1]).expect_err("nothing comes back");
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
}

/// Of a policy or a mapping with a mistake nothing is taken, and every mistake is told; what needs a start is named.
#[test]
fn a_reload_is_taken_whole_or_not_at_all() {
    let mut lab = peered();
    let mapping = lab.mapping().to_owned();
    let _dave = Greeter::start(lab.at("dave"), "dave", 7);
    let mut stream = connect(lab.at("bob"), DAVE).expect("bob reaches his peer");
    greeting(&mut stream);

    let unknown = apart() + "[[policy]]\nfrom = \"green\"\nto = \"blew\"\naction = \"deny\"\n";
    lab.set_networks(&unknown);
    lab.set_mapping(&(mapping.clone() + "blue tcp nonsense\n"));
    lab.engine(1).signal(Signal::HUP);
    let bad_line = format!("mapping.sixway:{}", mapping.lines().count() + 1);
    until("both mistakes", SOON, || {
        let log = lab.engine(1).log();
        (log.contains("there is no network `blew`") && log.contains(&bad_line)).then_some(())
    });
    lab.set_mapping(&mapping);
    lab.set_networks(&(apart() + "[[network]]\nname = \"red\"\n"));
    lab.engine(1).signal(Signal::HUP);
    until("the network", SOON, || lab.engine(1).log().contains("network `red` is new").then_some(()));
    says_back(&mut stream, b"still there?").expect("nothing was taken");

    let config = lab.engine(1).config();
    let moved = std::fs::read_to_string(&config).expect("the configuration").replace(&apart(), PEERED);
    let moved = moved.replace("20480-59903", "20480-50000").replace("[[network]]\nname = \"red\"\n", "");
    std::fs::write(&config, moved.replace("peers = []", "peers = [\"blue\"]")).expect("the configuration");
    lab.engine(1).signal(Signal::HUP);
    until("the warning", SOON, || lab.engine(1).log().contains("`ports` of [server] has changed").then_some(()));
    says_back(&mut stream, b"still there?").expect("ports are as they were");

    // Both at once, without a mistake.
    lab.set_mapping(&(mapping + "blue tcp 02:00:00:00:00:02 192.168.50.2:20491 02:42:0a:00:00:04 10.0.0.4:8\n"));
    reload(&mut lab, 1, &apart());
    assert_eq!(lab.engine(1).get("/v1/bindings?port=8")["server"]["port"], 20491);
    silent(&mut stream, b"still there?");
}
