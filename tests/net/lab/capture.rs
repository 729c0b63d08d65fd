//! What a wire saw: tcpdump captures, read by an independent decoder.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::pcap::PcapReader;

use super::namespace::Namespace;
use super::{SOON, until};

/// A running tcpdump.
pub struct Capture {
    child: Child,
    file: PathBuf,
}

/// An IPv4 packet that crossed.
#[derive(Clone, Debug)]
pub struct Seen {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub proto: u8,
    pub ttl: u8,
    /// Ports of TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// Total length of the IP packet by its header.
    pub len: u16,
    /// The VLANs of its tags, outermost first.
    pub vlans: Vec<u16>,
    /// The whole frame.
    pub bytes: Vec<u8>,
    /// IP and, of whole packets, TCP/UDP/ICMP checksums are right.
    pub checksums_right: bool,
}

impl Capture {
    /// Starts to capture what `filter` lets through; when this returns, tcpdump listens.
    pub fn start(place: &Namespace, interface: &str, filter: &str) -> Capture {
        let file = std::env::temp_dir().join(format!("{}-{interface}-{}.pcap", place.name(), file_number()));
        let mut child = place
            .command("tcpdump")
            .args(["-i", interface, "-n", "-U", "-Z", "root", "--immediate-mode", "-B", "32768", "-w"])
            .arg(&file)
            .arg(filter)
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump starts");
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        let listening = errors.lines().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(listening, "tcpdump listens on {interface}");
        Capture { child, file }
    }

    /// All IPv4 packets so far.
    pub fn packets(&self) -> Vec<Seen> {
        self.frames().iter().filter_map(|frame| decode(frame)).collect()
    }

    /// All frames so far.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let Some(mut reader) = File::open(&self.file).ok().and_then(|file| PcapReader::new(file).ok()) else {
            return Vec::new();
        };
        std::iter::from_fn(|| Some(reader.next_packet()?.ok()?.data.into_owned())).collect()
    }

    /// Waits until the capture holds a packet such as this, and gives it.
    pub fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        until(what, SOON, || self.packets().into_iter().find(|packet| wanted(packet)))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

fn file_number() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn decode(frame: &[u8]) -> Option<Seen> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { return None };
    let header = ip.header();
    let (src, dst) = (header.source(), header.destination());
    let (ports, l4_right) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let expected = tcp.calc_checksum_ipv4(src, dst).ok()?;
            (Some((tcp.source_port(), tcp.destination_port())), expected == tcp.checksum())
        }
        Some(TransportSlice::Udp(udp)) => {
            let udp_header = udp.to_header();
            let expected = udp_header.calc_checksum_ipv4_raw(src, dst, udp.payload()).ok()?;
            (Some((udp.source_port(), udp.destination_port())), udp.checksum() == 0 || expected == udp.checksum())
        }
        Some(TransportSlice::Icmpv4(icmp)) => (None, icmp.icmp_type().calc_checksum(icmp.payload()) == icmp.checksum()),
        _ => (None, true),
    };
    let ip_right = header.to_header().calc_header_checksum() == header.header_checksum();
    Some(Seen {
        src: src.into(),
        dst: dst.into(),
        proto: header.protocol().0,
        ttl: header.ttl(),
        ports,
        len: header.total_len(),
        vlans: sliced.vlan_ids().iter().map(|id| id.value()).collect(),
        bytes: frame.to_vec(),
        checksums_right: ip_right && l4_right,
    })
}
