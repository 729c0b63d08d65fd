//! `path::claims`, which replay decides by, against the XDP program in the kernel (`BPF_PROG_RUN`), packet by packet.
//! Without a socket a claimed packet is dropped, so `Drop` says "claimed", and a fragment that nothing is known of is
//! passed under a counter of its own. Needs root.

use proptest::prelude::*;
use sixway::afxdp::program::{Action, Claims, Counter, Kind, Program, PublicIp};
use sixway::path::{Claim, Claimant};
use sixway::units::{Endpoint, Proto, VlanTags};

#[allow(dead_code)]
#[path = "path/arbitrary.rs"]
mod arbitrary;
#[path = "path/arbitrary6.rs"]
mod arbitrary6;
#[allow(dead_code)]
#[path = "path/packet.rs"]
mod packet;
#[allow(dead_code)]
#[path = "path/packet6.rs"]
mod packet6;
#[allow(dead_code)]
#[path = "support/fragments.rs"]
mod parts;
#[allow(dead_code)]
#[path = "path/scene.rs"]
mod scene;
#[allow(dead_code)]
#[path = "path/world.rs"]
mod world;

use packet::{Packet, echo_reply, echo_request, error, other, tcp, udp};
use packet6::{Hop, echo6, error6, tcp6, udp6, udp6_of};
use parts::fragments;
use scene::{A, B, MAC_A, MAC_B, MAC_ROUTER, config_a};
use world::World;

/// The identifier that `plain` has asked the outside with; its neighbour was asked with long ago.
const WARM: u16 = 21312;

/// What the port is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Underlay,
    /// Clients outside arrive at another port.
    UnderlayOfGateway,
    UnderlayAndClients,
    Clients,
}

impl Place {
    fn kind(self) -> Kind {
        match self {
            Place::Underlay | Place::UnderlayOfGateway => Kind::Uplink { external: false },
            Place::UnderlayAndClients => Kind::Uplink { external: true },
            Place::Clients => Kind::External,
        }
    }
}

const PLACES: [Place; 4] = [Place::Underlay, Place::UnderlayOfGateway, Place::UnderlayAndClients, Place::Clients];
/// The VLAN tags that a port may have.
const TAGS: [&[u16]; 3] = [&[], &[100], &[200, 100]];

/// A published protocol without ports on another server.
const FAR_GRE: &str = "blue gre - 192.168.50.3 02:42:0a:03:00:02 10.3.0.2 public=203.0.113.3\n";
/// The same server and others in IPv6, with published names of each.
const SIX: &str = "
blue  any  02:00:00:00:00:01  [fd50::1]:20736-20991  02:42:0a:06:00:02  [fd00::1:2]:*  native
blue  udp  02:00:00:00:00:01  [fd50::1]:20481        02:42:0a:06:00:02  [fd00::1:2]:53  public=[2001:db8::9]:4500
blue  esp  02:00:00:00:00:01  [fd50::1]              02:42:0a:06:00:02  [fd00::1:2]     public=[2001:db8::9]
blue  tcp  -                  [fd50::2]:20480        02:42:0a:06:00:03  [fd00::2:2]:80
blue  gre  -                  [fd50::3]              02:42:0a:06:00:04  [fd00::3:2]     public=[2001:db8::3]
";

