//! Probes against a container that is smoltcp, too.

use super::*;

/// A gateway, and a container that has it as its router.
#[derive(Clone, Copy, Debug)]
struct Ends {
    gateway: &'static str,
    web: &'static str,
}

const FAMILIES: [Ends; 3] = [
    Ends { gateway: "169.254.1.1", web: "10.0.0.10" },
    Ends { gateway: "fe80::1", web: "fd10::a" },
    Ends { gateway: "fd10::fe", web: "fd10::a" },
];
const DEADLINE: u64 = 1000;

/// A container with a web server on port 80 and an echo service on UDP port 7.
struct Container {
    wires: Wires,
    interface: Interface,
    sockets: SocketSet<'static>,
    web: SocketHandle,
    echo: SocketHandle,
    /// What the web server says.
    says: &'static str,
    asked: Vec<u8>,
}

impl Ends {
    fn own(self) -> End {
        End { ip: self.gateway.parse().unwrap(), port: 61_234 }
    }

    fn target(self, port: u16) -> End {
        End { ip: self.web.parse().unwrap(), port }
    }
}

impl Container {
    fn new(says: &'static str, ends: Ends) -> Container {
        let mut wires = Wires::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wires, instant(0));
        let (web, gateway) = (ends.target(80).ip, ends.own().ip);
        let len = if web.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(web.into(), len)).unwrap());
        match gateway {
            IpAddr::V4(ip) => _ = interface.routes_mut().add_default_ipv4_route(ip).unwrap(),
            IpAddr::V6(ip) => _ = interface.routes_mut().add_default_ipv6_route(ip).unwrap(),
        }
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut web = tcp::Socket::new(buffer(), buffer());
        web.listen(80).unwrap();
        let packets = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
        let mut echo = udp::Socket::new(packets(), packets());
        echo.bind(7).unwrap();
        let (web, echo) = (sockets.add(web), sockets.add(echo));
        Container { wires, interface, sockets, web, echo, says, asked: Vec::new() }
    }

    fn poll(&mut self, now: u64) {
        self.interface.poll(instant(now), &mut self.wires, &mut self.sockets);
        let web = self.sockets.get_mut::<tcp::Socket>(self.web);
        if web.can_recv() {
            let asked = &mut self.asked;
            web.recv(|bytes| (bytes.len(), asked.extend_from_slice(bytes))).unwrap();
            web.send_slice(self.says.as_bytes()).unwrap();
            web.close();
        } else if web.state() == tcp::State::CloseWait {
            web.close();
        }
        let echo = self.sockets.get_mut::<udp::Socket>(self.echo);
        if let Ok((bytes, from)) = echo.recv().map(|(bytes, meta)| (bytes.to_vec(), meta.endpoint)) {
            echo.send_slice(&bytes, from).unwrap();
        }
        self.interface.poll(instant(now), &mut self.wires, &mut self.sockets);
    }
}

/// Carries packets between the two, a millisecond a round. When the outcome was known, and what it was.
fn probe(ends: Ends, kind: &Kind, port: u16, container: Option<&mut Container>) -> (u64, Outcome) {
    let mut exchange = Exchange::new(kind, ends.own(), ends.target(port), 0, DEADLINE, 7);
    let mut container = container;
    let mut ended = None;
    for now in 0..=DEADLINE {
        if let Some(outcome) = exchange.poll(now) {
            assert!(ended.is_none(), "the outcome is given once");
            ended = Some((now, outcome));
        }
        while let Some(packet) = exchange.sent() {
            assert!(packet.len() <= MTU);
            if let Some(container) = &mut container {
                container.wires.incoming.push_back(packet);
            }
        }
        if let Some(container) = &mut container {
            container.poll(now);
            while let Some(packet) = container.wires.outgoing.pop_front() {
                assert!(exchange.receive(&packet));
            }
        }
        if let Some(ended) = ended.filter(|_| exchange.is_done(now)) {
            return ended;
        }
    }
    panic!("a probe ends");
}

fn http(path: &str) -> Kind {
    Kind::Http { path: path.to_owned() }
}

#[test]
fn a_port_that_accepts_connections_is_good() {
    for ends in FAMILIES {
        let mut web = Container::new("", ends);
        let (at, outcome) = probe(ends, &Kind::Tcp, 80, Some(&mut web));
        assert_eq!(outcome, Outcome::Good, "{ends:?}");
        assert!(at < 10, "within a round trip, not {at} ms");
        let left = web.sockets.get::<tcp::Socket>(web.web).state();
        assert!(matches!(left, tcp::State::Closed | tcp::State::LastAck), "taken leave of in good order: {left:?}");
    }
}

