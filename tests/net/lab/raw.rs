//! Frames as nobody's kernel would send them.

use std::fs::File;
use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use smoltcp::phy::{Device, Medium, RawSocket, TxToken};
use smoltcp::time::Instant;

use super::namespace::{self, Namespace};

/// A packet socket on an interface.
pub struct Injector(RawSocket);

impl Injector {
    pub fn new(place: &Namespace, interface: &str) -> Injector {
        let before = File::open("/proc/thread-self/ns/net").expect("this thread's network namespace");
        place.enter();
        let socket = RawSocket::new(interface, Medium::Ethernet);
        namespace::enter(&before);
        Injector(socket.expect("root may open packet sockets"))
    }

    /// Sends one frame, from 15 bytes up to the interface's MTU and 14.
    pub fn send(&mut self, frame: &[u8]) {
        let token = self.0.transmit(Instant::now()).expect("a packet socket always has a token");
        token.consume(frame.len(), |buffer| buffer.copy_from_slice(frame));
    }
}

/// A whole UDP packet with right checksums.
pub fn udp(macs: ([u8; 6], [u8; 6]), from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(from.0.octets(), to.0.octets(), 64);
    let mut frame = Vec::new();
    builder.udp(from.1, to.1).write(&mut frame, payload).expect("it fits");
    frame
}

/// A TCP segment without payload, with right checksums.
pub fn tcp(macs: ([u8; 6], [u8; 6]), from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), syn: bool) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(from.0.octets(), to.0.octets(), 64);
    let segment = builder.tcp(from.1, to.1, 1000, 64000);
    let segment = if syn { segment.syn() } else { segment.ack(2000) };
    let mut frame = Vec::new();
    segment.write(&mut frame, &[]).expect("it fits");
    frame
}

/// The frame with VLAN tags, outermost first.
pub fn tagged(frame: &[u8], vlan: &[u16]) -> Vec<u8> {
    let tags = vlan.iter().flat_map(|id| [0x8100, *id]).flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// The octets of a MAC address in text.
pub fn mac(text: &str) -> [u8; 6] {
    text.parse::<sixway::units::Mac>().expect("a MAC address").0
}

/// A small, fast, repeatable source of bad ideas (xorshift64*, Vigna 2016).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }
}
