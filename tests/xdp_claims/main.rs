//! Which packets the uplink program claims: the table of the design, row by row, both ways, in the kernel
//! (`BPF_PROG_RUN`). Without a socket a claimed packet is dropped, so `Drop` says "claimed". Needs root.

mod packet;

use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use packet::{
    ELSEWHERE, HOST_PUBLIC, PEER, PEER6, PUBLIC, PUBLIC6, Packet, ROUTER, ROUTER6, SERVER, SERVER6, arp_request, error,
    ethernet, icmp, ip, mapped_v6, ports, sent, solicitation, tagged, tcp, truncated, udp,
};
use rustix::net::{AddressFamily, SocketType};
use sixway::afxdp::program::{Action, Claims, Counter, Kind, Program, PublicIp};
use sixway::units::{Endpoint, Ip, PortRange, Proto, QueueId, VlanTags};

const OWNED: u16 = 20480;
const LAST_OWNED: u16 = 59903;
const WARM_ID: u16 = 21248;
const COLD_ID: u16 = 21249;
const PASSED: Action = Action::Pass;
const CLAIMED: Action = Action::Drop;

/// The program with the claims of a server that also holds public names.
fn program(kind: Kind) -> Program {
    program_on(kind, &[])
}

/// The same on a port with these VLAN tags.
fn program_on(kind: Kind, vlan: &[u16]) -> Program {
    assert!(rustix::process::geteuid().is_root(), "this test loads XDP programs: run it as root");
    let mut program =
        Program::load(kind, VlanTags::new(vlan).unwrap(), false).unwrap_or_else(|error| panic!("{error:?}"));
    let Some(claims) = program.claims() else { return program };
    let ports = PortRange { first: OWNED, last: LAST_OWNED };
    let public = |ip_text: &str, proto, port| Endpoint { proto, ip: ip(ip_text), port };
    let wanted = Claims {
        servers: [(ip(SERVER), ports), (ip(SERVER6), ports)].into(),
        far_servers: [(ip(PEER), ports), (ip(PEER6), ports)].into(),
        portless: [(ip(SERVER), Proto::ESP), (ip(SERVER6), Proto::ESP), (ip(PEER), Proto::ESP)].into(),
        publics: [
            public(PUBLIC, Proto::UDP, 4500),
            public(PUBLIC, Proto::TCP, 80),
            public(PUBLIC, Proto::ESP, 0),
            public(PUBLIC6, Proto::TCP, 80),
            public(HOST_PUBLIC, Proto::TCP, 443),
        ]
        .into(),
        public_ips: [
            (ip(PUBLIC), PublicIp { echo: true, neighbour: true }),
            (ip(PUBLIC6), PublicIp { echo: true, neighbour: true }),
            (ip(HOST_PUBLIC), PublicIp::default()),
        ]
        .into(),
    };
    claims.widen(&wanted).unwrap();
    claims.set_echo(WARM_ID, u32::MAX).unwrap();
    claims.set_echo(COLD_ID, 1).unwrap(); // one second after boot: long ago
    assert_eq!(claims.read().unwrap(), wanted);
    program
}

