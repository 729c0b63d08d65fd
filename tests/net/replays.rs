//! The engine over captures is the engine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

use crate::lab::capture::Capture;
use crate::lab::engine::binary;
use crate::lab::peers::{self, Greeter, Parrot, connect, greeting};
use crate::lab::{Lab, SOON, raw, run, until};

const ALICE: &str = "02:42:0a:00:00:01";
const S1: &str = "02:00:00:00:00:01";

/// What came in by both ports of a server is captured at the far ends of their cables and replayed: the same packets
/// leave, byte for byte and in order, as left the live engine.
#[test]
fn a_replay_gives_the_packets_that_the_live_engine_gave() {
    let mut lab = Lab::running();
    lab.at("alice").attempt("ethtool", &["-K", "eth0", "gro", "off"]);
    let _parrot = Parrot::start(lab.at("web"), 7);
    let _greeter = Greeter::start(lab.at("web"), "web", 7);
    let at_alice = Capture::start(lab.at("alice"), "eth0", "ip");
    let on_wire = Capture::start(lab.at("wire"), "br0", "ip");
    let socket = peers::udp(lab.at("alice"), ([10, 0, 0, 10].into(), 7));
    for size in [0, 1, 63, 64, 512, 1471, 1472] {
        assert!(peers::udp_echo(&socket, &vec![7; size], 3), "{size} bytes there and back");
    }
    let mut stream = connect(lab.at("alice"), ([10, 0, 0, 10].into(), 7)).expect("a connection");
    assert_eq!(greeting(&mut stream), "I am web, you are 10.0.0.1");
    peers::says_back(&mut stream, &[3; 20_000]).expect("both directions work");
    drop(stream);

    let sent_by = |frames: Vec<Vec<u8>>, mac: &str| {
        let mac = raw::mac(mac);
        frames.into_iter().partition::<Vec<Vec<u8>>, _>(|frame| frame[6..12] == mac)
    };
    let (mut live, mut last) = (None, 0);
    until("the captures are complete", SOON, || {
        let (out, inward) = sent_by(at_alice.frames(), ALICE);
        let (by_s1, to_s1) = sent_by(on_wire.frames(), S1);
        let count = out.len() + to_s1.len();
        let settled = out.len() == by_s1.len() && inward.len() == to_s1.len() && count == last;
        last = count;
        live = Some((out, inward, by_s1, to_s1));
        settled.then_some(())
    });
    let (out, inward, by_s1, to_s1) = live.expect("captures");
    assert!(out.len() > 20 && inward.len() > 20, "{} and {} frames", out.len(), inward.len());

    let dir = lab.dir().join("replay");
    fs::create_dir_all(&dir).expect("a directory");
    write(&dir.join("from-alice.pcap"), &out);
    write(&dir.join("from-wire.pcap"), &to_s1);
    let config = with_addresses(&mut lab, &dir);
    let input = |port: &str, name: &str| format!("{port}={}", dir.join(name).display());
    let (by_access, by_wire) = (input("alice", "from-alice.pcap"), input("uplink", "from-wire.pcap"));
    let outputs = dir.join("out");
    run(
        &binary(),
        &[
            "replay",
            "--config",
            &config.display().to_string(),
            "--in",
            &by_access,
            "--in",
            &by_wire,
            "--out",
            &outputs.display().to_string(),
        ],
    );
    assert_eq!(read(&outputs.join("uplink.pcap")), by_s1, "what leaves by the uplink");
    assert_eq!(read(&outputs.join("alice.pcap")), inward, "what leaves towards alice");
    println!("{} frames out and {} in: the replay gives the same", out.len(), inward.len());
}

/// The server's own configuration beside it, with the MACs that its interfaces have: a replay can't ask them.
fn with_addresses(lab: &mut Lab, dir: &Path) -> PathBuf {
    let own = lab.engine(1).config();
    let mut text = String::new();
    for line in fs::read_to_string(&own).expect("the configuration").lines() {
        text.push_str(line);
        text.push('\n');
        if let Some(interface) = line.strip_prefix("interface = \"").and_then(|rest| rest.strip_suffix('"')) {
            let link = lab.at("s1").ip(&format!("link show dev {interface}"));
            let mac = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a MAC");
            text.push_str(&format!("address = \"{mac}\"\n"));
        }
    }
    let config = dir.join("sixway.toml");
    fs::write(&config, text).expect("a configuration");
    fs::copy(own.with_file_name("mapping.sixway"), dir.join("mapping.sixway")).expect("a mapping");
    config
}

fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).expect("a capture")).expect("a header");
    for (at, frame) in (0u32..).zip(frames) {
        let stamp = Duration::from_secs(1000) + Duration::from_millis(u64::from(at));
        writer.write_packet(&PcapPacket::new(stamp, frame.len() as u32, frame)).expect("a frame");
    }
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).expect("a capture")).expect("a header");
    std::iter::from_fn(|| Some(reader.next_packet()?.expect("a frame").data.into_owned())).collect()
}
