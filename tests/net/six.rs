//! IPv6 between containers, through servers that have addresses of both families.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Instant;

use crate::lab::capture::Capture;
use crate::lab::config::NETWORKS;
use crate::lab::dual::address;
use crate::lab::peers::PATIENCE;
use crate::lab::{Lab, MAPPING, server_ip6, until};

pub const ALICE: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 1);
pub const CAROL: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 3);
pub const WEB: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0x10);

/// alice has a native block, carol a default one, web two services.
const SIX: &str = "\
blue   tcp  02:00:00:00:00:02  [fd50::2]:20480        02:42:0a:00:00:0a  [fd10::10]:80
blue   udp  02:00:00:00:00:02  [fd50::2]:20481        02:42:0a:00:00:0a  [fd10::10]:7
blue   any  02:00:00:00:00:01  [fd50::1]:32768-40959  02:42:0a:00:00:01  [fd10::1]:*   native
blue   any  02:00:00:00:00:01  [fd50::1]:49152-57343  02:42:0a:00:00:03  [fd10::3]:*
blue   any  02:00:00:00:00:02  [fd50::2]:32768-33791  02:42:0a:00:00:0a  [fd10::10]:*
";

/// Servers and three containers have IPv6; the containers nothing but an address and the router's.
pub fn lab(default_route: bool) -> Lab {
    let mut lab = ground(default_route);
    lab.start(1);
    lab.start(2);
    lab
}

/// The same without engines.
fn ground(default_route: bool) -> Lab {
    let mut lab = Lab::new();
    for server in [1, 2] {
        address(lab.at(&format!("s{server}")), "eth1", &format!("{}/64", server_ip6(server)));
    }
    for (name, ip) in [("alice", ALICE), ("carol", CAROL), ("web", WEB)] {
        let place = lab.at(name);
        place.ip(&format!("addr add {ip}/128 dev eth0 nodad"));
        if default_route {
            place.ip("route add default via fe80::1 dev eth0");
        }
    }
    lab.set_mapping(&(MAPPING.to_owned() + SIX));
    lab
}

/// Says who called, then echoes.
fn serve(listener: TcpListener) {
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            thread::spawn(move || {
                let _ = stream.write_all(format!("{:>39}", peer.ip().to_string()).as_bytes());
                let mut back = stream.try_clone().expect("a descriptor");
                let _ = std::io::copy(&mut stream, &mut back);
            });
        }
    });
}

