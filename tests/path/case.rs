//! One form for every fixture: what is there before, a packet in, the packet out, the verdict and what moved.

use sixway::naming::Health;
use smoltcp::wire::{
    ArpPacket, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet,
    TcpPacket, UdpPacket,
};

use crate::packet::Packet;
use crate::world::World;

/// A fixture.
pub struct Case {
    pub name: &'static str,
    world: World,
    before: Vec<Event>,
    receive: Option<(&'static str, Vec<u8>)>,
    verdict: &'static str,
    out: Option<Vec<u8>>,
    pieces: Vec<Vec<u8>>,
    moved: Vec<&'static str>,
    checksum_is_bad: bool,
}

/// What happens before the packet comes in.
enum Event {
    /// Another packet, and what becomes of it.
    Frame(&'static str, Vec<u8>, &'static str),
    /// Time passes, in seconds.
    Time(u64),
    /// The mapping is replaced.
    Mapping(String),
    /// Somebody says what he knows of the binding of a line.
    Health(String, Health),
    /// The policy is replaced by that of another configuration.
    Policy(String),
}

/// The bytes of a frame.
pub trait Bytes {
    fn to_frame(&self) -> Vec<u8>;
}

impl Bytes for Packet {
    fn to_frame(&self) -> Vec<u8> {
        self.bytes()
    }
}

impl Bytes for Vec<u8> {
    fn to_frame(&self) -> Vec<u8> {
        self.clone()
    }
}

impl Case {
    pub fn new(name: &'static str, world: World) -> Case {
        let (before, receive, out, pieces, moved) = (Vec::new(), None, None, Vec::new(), Vec::new());
        Case { name, world, before, receive, verdict: "", out, pieces, moved, checksum_is_bad: false }
    }

    /// The same beginning under another name.
    pub fn named(mut self, name: &'static str) -> Case {
        self.name = name;
        self
    }

    /// Before it, this packet comes in by `port`, to that verdict.
    pub fn given(mut self, port: &'static str, frame: impl Bytes, verdict: &'static str) -> Case {
        self.before.push(Event::Frame(port, frame.to_frame(), verdict));
        self
    }

    /// Before it, so many seconds pass.
    pub fn after(mut self, seconds: u64) -> Case {
        self.before.push(Event::Time(seconds));
        self
    }

    /// Before it, the mapping changes.
    pub fn remapped(mut self, mapping: String) -> Case {
        self.before.push(Event::Mapping(mapping));
        self
    }

    /// Before it, the binding of this line is found to be healthy or not.
    pub fn judged(mut self, line: &str, state: Health) -> Case {
        self.before.push(Event::Health(line.to_owned(), state));
        self
    }

    /// Before it, the policy becomes that of this configuration.
    pub fn governed(mut self, config: String) -> Case {
        self.before.push(Event::Policy(config));
        self
    }

    /// The packet that it is about.
    pub fn receives(mut self, port: &'static str, frame: impl Bytes) -> Case {
        self.receive = Some((port, frame.to_frame()));
        self
    }

    /// Its verdict and the packet that leaves.
    pub fn sends(mut self, verdict: &'static str, out: impl Bytes) -> Case {
        self.verdict = verdict;
        self.out = Some(out.to_frame());
        self
    }

    /// Its verdict, and the pieces that leave.
    pub fn cuts(mut self, verdict: &'static str, pieces: &[Vec<u8>]) -> Case {
        self.verdict = verdict;
        self.pieces = pieces.to_vec();
        self
    }

    /// Its verdict; nothing leaves.
    pub fn ends(mut self, verdict: &'static str) -> Case {
        self.verdict = verdict;
        self
    }

