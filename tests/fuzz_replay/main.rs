//! Random captures through `sixway replay`, for random servers of two networks, judged by etherparse: no panic, one verdict a
//! frame and the counts add up, no checksum wrong that was right, no packet of one network at another's port, no inside
//! address on the wire.
//!
//! Each run makes a configuration, a mapping and captures, replays them, adds answers and errors about what has come out,
//! and replays all again. It is a function of its seed and number alone; the files of a run that fails are kept.
//!
//! ```text
//! cargo test --test fuzz_replay -- [--seconds N | --minutes N] [--seed N] [--run N]
//! ```
//!
//! `SIXWAY` names another build of the program than that of the tests.

mod checks;
mod estate;
#[path = "../support/parcels/mod.rs"]
mod parcels;
mod reader;
mod traffic;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, TsResolution};

use estate::Estate;
use parcels::Random;
use traffic::Sent;

/// How long it runs unless told otherwise.
const SECONDS: u64 = 20;
/// Frames of a run's first half.
const FRAMES: usize = 400;

/// A frame that came out of a replay, by the stamp of the one that caused it.
#[derive(Clone, Debug)]
pub struct Out {
    pub port: usize,
    pub bytes: Vec<u8>,
}

/// What a replay said and wrote.
pub struct Replayed {
    /// A line for each frame: its port and verdict.
    pub fates: Vec<(String, String)>,
    pub out: BTreeMap<u64, Vec<Out>>,
    pub host: BTreeMap<u64, usize>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    let seed = number("--seed").unwrap_or(now.as_nanos() as u64 % 1_000_000_000);
    let seconds = number("--minutes").map(|minutes| minutes * 60).or(number("--seconds")).unwrap_or(SECONDS);
    let only = number("--run");
    println!("fuzz_replay: seed {seed}");
    let (next, failed) = (AtomicU64::new(only.unwrap_or(0)), AtomicU64::new(0));
    let ends = Instant::now() + Duration::from_secs(seconds);
    let threads = if only.is_some() { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let work = || {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        while failed.load(Relaxed) == 0 {
            let nth = next.fetch_add(1, Relaxed);
            if let Err(what) = run(seed, nth, &mut counts) {
                failed.fetch_add(1, Relaxed);
                println!("--seed {seed} --run {nth}: {what}");
            }
            if Instant::now() >= ends || only.is_some() {
                break;
            }
        }
        counts
    };
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for (name, count) in workers.into_iter().flat_map(|worker| worker.join().expect("a worker")) {
            *counts.entry(name).or_default() += count;
        }
    });
    let runs = next.load(Relaxed) - only.unwrap_or(0);
    let broken = failed.load(Relaxed);
    counts.iter().for_each(|(name, count)| println!("{count:>10} {name}"));
    println!("{runs} runs of {seconds} s, {broken} failed");
    let word = if broken == 0 { "ok" } else { "FAILED" };
    let passed = u64::from(broken == 0);
    println!("test result: {word}. {passed} passed; {broken} failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::from(u8::from(broken > 0))
}

/// One run; what is wrong, in words.
fn run(seed: u64, nth: u64, counts: &mut BTreeMap<String, u64>) -> Result<(), String> {
    let mut random = Random::of(seed, nth);
    let estate = Estate::random(&mut random);
    let directory = std::env::temp_dir().join(format!("sixway-fuzz-{}-{seed}-{nth}", std::process::id()));
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let done = run_in(&directory, &estate, &mut random, counts);
    match &done {
        Ok(()) => fs::remove_dir_all(&directory).map_err(|error| error.to_string())?,
        Err(_) => println!("the files of the run that failed: {}", directory.display()),
    }
    done
}

fn run_in(
    directory: &Path,
    estate: &Estate,
    random: &mut Random,
    counts: &mut BTreeMap<String, u64>,
) -> Result<(), String> {
    fs::write(directory.join("sixway.toml"), &estate.config).expect("a file");
    fs::write(directory.join("mapping.sixway"), &estate.mapping).expect("a file");
    // Stamps in milliseconds: each frame has one of its own.
    let mut stamp = 1_000_000;
    let mut frames: Vec<(u64, Sent)> = Vec::new();
    for _ in 0..FRAMES {
        stamp += 1 + if random.once_in(100) { random.below(400_000) as u64 } else { random.below(50) as u64 };
        frames.push((stamp, traffic::next(random, estate)));
    }
    let first = replay(directory, estate, &frames)?;
    // Time goes on a little only, so that most of what was remembered is still.
    for out in first.out.values().flatten() {
        stamp += 1 + random.below(50) as u64;
        frames.extend(traffic::answer(random, estate, out.port, &out.bytes).map(|sent| (stamp, sent)));
    }
    let replayed = replay(directory, estate, &frames)?;
    checks::judge(estate, &frames, &replayed, counts)
}

/// Runs the command over the frames.
fn replay(directory: &Path, estate: &Estate, frames: &[(u64, Sent)]) -> Result<Replayed, String> {
    let out = directory.join("out");
    let _ = fs::remove_dir_all(&out);
    let program = std::env::var("SIXWAY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sixway").to_owned());
    let mut command = Command::new(program);
    command.args(["replay", "--json", "--config"]).arg(directory.join("sixway.toml")).arg("--out").arg(&out);
    for (at, port) in estate.ports.iter().enumerate() {
        let path = directory.join(format!("{}.pcap", port.name));
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(File::create(&path).expect("a file"), header).expect("a capture");
        for (stamp, sent) in frames.iter().filter(|(_, sent)| sent.port == at) {
            let packet = PcapPacket::new(Duration::from_millis(*stamp), sent.bytes.len() as u32, &sent.bytes);
            writer.write_packet(&packet).expect("a packet");
        }
        command.arg("--in").arg(format!("{}={}", port.name, path.display()));
    }
    let output = command.output().expect("sixway starts");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() || !complained.is_empty() {
        return Err(format!("{}: {complained}{}", output.status, said.lines().take(20).collect::<Vec<_>>().join("\n")));
    }
    let mut replayed = Replayed { fates: Vec::new(), out: BTreeMap::new(), host: BTreeMap::new() };
    for line in said.lines() {
        let line: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        replayed.fates.push((text("port"), text("verdict")));
    }
    for (at, port) in estate.ports.iter().enumerate() {
        for (stamp, bytes) in read(&out.join(format!("{}.pcap", port.name)))? {
            replayed.out.entry(stamp).or_default().push(Out { port: at, bytes });
        }
        for (stamp, _) in read(&out.join("host").join(format!("{}.pcap", port.name)))? {
            *replayed.host.entry(stamp).or_default() += 1;
        }
    }
    Ok(replayed)
}

fn read(path: &PathBuf) -> Result<Vec<(u64, Vec<u8>)>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut reader = PcapReader::new(file).map_err(|error| error.to_string())?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|error| error.to_string())?;
        frames.push((packet.timestamp.as_millis() as u64, packet.data.into_owned()));
    }
    Ok(frames)
}
