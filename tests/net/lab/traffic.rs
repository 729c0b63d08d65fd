//! Packets that must not notice what goes on at the control socket.

use std::net::{Ipv4Addr, TcpStream};

use super::Lab;
use super::load::Load;
use super::peers::{Greeter, connect, greeting, says_back};
use super::way::Way;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// Datagrams a second.
const RATE: u64 = 2000;

/// A connection and a stream of datagrams from carol to web.
pub struct Traffic {
    stream: TcpStream,
    load: Load,
    mark: u64,
    before: Way,
    _web: Greeter,
}

impl Traffic {
    pub fn start(lab: &mut Lab) -> Traffic {
        let web = Greeter::start(lab.at("web"), "web", 80);
        let mut stream = connect(lab.at("carol"), (WEB, 80)).expect("carol reaches web");
        greeting(&mut stream);
        let load = Load::start(lab.at("carol"), lab.at("web"), (WEB, 7), RATE);
        let (mark, before) = (load.mark(), Way::look(lab, "carol"));
        Traffic { stream, load, mark, before, _web: web }
    }

    /// Since it began, engines have dropped nothing, and what got lost is in the kernel's own counters of the way.
    pub fn has_lost_nothing(&mut self, lab: &mut Lab) {
        self.goes_on();
        let account = self.load.since(self.mark);
        let after = Way::look(lab, "carol");
        let losses = after.losses_since(&self.before);
        println!("{} datagrams, {} lost; by the kernel's counters: {losses:?}", account.sent, account.lost);
        let dropped = (self.before.dropped_by_engines, after.dropped_by_engines);
        assert_eq!(dropped.1, dropped.0, "{}{}", lab.engine(1).all_drops(), lab.engine(2).all_drops());
        assert!(account.sent > 100 && account.lost <= after.lost_since(&self.before), "{account:?}, {losses:?}");
    }

    /// After a death: both are there again.
    pub fn goes_on(&mut self) {
        says_back(&mut self.stream, b"still there?").expect("the connection lives");
        self.load.since(self.load.mark());
    }
}
