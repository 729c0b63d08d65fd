//! `path::claims`, which replay decides by, against the XDP program in the kernel (`BPF_PROG_RUN`), packet by packet.
//! Without a socket a claimed packet is dropped, so `Drop` says "claimed". Needs root.

use proptest::prelude::*;
use sixway::afxdp::program::{Action, Claims, Kind, Program, PublicIp};
use sixway::frame::Frame;
use sixway::path::{Context, claims};
use sixway::table;
use sixway::units::{Endpoint, Proto};

#[allow(dead_code)]
#[path = "path/arbitrary.rs"]
mod arbitrary;
#[allow(dead_code)]
#[path = "path/packet.rs"]
mod packet;
#[allow(dead_code)]
#[path = "path/scene.rs"]
mod scene;
#[allow(dead_code)]
#[path = "path/world.rs"]
mod world;

use packet::{echo_reply, echo_request, error, other, tcp, udp};
use scene::{A, B, MAC_A, MAC_B, config_a};
use world::World;

/// The identifier that `plain` has asked the outside with; its neighbour was asked with long ago.
const WARM: u16 = 21312;

/// Where clients outside arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clients {
    Nowhere,
    ByUplink,
    ByAnotherPort,
}

const EVERYWHERE: [Clients; 3] = [Clients::Nowhere, Clients::ByUplink, Clients::ByAnotherPort];

/// A published protocol without ports on another server.
const FAR_GRE: &str = "blue gre - 192.168.50.3 02:42:0a:03:00:02 10.3.0.2 public=203.0.113.3\n";

/// Server A, and the program of its uplink with the claims that its mapping makes.
fn both(clients: Clients) -> (World, Program) {
    assert!(rustix::process::geteuid().is_root(), "this test loads XDP programs: run it as root");
    let config = match clients {
        Clients::Nowhere => config_a(),
        Clients::ByUplink => config_a().replace("role = \"uplink\"", "role = \"uplink\"\nexternal = true"),
        Clients::ByAnotherPort => {
            config_a() + "[[port]]\nname = \"wan\"\nrole = \"external\"\naddress = \"02:00:00:00:00:e1\"\n"
        }
    };
    let mut world = World::new(&config, &(scene::MAPPING.to_owned() + FAR_GRE));
    let ping = |id| echo_request("10.1.0.3", "198.51.100.7", id).from("plain").bytes();
    world.receive("plain", &ping(40001));
    world.later(61);
    let sent = world.receive("plain", &ping(40000));
    assert_eq!(world.words(sent.verdict), "forward uplink");

    let kind = Kind::Uplink { external: clients == Clients::ByUplink };
    let mut program = Program::load(kind, false).unwrap_or_else(|error| panic!("{error:?}"));
    let ip = |text: &str| text.parse().unwrap();
    let (server, public, far_public) = (ip(A), ip("203.0.113.9"), ip("203.0.113.3"));
    let claims = program.claims().unwrap();
    let owned = world.assembly.around.owned;
    let mut wanted =
        Claims { servers: [(server, owned)].into(), portless: [(server, Proto::ESP)].into(), ..Claims::default() };
    if clients != Clients::Nowhere {
        let what = PublicIp { echo: true, neighbour: false };
        wanted.far_servers = [(ip(B), owned), (ip("192.168.50.3"), owned)].into();
        wanted.portless.insert((ip("192.168.50.3"), Proto::GRE));
        wanted.publics = [
            Endpoint { proto: Proto::UDP, ip: public, port: 4500 },
            Endpoint { proto: Proto::ESP, ip: public, port: 0 },
            Endpoint { proto: Proto::GRE, ip: far_public, port: 0 },
        ]
        .into();
        wanted.public_ips = [(public, what), (far_public, what)].into();
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
    let guard = table::pin();
    let World { assembly, state, hops, now, .. } = world;
    let (names, around) = (assembly.names.view(&guard), &assembly.around);
    let cx = Context { names, around, state, hops, now: *now, dry_run: false };
    let mut buffer = frame.to_vec();
    let role = &around.port(around.uplinks[0]).unwrap().role;
    (action == Action::Drop, claims(&cx, role, &Frame::new(&mut buffer, 0, frame.len())))
}

/// Later fragments follow what the program remembers of their first ones; that is no function of the packet.
fn is_later_fragment(frame: &[u8]) -> bool {
    frame.len() >= 22 && frame[12..14] == [8, 0] && u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff != 0
}

#[test]
fn named_packets_are_claimed_alike() {
    for clients in EVERYWHERE {
        let (world, program) = both(clients);
        let (external, gateway) = (clients == Clients::ByUplink, clients != Clients::Nowhere);
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
            ("an error about ours", error("198.51.100.1", "192.168.50.1", 3, 1, &ours), true),
            (
                "an error about a public name",
                error("198.51.100.1", "203.0.113.9", 3, 1, &udp("203.0.113.9:4500", "198.51.100.7:53")),
                gateway,
            ),
            ("an error to a client about a wire name", told(6, B), gateway),
            ("about a server's own port", told(17, B), false),
            ("about one of ours", told(6, A), false),
            ("about a published protocol without ports", told(47, "192.168.50.3"), gateway),
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
            assert_eq!(decisions(&world, &program, &frame), (claimed, claimed), "{name}, clients: {clients:?}");
        }
    }
}

fn random(clients: Clients, strategy: impl Strategy<Value = (&'static str, Vec<u8>)>) {
    let (world, program) = both(clients);
    // The kernel runs no program on less than an Ethernet header.
    let strategy = strategy.prop_filter("whole", |(_, frame)| frame.len() >= 14 && !is_later_fragment(frame));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6000) };
    let config = ProptestConfig { max_local_rejects: 1_000_000, ..config };
    proptest!(config, |((_, frame) in strategy)| {
        let (kernel, ours) = decisions(&world, &program, &frame);
        prop_assert_eq!(kernel, ours, "the program {}, we {}", kernel, ours);
    });
}

#[test]
fn random_packets_are_claimed_alike() {
    for clients in EVERYWHERE {
        random(clients, arbitrary::frame());
    }
}

#[test]
fn mutated_packets_are_claimed_alike() {
    for clients in EVERYWHERE {
        random(clients, arbitrary::mutated());
    }
}

#[test]
fn noise_is_claimed_alike() {
    random(Clients::ByUplink, arbitrary::noise());
}
