//! `path::claims`, which replay decides by, against the XDP program in the kernel (`BPF_PROG_RUN`), packet by packet.
//! Without a socket a claimed packet is dropped, so `Drop` says "claimed". Needs root.

use proptest::prelude::*;
use sixway::afxdp::program::{Action, Claims, Kind, Program, PublicIp};
use sixway::frame::Frame;
use sixway::path::{Context, claims};
use sixway::table;
use sixway::units::{Endpoint, Proto, VlanTags};

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
use scene::{A, MAC_A, MAC_B, MAC_ROUTER, config_a};
use world::World;

/// The identifier that `plain` has asked the outside with; its neighbour was asked with long ago.
const WARM: u16 = 21312;

/// The kinds of ports that lead out.
const KINDS: [Kind; 3] = [Kind::Uplink { external: false }, Kind::Uplink { external: true }, Kind::External];
/// The VLAN tags that they may have.
const TAGS: [&[u16]; 3] = [&[], &[100], &[200, 100]];

/// Server A with a port of that kind and with those VLAN tags, and the program with the claims that its mapping makes.
fn both(kind: Kind, vlan: &[u16]) -> (World, Program) {
    assert!(rustix::process::geteuid().is_root(), "this test loads XDP programs: run it as root");
    let role = match kind {
        Kind::Uplink { external: true } => "role = \"uplink\"\nexternal = true",
        Kind::External => "role = \"external\"",
        _ => "role = \"uplink\"",
    };
    let vlan_key = if vlan.is_empty() { String::new() } else { format!("\nvlan = {vlan:?}") };
    let config = config_a().replace("role = \"uplink\"", &format!("{role}{vlan_key}"));
    let router = format!("mac = \"{MAC_ROUTER}\"\n");
    let mut world = World::new(&config.replace(&router, &format!("{router}port = \"uplink\"\n")), scene::MAPPING);
    let ping = |id| echo_request("10.1.0.3", "198.51.100.7", id).from("plain").bytes();
    world.receive("plain", &ping(40001));
    world.later(61);
    let sent = world.receive("plain", &ping(40000));
    assert_eq!(world.words(sent.verdict), "forward uplink");

    let tags = VlanTags::new(vlan).unwrap();
    let mut program = Program::load(kind, tags, false).unwrap_or_else(|error| panic!("{error:?}"));
    let (server, public) = (A.parse().unwrap(), "203.0.113.9".parse().unwrap());
    let claims = program.claims().unwrap();
    let wanted = Claims {
        servers: [(server, world.assembly.around.owned)].into(),
        portless: [(server, Proto::ESP)].into(),
        publics: [
            Endpoint { proto: Proto::UDP, ip: public, port: 4500 },
            Endpoint { proto: Proto::ESP, ip: public, port: 0 },
        ]
        .into(),
        public_ips: [(public, PublicIp { echo: true, neighbour: false })].into(),
    };
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
    let port = around.port(world.port("uplink")).unwrap();
    (action == Action::Drop, claims(&cx, port, &Frame::new(&mut buffer, 0, frame.len())))
}

/// Later fragments follow what the program remembers of their first ones; that is no function of the packet.
fn is_later_fragment(frame: &[u8]) -> bool {
    frame.len() >= 22 && frame[12..14] == [8, 0] && u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff != 0
}

#[test]
fn named_packets_are_claimed_alike() {
    for (kind, vlan) in KINDS.into_iter().flat_map(|kind| TAGS.map(|vlan| (kind, vlan))) {
        let (world, program) = both(kind, vlan);
        let external = kind != Kind::Uplink { external: false };
        let ours = udp("192.168.50.1:20740", "198.51.100.7:53");
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
                true,
            ),
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
                let story = format!("{name}, {kind:?}, of VLAN {vlan:?} on {borne:?}");
                assert_eq!(decisions(&world, &program, &tagged(&frame, borne, 0)), (claimed, claimed), "{story}");
            }
        }
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

fn random(kind: Kind, vlan: &'static [u16], strategy: impl Strategy<Value = (&'static str, Vec<u8>)>) {
    let (world, program) = both(kind, vlan);
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
    for (kind, vlan) in KINDS.into_iter().zip(TAGS) {
        random(kind, &[], arbitrary::frame());
        random(kind, vlan, arbitrary::frame());
    }
}

#[test]
fn mutated_packets_are_claimed_alike() {
    for (kind, vlan) in KINDS.into_iter().zip([TAGS[1], TAGS[0], TAGS[2]]) {
        random(kind, vlan, arbitrary::mutated());
    }
}

#[test]
fn noise_is_claimed_alike() {
    TAGS.iter().for_each(|vlan| random(Kind::External, vlan, arbitrary::noise()));
}
