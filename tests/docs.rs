//! The documents tell the truth: their configurations are accepted, their commands run, their links lead somewhere.
//!
//! In a document, a `toml` block is `sixway.toml`, a `mapping` block is `mapping.sixway`, and each `$ command` of a
//! `console` block is run beside them; output that a block shows must be the command's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DOCUMENTS: [&str; 2] = ["README.md", "docs/architecture.md"];

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
        for block in blocks(document) {
            match block.language.as_str() {
                "toml" => fs::write(dir.join("sixway.toml"), &block.text).expect("a file"),
                "mapping" => fs::write(dir.join("mapping.sixway"), &block.text).expect("a file"),
                "console" => run_console(document, &block, &dir),
                "text" | "sh" => {}
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

/// Commands that need root or a live engine are named in `sh` blocks: at least they exist.
#[test]
fn the_other_commands_in_the_documents_exist() {
    for document in DOCUMENTS {
        for block in blocks(document).iter().filter(|block| block.language == "sh") {
            for line in block.text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.first().copied() {
                    Some("sixway") => {
                        let help = Command::new(env!("CARGO_BIN_EXE_sixway")).args([words[1], "--help"]).output();
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