/// Server A with a port at that place and with those VLAN tags, and the program with the claims that its mapping makes.
fn both(place: Place, vlan: &[u16]) -> (World, Program) {
    assert!(rustix::process::geteuid().is_root(), "this test loads XDP programs: run it as root");
    let role = match place.kind() {
        Kind::Uplink { external: true } => "role = \"uplink\"\nexternal = true",
        Kind::External => "role = \"external\"",
        _ => "role = \"uplink\"",
    };
    let vlan_key = if vlan.is_empty() { String::new() } else { format!("\nvlan = {vlan:?}") };
    // One of the public addresses is the kernel's.
    let vlan_key = vlan_key + "\nips = [\"203.0.113.3\"]";
    let router = format!("mac = \"{MAC_ROUTER}\"\n");
    let mut config = config_a()
        .replace("role = \"uplink\"", &format!("{role}{vlan_key}"))
        .replace(&router, &format!("{router}port = \"uplink\"\n"))
        .replace(&format!("ip = \"{A}\"\nports"), &format!("ips = [\"{A}\", \"fd50::1\"]\nports"));
    if place == Place::UnderlayOfGateway {
        config += "[[port]]\nname = \"wan\"\nrole = \"external\"\naddress = \"02:00:00:00:00:e1\"\n";
    }
    let mut world = World::new(&config, &(scene::MAPPING.to_owned() + FAR_GRE + SIX));
    let ping = |id| echo_request("10.1.0.3", "198.51.100.7", id).from("plain").bytes();
    world.receive("plain", &ping(40001));
    world.later(61);
    let sent = world.receive("plain", &ping(40000));
    assert_eq!(world.words(sent.verdict), "forward uplink");

    let tags = VlanTags::new(vlan).unwrap();
    let mut program = Program::load(place.kind(), tags, false).unwrap_or_else(|error| panic!("{error:?}"));
    let ip = |text: &str| text.parse().unwrap();
    let (server, public, far_public) = (ip(A), ip("203.0.113.9"), ip("203.0.113.3"));
    let (server6, public6, far_public6) = (ip("fd50::1"), ip("2001:db8::9"), ip("2001:db8::3"));
    let claims = program.claims().unwrap();
    let owned = world.assembly.around.owned;
    let mut wanted = Claims {
        servers: [(server, owned), (server6, owned)].into(),
        portless: [(server, Proto::ESP), (server6, Proto::ESP)].into(),
        ..Claims::default()
    };
    if place != Place::Underlay {
        let what = PublicIp { echo: true, neighbour: false };
        if place != Place::Clients {
            wanted.far_servers = [B, "192.168.50.3", "fd50::2", "fd50::3"].map(|far| (ip(far), owned)).into();
            wanted.portless.extend(["192.168.50.3", "fd50::3"].map(|far| (ip(far), Proto::GRE)));
        }
        wanted.publics = [
            Endpoint { proto: Proto::UDP, ip: public, port: 4500 },
            Endpoint { proto: Proto::ESP, ip: public, port: 0 },
            Endpoint { proto: Proto::GRE, ip: far_public, port: 0 },
            Endpoint { proto: Proto::UDP, ip: public6, port: 4500 },
            Endpoint { proto: Proto::ESP, ip: public6, port: 0 },
            Endpoint { proto: Proto::GRE, ip: far_public6, port: 0 },
        ]
        .into();
        wanted.public_ips = [public, far_public, public6, far_public6].map(|ip| (ip, what)).into();
        wanted.public_ips.insert(far_public, PublicIp { echo: false, ..what });
    }
    claims.widen(&wanted).unwrap();
    claims.set_echo(WARM, u32::MAX).unwrap();
    claims.set_echo(WARM + 1, 1).unwrap();
    (world, program)
}

/// Both decisions: the program's and ours.
fn decisions(world: &World, program: &Program, frame: &[u8]) -> (bool, bool) {
    let action = program.run(frame).unwrap();
    assert!(matches!(action, Action::Drop | Action::Pass), "{action:?}");
    (action == Action::Drop, world.claims("uplink", frame))
}

/// Later fragments follow what the program remembers of their first ones; that is no function of the packet.
fn is_later_fragment(frame: &[u8]) -> bool {
    frame.len() >= 22 && frame[12..14] == [8, 0] && u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff != 0
}

/// What the program and we say of a frame that comes after others.
fn both_claim(world: &World, program: &Program, claimant: &mut Claimant, frame: &[u8]) -> (Claim, Claim) {
    let undecided = |program: &Program| program.counters().unwrap().get(Counter::PassedUndecided);
    let before = undecided(program);
    let said = match program.run(frame).unwrap() {
        Action::Drop => Claim::Engine,
        Action::Pass if undecided(program) > before => Claim::Undecided,
        Action::Pass => Claim::Kernel,
        other => panic!("{other:?}"),
    };
    (said, world.claim(claimant, "uplink", frame))
}

