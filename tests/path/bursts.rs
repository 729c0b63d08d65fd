//! A burst is its frames one by one.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::mutated;
use crate::packet::{SYN, tcp};
use crate::scene::{MAC_A, MAC_B, server_a, server_a_with};

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
