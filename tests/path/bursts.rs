//! A burst is its frames one by one.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::mutated;
use crate::scene::server_a;

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