#[test]
fn fragments_are_claimed_as_their_first_and_undecided_before_it() {
    use Claim::{Engine, Kernel, Undecided};
    let hop = Hop(MAC_B, MAC_A, 64);
    for (place, vlan) in PLACES.into_iter().flat_map(|place| TAGS.map(|vlan| (place, vlan))) {
        let (world, mut program) = both(place, vlan);
        let keeps = vlan.is_empty();
        program.set_keeps_early(keeps).unwrap();
        let mut claimant = Claimant::default();
        let content: Vec<u8> = (0..200).collect();
        let packet = |packet: Packet| packet.payload(&content).eth(MAC_B, MAC_A).bytes();
        let cases = [
            ("owned", packet(udp("198.51.100.7:9", "192.168.50.1:20740")), Undecided, Engine),
            ("the host's", packet(udp("198.51.100.7:9", "192.168.50.1:53")), Undecided, Kernel),
            ("a large ping of the host", packet(echo_request("198.51.100.7", "192.168.50.1", 9)), Undecided, Kernel),
            ("a warm reply", packet(echo_reply("198.51.100.7", "192.168.50.1", WARM)), Undecided, Engine),
            ("esp", packet(other("198.51.100.7", "192.168.50.1", 50)), Undecided, Engine),
            ("a public name", packet(udp("198.51.100.7:9", "203.0.113.9:4500")), Undecided, Engine),
            ("a public address, no name", packet(udp("198.51.100.7:9", "203.0.113.9:53")), Undecided, Kernel),
            ("transit", packet(udp("198.51.100.7:9", "198.51.100.200:20740")), Kernel, Kernel),
            ("owned, IPv6", udp6_of(hop, "[2001:db8::7]:9", "[fd50::1]:20740", &content), Undecided, Engine),
            ("the host's, IPv6", udp6_of(hop, "[2001:db8::7]:9", "[fd50::1]:53", &content), Undecided, Kernel),
            ("transit of IPv6", udp6_of(hop, "[fd50::9]:9", "[fd50::7]:20740", &content), Kernel, Kernel),
        ];
        for (id, (name, whole, before, after)) in (100..).zip(cases) {
            let parts = fragments(&whole, 64, id);
            let mut both_of = |nth: usize| both_claim(&world, &program, &mut claimant, &tagged(&parts[nth], vlan, 3));
            let said = [2, 0, 1, 2].map(&mut both_of);
            assert!(said.iter().all(|(kernel, ours)| kernel == ours), "{name}, {place:?}, {vlan:?}: {said:?}");
            if place == Place::UnderlayAndClients {
                let expected = [before, after, after, after].map(|claim| (claim, claim));
                assert_eq!(said, expected, "{name}, {vlan:?}");
            }
        }
    }
}

#[test]
fn what_is_no_first_fragment_leads_no_others() {
    use Claim::{Engine, Undecided};
    let (world, mut program) = both(Place::Underlay, &[]);
    program.set_keeps_early(true).unwrap();
    let mut claimant = Claimant::default();
    let mut claims = |frame: &[u8], expected| {
        assert_eq!(both_claim(&world, &program, &mut claimant, frame), (expected, expected));
    };
    let content: Vec<u8> = (0..200).collect();
    let whole = udp("198.51.100.7:9", "192.168.50.1:20740").id(500).payload(&content).eth(MAC_B, MAC_A).bytes();
    claims(&whole, Engine);
    claims(&fragments(&whole, 64, 500)[1], Undecided);

    let whole = udp6_of(Hop(MAC_B, MAC_A, 64), "[2001:db8::7]:9", "[fd50::1]:20740", &content);
    let [first, later] = [0, 1].map(|nth| fragments(&whole, 64, 600)[nth].clone());
    let header = 14 + 40;
    let mut far = first.clone();
    far[header + 2..header + 4].copy_from_slice(&0xfff9_u16.to_be_bytes());
    claims(&far, Undecided);
    // A second fragment header, of a whole packet, takes nothing back.
    let mut twice = first;
    twice.splice(header..header, [44, 0, 0, 1, 0, 0, 0, 1]);
    twice[header + 10..header + 12].fill(0);
    twice[19] += 8;
    claims(&later, Undecided);
    claims(&twice, Engine);
    claims(&later, Engine);
}

