//! `sixway replay`: captures in, captures out.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::parts::{fragments, reassembled};
use crate::support::{Directory, sixway};
use etherparse::{IpHeaders, Ipv4Header, PacketBuilder, SlicedPacket, TransportSlice};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use serde_json::{Value, json};

const HOST: &str = r#"
[server]
ip = "192.168.50.1"
ports = "20480-59903"
mapping = "mapping.sixway"

[[network]]
name = "blue"
prefixes = ["10.0.0.0/8"]
gateway = "169.254.1.1"

[[port]]
name = "uplink"
interface = "eth1"
role = "uplink"
address = "02:00:00:00:00:01"

[[port]]
name = "web1"
interface = "veth-web1"
role = "access"
network = "blue"
address = "02:00:00:00:01:01"
"#;

const MAPPING: &str = "\
blue tcp 02:00:00:00:00:02 192.168.50.2:20480       02:42:0a:02:00:02 10.2.0.2:80
blue any 02:00:00:00:00:01 192.168.50.1:20736-20991 02:42:0a:01:00:02 10.1.0.2:* native
";

const CONTAINER: [u8; 6] = [2, 0x42, 0x0a, 1, 0, 2];
const PORT: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// A SYN that the container sends.
fn syn(source: [u8; 4], port: u16) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(CONTAINER, PORT).ipv4(source, [10, 2, 0, 2], 64).tcp(port, 80, 1, 1000).syn();
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).unwrap();
    bytes
}

fn write_capture(path: &str, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for (at, frame) in frames.iter().enumerate() {
        let stamp = Duration::from_secs(1_000 + at as u64);
        writer.write_packet(&PcapPacket::new(stamp, frame.len() as u32, frame)).unwrap();
    }
}

fn read_capture(path: &Path) -> Vec<(Duration, Vec<u8>)> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        frames.push((packet.timestamp, packet.data.into_owned()));
    }
    frames
}

fn set_up(test: &str) -> (Directory, String, String) {
    let directory = Directory::new(test);
    let config = directory.write("host.toml", HOST);
    directory.write("mapping.sixway", MAPPING);
    let capture = directory.path("web1.pcap");
    // The second one claims an address that the container does not have.
    write_capture(&capture, &[syn([10, 1, 0, 2], 20_740), syn([10, 1, 0, 3], 20_740)]);
    (directory, config, capture)
}

#[test]
fn a_connection_leaves_by_its_wire_names() {
    let (directory, config, capture) = set_up("replay");
    let out = directory.path("out");
    let replayed =
        sixway(&["replay", "--config", &config, "--in", &format!("web1={capture}"), "--out", &out, "--json"]);
    assert_eq!(replayed.code, 0, "{}{}", replayed.stdout, replayed.stderr);
    let lines: Vec<Value> = replayed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [
            json!({"frame": 1, "port": "web1", "verdict": "forwarded", "reason": null,
                   "out": [{"port": "uplink", "length": 54}]}),
            json!({"frame": 2, "port": "web1", "verdict": "dropped", "reason": "spoofed_source", "out": []}),
        ]
    );
    let sent = read_capture(&Path::new(&out).join("uplink.pcap"));
    assert_eq!((sent.len(), sent[0].0), (1, Duration::from_secs(1_000)));
    let packet = SlicedPacket::from_ethernet(&sent[0].1).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
    assert_eq!((ip.header().source(), ip.header().destination()), ([192, 168, 50, 1], [192, 168, 50, 2]));
    assert_eq!(ip.header().ttl(), 63);
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP") };
    assert_eq!((tcp.source_port(), tcp.destination_port()), (20_740, 20_480));
    assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv4([192, 168, 50, 1], [192, 168, 50, 2]).unwrap());
    assert!(read_capture(&Path::new(&out).join("web1.pcap")).is_empty());
}

/// A TCP segment with this many bytes, which may be fragmented.
fn segment(macs: ([u8; 6], [u8; 6]), from: ([u8; 4], u16), to: ([u8; 4], u16), len: usize) -> Vec<u8> {
    let ip = Ipv4Header {
        source: from.0,
        destination: to.0,
        time_to_live: 64,
        dont_fragment: false,
        protocol: etherparse::IpNumber::TCP,
        ..Ipv4Header::default()
    };
    let builder = PacketBuilder::ethernet2(macs.0, macs.1).ip(IpHeaders::Ipv4(ip, Default::default()));
    let mut bytes = Vec::new();
    builder.tcp(from.1, to.1, 1, 1000).ack(1).write(&mut bytes, &vec![7; len]).unwrap();
    bytes
}

