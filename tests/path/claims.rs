//! Whose a frame is, as replay knows it without the XDP program. `tests/claims_match.rs` holds it against that.

use sixway::path::{Claim, Claimant};

use crate::packet::udp;
use crate::parts::fragments;
use crate::scene::{MAC_A, MAC_B, server_a};

#[test]
fn fragments_are_whose_their_first_was_for_thirty_seconds() {
    for (port, claim) in [(20740, Claim::Engine), (53, Claim::Kernel)] {
        let (mut world, mut claimant) = (server_a(), Claimant::default());
        let whole = udp("198.51.100.7:9", &format!("192.168.50.1:{port}")).payload(&[7; 200]).eth(MAC_B, MAC_A);
        let parts = fragments(&whole.bytes(), 64, 7);
        assert_eq!(world.claim(&mut claimant, "uplink", &parts[1]), Claim::Undecided);
        assert_eq!(world.claim(&mut claimant, "uplink", &parts[0]), claim);
        for (seconds, expected) in [(0, claim), (29, claim), (1, Claim::Undecided), (1, Claim::Undecided)] {
            world.later(seconds);
            assert_eq!(world.claim(&mut claimant, "uplink", &parts[1]), expected, "to port {port}");
        }
    }
}