type Case = (&'static str, Vec<u8>, Action);

#[track_caller]
fn check(kind: Kind, cases: &[Case]) {
    // Behind the port's VLAN tags all is as without; access ports have none.
    let vlans: &[&[u16]] = if kind == Kind::Access { &[&[]] } else { &[&[], &[100], &[200, 100]] };
    for &vlan in vlans {
        let program = program_on(kind, vlan);
        let wrong: Vec<_> = cases
            .iter()
            .filter_map(|(name, frame, expected)| {
                let action = program.run(&tagged(frame, vlan)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
                (action != *expected).then(|| format!("{name}: {action:?}"))
            })
            .collect();
        assert!(wrong.is_empty(), "{kind:?} on {vlan:?}: {wrong:#?}");
        let counted: u64 = program.counters().unwrap().iter().map(|(_, value)| value).sum();
        assert_eq!(counted, cases.len() as u64, "each frame is counted once");
    }
}

#[test]
fn frames_with_other_tags_are_the_kernels() {
    let frame = tcp(PEER, SERVER, OWNED).frame();
    for kind in [UPLINK, Kind::Uplink { external: true }, Kind::External] {
        for vlan in [&[][..], &[100], &[200, 100]] {
            let program = program_on(kind, vlan);
            for borne in [&[][..], &[100], &[101], &[200], &[200, 100], &[200, 101], &[201, 100]] {
                let expected = if borne == vlan { CLAIMED } else { PASSED };
                assert_eq!(program.run(&tagged(&frame, borne)).unwrap(), expected, "{borne:?} on {vlan:?}");
            }
            let foreign = program.counters().unwrap().get(Counter::PassedVlan);
            assert_eq!(foreign, 6, "{kind:?} on {vlan:?}: counted as such");
        }
    }
}

const UPLINK: Kind = Kind::Uplink { external: false };

#[test]
fn tcp_and_udp_are_claimed_by_destination_port() {
    check(
        UPLINK,
        &[
            ("tcp, first owned port", tcp(PEER, SERVER, OWNED).frame(), CLAIMED),
            ("tcp, last owned port", tcp(PEER, SERVER, LAST_OWNED).frame(), CLAIMED),
            ("tcp, below the range", tcp(PEER, SERVER, OWNED - 1).frame(), PASSED),
            ("tcp, above the range", tcp(PEER, SERVER, LAST_OWNED + 1).frame(), PASSED),
            ("ssh", tcp(PEER, SERVER, 22).frame(), PASSED),
            ("udp, owned", udp(PEER, SERVER, 30000).frame(), CLAIMED),
            ("dns", udp(PEER, SERVER, 53).frame(), PASSED),
            ("an owned port as source only", Packet::new(6, PEER, SERVER, ports(30000, 22)).frame(), PASSED),
            ("another address", tcp(PEER, ELSEWHERE, OWNED).frame(), PASSED),
            ("broadcast", udp(PEER, "255.255.255.255", OWNED).frame(), PASSED),
            ("v6, owned", tcp(PEER6, SERVER6, OWNED).frame(), CLAIMED),
            ("v6, ssh", tcp(PEER6, SERVER6, 22).frame(), PASSED),
            ("v6, another address", tcp(PEER6, "fd00:50::9", OWNED).frame(), PASSED),
        ],
    );
}

#[test]
fn echo_requests_are_the_kernels_and_replies_follow_the_clocks() {
    check(
        UPLINK,
        &[
            ("echo request", icmp(PEER, SERVER, 8, WARM_ID, &[]).frame(), PASSED),
            ("echo reply, warm", icmp(ROUTER, SERVER, 0, WARM_ID, &[]).frame(), CLAIMED),
            ("echo reply, cold", icmp(ROUTER, SERVER, 0, COLD_ID, &[]).frame(), PASSED),
            ("echo reply, never used", icmp(ROUTER, SERVER, 0, 9, &[]).frame(), PASSED),
            ("echo reply, not to us", icmp(ROUTER, ELSEWHERE, 0, WARM_ID, &[]).frame(), PASSED),
            ("timestamp request", icmp(PEER, SERVER, 13, WARM_ID, &[0; 12]).frame(), PASSED),
            ("v6 echo request", icmp(PEER6, SERVER6, 128, WARM_ID, &[]).frame(), PASSED),
            ("v6 echo reply, warm", icmp(ROUTER6, SERVER6, 129, WARM_ID, &[]).frame(), CLAIMED),
            ("v6 echo reply, cold", icmp(ROUTER6, SERVER6, 129, COLD_ID, &[]).frame(), PASSED),
            ("v6 packet of the IPv4 ICMP", Packet::new(1, PEER6, SERVER6, vec![0; 64]).frame(), PASSED),
            ("neighbour advertisement", icmp(PEER6, SERVER6, 136, 0, &[0; 16]).frame(), PASSED),
        ],
    );
}

#[test]
fn errors_are_claimed_by_the_embedded_source() {
    let echo = |src, id| icmp(src, if ip(src).is_v4() { ROUTER } else { ROUTER6 }, 8, id, &[0; 8]);
    let echo6 = |id| icmp(SERVER6, ROUTER6, 128, id, &[0; 8]);
    let ours = sent(6, SERVER, OWNED);
    let mut elsewhere = error(3, &ours);
    elsewhere.dst = ELSEWHERE;
    let short = |about: &Packet, keep: usize| {
        let mut packet = error(3, about);
        packet.payload.truncate(8 + keep);
        packet.frame()
    };
    check(
        UPLINK,
        &[
            ("unreachable, owned tcp port", error(3, &ours).frame(), CLAIMED),
            ("unreachable, host's port", error(3, &sent(6, SERVER, 22)).frame(), PASSED),
            ("source quench", error(4, &ours).frame(), CLAIMED),
            ("redirect", error(5, &ours).frame(), PASSED),
            ("time exceeded, udp", error(11, &sent(17, SERVER, 30000)).frame(), CLAIMED),
            ("parameter problem", error(12, &ours).frame(), CLAIMED),
            (
                "about an owned destination port",
                error(3, &Packet::new(6, SERVER, PEER, ports(22, OWNED))).frame(),
                PASSED,
            ),
            (
                "about another source",
                error(3, &{
                    let mut p = sent(6, ELSEWHERE, OWNED);
                    p.dst = PEER;
                    p
                })
                .frame(),
                PASSED,
            ),
            ("to another destination", elsewhere.frame(), PASSED),
            ("about a warm echo request", error(11, &echo(SERVER, WARM_ID)).frame(), CLAIMED),
            ("about a cold echo request", error(11, &echo(SERVER, COLD_ID)).frame(), PASSED),
            ("about an echo reply of the host", error(3, &icmp(SERVER, PEER, 0, WARM_ID, &[0; 8])).frame(), PASSED),
            ("about bound ESP", error(3, &sent(50, SERVER, 1)).frame(), CLAIMED),
            ("about unbound GRE", error(3, &sent(47, SERVER, 1)).frame(), PASSED),
            ("about a public name held here", error(3, &sent(17, PUBLIC, 4500)).frame(), CLAIMED),
            ("about no public name", error(3, &sent(17, PUBLIC, 4501)).frame(), PASSED),
            ("about public ESP", error(3, &sent(50, PUBLIC, 1)).frame(), CLAIMED),
            ("embedded options", error(3, &ours.clone().options(&[1, 1, 1, 1])).frame(), CLAIMED),
            ("about a first fragment", error(3, &ours.clone().fragment(1, 0, true)).frame(), CLAIMED),
            ("about a later fragment", error(3, &ours.clone().fragment(1, 185, false)).frame(), PASSED),
            ("embedded header cut", short(&ours, 19), PASSED),
            ("embedded ports cut", short(&ours, 27), PASSED),
            ("embedded ports just there", short(&ours, 28), CLAIMED),
            ("embedded length field is nonsense", error(3, &ours.clone().longer(9000)).frame(), CLAIMED),
            ("v6 unreachable", error(1, &sent(6, SERVER6, OWNED)).frame(), CLAIMED),
            ("v6 packet too big", error(2, &sent(17, SERVER6, OWNED)).frame(), CLAIMED),
            ("v6 time exceeded, host's", error(3, &sent(17, SERVER6, 53)).frame(), PASSED),
            ("v6 about a warm echo request", error(3, &echo6(WARM_ID)).frame(), CLAIMED),
            ("v6 about a cold echo request", error(3, &echo6(COLD_ID)).frame(), PASSED),
            ("v6 informational type", error(200, &sent(6, SERVER6, OWNED)).frame(), PASSED),
            ("v6 embedded extension", error(1, &sent(6, SERVER6, OWNED).extension(60, &[0; 8])).frame(), CLAIMED),
        ],
    );
}

#[test]
fn errors_to_clients_are_claimed_by_the_embedded_destination() {
    let call = |proto, server, port| {
        Packet::new(proto, if ip(server).is_v4() { ROUTER } else { ROUTER6 }, server, ports(1024, port))
    };
    let cases = [
        ("unreachable, an owned port", error(3, &call(6, PEER, OWNED)).frame(), CLAIMED),
        ("time exceeded, udp", error(11, &call(17, PEER, LAST_OWNED)).frame(), CLAIMED),
        ("redirect", error(5, &call(6, PEER, OWNED)).frame(), PASSED),
        ("a port of the server's own", error(3, &call(6, PEER, 22)).frame(), PASSED),
        ("an owned port as the client's", error(3, &Packet::new(6, ROUTER, PEER, ports(OWNED, 22))).frame(), PASSED),
        ("no server", error(3, &call(6, ELSEWHERE, OWNED)).frame(), PASSED),
        ("our own name", error(3, &call(6, SERVER, OWNED)).frame(), PASSED),
        ("a published protocol", error(3, &call(50, PEER, 0)).frame(), CLAIMED),
        ("another one", error(3, &call(47, PEER, 0)).frame(), PASSED),
        ("our own bound protocol", error(3, &call(50, SERVER, 0)).frame(), PASSED),
        ("a later fragment", error(3, &call(6, PEER, OWNED).fragment(7, 10, false)).frame(), PASSED),
        ("an echo request", error(3, &icmp(ROUTER, PEER, 8, WARM_ID, &[0; 8])).frame(), PASSED),
        ("the packet itself", call(6, PEER, OWNED).frame(), PASSED),
        ("v6", error(1, &call(6, PEER6, OWNED)).frame(), CLAIMED),
        ("v6, too big", error(2, &call(17, PEER6, OWNED)).frame(), CLAIMED),
        ("v6, a port of the server's own", error(1, &call(6, PEER6, 22)).frame(), PASSED),
    ];
    // It is told of other servers or not, whatever the port is.
    for kind in [UPLINK, Kind::Uplink { external: true }, Kind::External] {
        check(kind, &cases);
    }
}

#[test]
fn portless_protocols_are_claimed_where_they_are_bound() {
    let packet = |proto, src, dst| Packet::new(proto, src, dst, vec![0; 16]).frame();
    check(
        UPLINK,
        &[
            ("esp", packet(50, PEER, SERVER), CLAIMED),
            ("gre", packet(47, PEER, SERVER), PASSED),
            ("esp, not to us", packet(50, PEER, ELSEWHERE), PASSED),
            ("esp, without payload", Packet::new(50, PEER, SERVER, vec![]).frame(), CLAIMED),
            ("v6 esp", packet(50, PEER6, SERVER6), CLAIMED),
            ("v6 ah", packet(51, PEER6, SERVER6), PASSED),
            ("v6 no next header", packet(59, PEER6, SERVER6), PASSED),
        ],
    );
}

#[test]
fn what_cannot_be_read_is_the_kernels() {
    let owned = || tcp(PEER, SERVER, OWNED);
    let owned6 = || tcp(PEER6, SERVER6, OWNED);
    let changed = |mut frame: Vec<u8>, at: usize, value: u8| {
        frame[at] = value;
        frame
    };
    check(
        UPLINK,
        &[
            ("ethernet header only", ethernet(0x0800, &[]), PASSED),
            ("ip header cut", truncated(owned().frame(), 33), PASSED),
            ("no ports", truncated(owned().frame(), 34), PASSED),
            ("ports cut", truncated(owned().frame(), 37), PASSED),
            ("ports just there", truncated(owned().frame(), 38), CLAIMED),
            ("version 5", changed(owned().frame(), 14, 0x55), PASSED),
            ("header length 16", changed(owned().frame(), 14, 0x44), PASSED),
            ("header length beyond the frame", truncated(changed(owned().frame(), 14, 0x4f), 60), PASSED),
            ("total length below the header", owned().longer(-21).frame(), PASSED),
            ("total length ends before the ports", owned().longer(-17).frame(), PASSED),
            ("total length ends after the ports", owned().longer(-16).frame(), CLAIMED),
            ("total length beyond the frame", owned().longer(100).frame(), CLAIMED),
            ("padding", [owned().frame(), vec![0; 6]].concat(), CLAIMED),
            ("icmp cut", truncated(icmp(PEER, SERVER, 0, WARM_ID, &[]).frame(), 41), PASSED),
            ("options", owned().options(&[1; 40]).frame(), CLAIMED),
            ("options, ssh", tcp(PEER, SERVER, 22).options(&[1; 40]).frame(), PASSED),
            ("v6 header cut", truncated(owned6().frame(), 53), PASSED),
            ("v6 version 4", changed(owned6().frame(), 14, 0x40), PASSED),
            ("v6 ports cut", truncated(owned6().frame(), 57), PASSED),
            ("v6 payload length ends before the ports", owned6().longer(-17).frame(), PASSED),
            ("v6 with our IPv4 name inside", mapped_v6(PEER, SERVER, OWNED), PASSED),
            ("v6 from an IPv4 name", mapped_v6(PEER, SERVER6, OWNED), PASSED),
            ("vlan", ethernet(0x8100, &[&[0, 5, 8, 0][..], &owned().ip_bytes()].concat()), PASSED),
            ("qinq", ethernet(0x88a8, &[&[0, 5, 8, 0][..], &owned().ip_bytes()].concat()), PASSED),
            ("arp", arp_request(SERVER), PASSED),
            ("arp for a public IP, not on an external port", arp_request(PUBLIC), PASSED),
            ("lldp", ethernet(0x88cc, &[0; 46]), PASSED),
        ],
    );
}

#[test]
fn extension_headers_are_walked_to_a_limit() {
    let owned = || tcp(PEER6, SERVER6, OWNED);
    let many = |count| (0..count).fold(owned(), |packet, _| packet.extension(60, &[0; 8]));
    check(
        UPLINK,
        &[
            ("hop by hop", owned().extension(0, &[0; 8]).frame(), CLAIMED),
            ("hop by hop, ssh", tcp(PEER6, SERVER6, 22).extension(0, &[0; 8]).frame(), PASSED),
            ("a longer one", owned().extension(60, &[[0, 1].to_vec(), vec![0; 14]].concat()).frame(), CLAIMED),
            ("a length beyond the packet", owned().extension(60, &[0, 255, 0, 0, 0, 0, 0, 0]).frame(), PASSED),
            ("routing, arrived", owned().extension(43, &[0, 0, 2, 0, 0, 0, 0, 0]).frame(), CLAIMED),
            ("routing, on the way", owned().extension(43, &[0, 0, 2, 1, 0, 0, 0, 0]).frame(), PASSED),
            ("six headers", many(6).frame(), CLAIMED),
            ("seven headers", many(7).frame(), PASSED),
            ("cut within one", truncated(owned().extension(60, &[0; 8]).frame(), 60), PASSED),
        ],
    );
}

#[test]
fn later_fragments_follow_their_first() {
    let first = |port, id| udp(PEER, SERVER, port).fragment(id, 0, true).frame();
    let later = |id| Packet::new(17, PEER, SERVER, vec![0; 32]).fragment(id, 185, false).frame();
    let first6 = |port, id| udp(PEER6, SERVER6, port).fragment6(id, 0, true).frame();
    let later6 = |id| Packet::new(17, PEER6, SERVER6, vec![0; 32]).fragment6(id, 185, false).frame();
    let mut other_source = Packet::new(17, PEER, SERVER, vec![0; 32]).fragment(1, 185, false);
    other_source.src = ROUTER;
    check(
        UPLINK,
        &[
            ("first, owned", first(OWNED, 1), CLAIMED),
            ("its later one", later(1), CLAIMED),
            ("first, host's", first(53, 2), PASSED),
            ("its later one", later(2), PASSED),
            ("later, before its first", later(3), PASSED),
            ("its first, owned", first(OWNED, 3), CLAIMED),
            ("now it follows", later(3), CLAIMED),
            ("same id, another source", other_source.frame(), PASSED),
            ("the id used again, host's", first(53, 1), PASSED),
            ("its later one", later(1), PASSED),
            ("first, ports cut off", Packet::new(17, PEER, SERVER, vec![0; 2]).fragment(4, 0, true).frame(), PASSED),
            ("later, not to us", Packet::new(17, PEER, ELSEWHERE, vec![0; 8]).fragment(1, 9, true).frame(), PASSED),
            ("first of a warm echo reply", icmp(PEER, SERVER, 0, WARM_ID, &[]).fragment(5, 0, true).frame(), CLAIMED),
            ("v6 first, owned", first6(OWNED, 0x10001), CLAIMED),
            ("v6 its later one", later6(0x10001), CLAIMED),
            ("v6 first, host's", first6(53, 0x20001), PASSED),
            ("v6 its later one", later6(0x20001), PASSED),
            ("v6 atomic fragment, owned", udp(PEER6, SERVER6, OWNED).fragment6(9, 0, false).frame(), CLAIMED),
            ("v6 later, of another packet", later6(9), PASSED),
        ],
    );
}

#[test]
fn public_names_are_claimed_on_external_ports() {
    let cases = |external: bool| -> Vec<Case> {
        let on_external = |action| if external { action } else { PASSED };
        vec![
            ("public udp", udp(ROUTER, PUBLIC, 4500).frame(), on_external(CLAIMED)),
            ("udp port that is not published", udp(ROUTER, PUBLIC, 500).frame(), PASSED),
            ("same port of another protocol", tcp(ROUTER, PUBLIC, 4500).frame(), PASSED),
            ("public esp", Packet::new(50, ROUTER, PUBLIC, vec![0; 16]).frame(), on_external(CLAIMED)),
            ("gre to a public IP", Packet::new(47, ROUTER, PUBLIC, vec![0; 16]).frame(), PASSED),
            ("echo request to a public IP", icmp(ROUTER, PUBLIC, 8, 1, &[]).frame(), on_external(CLAIMED)),
            ("echo request to the host's public IP", icmp(ROUTER, HOST_PUBLIC, 8, 1, &[]).frame(), PASSED),
            ("echo request to the server", icmp(ROUTER, SERVER, 8, 1, &[]).frame(), PASSED),
            ("public name on the host's IP", tcp(ROUTER, HOST_PUBLIC, 443).frame(), on_external(CLAIMED)),
            ("ssh on the host's public IP", tcp(ROUTER, HOST_PUBLIC, 22).frame(), PASSED),
            ("v6 public", tcp(ROUTER6, PUBLIC6, 80).frame(), on_external(CLAIMED)),
            ("v6 echo request to a public IP", icmp(ROUTER6, PUBLIC6, 128, 1, &[]).frame(), on_external(CLAIMED)),
            ("error about a public name", error(3, &sent(6, PUBLIC, 80)).frame(), CLAIMED),
            ("wire name: an answer", tcp(ROUTER, SERVER, OWNED).frame(), CLAIMED),
            ("error about a wire name", error(3, &sent(6, SERVER, OWNED)).frame(), CLAIMED),
            ("transit", tcp(ROUTER, "198.51.100.200", 80).frame(), PASSED),
            ("arp for a public IP", arp_request(PUBLIC), on_external(CLAIMED)),
            ("arp for the host's public IP", arp_request(HOST_PUBLIC), PASSED),
            ("solicitation for a public IP", solicitation(PUBLIC6), on_external(CLAIMED)),
            ("solicitation for the server", solicitation(SERVER6), PASSED),
            (
                "first fragment to a public name",
                tcp(ROUTER, PUBLIC, 80).fragment(1, 0, true).frame(),
                on_external(CLAIMED),
            ),
            (
                "its later one",
                Packet::new(6, ROUTER, PUBLIC, vec![0; 8]).fragment(1, 9, false).frame(),
                on_external(CLAIMED),
            ),
        ]
    };
    check(Kind::External, &cases(true));
    check(Kind::Uplink { external: true }, &cases(true));
    check(UPLINK, &cases(false));
}

#[test]
fn an_access_port_claims_everything() {
    check(
        Kind::Access,
        &[
            ("ip", tcp(PEER, SERVER, 22).frame(), CLAIMED),
            ("arp", arp_request(SERVER), CLAIMED),
            ("vlan", ethernet(0x8100, &[0; 50]), CLAIMED),
            ("noise", ethernet(0xffff, &[]), CLAIMED),
        ],
    );
}

#[test]
fn claims_that_are_removed_are_the_kernels_again() {
    let mut program = program(Kind::Uplink { external: true });
    let frames = [
        tcp(PEER, SERVER, OWNED).frame(),
        Packet::new(50, PEER, SERVER, vec![0; 16]).frame(),
        udp(ROUTER, PUBLIC, 4500).frame(),
        icmp(ROUTER, PUBLIC, 8, 1, &[]).frame(),
    ];
    for frame in &frames {
        assert_eq!(program.run(frame).unwrap(), CLAIMED);
    }
    program.claims().unwrap().narrow(&Claims::default()).unwrap();
    assert_eq!(program.claims().unwrap().read().unwrap(), Claims::default());
    for frame in &frames {
        assert_eq!(program.run(frame).unwrap(), PASSED);
    }
    program.claims().unwrap().remove_server(ip(SERVER)).expect("removing what is absent is no error");
}

#[test]
fn a_full_table_says_what_it_has_no_room_for() {
    let mut program = program(UPLINK);
    let claims = program.claims().unwrap();
    let mut servers = (0..300u32).map(|nth| Ip::from_v4_bits(0x0a00_0000 + nth));
    let owned = PortRange { first: OWNED, last: LAST_OWNED };
    let refused = servers.find_map(|server| claims.set_server(server, owned).err()).expect("room for 256");
    assert_eq!(refused.to_string(), "its table has no room for more ServerIPs");
}

#[test]
fn a_socket_takes_the_frames_of_its_queue() {
    let socket = || -> OwnedFd {
        rustix::net::socket(AddressFamily::from_raw(libc::AF_XDP as u16), SocketType::RAW, None).unwrap()
    };
    for (kind, frame) in [(UPLINK, tcp(PEER, SERVER, OWNED).frame()), (Kind::Access, arp_request(SERVER))] {
        let mut program = program(kind);
        program.set_socket(QueueId(1), socket()).unwrap();
        assert_ne!(program.run(&frame).unwrap(), Action::Redirect, "another queue's socket");
        let held = socket();
        program.set_socket(QueueId(0), &held).unwrap();
        assert_eq!(program.run(&frame).unwrap(), Action::Redirect);
        assert_eq!(program.run(&tcp(PEER, SERVER, 22).frame()).unwrap() == PASSED, kind == UPLINK);
        drop(held);
        assert_ne!(program.run(&frame).unwrap(), Action::Redirect, "a closed socket is forgotten");
        let counters = program.counters().unwrap();
        assert_eq!(counters.get(Counter::Redirected), 1 + u64::from(kind == Kind::Access), "{counters:?}");
    }
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    program(UPLINK).set_socket(QueueId(0), udp).expect_err("only AF_XDP sockets");
}