/// Out of order: a container's wait for their first, and what nobody claims goes to the kernel after a tenth of a second.
/// What is too large leaves in pieces.
#[test]
fn fragments_follow_their_first_and_large_packets_are_cut() {
    let (directory, config, _) = set_up("replay-fragments");
    let own = segment((CONTAINER, PORT), ([10, 1, 0, 2], 20_740), ([10, 2, 0, 2], 80), 200);
    let wide = segment((CONTAINER, PORT), ([10, 1, 0, 2], 20_740), ([10, 2, 0, 2], 80), 2000);
    let hosts = segment(([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]), ([192, 168, 50, 9], 9), ([192, 168, 50, 1], 22), 200);
    let (own, hosts) = (fragments(&own, 80, 7), fragments(&hosts, 80, 7));
    let late = |ms: u64, frame: &Vec<u8>| (Duration::from_millis(1_000_000 + ms), frame.clone());
    let inputs = [
        ("web1", vec![late(0, &own[2]), late(10, &own[0]), late(20, &own[1]), late(30, &wide)]),
        ("uplink", vec![late(40, &hosts[2]), late(60, &hosts[0]), late(200, &hosts[1])]),
    ];
    let inputs = inputs.map(|(port, frames)| {
        let path = directory.path(&format!("fragments-{port}.pcap"));
        let mut writer = PcapWriter::new(File::create(&path).unwrap()).unwrap();
        for (stamp, frame) in &frames {
            writer.write_packet(&PcapPacket::new(*stamp, frame.len() as u32, frame)).unwrap();
        }
        format!("{port}={path}")
    });
    let out = directory.path("out");
    let [web1, uplink] = &inputs;
    let replayed = sixway(&["replay", "--config", &config, "--in", web1, "--in", uplink, "--out", &out, "--json"]);
    assert_eq!(replayed.code, 0, "{}{}", replayed.stdout, replayed.stderr);
    let lines: Vec<Value> = replayed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<String> = lines
        .iter()
        .map(|line| {
            format!("{} {} {}", line["frame"], line["verdict"].as_str().unwrap(), line["out"].as_array().unwrap().len())
        })
        .collect();
    assert_eq!(
        told,
        ["2 forwarded 1", "1 forwarded 1", "3 forwarded 1", "4 forwarded 2", "6 host 0", "5 host 0", "7 host 0"]
    );
    let stamps = |path: &str| -> Vec<u128> {
        read_capture(&Path::new(&out).join(path)).iter().map(|(stamp, _)| stamp.as_millis() - 1_000_000).collect()
    };
    assert_eq!(stamps("uplink.pcap"), [10, 10, 20, 30, 30]);
    assert_eq!(stamps("host/uplink.pcap"), [60, 140, 200]);
    let sent: Vec<Vec<u8>> =
        read_capture(&Path::new(&out).join("uplink.pcap")).into_iter().map(|(_, frame)| frame).collect();
    let lengths: Vec<usize> = reassembled(&sent).iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!(lengths, [220, 2020]);
}

#[test]
fn people_get_the_sum() {
    let (directory, config, capture) = set_up("replay-sum");
    let (out, input) = (directory.path("out"), format!("web1={capture}"));
    let replayed = sixway(&["replay", "--config", &config, "--in", &input, "--out", &out]);
    let expected = "\
port  verdict    reason          frames
web1  dropped    spoofed_source       1
web1  forwarded  -                    1
";
    assert_eq!((replayed.code, replayed.stdout.as_str()), (0, expected));
}

#[test]
fn what_is_not_there_is_said() {
    let (directory, config, capture) = set_up("replay-refused");
    let out = directory.path("out");
    let port = sixway(&["replay", "--config", &config, "--in", &format!("eth9={capture}"), "--out", &out]);
    assert_eq!((port.code, port.stderr.as_str()), (2, "sixway: --in: the configuration has no port `eth9`\n"));
    let file = sixway(&["replay", "--config", &config, "--in", "web1=/nonexistent.pcap", "--out", &out]);
    assert_eq!(file.code, 1);
    assert!(file.stderr.starts_with("sixway: /nonexistent.pcap: "), "{}", file.stderr);
}