#[test]
fn a_container_that_says_no_is_believed_at_once() {
    for ends in FAMILIES {
        for (kind, port) in [(Kind::Tcp, 81), (http("/"), 81), (Kind::Udp, 8)] {
            let (at, outcome) = probe(ends, &kind, port, Some(&mut Container::new("", ends)));
            assert_eq!(outcome, Outcome::Refused, "{ends:?} {kind:?}");
            assert!(at < 10, "{kind:?}: not after {at} ms");
        }
    }
}

#[test]
fn silence_fails_at_the_deadline() {
    for ends in FAMILIES {
        for kind in [Kind::Tcp, http("/"), Kind::Udp, Kind::Icmp] {
            assert_eq!(probe(ends, &kind, 80, None), (DEADLINE, Outcome::Bad), "{ends:?} {kind:?}");
        }
    }
}

#[test]
fn a_page_is_asked_for_and_its_status_counts() {
    for (says, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Outcome::Good),
        ("HTTP/1.0 302 Found\r\n\r\n", Outcome::Good),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", Outcome::Bad),
        ("HTTP/1.1 2000 What\r\n\r\n", Outcome::Good),
        ("SSH-2.0-OpenSSH_9.6\r\n", Outcome::Bad),
        ("HTTP/1.1 ", Outcome::Bad),
    ] {
        for (ends, host) in FAMILIES.into_iter().zip(["10.0.0.10", "[fd10::a]", "[fd10::a]"]) {
            let mut web = Container::new(says, ends);
            assert_eq!(probe(ends, &http("/healthz?a=b"), 80, Some(&mut web)).1, expected, "{says}");
            let asked = String::from_utf8(web.asked).unwrap();
            assert!(asked.starts_with(&format!("GET /healthz?a=b HTTP/1.1\r\nHost: {host}\r\n")), "{asked}");
        }
    }
}

#[test]
fn datagrams_and_echo_are_answered() {
    for ends in FAMILIES {
        for (kind, port) in [(Kind::Udp, 7), (Kind::Icmp, 80)] {
            let (at, outcome) = probe(ends, &kind, port, Some(&mut Container::new("", ends)));
            assert_eq!(outcome, Outcome::Good, "{ends:?} {kind:?}");
            assert!(at < 10, "{kind:?}");
        }
    }
}

/// A UDP service that listens at all addresses answers a link-local one from the one of its own link.
#[test]
fn a_datagram_from_beside_counts_and_nothing_else_from_there() {
    let ends = FAMILIES[1];
    for (kind, outcome) in [(Kind::Udp, Some(Outcome::Good)), (Kind::Icmp, None)] {
        let mut exchange = Exchange::new(&kind, ends.own(), ends.target(7), 0, DEADLINE, 7);
        let mut container = Container::new("", ends);
        exchange.poll(0);
        container.wires.incoming.extend(exchange.sent());
        container.poll(0);
        let mut answer = container.wires.outgoing.pop_front().unwrap();
        // fe80::a: the checksum falls by as much as the address grows.
        let checksum_at = if kind == Kind::Udp { 46 } else { 42 };
        let sum = u16::from_be_bytes([answer[checksum_at], answer[checksum_at + 1]]);
        let (sum, borrow) = sum.overflowing_sub(0xfe80 - 0xfd10);
        answer[checksum_at..checksum_at + 2].copy_from_slice(&(sum - u16::from(borrow)).to_be_bytes());
        answer[8..10].copy_from_slice(&[0xfe, 0x80]);
        assert_eq!(exchange.receive(&answer), outcome.is_some());
        assert_eq!(exchange.poll(1), outcome, "{kind:?}");
    }
}

#[test]
fn what_others_send_is_none_of_its_business() {
    for ends in FAMILIES {
        let mut exchange = Exchange::new(&Kind::Icmp, ends.own(), ends.target(80), 0, DEADLINE, 7);
        exchange.poll(0);
        let request = exchange.sent().unwrap();
        assert!(!exchange.receive(&request), "it comes from ourselves");
        for garbage in [&[][..], &[0x45; 19], &[0x60; 39], &[0xff; 60]] {
            assert!(!exchange.receive(garbage));
        }
        assert_eq!(exchange.poll(1), None);
    }
}