fn call(lab: &Lab, from: &str, seen: Ipv6Addr) {
    let mut stream = lab
        .at(from)
        .within(|| TcpStream::connect_timeout(&(WEB, 80).into(), PATIENCE))
        .unwrap_or_else(|error| panic!("{from}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let mut caller = [0; 39];
    stream.read_exact(&mut caller).expect("a greeting");
    assert_eq!(String::from_utf8_lossy(&caller).trim(), seen.to_string(), "{from} is seen under its inside address");
    let words = vec![6; 500_000];
    let mut writing = stream.try_clone().expect("a descriptor");
    let sent = words.clone();
    let sending = thread::spawn(move || writing.write_all(&sent));
    let mut answer = vec![0; words.len()];
    stream.read_exact(&mut answer).expect("both directions work");
    sending.join().expect("no panic").expect("all is sent");
    assert!(answer == words, "not a byte is lost");
}

/// Connections, datagrams, echo and an error, over servers of both families; on the wire there is IPv6.
#[test]
fn containers_reach_each_other_over_ipv6() {
    let mut lab = lab(true);
    serve(lab.at("web").within(|| TcpListener::bind((WEB, 80)).expect("a free port")));
    let wire = Capture::start(lab.at("wire"), "br0", "ip6 and tcp");
    for (caller, ip) in [("alice", ALICE), ("carol", CAROL)] {
        call(&lab, caller, ip);
    }
    assert!(wire.frames().len() > 100, "all of it over IPv6");

    let parrot = lab.at("web").within(|| UdpSocket::bind((WEB, 7)).expect("a free port"));
    thread::spawn(move || {
        let mut bytes = [0; 2000];
        while let Ok((len, from)) = parrot.recv_from(&mut bytes) {
            let _ = parrot.send_to(&bytes[..len], from);
        }
    });
    let asking = lab.at("alice").within(|| UdpSocket::bind((ALICE, 0)).expect("a free port"));
    asking.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    asking.connect((WEB, 7)).expect("a route");
    asking.send(b"a question").expect("a route");
    assert_eq!(asking.recv(&mut [0; 100]).expect("its echo"), 10);

    for target in [WEB.to_string(), "fe80::1%eth0".to_owned()] {
        lab.at("alice").run("ping", &["-6", "-c2", "-i0.01", "-W5", &target]);
    }
    let nowhere = lab.at("alice").within(|| TcpStream::connect_timeout(&(WEB, 81).into(), PATIENCE));
    assert_eq!(nowhere.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
    for server in [1, 2] {
        assert_eq!(lab.engine(server).drops(None, "malformed_ndp"), 0);
        assert_eq!(lab.engine(server).drops(None, "spoofed_source"), 0, "{}", lab.engine(server).all_drops());
    }
}

/// A container without a route asks for its router, and is told.
#[test]
fn a_container_finds_its_router_by_itself() {
    let lab = lab(false);
    serve(lab.at("web").within(|| TcpListener::bind((WEB, 80)).expect("a free port")));
    for name in ["alice", "web"] {
        let place = lab.at(name);
        // As at the start of a container: the link comes up, and its kernel solicits routers.
        place.set("net.ipv6.conf.eth0.accept_ra", "1");
        place.set("net.ipv6.conf.eth0.router_solicitation_delay", "0");
        place.ip("link set eth0 down");
        place.ip("link set eth0 up");
        place.ip("route replace default via 169.254.1.1 dev eth0 onlink");
        let ip = if name == "alice" { ALICE } else { WEB };
        place.ip(&format!("-6 addr replace {ip}/128 dev eth0 nodad"));
        until("a route by fe80::1", PATIENCE, || {
            place.ip("-6 route show default").contains("via fe80::1").then_some(())
        });
    }
    call(&lab, "alice", ALICE);
}

/// A container that never asks is told of its router and the uplink's MTU, and told again; one whose network has no IPv6
/// is told nothing. An engine that stops does not take the route away.
#[test]
fn a_container_that_never_asks_is_told_of_its_router() {
    let mut lab = ground(false);
    lab.set_networks(&NETWORKS.replacen("outside = true", "outside = true\nra_interval_s = 4", 1));
    lab.at("s1").ip("link set eth1 mtu 1400");
    for name in ["alice", "bob"] {
        let place = lab.at(name);
        place.ip("link set eth0 down");
        place.set("net.ipv6.conf.eth0.accept_ra", "1");
        place.set("net.ipv6.conf.eth0.router_solicitations", "0");
        place.ip("link set eth0 up");
    }
    // Router solicitations and advertisements.
    let of_routers = |name| Capture::start(lab.at(name), "eth0", "icmp6 and (ip6[40] == 133 or ip6[40] == 134)");
    let (alice, bob) = (of_routers("alice"), of_routers("bob"));
    lab.start(1);
    let began = Instant::now();
    let has_route = |lab: &Lab| lab.at("alice").ip("-6 route show default").contains("via fe80::1").then_some(());
    until("a route by fe80::1", PATIENCE, || has_route(&lab));
    println!("{:?} from the engine's start to the container's route", began.elapsed());
    until("the uplink's MTU", PATIENCE, || {
        (lab.at("alice").run("sysctl", &["-n", "net.ipv6.conf.eth0.mtu"]).trim() == "1400").then_some(())
    });
    lab.at("alice").ip("-6 route del default");
    until("the same route again", PATIENCE, || has_route(&lab));

    lab.engine(1).stop();
    assert!(has_route(&lab).is_some(), "whoever starts the engine anew breaks no container");
    let frames = alice.frames();
    assert!(frames.len() >= 2 && frames.iter().all(|frame| frame[54] == 134), "the container asked for nothing");
    assert!(frames.iter().all(|frame| frame[60..62] == 9000u16.to_be_bytes()), "and heard no farewell");
    assert!(bob.frames().is_empty(), "bob's network has no IPv6");
}