    /// Facts that it adds to the state; `-` before those that it takes away. Without this call: none.
    pub fn moves(mut self, moved: &[&'static str]) -> Case {
        self.moved = moved.to_vec();
        self
    }

    /// The transport checksum that leaves is wrong, as the one that came in was.
    pub fn with_bad_checksum(mut self) -> Case {
        self.checksum_is_bad = true;
        self
    }

    /// What is wrong, in words.
    pub fn run(mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for event in self.before {
            match event {
                Event::Frame(port, frame, verdict) => {
                    let outcome = self.world.receive(port, &frame);
                    let words = self.world.words(outcome.verdict);
                    if words != verdict {
                        wrong.push(format!("before it: {words}, not {verdict}"));
                    }
                }
                Event::Time(seconds) => self.world.later(seconds),
                Event::Mapping(mapping) => self.world.remap(&mapping),
                Event::Health(line, state) => self.world.judge(&line, state),
                Event::Policy(config) => self.world.govern(&config),
            }
        }
        let before = self.world.remembered();
        let (port, frame) = self.receive.expect("a packet");
        let outcome = self.world.receive(port, &frame);
        let words = self.world.words(outcome.verdict);
        if words != self.verdict {
            wrong.push(format!("verdict: {words}, not {}", self.verdict));
        }
        if outcome.out != self.out {
            wrong.push(format!("out:  {}\n      not {}", shown(&outcome.out), shown(&self.out)));
        }
        if outcome.pieces != self.pieces {
            let shown = |pieces: &[Vec<u8>]| {
                pieces.iter().map(|piece| shown(&Some(piece.clone()))).collect::<Vec<String>>().join("\n      ")
            };
            wrong.push(format!("pieces:  {}\n      not {}", shown(&outcome.pieces), shown(&self.pieces)));
        }
        for frame in outcome.out.iter().chain(&outcome.pieces) {
            let valid = verify(frame);
            if valid.is_ok() == self.checksum_is_bad {
                wrong.push(format!("smoltcp: {valid:?}"));
            }
        }
        let after = self.world.remembered();
        let added = after.iter().filter(|fact| !before.contains(fact)).cloned();
        let gone = before.iter().filter(|fact| !after.contains(fact)).map(|fact| format!("-{fact}"));
        let moved: Vec<String> = added.chain(gone).collect();
        if moved != self.moved {
            wrong.push(format!("moved: {moved:?}, not {:?}", self.moved));
        }
        wrong
    }
}

/// Runs every case and tells of all that is wrong.
pub fn run(cases: Vec<Case>) -> usize {
    let count = cases.len();
    let mut report = String::new();
    for case in cases {
        let name = case.name;
        let wrong = case.run();
        if !wrong.is_empty() {
            report += &format!("\n- {name}\n    {}", wrong.join("\n    "));
        }
    }
    assert!(report.is_empty(), "{report}");
    count
}

fn shown(frame: &Option<Vec<u8>>) -> String {
    let Some(frame) = frame else { return "nothing".to_owned() };
    let hex: Vec<String> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let pretty = smoltcp::wire::PrettyPrinter::<EthernetFrame<&[u8]>>::new("", frame);
    format!("{}\n      {}", hex.join(""), pretty.to_string().trim().replace('\n', "\n      "))
}

/// Holds lengths and checksums of a frame against smoltcp.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let ethernet = EthernetFrame::new_checked(frame).map_err(|error| error.to_string())?;
    if matches!(ethernet.ethertype().into(), 0x8100_u16 | 0x88a8) {
        return verify(&[&frame[..12], &frame[16..]].concat());
    }
    if ethernet.ethertype() == EthernetProtocol::Arp {
        return ArpPacket::new_checked(ethernet.payload()).map(|_| ()).map_err(|error| error.to_string());
    }
    if ethernet.ethertype() == EthernetProtocol::Ipv6 {
        return verify6(ethernet.payload());
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).map_err(|error| error.to_string())?;
    let (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
    let l4 = ip.payload();
    let is_fragment = ip.more_frags() || ip.frag_offset() != 0;
    let valid = match ip.next_header() {
        _ if !ip.verify_checksum() => return Err("bad IP checksum".to_owned()),
        _ if is_fragment => Ok(true),
        IpProtocol::Tcp => TcpPacket::new_checked(l4).map(|tcp| tcp.verify_checksum(&src, &dst)),
        IpProtocol::Udp => UdpPacket::new_checked(l4).map(|udp| udp.checksum() == 0 || udp.verify_checksum(&src, &dst)),
        IpProtocol::Icmp => Icmpv4Packet::new_checked(l4).map(|icmp| icmp.verify_checksum()),
        _ => Ok(true),
    };
    match valid {
        Ok(true) => Ok(()),
        Ok(false) => Err("bad transport checksum".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn verify6(packet: &[u8]) -> Result<(), String> {
    let ip = Ipv6Packet::new_checked(packet).map_err(|error| error.to_string())?;
    let (src, dst) = (ip.src_addr(), ip.dst_addr());
    let l4 = ip.payload();
    let valid = match ip.next_header() {
        IpProtocol::Tcp => TcpPacket::new_checked(l4).map(|tcp| tcp.verify_checksum(&src.into(), &dst.into())),
        IpProtocol::Udp => UdpPacket::new_checked(l4).map(|udp| udp.verify_checksum(&src.into(), &dst.into())),
        IpProtocol::Icmpv6 => Icmpv6Packet::new_checked(l4).map(|icmp| icmp.verify_checksum(&src, &dst)),
        _ => Ok(true),
    };
    match valid {
        Ok(true) => Ok(()),
        Ok(false) => Err("bad transport checksum".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
