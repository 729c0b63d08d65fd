//! Two tenants, one address plan, and never the twain shall meet.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::lab::peers::{self, Greeter, Parrot, connect, greeting};
use crate::lab::programs::Nginx;
use crate::lab::raw::{self, Injector};
use crate::lab::{Lab, SOON, capture::Capture, gateway_mac, until};

const WEB: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 10), 80);

/// blue's web and green's shop hold 10.0.0.10:80 on one server; each tenant's client reaches its own, and the two
/// clients hold 10.0.0.1 on one server too.
#[test]
fn the_same_name_in_two_networks_is_two_servers() {
    let lab = Lab::running();
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _shop = Greeter::start(lab.at("shop"), "shop", 80);
    for (client, answer) in [
        ("alice", "I am web, you are 10.0.0.1"),
        ("bob", "I am shop, you are 10.0.0.1"),
        ("carol", "I am web, you are 10.0.0.3"),
        ("dave", "I am web, you are 10.0.0.4"), // on web's own server
    ] {
        let mut stream = connect(lab.at(client), WEB).unwrap_or_else(|error| panic!("{client}: {error}"));
        assert_eq!(greeting(&mut stream), answer, "{client}'s server");
        peers::says_back(&mut stream, &[7; 100_000]).expect("both directions work");
    }
}

/// An application's log holds its clients' inside addresses, whatever kind of block they have.
#[test]
fn a_web_server_logs_its_clients_inside_address() {
    let lab = Lab::running();
    let nginx = Nginx::start(&lab, "web");
    nginx.serve("index.html", b"hello from web\n");
    for (client, ip) in [("alice", "10.0.0.1"), ("carol", "10.0.0.3"), ("dave", "10.0.0.4")] {
        let page = lab.at(client).run("curl", &["-sS", "--fail", "--max-time", "10", "http://10.0.0.10/"]);
        assert_eq!(page, "hello from web\n");
        until(&format!("{client}'s address in the log"), SOON, || {
            nginx.access_log().lines().any(|line| line.starts_with(&format!("{ip} - -"))).then_some(())
        });
    }
}

/// Engines that are not told who is behind a port find out by asking.
#[test]
fn containers_are_found_without_their_macs_in_the_configuration() {
    let mut lab = Lab::new();
    lab.leave_macs_to_the_engine();
    lab.start(1);
    lab.start(2);
    let _web = Greeter::start(lab.at("web"), "web", 80);
    let _shop = Greeter::start(lab.at("shop"), "shop", 80);
    for (client, answer) in [("alice", "I am web, you are 10.0.0.1"), ("bob", "I am shop, you are 10.0.0.1")] {
        let mut stream = until("the containers are found", SOON, || connect(lab.at(client), WEB).ok());
        assert_eq!(greeting(&mut stream), answer);
    }
}

/// UDP servers see inside addresses, and inside ports too.
#[test]
fn a_udp_server_sees_its_clients_inside_endpoint() {
    let lab = Lab::running();
    let parrot = Parrot::start(lab.at("web"), 7);
    for client in ["alice", "carol", "dave"] {
        let socket = peers::udp(lab.at(client), (WEB.0, 7));
        assert!(peers::udp_echo(&socket, b"who am I?", 3), "{client}'s echo");
        let inside = lab.at(client).run("hostname", &["-I"]);
        let inside: IpAddr = inside.split_whitespace().next().expect("an address").parse().expect("an address");
        assert_eq!(parrot.last().expect("somebody wrote").ip(), inside);
    }
}

/// A container that opens a connection from a server's side reaches a service on the other server.
#[test]
fn servers_call_clients_back() {
    let lab = Lab::running();
    let carol = Greeter::start(lab.at("carol"), "carol", 7);
    let mut stream = connect(lab.at("dave"), ([10, 0, 0, 3].into(), 7)).expect("dave reaches carol");
    assert_eq!(greeting(&mut stream), "I am carol, you are 10.0.0.4");
    assert_eq!(carol.seen(), [IpAddr::from([10, 0, 0, 4])]);
}

