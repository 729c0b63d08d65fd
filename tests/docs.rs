//! The documents tell the truth: their configurations are accepted, their commands run, their links lead somewhere.
//!
//! In a document, a `toml` block is `sixway.toml`, a `toml NAME` block is `NAME.toml`, a `mapping` block is
//! `mapping.sixway`, and `app.pcap` holds the three SYNs that the text speaks of. Each `$ command` of a `console` block is
//! run beside them; output that a block shows must be the command's own. A `doctor` or `stats` block shows what depends
//! on the host: its subjects and columns must be the program's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapPacket, PcapWriter};

const DOCUMENTS: [&str; 4] = ["README.md", "docs/architecture.md", "docs/rfc.md", "docs/mutants.md"];

struct Block {
    language: String,
    line: usize,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn blocks(document: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let (mut found, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block { language: language.to_owned(), line: number + 2, text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{document}: a block without an end");
    found
}

#[test]
fn the_commands_in_the_documents_run_as_shown() {
    for document in DOCUMENTS {
        let dir = std::env::temp_dir().join(format!("sixway-docs-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        write_capture(&dir.join("app.pcap"));
        for block in blocks(document) {
            match block.language.as_str() {
                "toml" => fs::write(dir.join("sixway.toml"), &block.text).expect("a file"),
                "mapping" => fs::write(dir.join("mapping.sixway"), &block.text).expect("a file"),
                "console" => run_console(document, &block, &dir),
                "doctor" => doctor_knows(document, &block, &dir),
                "stats" => stats_has_these_columns(document, &block),
                "text" | "sh" => {}
                other if other.starts_with("toml ") => {
                    let name = other.trim_start_matches("toml ");
                    fs::write(dir.join(name).with_extension("toml"), &block.text).expect("a file");
                }
                other => panic!("{document}:{}: what is a block of {other:?}?", block.line),
            }
        }
        let _ = fs::remove_dir_all(&dir);
    }
}

fn run_console(document: &str, block: &Block, dir: &Path) {
    for part in block.text.split("$ ").skip(1) {
        let (command, shown) = part.split_once('\n').unwrap_or((part, ""));
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "sixway", "{document}:{}: only sixway is run: {command}", block.line);
        let output = Command::new(env!("CARGO_BIN_EXE_sixway")).args(&words[1..]).current_dir(dir).output();
        let output = output.expect("sixway starts");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{document}:{}: {command}: {}\n{printed}{}",
            block.line,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        if !shown.trim().is_empty() {
            assert_eq!(printed.trim_end(), shown.trim_end(), "{document}:{}: {command}", block.line);
        }
    }
}

/// Three SYNs from behind the port `app`: to a bound port, to one that is not, and from an address of somebody else.
fn write_capture(path: &Path) {
    const APP: [u8; 6] = [0x02, 0x42, 0x0a, 0x01, 0x00, 0x02];
    let mut writer = PcapWriter::new(fs::File::create(path).expect("a file")).expect("a capture");
    let syns = [([10, 1, 0, 2], 41000, 80), ([10, 1, 0, 2], 41001, 81), ([10, 9, 9, 9], 41001, 80)];
    for (second, (source, from, to)) in (1000..).zip(syns) {
        let packet = PacketBuilder::ethernet2(APP, [2, 0, 0, 0, 0, 0x99]).ipv4(source, [10, 2, 0, 2], 64);
        let mut bytes = Vec::new();
        packet.tcp(from, to, 1000, 64000).syn().write(&mut bytes, &[]).expect("a packet");
        let packet = PcapPacket::new(Duration::from_secs(second), bytes.len() as u32, &bytes);
        writer.write_packet(&packet).expect("a packet");
    }
}

/// What a `doctor` block speaks of, the program speaks of too, whatever it finds here.
fn doctor_knows(document: &str, block: &Block, dir: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sixway"));
    let output = command.args(["doctor", "--config", "sixway.toml"]).current_dir(dir).output().expect("sixway starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let subjects = |text: &str| -> Vec<String> {
        let findings = text.lines().filter(|line| !line.trim_start().starts_with("->"));
        findings.filter_map(|line| Some(line.get(6..)?.split_once(": ")?.0.to_owned())).collect()
    };
    let known = subjects(&printed);
    for subject in subjects(&block.text) {
        assert!(known.contains(&subject), "{document}:{}: doctor says nothing of {subject}:\n{printed}", block.line);
    }
}

/// The columns of a `stats` block are those that the program prints.
fn stats_has_these_columns(document: &str, block: &Block) {
    let program = fs::read_to_string(root().join("src/cli/stats.rs")).expect("src/cli/stats.rs");
    let headers = block.text.lines().filter(|line| line.starts_with("port ") || line.starts_with("worker "));
    let columns: Vec<&str> =
        headers.flat_map(|line| line.split("  ")).map(str::trim).filter(|c| !c.is_empty()).collect();
    assert!(columns.len() > 10, "{document}:{}: a table of ports and one of workers", block.line);
    for column in columns {
        assert!(program.contains(&format!("\"{column}\"")), "{document}:{}: no column {column}", block.line);
    }
}

/// Commands that need root or a live engine are named in `sh` blocks: at least they exist.
#[test]
fn the_other_commands_in_the_documents_exist() {
    for document in DOCUMENTS {
        for block in blocks(document).iter().filter(|block| block.language == "sh") {
            for line in block.text.lines() {
                let words: Vec<&str> = line.split('#').next().unwrap_or(line).split_whitespace().collect();
                match words.first().copied() {
                    Some("sixway") => {
                        // `map` has commands of its own.
                        let own = words.get(2).filter(|word| words[1] == "map" && !word.starts_with("--"));
                        let command = [Some(&words[1]), own, Some(&"--help")].into_iter().flatten();
                        let help = Command::new(env!("CARGO_BIN_EXE_sixway")).args(command).output();
                        let help = help.expect("sixway starts");
                        assert!(help.status.success(), "{document}: no command {}", words[1]);
                        let help = String::from_utf8_lossy(&help.stdout);
                        for option in words.iter().filter(|word| word.starts_with("--")) {
                            assert!(help.contains(option), "{document}: {} has no {option}", words[1]);
                        }
                    }
                    Some(script) if script.starts_with("scripts/") => {
                        use std::os::unix::fs::PermissionsExt;
                        let mode = fs::metadata(root().join(script)).expect(script).permissions().mode();
                        assert!(mode & 0o111 == 0o111, "{script} can be executed");
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).expect(document);
        let here: PathBuf = root().join(document).parent().expect("a directory").into();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let local = !link.starts_with("http") && !link.starts_with('#');
            assert!(!local || here.join(link).exists(), "{document}: {link} leads nowhere");
        }
    }
}

/// The story files that the README names are there.
#[test]
fn the_stories_in_the_readme_exist() {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md");
    let table = text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split('|').nth(2));
    for name in table.flat_map(|cell| cell.split('`')).filter(|word| word.ends_with(".rs")) {
        assert!(root().join("tests/net").join(name).exists(), "tests/net/{name}");
    }
}

#[test]
fn the_licence_is_there_and_named() {
    let licence = fs::read_to_string(root().join("LICENSE")).expect("LICENSE");
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0, January 2004"));
    assert!(fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml").contains("license = \"Apache-2.0\""));
}
