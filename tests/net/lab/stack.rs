//! A TCP/IP stack in the story's own process, on a packet socket: what a container's stack is to a live migration. It can
//! be taken from one interface to another with all its connections.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Medium, RawSocket, wait};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use super::namespace::{self, Namespace};
use super::raw;

const BUFFER: usize = 32 * 1024;

/// The stack of one container.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    device: RawSocket,
}

impl Stack {
    /// A stack on `eth0` of `place`, whose kernel must have no address there. Every inside address is its neighbour, as
    /// engines answer for all.
    pub fn on(place: &Namespace, mac: &str, ip: Ipv4Addr) -> Stack {
        let mut device = socket(place);
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(raw::mac(mac))));
        let mut interface = Interface::new(config, &mut device, Instant::now());
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(ip.into(), 8)).expect("room for one"));
        Stack { interface, sockets: SocketSet::new(Vec::new()), device }
    }

    /// Goes on at `eth0` of another place. As after every migration, neighbours are asked for anew.
    pub fn goes_to(&mut self, place: &Namespace) {
        self.device = socket(place);
        self.interface.update_ip_addrs(|_| {});
    }

    /// Waits for one connection to `port`.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = tcp_socket();
        socket.listen(port).expect("a free socket");
        self.sockets.add(socket)
    }

    /// Connects from `port`.
    pub fn connect(&mut self, port: u16, to: (Ipv4Addr, u16)) -> SocketHandle {
        let mut socket = tcp_socket();
        socket.connect(self.interface.context(), to, port).expect("a free port");
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Receives and sends what there is.
    pub fn poll(&mut self) {
        self.interface.poll(Instant::now(), &mut self.device, &mut self.sockets);
    }

    /// Waits for a frame, or until a timer may be due.
    pub fn rest(&self) {
        let moment = Duration::from_millis(2).into();
        wait(self.device.as_raw_fd(), Some(moment)).expect("a packet socket can be waited for");
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    tcp::Socket::new(tcp::SocketBuffer::new(vec![0; BUFFER]), tcp::SocketBuffer::new(vec![0; BUFFER]))
}

fn socket(place: &Namespace) -> RawSocket {
    let before = File::open("/proc/thread-self/ns/net").expect("this thread's network namespace");
    place.enter();
    let socket = RawSocket::new("eth0", Medium::Ethernet);
    namespace::enter(&before);
    socket.expect("root may open packet sockets")
}