/// A container that claims another's address gets nothing out, and is counted.
#[test]
fn a_spoofed_source_is_dropped_and_counted() {
    let mut lab = Lab::running();
    let capture = Capture::start(lab.at("wire"), "br0", "udp");
    let alice = raw::mac("02:42:0a:00:00:01");
    let gateway = gateway_mac(&lab, "alice");
    let mut injector = Injector::new(lab.at("alice"), "eth0");
    let target = (WEB.0, 7);
    for (why, frame) in [
        ("carol's address", raw::udp((alice, gateway), ([10, 0, 0, 3].into(), 49200), target, b"spoof")),
        ("an address that nobody has", raw::udp((alice, gateway), ([10, 9, 9, 9].into(), 49200), target, b"spoof")),
        ("a server's address", raw::udp((alice, gateway), ([192, 168, 50, 1].into(), 49200), target, b"spoof")),
        (
            "carol's MAC",
            raw::udp((raw::mac("02:42:0a:00:00:03"), gateway), ([10, 0, 0, 1].into(), 32800), target, b"spoof"),
        ),
    ] {
        let before = spoofed(&mut lab);
        injector.send(&frame);
        until(&format!("a spoofed packet counted: {why}"), SOON, || (spoofed(&mut lab) == before + 1).then_some(()));
    }
    // a packet of alice's own crosses after them: whatever was forwarded would have been seen before it
    injector.send(&raw::udp((alice, gateway), ([10, 0, 0, 1].into(), 32800), target, b"honest"));
    capture.until("alice's own packet", |seen| seen.bytes.ends_with(b"honest"));
    assert!(capture.packets().iter().all(|seen| !seen.bytes.ends_with(b"spoof")), "{:?}", capture.packets());
}

/// What alice sent under a name that nobody has, or that another port holds.
fn spoofed(lab: &mut Lab) -> u64 {
    let engine = lab.engine(1);
    engine.drops(Some("alice"), "spoofed_source") + engine.drops(Some("alice"), "held_elsewhere")
}

/// green can't reach blue's services by their wire names: the class of an address depends on who asks.
#[test]
fn a_tenant_cannot_reach_another_by_its_wire_name() {
    let lab = Lab::running();
    let web = Greeter::start(lab.at("web"), "web", 80);
    let wire = ([192, 168, 50, 2].into(), 20480);
    let refused = peers::connect_within(lab.at("bob"), wire, Duration::from_millis(500));
    assert!(refused.is_err(), "bob must not reach blue's web");
    assert!(web.seen().is_empty());
}

pub const PEERED: &str = r#"
[[network]]
name = "blue"
prefixes = ["10.0.0.0/16"]
gateway = "169.254.1.1"
outside = true

[[network]]
name = "green"
prefixes = ["10.0.0.0/16", "10.1.0.0/16"]
gateway = "169.254.1.1"
outside = true
peers = ["blue"]
"#;

const FOR_PEERS: &str = "blue tcp 02:00:00:00:00:02 192.168.50.2:20490 02:42:0a:00:00:04 10.0.0.4:7\n";

/// Both engines, with networks that are peered and a service for the peer.
pub fn peered() -> Lab {
    let mut lab = Lab::new();
    lab.set_networks(PEERED);
    let mapping = lab.mapping().to_owned() + FOR_PEERS;
    lab.set_mapping(&mapping);
    lab.start(1);
    lab.start(2);
    lab
}

/// A peered client reaches a service of the other network and shows its wire name there: inside names may collide.
#[test]
fn a_peered_client_shows_its_wire_name() {
    let lab = peered();
    let dave = Greeter::start(lab.at("dave"), "dave", 7);
    let mut stream = connect(lab.at("bob"), ([10, 0, 0, 4].into(), 7)).expect("bob reaches his peer");
    assert_eq!(greeting(&mut stream), "I am dave, you are 192.168.50.1");
    peers::says_back(&mut stream, &[3; 50_000]).expect("both directions work");
    assert_eq!(dave.seen().len(), 1);
    // blue is not peered with green: the way back is for replies only
    let _bob = Greeter::start(lab.at("bob"), "bob", 41000);
    let back = peers::connect_within(lab.at("dave"), ([192, 168, 50, 1].into(), 41000), Duration::from_millis(500));
    assert!(back.is_err(), "blue must not open connections to green");
}