#[test]
fn random_fragments_are_claimed_alike() {
    let ids = 0..4_u32;
    let fragment = (arbitrary::frame(), ids, 0..4_usize, any::<bool>());
    let (world, mut program) = both(Place::UnderlayAndClients, &[]);
    program.set_keeps_early(true).unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    let mut claimant = Claimant::default();
    let claimant = std::cell::RefCell::new(&mut claimant);
    proptest!(config, |(fragments in proptest::collection::vec(fragment, 1..20))| {
        for ((_, whole), id, offset, more) in fragments {
            if whole[12..14] != [8, 0] {
                continue;
            }
            let payload = parts::payload(&whole).1.to_vec();
            let part = parts::fragment(&whole, &payload, offset * 3, more, id);
            let (kernel, ours) = both_claim(&world, &program, *claimant.borrow_mut(), &part);
            prop_assert_eq!(kernel, ours);
        }
    });
}

#[test]
fn named_packets_are_claimed_alike() {
    for (place, vlan) in PLACES.into_iter().flat_map(|place| TAGS.map(|vlan| (place, vlan))) {
        let (world, program) = both(place, vlan);
        let external = matches!(place, Place::UnderlayAndClients | Place::Clients);
        let (gateway, tells) = (place != Place::Underlay, !matches!(place, Place::Underlay | Place::Clients));
        let ours = udp("192.168.50.1:20740", "198.51.100.7:53");
        let told = |proto: u8, server: &str| {
            let call = match proto {
                6 => tcp("198.51.100.7:9", &format!("{server}:20480"), 2),
                17 => udp("198.51.100.7:9", &format!("{server}:22")),
                proto => other("198.51.100.7", server, proto),
            };
            error("192.168.51.1", "198.51.100.7", 3, 1, &call)
        };
        let cases = [
            ("owned tcp", tcp("198.51.100.7:9", "192.168.50.1:20480", 2), true),
            ("the host's ssh", tcp("198.51.100.7:9", "192.168.50.1:22", 2), false),
            ("transit", tcp("198.51.100.7:9", "198.51.100.200:20480", 2), false),
            ("bound esp", other("198.51.100.7", "192.168.50.1", 50), true),
            ("unbound gre", other("198.51.100.7", "192.168.50.1", 47), false),
            ("echo for the host", echo_request("198.51.100.7", "192.168.50.1", WARM), false),
            ("a warm reply", echo_reply("198.51.100.7", "192.168.50.1", WARM), true),
            ("a cold reply", echo_reply("198.51.100.7", "192.168.50.1", WARM + 1), false),
            ("a public name", udp("198.51.100.7:9", "203.0.113.9:4500"), external),
            ("a public address's echo", echo_request("198.51.100.7", "203.0.113.9", 9), external),
            ("that of one that the kernel has", echo_request("198.51.100.7", "203.0.113.3", 9), false),
            ("an error about ours", error("198.51.100.1", "192.168.50.1", 3, 1, &ours), true),
            (
                "an error about a public name",
                error("198.51.100.1", "203.0.113.9", 3, 1, &udp("203.0.113.9:4500", "198.51.100.7:53")),
                gateway,
            ),
            ("an error to a client about a wire name", told(6, B), tells),
            ("about a server's own port", told(17, B), false),
            ("about one of ours", told(6, A), false),
            ("about a published protocol without ports", told(47, "192.168.50.3"), tells),
            ("about one that is not published", told(50, B), false),
            ("about one that is nobody's", told(132, B), false),
            ("about a packet to no server", told(6, "192.168.50.9"), false),
            (
                "an error about our warm echo",
                error("198.51.100.1", "192.168.50.1", 11, 0, &echo_request("192.168.50.1", "198.51.100.7", WARM)),
                true,
            ),
            (
                "an error about the host's",
                error("198.51.100.1", "192.168.50.1", 3, 1, &udp("192.168.50.1:53", "198.51.100.7:53")),
                false,
            ),
            ("a bad IP length", udp("198.51.100.7:9", "192.168.50.1:20740").options(&[1, 1, 1, 0]), true),
        ];
        for (name, packet, claimed) in cases {
            let frame = packet.eth(MAC_B, MAC_A).bytes();
            for borne in TAGS {
                let claimed = claimed && borne == vlan;
                let story = format!("{name}, {place:?}, of VLAN {vlan:?} on {borne:?}");
                assert_eq!(decisions(&world, &program, &tagged(&frame, borne, 0)), (claimed, claimed), "{story}");
            }
        }
    }
}

