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
#[allow(dead_code)] // what it puts together again is not needed here
#[path = "../support/fragments.rs"]
mod fragments;
#[path = "../support/parcels/mod.rs"]
mod parcels;
mod reader;
mod traffic;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::path::Path;
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

/// A frame that came out of a replay.
#[derive(Clone, Debug)]
pub struct Out {
    pub port: usize,
    pub bytes: Vec<u8>,
}

/// What a replay said of a frame, and wrote for it.
pub struct Fate {
    /// The frame's place among those that were sent.
    pub frame: usize,
    pub port: String,
    pub verdict: String,
    pub out: Vec<Out>,
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
    while frames.len() < FRAMES {
        let pause = if random.once_in(100) { random.below(400_000) } else { random.below(50) };
        stamp += pause as u64;
        for sent in traffic::next(random, estate) {
            stamp += 1;
            frames.push((stamp, sent));
        }
    }
    let first = replay(directory, estate, &frames)?;
    // Time goes on a little only, so that most of what was remembered is still.
    for out in first.iter().flat_map(|fate| &fate.out) {
        stamp += 1 + random.below(50) as u64;
        frames.extend(traffic::answer(random, estate, out.port, &out.bytes).map(|sent| (stamp, sent)));
    }
    let replayed = replay(directory, estate, &frames)?;
    checks::judge(estate, &frames, &replayed, counts)
}

/// Runs the command over the frames. What it says it wrote must be all that it wrote, in that order.
fn replay(directory: &Path, estate: &Estate, frames: &[(u64, Sent)]) -> Result<Vec<Fate>, String> {
    let out = directory.join("out");
    let _ = fs::remove_dir_all(&out);
    let program = std::env::var("SIXWAY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sixway").to_owned());
    let mut command = Command::new(program);
    command.args(["replay", "--json", "--config"]).arg(directory.join("sixway.toml")).arg("--out").arg(&out);
    for (at, port) in estate.ports.iter().enumerate() {
        let path = directory.join(format!("{}.pcap", port.name));
        write(&path, frames.iter().filter(|(_, sent)| sent.port == at));
        command.arg("--in").arg(format!("{}={}", port.name, path.display()));
    }
    let output = command.output().expect("sixway starts");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() || !complained.is_empty() {
        return Err(format!("{}: {complained}{}", output.status, said.lines().take(20).collect::<Vec<_>>().join("\n")));
    }
    let files = |directory: &Path| -> Result<Vec<VecDeque<Vec<u8>>>, String> {
        estate.ports.iter().map(|port| read(&directory.join(format!("{}.pcap", port.name)))).collect()
    };
    let (mut sent, mut host) = (files(&out)?, files(&out.join("host"))?);
    let mut fates = Vec::new();
    for line in said.lines() {
        let line: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let frame = line["frame"].as_u64().and_then(|number| usize::try_from(number).ok()?.checked_sub(1));
        let frame = frame.filter(|&frame| frame < frames.len()).ok_or_else(|| format!("{line}: no such frame"))?;
        let mut fate = Fate { frame, port: text("port"), verdict: text("verdict"), out: Vec::new() };
        for told in line["out"].as_array().into_iter().flatten() {
            let port = estate.ports.iter().position(|port| Some(port.name.as_str()) == told["port"].as_str());
            let port = port.ok_or_else(|| format!("{line}: no such port"))?;
            let bytes = sent[port].pop_front().ok_or_else(|| format!("{line}: it was not written"))?;
            if Some(bytes.len() as u64) != told["length"].as_u64() {
                return Err(format!("{line}: {} bytes were written", bytes.len()));
            }
            fate.out.push(Out { port, bytes });
        }
        if fate.verdict == "host" && host[frames[frame].1.port].pop_front().is_none() {
            return Err(format!("{line}: it was not given to the kernel"));
        }
        fates.push(fate);
    }
    let left: usize = sent.iter().chain(&host).map(VecDeque::len).sum();
    if left > 0 { Err(format!("{left} frames were written of which nothing was said")) } else { Ok(fates) }
}

fn write<'a>(path: &Path, frames: impl Iterator<Item = &'a (u64, Sent)>) {
    let header =
        PcapHeader { datalink: DataLink::ETHERNET, ts_resolution: TsResolution::NanoSecond, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(File::create(path).expect("a file"), header).expect("a capture");
    for (stamp, sent) in frames {
        let packet = PcapPacket::new(Duration::from_millis(*stamp), sent.bytes.len() as u32, &sent.bytes);
        writer.write_packet(&packet).expect("a packet");
    }
}

fn read(path: &Path) -> Result<VecDeque<Vec<u8>>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut reader = PcapReader::new(file).map_err(|error| error.to_string())?;
    let mut frames = VecDeque::new();
    while let Some(packet) = reader.next_packet() {
        frames.push_back(packet.map_err(|error| error.to_string())?.data.into_owned());
    }
    Ok(frames)
}
