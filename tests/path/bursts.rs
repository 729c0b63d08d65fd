//! A burst is its frames one by one.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::arbitrary::mutated;
use crate::fixtures::{gateway, replicas};
use crate::packet::{ACK, FIN, RST, SYN, tcp, udp};
use crate::scene::{MAC_A, MAC_B, MAPPING, server_a, server_a_and, server_a_with};
use crate::world::World;

#[test]
fn a_burst_is_walked_as_its_frames_one_by_one() {
    proptest!(ProptestConfig::with_cases(12), |(frames in vec(mutated(), 200..400))| {
        let (mut one, mut many) = (server_a(), server_a());
        let ports: Vec<&str> = one.assembly.around.all_ports().map(|(_, port)| port.name.as_str()).collect();
        let ports: Vec<String> = ports.into_iter().map(str::to_owned).collect();
        for port in &ports {
            let burst: Vec<Vec<u8>> =
                frames.iter().filter(|(of, _)| of == port).map(|(_, frame)| frame.clone()).collect();
            let singly: Vec<_> = burst.iter().map(|frame| one.receive(port, frame)).collect();
            prop_assert_eq!(many.receive_burst(port, &burst), singly);
        }
        prop_assert_eq!(one.remembered(), many.remembered());
    });
}

/// What a burst asks for ahead of the choice among replicas is what each frame chooses by: few callers and names, so that
/// flows begin and go on within a burst.
#[test]
fn a_burst_of_calls_to_replicas_is_walked_as_its_frames_one_by_one() {
    const INSIDE: [&str; 4] = ["10.5.0.1:80", "10.1.0.9:9090", "10.2.0.2:80", "10.5.0.1:81"];
    const PUBLIC: [&str; 4] = ["203.0.113.80:80", "203.0.113.53:53", "203.0.113.6:500", "203.0.113.80:81"];
    let flags = select(vec![SYN, SYN, ACK, FIN | ACK, RST, SYN | ACK]);
    let call = (0..8u16, 0..4usize, prop::option::weighted(0.8, flags));
    let worlds =
        [(replicas::server as fn() -> World, "native"), (gateway::gateway, "wan"), (gateway::on_one_nic, "uplink")];
    proptest!(ProptestConfig::with_cases(40), |(calls in vec(call, 1..100))| {
        for (world, port) in worlds {
            let packet = |&(caller, name, flags): &(u16, usize, Option<u8>)| {
                let (host, names) = if port == "native" { ("10.1.0.2", INSIDE) } else { ("198.51.100.7", PUBLIC) };
                let caller = format!("{host}:{}", 20740 + caller);
                let packet = flags.map_or_else(|| udp(&caller, names[name]), |flags| tcp(&caller, names[name], flags));
                match port {
                    "native" => packet.from(port),
                    "wan" => gateway::outside(packet),
                    _ => packet.eth(MAC_B, gateway::MAC_G),
                }
            };
            let burst: Vec<Vec<u8>> = calls.iter().map(|call| packet(call).bytes()).collect();
            let (mut one, mut many) = (world(), world());
            let singly: Vec<_> = burst.iter().map(|frame| one.receive(port, frame)).collect();
            prop_assert_eq!(many.receive_burst(port, &burst), singly);
            prop_assert_eq!(one.remembered(), many.remembered());
        }
    });
}

/// What the packet before has found is not taken for another's: behind a bridge are two containers, with the same inside
/// ports, and the first has a block for each protocol.
#[test]
fn a_burst_of_several_containers_is_walked_as_its_frames_one_by_one() {
    const BEHIND: [(&str, &str); 2] = [("02:42:0a:01:00:20", "10.1.0.20"), ("02:42:0a:01:00:21", "10.1.0.21")];
    const BLOCKS: &str = "
blue tcp 02:00:00:00:00:01 192.168.50.1:23040-23047 02:42:0a:01:00:20 10.1.0.20:23040-23047
blue udp 02:00:00:00:00:01 192.168.50.1:23048-23055 02:42:0a:01:00:20 10.1.0.20:23040-23047
blue any 02:00:00:00:00:01 192.168.50.1:23056-23063 02:42:0a:01:00:20 10.1.0.20:23056-23063
blue any 02:00:00:00:00:01 192.168.50.1:23064-23071 02:42:0a:01:00:21 10.1.0.21:23040-23047
";
    let bridge = "02:0a:00:00:00:20";
    let world = || {
        let port =
            format!("[[port]]\nname = \"bridge\"\nrole = \"access\"\nnetwork = \"blue\"\naddress = \"{bridge}\"\n");
        let mut world = server_a_and(&port);
        world.remap(&(MAPPING.to_owned() + BLOCKS));
        world
    };
    let ports = prop_oneof![3 => 23040..23048u16, 1 => 23056..23064u16, 1 => 40000..40004u16];
    proptest!(ProptestConfig::with_cases(40), |(sent in vec((select(&BEHIND[..]), ports, any::<bool>()), 1..80))| {
        let packet = |((mac, ip), port, is_tcp): &((&str, &str), u16, bool)| {
            let from = format!("{ip}:{port}");
            let to = "198.51.100.7:443";
            (if *is_tcp { tcp(&from, to, SYN) } else { udp(&from, to) }).eth(mac, bridge).bytes()
        };
        let burst: Vec<Vec<u8>> = sent.iter().map(packet).collect();
        let (mut one, mut many) = (world(), world());
        let singly: Vec<_> = burst.iter().map(|frame| one.receive("bridge", frame)).collect();
        prop_assert_eq!(many.receive_burst("bridge", &burst), singly);
        prop_assert_eq!(one.remembered(), many.remembered());
    });
}

#[test]
fn a_burst_loses_its_tags_as_its_frames_do() {
    let on_vlan = || server_a_with("role = \"uplink\"\n", "role = \"uplink\"\nvlan = 100\n");
    let bare = tcp("192.168.50.2:20740", "192.168.50.1:20480", SYN).eth(MAC_B, MAC_A).bytes();
    let tagged = |id: u8| [&bare[..12], &[0x81, 0, 0, id], &bare[12..]].concat();
    let burst = [tagged(100), bare.clone(), tagged(101), tagged(100)];
    let (mut one, mut many) = (on_vlan(), on_vlan());
    let singly: Vec<_> = burst.iter().map(|frame| one.receive("uplink", frame)).collect();
    let words: Vec<String> = singly.iter().map(|outcome| one.words(outcome.verdict)).collect();
    assert_eq!(words, ["forward native", "drop vlan_tagged", "drop vlan_tagged", "forward native"]);
    assert_eq!(many.receive_burst("uplink", &burst), singly);
    let answers: Vec<_> = ["10.2.0.2:20740"; 2].map(|to| tcp("10.1.0.2:80", to, 18).from("native").bytes()).into();
    let singly: Vec<_> = answers.iter().map(|frame| one.receive("native", frame)).collect();
    assert_eq!(singly[0].out.as_ref().map(|out| &out[12..16]), Some(&[0x81, 0, 0, 100][..]));
    assert_eq!(many.receive_burst("native", &answers), singly);
}