#[test]
fn an_ipv4_header_that_makes_no_sense_is_the_kernels() {
    let (world, program) = both(Place::Underlay, &[]);
    let whole = other("198.51.100.7", A, 50).eth(MAC_B, MAC_A).bytes();
    assert_eq!(decisions(&world, &program, &whole), (true, true));
    // Its version, its length in words, and that of the packet.
    for (at, octet) in [(14, 0x55), (14, 0x65), (14, 0x44), (14, 0x40), (17, 19)] {
        let mut frame = whole.clone();
        frame[at] = octet;
        assert_eq!(decisions(&world, &program, &frame), (false, false), "octet {at} is {octet:#x}");
    }
    let mut frame = udp("198.51.100.7:9", "192.168.50.1:20740").eth(MAC_B, MAC_A).bytes();
    assert_eq!(decisions(&world, &program, &frame), (true, true));
    frame[17] = 22;
    assert_eq!(decisions(&world, &program, &frame), (false, false), "the packet ends between its ports");
}

#[test]
fn named_packets_of_ipv6_are_claimed_alike() {
    const SERVER: &str = "fd50::1";
    const CLIENT: &str = "2001:db8::7";
    const PUBLIC: &str = "2001:db8::9";
    let hop = Hop(MAC_B, MAC_A, 64);
    let end = |ip: &str, port: u16| format!("[{ip}]:{port}");
    let udp = |src: (&str, u16), dst: (&str, u16)| udp6(hop, &end(src.0, src.1), &end(dst.0, dst.1));
    let error = |dst: &str, kind: u8, quoted: &[u8]| error6(hop, "fd50::fe", dst, (kind, 0, 0), quoted);
    for place in PLACES {
        let (world, program) = both(place, &[]);
        let external = matches!(place, Place::UnderlayAndClients | Place::Clients);
        let (gateway, tells) = (place != Place::Underlay, !matches!(place, Place::Underlay | Place::Clients));
        let cases = [
            ("owned tcp", tcp6(hop, "[2001:db8::7]:9", "[fd50::1]:20480", 2), true),
            ("the host's ssh", tcp6(hop, "[2001:db8::7]:9", "[fd50::1]:22", 2), false),
            ("echo for the host", echo6(hop, CLIENT, SERVER, false, WARM), false),
            ("a warm reply", echo6(hop, CLIENT, SERVER, true, WARM), true),
            ("a cold reply", echo6(hop, CLIENT, SERVER, true, WARM + 1), false),
            ("a public name", udp((CLIENT, 9), (PUBLIC, 4500)), external),
            ("a public address's echo", echo6(hop, CLIENT, PUBLIC, false, 9), external),
            ("an error about ours", error(SERVER, 1, &udp((SERVER, 20740), (CLIENT, 53))), true),
            ("too big", error(SERVER, 2, &udp((SERVER, 20740), (CLIENT, 53))), true),
            ("a parameter problem", error(SERVER, 4, &udp((SERVER, 20740), (CLIENT, 53))), true),
            ("no error", error(SERVER, 5, &udp((SERVER, 20740), (CLIENT, 53))), false),
            ("an error about our warm echo", error(SERVER, 3, &echo6(hop, SERVER, CLIENT, false, WARM)), true),
            ("an error about a public name", error(PUBLIC, 1, &udp((PUBLIC, 4500), (CLIENT, 53))), gateway),
            ("an error to a client about a wire name", error(CLIENT, 1, &udp((CLIENT, 9), ("fd50::2", 20480))), tells),
        ];
        for (name, frame, claimed) in cases {
            assert_eq!(decisions(&world, &program, &frame), (claimed, claimed), "{name}, {place:?}");
        }
    }
}

