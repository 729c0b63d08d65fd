//! Destinations that nobody holds are refused at once; nobody waits for a timeout.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use etherparse::{IpHeaders, Ipv4Header, PacketBuilder};

use crate::lab::capture::Capture;
use crate::lab::peers::{self, PATIENCE, connect_within};
use crate::lab::raw::{self, Injector};
use crate::lab::{GATEWAY, Lab, gateway_mac};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const AT_ONCE: Duration = Duration::from_millis(500);

/// A SYN to a port or an address without a binding is reset.
#[test]
fn tcp_to_nobody_is_reset_at_once() {
    let lab = Lab::running();
    for client in ["alice", "carol", "dave"] {
        for target in [(WEB, 81), (NOBODY, 80)] {
            let began = Instant::now();
            let error = connect_within(lab.at(client), target, PATIENCE).expect_err("nobody is there");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{client} -> {target:?}");
            assert!(began.elapsed() < AT_ONCE, "{client} -> {target:?} took {:?}", began.elapsed());
        }
    }
}

/// UDP to an unbound port of a known address: port unreachable.
#[test]
fn udp_to_an_unbound_port_is_port_unreachable() {
    let lab = Lab::running();
    for client in ["alice", "carol", "dave"] {
        let error = udp_error(&lab, client, (WEB, 9));
        assert_eq!(error, ErrorKind::ConnectionRefused, "{client}");
    }
}

/// UDP to an address of the network that nobody holds: host unreachable, from the gateway address. Linux tells programs
/// of it only if they ask for soft errors, so the story looks at what the container receives.
#[test]
fn udp_to_an_unknown_address_is_host_unreachable() {
    let lab = Lab::running();
    for client in ["alice", "carol"] {
        let capture = Capture::start(lab.at(client), "eth0", "icmp");
        let socket = peers::udp(lab.at(client), (NOBODY, 9));
        socket.send(b"anybody there?").expect("the first send meets no error");
        let error = capture.until("an ICMP error", |seen| seen.src == GATEWAY);
        assert_eq!(error.bytes[34..36], [3, 1], "{client}: type and code of host unreachable");
        assert!(error.checksums_right, "{client}: {error:?}");
    }
}

/// A datagram with an option that does not fit, of a program's socket: its kernel knows whose it was, and the program hears
/// that the protocol was broken.
#[test]
fn a_program_hears_that_its_header_makes_no_sense() {
    let mut lab = Lab::running();
    for (client, mac, ip) in
        [("alice", "02:42:0a:00:00:01", [10, 0, 0, 1]), ("carol", "02:42:0a:00:00:03", [10, 0, 0, 3])]
    {
        let socket = peers::udp(lab.at(client), (WEB, 7));
        let port = socket.local_addr().expect("it is bound").port();
        let options = [1, 0x94, 9, 0, 0, 0, 0, 0].as_slice().try_into().expect("eight bytes");
        let header =
            Ipv4Header { source: ip, destination: WEB.octets(), time_to_live: 64, options, ..Default::default() };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(raw::mac(mac), gateway_mac(&lab, client))
            .ip(IpHeaders::Ipv4(header, Default::default()))
            .udp(port, 7)
            .write(&mut frame, b"anybody there?")
            .expect("it fits");
        Injector::new(lab.at(client), "eth0").send(&frame);
        let error = socket.recv(&mut [0; 100]).expect_err("nobody answers");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::PROTO.raw_os_error()), "{client}: {error}");
    }
    let ports = lab.engine(1).get("/v1/ports");
    let told = ports.as_array().expect("a list").iter().filter(|port| port["answers"]["parameter_problem"] == 1);
    assert_eq!(told.count(), 2, "{ports}");
}

/// A bound service whose process is not there: the container's own kernel refuses, and the client hears it.
#[test]
fn a_closed_port_of_a_bound_service_is_refused_by_its_container() {
    let lab = Lab::running();
    for client in ["alice", "carol", "dave"] {
        let error = connect_within(lab.at(client), (WEB, 80), PATIENCE).expect_err("no server runs");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{client}: TCP");
        assert_eq!(udp_error(&lab, client, (WEB, 7)), ErrorKind::ConnectionRefused, "{client}: UDP");
    }
}

fn udp_error(lab: &Lab, client: &str, target: (Ipv4Addr, u16)) -> ErrorKind {
    let socket = peers::udp(lab.at(client), target);
    socket.send(b"anybody there?").expect("the first send meets no error");
    socket.recv(&mut [0; 100]).expect_err("nobody answers").kind()
}
