//! What the engine would do to a packet, step by step: the walk itself, with an observer that takes notes.

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, SlicedPacket};

use crate::frame::Frame;
use crate::path::{self, Chosen, Context, Found, Observer, Role, SourceName, Step, Surroundings, Verdict, WorkerState};
use crate::units::{Endpoint, Ip, Mac, NetworkId, PortId, Proto};

/// A packet to ask about.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Where it arrives.
    pub port: PortId,
    pub src: Endpoint,
    pub dst: Endpoint,
}

/// What the walk did.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub before: Vec<u8>,
    pub steps: Vec<Step>,
    pub verdict: Verdict,
    /// What leaves, and by which port.
    pub after: Option<(PortId, Vec<u8>)>,
}

/// Room on both sides of the packet, for answers that are longer.
const ROOM: usize = 256;
/// What the packet carries.
const PAYLOAD: &[u8] = b"sixway explain";
/// The next hop that a packet from the underlay is said to come from: locally administered (IEEE 802 section 8.4).
const NEIGHBOUR: Mac = Mac([0x02, 0, 0, 0, 0, 0xfe]);

/// Walks a packet that is made up from `question`. Nothing is sent and nothing noted, if `cx` is a dry run.
///
/// # Errors
/// A packet that can't be: no such port, or two address families.
pub fn explain(cx: &Context<'_>, question: &Question) -> Result<Explanation, &'static str> {
    let before = build(cx, question)?;
    let mut buf = vec![0; ROOM];
    buf.extend_from_slice(&before);
    buf.resize(buf.len() + ROOM, 0);
    let mut frame = Frame::new(&mut buf, ROOM, before.len());
    let mut notes = Notes(Vec::new());
    let mut local = WorkerState::new(0, 1, cx.around.ports.len());
    let verdict = path::walk(cx, &mut local, question.port, &mut frame, &mut notes);
    let after = match verdict {
        Verdict::Forward { port }
        | Verdict::Cut { port, .. }
        | Verdict::Answer { port, .. }
        | Verdict::Hold { port, .. } => Some((port, frame.bytes().to_vec())),
        Verdict::Drop(_) | Verdict::Consume | Verdict::Heard | Verdict::Host | Verdict::Await { .. } => None,
    };
    Ok(Explanation { before, steps: notes.0, verdict, after })
}

struct Notes(Vec<Step>);

impl Observer for Notes {
    fn step(&mut self, step: Step) {
        self.0.push(step);
    }
}

/// The packet in the question: a SYN, a datagram, an echo request (a reply, from the underlay), or a bare IP packet.
fn build(cx: &Context<'_>, question: &Question) -> Result<Vec<u8>, &'static str> {
    let Question { port, src, dst } = *question;
    let own = cx.around.port(port).ok_or("there is no such port")?;
    if src.ip.is_v4() != dst.ip.is_v4() {
        return Err("source and destination must be of one address family");
    }
    let (eth_src, arrives_from_container) = match &own.role {
        Role::Access(access) => {
            (access.pinned.or_else(|| mac_of(cx, access.network, src.ip)).unwrap_or(NEIGHBOUR), true)
        }
        Role::Uplink { .. } | Role::External => (NEIGHBOUR, false),
    };
    let ethernet = PacketBuilder::ethernet2(eth_src.0, own.mac.0);
    let ip = if src.ip.is_v4() {
        ethernet.ipv4(src.ip.v4_octets(), dst.ip.v4_octets(), 64)
    } else {
        ethernet.ipv6(src.ip.bits().to_be_bytes(), dst.ip.bits().to_be_bytes(), 64)
    };
    let mut bytes = with_transport(ip, src, dst, arrives_from_container);
    let tags = own.tags.iter().flat_map(|(kind, id)| [kind, id]).flat_map(u16::to_be_bytes);
    bytes.splice(12..12, tags);
    Ok(bytes)
}

fn mac_of(cx: &Context<'_>, network: NetworkId, ip: Ip) -> Option<Mac> {
    let mut here = cx.names.all_containers().map(|(_, container)| container);
    here.find(|c| c.network() == network && c.ip() == ip && c.is_bound_here())
        .and_then(|container| container.held_by().map(|held| held.mac()).or(container.mac()))
}

fn with_transport(ip: PacketBuilderStep<IpHeaders>, src: Endpoint, dst: Endpoint, asks: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory does not fail, and the payload is far from any limit.
    let _ = match (src.proto, asks) {
        (Proto::TCP, _) => ip.tcp(src.port, dst.port, 1, 65535).syn().write(&mut bytes, &[]),
        (Proto::UDP, _) => ip.udp(src.port, dst.port).write(&mut bytes, PAYLOAD),
        (Proto::ICMP, true) => ip.icmpv4_echo_request(src.port, 1).write(&mut bytes, PAYLOAD),
        (Proto::ICMP, false) => ip.icmpv4_echo_reply(dst.port, 1).write(&mut bytes, PAYLOAD),
        (Proto::ICMPV6, true) => ip.icmpv6_echo_request(src.port, 1).write(&mut bytes, PAYLOAD),
        (Proto::ICMPV6, false) => ip.icmpv6_echo_reply(dst.port, 1).write(&mut bytes, PAYLOAD),
        (Proto(number), _) => ip.write(&mut bytes, etherparse::IpNumber(number), PAYLOAD),
    };
    bytes
}

/// A step as the name of its stage and a sentence.
#[must_use]
pub fn describe(step: &Step, around: &Surroundings) -> (&'static str, String) {
    let port = |id: PortId| around.port(id).map_or_else(|| id.0.to_string(), |port| port.name.clone());
    let network = |id: NetworkId| around.networks.name(id).to_owned();
    match *step {
        Step::Parsed { src, dst, ttl, length } => ("parse", format!("{src} -> {dst}, TTL {ttl}, {length} bytes of IP")),
        Step::Embedded { src, dst } => ("parse", format!("an ICMP error about {dst} -> {src}: that flow is looked at")),
        Step::Holder { mac, ip, network: of } => {
            ("port", format!("the container {mac} {ip} of network {} is behind this port", network(of)))
        }
        Step::InsideName { network: of, name, found } => {
            ("name", format!("{name} in network {}: {}", network(of), found_text(&found)))
        }
        Step::Replica { why } => {
            let why = match why {
                Chosen::Hash => "the flow is new, and its hash picks this one",
                Chosen::Standby => "no replica is active, and this one stands by",
                Chosen::Affinity => "the connection is there already",
                Chosen::Drain => "it drains, and keeps the connections that it has",
                Chosen::Former => "it had the name for itself when the connection began",
            };
            ("replica", why.to_owned())
        }
        Step::WireName { name, found } => ("name", format!("{name} on the wire: {}", found_text(&found))),
        Step::PublicName { name, found } => ("name", format!("{name}, a public name: {}", found_text(&found))),
        Step::Outside { ip } => ("name", format!("{ip} is outside")),
        Step::SourceLeavesAs { name, how } => {
            let how = match how {
                SourceName::Service => "its service binding",
                SourceName::Public => "its public name",
                SourceName::NativeBlock => "its native client block, as it is",
                SourceName::Translated => "a port of its client block",
            };
            ("source", format!("leaves as {name}: {how}"))
        }
        Step::DestinationBecomes { name } => ("destination", format!("becomes {name}")),
        Step::SourceArrivesAs { name } => ("source", format!("is shown to the receiver as {name}")),
        Step::Container { port: at, mac } => ("container", format!("{mac} behind port {}", port(at))),
        Step::Rewritten { ttl, ip_id, checksum } => {
            let id = ip_id.map_or_else(String::new, |id| format!(", identification {id}"));
            ("rewrite", format!("TTL {ttl}{id}, transport checksum {}", format!("{checksum:?}").to_lowercase()))
        }
        Step::MssLowered { mtu } => ("rewrite", format!("the SYN's MSS is lowered to what fits {mtu} bytes")),
        Step::NextHop { ip, mac: Some(mac) } => ("next hop", format!("{ip} is at {mac}")),
        Step::NextHop { ip, mac: None } => ("next hop", format!("{ip} has to be resolved first")),
        Step::AnswerDue { reason } => ("answer", format!("the sender is told: {reason}")),
        Step::Decided(verdict) => ("verdict", verdict_text(&verdict, around)),
    }
}

fn found_text(found: &Found) -> String {
    match found {
        Found::Binding { name, server } => format!("{name}, on server {server}"),
        Found::Unbound => "the address is bound, this port is not".to_owned(),
        Found::NoReplica => "bound, but no replica takes new connections".to_owned(),
        Found::Unknown => "no binding".to_owned(),
    }
}

/// A verdict as a few words.
#[must_use]
pub fn verdict_text(verdict: &Verdict, around: &Surroundings) -> String {
    let port = |id: &PortId| around.port(*id).map_or_else(|| id.0.to_string(), |port| port.name.clone());
    match verdict {
        Verdict::Forward { port: to } => format!("forwarded by port {}", port(to)),
        Verdict::Cut { port: to, mtu } => format!("forwarded in pieces of {mtu} bytes by port {}", port(to)),
        Verdict::Await { .. } => "held until its packet's first fragment comes".to_owned(),
        Verdict::Answer { port: to, answer } => format!("answered ({answer}) by port {}", port(to)),
        Verdict::Drop(reason) => format!("dropped: {reason}"),
        Verdict::Consume | Verdict::Heard => "consumed".to_owned(),
        Verdict::Host => "passed to the kernel".to_owned(),
        Verdict::Hold { port: to, hop } => format!("held until {hop} is resolved, then by port {}", port(to)),
    }
}

/// A frame in one line, decoded by an independent library.
#[must_use]
pub fn decode(frame: &[u8]) -> String {
    use etherparse::{NetSlice, TransportSlice};
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else {
        return format!("{} bytes that can't be decoded", frame.len());
    };
    let macs = match frame.first_chunk::<12>() {
        Some(&[a, b, c, d, e, f, g, h, i, j, k, l]) => {
            format!("{} > {}", Mac([g, h, i, j, k, l]), Mac([a, b, c, d, e, f]))
        }
        None => String::new(),
    };
    let tags = sliced.vlan_ids().iter().fold(String::new(), |tags, id| format!("{tags}  vlan {}", id.value()));
    let ip = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            format!(
                "{} > {} ttl {} id {}",
                header.source_addr(),
                header.destination_addr(),
                header.ttl(),
                header.identification()
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            format!("{} > {} hop limit {}", header.source_addr(), header.destination_addr(), header.hop_limit())
        }
        _ => "not IP".to_owned(),
    };
    let transport = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags =
                [(tcp.syn(), "SYN"), (tcp.ack(), "ACK"), (tcp.fin(), "FIN"), (tcp.rst(), "RST"), (tcp.psh(), "PSH")];
            let flags: Vec<&str> = flags.into_iter().filter_map(|(set, word)| set.then_some(word)).collect();
            format!(
                "tcp {} > {} {} checksum {:#06x}",
                tcp.source_port(),
                tcp.destination_port(),
                flags.join(","),
                tcp.checksum()
            )
        }
        Some(TransportSlice::Udp(udp)) => {
            format!("udp {} > {} checksum {:#06x}", udp.source_port(), udp.destination_port(), udp.checksum())
        }
        Some(TransportSlice::Icmpv4(icmp)) => format!("icmp {:?}", icmp.icmp_type()),
        Some(TransportSlice::Icmpv6(icmp)) => format!("icmpv6 {:?}", icmp.icmp_type()),
        Some(TransportSlice::Igmp(_)) => "igmp".to_owned(),
        None => String::new(),
    };
    format!("{macs}{tags}  {ip}  {transport}").trim_end().to_owned()
}