#[test]
fn random_packets_of_ipv6_are_claimed_alike() {
    for place in PLACES {
        let (world, mut program) = both(place, &[]);
        program.set_keeps_early(true).unwrap();
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
        // Names of packets are those of one case alone: the program forgets by the kernel's clock.
        let frames = (any::<u32>(), arbitrary6::ends6())
            .prop_flat_map(|(id, ends)| proptest::collection::vec(arbitrary6::frame6(id, ends), 1..30));
        let turned = prop_oneof![4 => Just(None), 1 => (14..120usize, 0u8..8).prop_map(Some)];
        proptest!(config, |(frames in frames, turned in turned)| {
            let mut claimant = Claimant::default();
            for mut frame in frames {
                if let Some((at, bit)) = turned
                    && let Some(byte) = frame.get_mut(at)
                {
                    *byte ^= 1 << bit;
                }
                let (kernel, ours) = both_claim(&world, &program, &mut claimant, &frame);
                prop_assert_eq!(kernel, ours, "{:02x?}", frame);
            }
        });
    }
}

/// The frame with VLAN tags, of some priority.
fn tagged(frame: &[u8], vlan: &[u16], priority: u8) -> Vec<u8> {
    let tags = VlanTags::new(vlan).unwrap();
    let octets = tags.iter().flat_map(|(kind, id)| [kind, id | u16::from(priority) << 12]).flat_map(u16::to_be_bytes);
    let mut frame = frame.to_vec();
    frame.splice(12..12, octets.collect::<Vec<u8>>());
    frame
}

fn random(place: Place, vlan: &'static [u16], strategy: impl Strategy<Value = (&'static str, Vec<u8>)>) {
    let (world, program) = both(place, vlan);
    // The kernel runs no program on less than an Ethernet header.
    let strategy = strategy.prop_filter("whole", |(_, frame)| frame.len() >= 14 && !is_later_fragment(frame));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6000) };
    let config = ProptestConfig { max_local_rejects: 1_000_000, ..config };
    // Mostly as the port has them, and sometimes others, or a bit of them turned.
    let borne = prop_oneof![8 => Just(vlan), 1 => prop::sample::select(&TAGS[..])];
    let turned = prop_oneof![8 => Just(None), 1 => (12usize..20, 0u8..8).prop_map(Some)];
    proptest!(config, |((_, frame) in strategy, borne in borne, priority in 0u8..16, turned in turned)| {
        let mut frame = tagged(&frame, borne, priority);
        if let Some((at, bit)) = turned
            && let Some(byte) = frame.get_mut(at)
        {
            *byte ^= 1 << bit;
        }
        let (kernel, ours) = decisions(&world, &program, &frame);
        prop_assert_eq!(kernel, ours, "the program {}, we {}", kernel, ours);
    });
}

#[test]
fn random_packets_are_claimed_alike() {
    for place in PLACES {
        random(place, &[], arbitrary::frame());
    }
    for (place, vlan) in PLACES[1..].iter().zip([TAGS[1], TAGS[2], TAGS[1]]) {
        random(*place, vlan, arbitrary::frame());
    }
}

#[test]
fn mutated_packets_are_claimed_alike() {
    for (place, vlan) in PLACES.into_iter().zip([TAGS[1], TAGS[0], TAGS[2], TAGS[0]]) {
        random(place, vlan, arbitrary::mutated());
    }
}

#[test]
fn noise_is_claimed_alike() {
    TAGS.iter().for_each(|vlan| random(Place::Clients, vlan, arbitrary::noise()));
}
