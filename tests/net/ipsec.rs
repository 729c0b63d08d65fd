//! A container that holds the gateway's own address ends IPsec there: two strongSwan peers, one of them outside.
//!
//! ```text
//!   client 203.0.113.9 ── gateway s6, 198.18.6.1 ── wire ── s2 ── sealed 198.18.6.1
//!   10.99.2.1 ════════════════ tunnel ═══════════════════════════ 10.99.1.1
//! ```

use std::net::Ipv4Addr;

use crate::lab::capture::{Capture, Seen};
use crate::lab::ipsec::{Charon, End, Esp, sha1};
use crate::lab::peers::{Greeter, connect, greeting, says_back};
use crate::lab::{Lab, MAPPING, Member, OUTSIDE};

/// The gateway's own address on its external port.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 6, 1);
const SEALED: Member =
    Member { name: "sealed", server: 2, network: "blue", mac: "02:42:c6:12:06:01", ip: GATEWAY, local_ports: None };
const INSIDE: End = End { name: "sealed", ip: GATEWAY, inner: Ipv4Addr::new(10, 99, 1, 1) };
const CLIENT: End = End { name: "client", ip: OUTSIDE, inner: Ipv4Addr::new(10, 99, 2, 1) };

const NAMES: &str = "\
blue  udp  02:00:00:00:00:02  192.168.50.2:20500  02:42:c6:12:06:01  198.18.6.1:500   public=198.18.6.1:500
blue  udp  02:00:00:00:00:02  192.168.50.2:20501  02:42:c6:12:06:01  198.18.6.1:4500  public=198.18.6.1:4500
blue  esp  02:00:00:00:00:02  192.168.50.2        02:42:c6:12:06:01  198.18.6.1       public=198.18.6.1
";

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.add_gateway(6);
    lab.add_container(SEALED);
    lab.set_mapping(&(MAPPING.to_owned() + NAMES));
    for server in [2, 6] {
        lab.start(server);
    }
    lab
}

/// The tunnel comes up by UDP on ports 500 and 4500, carries echo and TCP, gets new keys while a connection goes on, and
/// lives through the gateway's death.
#[test]
fn a_tunnel_ends_in_the_container_that_holds_the_gateways_address() {
    let mut lab = lab();
    let inside = Charon::start(&lab, "sealed", Esp::UserSpace, INSIDE, CLIENT);
    let client = Charon::start(&lab, "outside", Esp::UserSpace, CLIENT, INSIDE);
    let at_container = Capture::start(lab.at("sealed"), "eth0", "udp port 4500");
    client.initiate();
    println!("{}", client.associations());
    let (from, to) = (CLIENT.inner.to_string(), INSIDE.inner.to_string());
    lab.at("outside").run("ping", &["-c3", "-i0.05", "-W5", "-I", &from, &to]);
    lab.at("sealed").run("ping", &["-c3", "-i0.05", "-W5", "-I", &to, &from]);
    let sealed = at_container.until("ESP in UDP", |seen| seen.src == OUTSIDE && is_esp(seen));
    assert_eq!((sealed.dst, sealed.ports), (GATEWAY, Some((4500, 4500))), "as the client has sent it");
    at_container.until("its answer", |seen| (seen.src, seen.dst) == (GATEWAY, OUTSIDE) && is_esp(seen));

    let greeter = Greeter::start(lab.at("sealed"), "sealed", 80);
    let mut stream = connect(lab.at("outside"), (INSIDE.inner, 80)).expect("TCP through the tunnel");
    assert_eq!(greeting(&mut stream), "I am sealed, you are 10.99.2.1");
    let mut goes_on = |when: &str| {
        for _ in 0..4 {
            says_back(&mut stream, &[7; 40_000]).unwrap_or_else(|error| panic!("{when}: {error}"));
        }
    };
    goes_on("the first keys");
    client.rekey_child();
    goes_on("new keys for ESP");
    inside.rekey_child();
    goes_on("new keys for ESP, from inside");
    client.rekey_ike();
    goes_on("new keys for IKE");
    inside.rekey_ike();
    goes_on("new keys for IKE, from inside");
    lab.engine(6).kill();
    lab.engine(6).start();
    goes_on("another engine on the gateway");
    lab.engine(2).kill();
    lab.engine(2).start();
    goes_on("another engine on the server");
    client.rekey_child();
    goes_on("new keys again");
    drop(greeter);
    assert!(!client.log().contains("retransmit 5"), "{}", client.log());
    for server in [2, 6] {
        assert_eq!(lab.engine(server).drops(None, "not_public"), 0, "{}", lab.engine(server).all_drops());
    }
}

/// ESP starts with its SPI, which is not zero; IKE on port 4500 with four zeroes (RFC 3948 section 2.2).
fn is_esp(seen: &Seen) -> bool {
    seen.bytes.len() > 46 && seen.bytes[42..46] != [0; 4]
}

/// NAT detection finds none, whoever begins: what each end says of both addresses and ports (RFC 7296 section 2.23) is what
/// the other sees on its packets.
#[test]
fn nat_detection_finds_none() {
    let lab = lab();
    let inside = Charon::start(&lab, "sealed", Esp::Kernel, INSIDE, CLIENT);
    let client = Charon::start(&lab, "outside", Esp::Kernel, CLIENT, INSIDE);
    let at_container = Capture::start(lab.at("sealed"), "eth0", "udp port 500");
    let at_client = Capture::start(lab.at("outside"), "eth0", "udp port 500");
    client.initiate_ike();
    client.terminate();
    inside.initiate_ike();
    let mut found = 0;
    for (src, dst, receiver) in [(OUTSIDE, GATEWAY, &at_container), (GATEWAY, OUTSIDE, &at_client)] {
        for is_response in [false, true] {
            let what = format!("{src} -> {dst}, response: {is_response}");
            let seen =
                receiver.until(&what, |seen| (seen.src, seen.dst) == (src, dst) && is_answer(seen) == is_response);
            assert!(seen.checksums_right, "{what}");
            let ports = seen.ports.expect("UDP");
            let message = &seen.bytes[42..];
            let spis = &message[..16];
            let hash = |ip: Ipv4Addr, port: u16| sha1(&[spis, &ip.octets(), &port.to_be_bytes()].concat());
            assert_eq!(notification(message, NAT_DETECTION_SOURCE_IP), [hash(seen.src, ports.0)], "{what}");
            assert_eq!(notification(message, NAT_DETECTION_DESTINATION_IP), [hash(seen.dst, ports.1)], "{what}");
            found += 1;
        }
    }
    assert_eq!(found, 4);
    for log in [inside.log(), client.log()] {
        assert!(log.contains("established") && !log.contains("behind NAT"), "{log}");
    }
}

fn is_answer(seen: &Seen) -> bool {
    seen.bytes[42 + 19] & 0x20 != 0
}

const NAT_DETECTION_SOURCE_IP: u16 = 16388;
const NAT_DETECTION_DESTINATION_IP: u16 = 16389;

/// The data of all Notify payloads of this type in an IKE message (RFC 7296 sections 3.1, 3.2 and 3.10).
fn notification(message: &[u8], wanted: u16) -> Vec<Vec<u8>> {
    const NOTIFY: u8 = 41;
    let (mut found, mut payload, mut at) = (Vec::new(), message[16], 28);
    while payload != 0 {
        let len = usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]));
        let body = &message[at + 4..at + len];
        if payload == NOTIFY && body[2..4] == wanted.to_be_bytes() {
            found.push(body[4 + usize::from(body[1])..].to_vec());
        }
        (payload, at) = (message[at], at + len);
    }
    found
}
