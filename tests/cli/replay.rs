//! `sixway replay`: captures in, captures out.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::support::{Directory, sixway};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
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
