//! Two servers and the wire between them.

use crate::scene::{MAC_A, MAC_B, server_a, server_b};
use crate::world::{Outcome, World};

/// Servers A and B.
pub struct Underlay {
    pub a: World,
    pub b: World,
    /// Every frame that was on the wire.
    pub wire: Vec<Vec<u8>>,
}

/// Where a frame ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    pub verdict: String,
    pub out: Option<Vec<u8>>,
}

impl Underlay {
    pub fn new() -> Underlay {
        Underlay { a: server_a(), b: server_b(), wire: Vec::new() }
    }

    /// Sends a frame from behind a port of either server, and follows it to its end.
    pub fn send(&mut self, port: &str, frame: &[u8]) -> Delivered {
        let mut at_a = self.a.assembly.around.port_called(port).is_some();
        let mut outcome = self.server(at_a).receive(port, frame);
        let mut verdict = self.server(at_a).words(outcome.verdict);
        while verdict.ends_with(" uplink") || verdict.starts_with("answer uplink") {
            let frame = outcome.out.clone().unwrap();
            let towards = if at_a { MAC_B } else { MAC_A };
            if frame[..6] != crate::packet::mac(towards).0 {
                break;
            }
            at_a = !at_a;
            self.wire.push(frame.clone());
            let Outcome { .. } = outcome;
            outcome = self.server(at_a).receive("uplink", &frame);
            verdict = self.server(at_a).words(outcome.verdict);
        }
        Delivered { verdict, out: outcome.out }
    }

    fn server(&mut self, at_a: bool) -> &mut World {
        if at_a { &mut self.a } else { &mut self.b }
    }
}
