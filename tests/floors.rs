//! The house rules of `src`, held: a module imports only from lower floors, `unsafe` lives in two rooms, no file grows
//! beyond what one sitting can read.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and its floor, as in `docs/architecture.md`.
const FLOORS: [(&str, u8); 11] = [
    ("units", 0),
    ("frame", 1),
    ("table", 1),
    ("afxdp", 1),
    ("naming", 2),
    ("flow", 3),
    ("neighbour", 3),
    ("path", 4),
    ("engine", 5),
    ("control", 6),
    ("cli", 7),
];
const MAY_BE_UNSAFE: [&str; 2] = ["afxdp", "table"];
const LONGEST_FILE: usize = 600;

#[test]
fn a_module_imports_only_from_lower_floors() {
    let mut wrong = Vec::new();
    for (path, room) in sources() {
        let Some(own) = floor(&room) else {
            assert!(["lib", "main"].contains(&room.as_str()), "{}: a room without a floor", path.display());
            continue;
        };
        let code = code_of(&path);
        for (line, other) in references(&code) {
            let Some(its) = floor(&other) else {
                wrong.push(format!("{}:{line}: crate::{other} is no room", path.display()));
                continue;
            };
            if other != room && its >= own {
                wrong.push(format!("{}:{line}: {room} (floor {own}) uses {other} (floor {its})", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_lives_in_two_rooms_and_says_why() {
    let mut wrong = Vec::new();
    for (path, room) in sources() {
        for (number, line) in code_of(&path).lines().enumerate() {
            let word = line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
            if word && !MAY_BE_UNSAFE.contains(&room.as_str()) {
                wrong.push(format!("{}:{}: unsafe in {room}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    for (path, _) in sources() {
        let lines = fs::read_to_string(&path).expect("a readable file").lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines, more than {LONGEST_FILE}", path.display());
    }
}

#[test]
fn every_room_has_its_line_in_the_map() {
    let map = fs::read_to_string(source_root().join("lib.rs")).expect("src/lib.rs");
    for (room, floor) in FLOORS {
        let declared = map.find(&format!("pub mod {room};")).unwrap_or_else(|| panic!("{room} is missing in lib.rs"));
        let said = map[..declared].rfind("/// Floor ").expect("a doc line");
        assert!(map[said..].starts_with(&format!("/// Floor {floor}:")), "{room} is on floor {floor}");
    }
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let house = fs::read_to_string(house).expect("docs/architecture.md");
    for (room, floor) in FLOORS {
        assert!(house.contains(&format!("| {floor} | `{room}` |")), "docs/architecture.md: {room} on floor {floor}");
    }
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Every Rust file under `src` with the room that it belongs to.
fn sources() -> Vec<(PathBuf, String)> {
    let (mut found, mut left) = (Vec::new(), vec![source_root()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inner = path.strip_prefix(source_root()).expect("under src");
                let room = inner.iter().next().expect("a name").to_string_lossy();
                let room = room.trim_end_matches(".rs").to_owned();
                found.push((path, room));
            }
        }
    }
    assert!(found.len() > FLOORS.len(), "the sources are where they should be");
    found
}

/// The text with comments and string literals blanked, line for line.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a readable file");
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if in_string => {
                    characters.next();
                }
                '\'' if !in_string && characters.peek() == Some(&'"') => {
                    characters.next(); // the character '"'
                }
                '"' => in_string = !in_string,
                '/' if !in_string && characters.peek() == Some(&'/') => break,
                _ if in_string => {}
                _ => code.push(character),
            }
        }
        code.push('\n');
    }
    code
}

/// The rooms that `crate::…` paths name, `use crate::{a::…, b::…}` groups included, with their lines.
fn references(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue; // a longer name that ends in crate, such as `$crate` does not
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let names = if rest.starts_with('{') { group_heads(rest) } else { vec![head(rest)] };
        found.extend(names.into_iter().map(|name| (line, name)));
    }
    found
}

fn head(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// `{units::{A, B}, frame::C}` -> units, frame
fn group_heads(group: &str) -> Vec<String> {
    let (mut heads, mut depth, mut expecting) = (Vec::new(), 0, false);
    for (at, character) in group.char_indices() {
        match character {
            '{' => {
                depth += 1;
                expecting = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => expecting = true,
            c if expecting && !c.is_whitespace() => {
                heads.push(head(&group[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn the_reader_of_imports_reads_them() {
    let code =
        "use crate::units::Ip;\nuse crate::{frame::{self, parse}, table::Table};\nlet x = crate::path::walk();\n";
    let rooms: Vec<(usize, String)> = references(code);
    let rooms: Vec<(usize, &str)> = rooms.iter().map(|(line, room)| (*line, room.as_str())).collect();
    assert_eq!(rooms, [(1, "units"), (2, "frame"), (2, "table"), (3, "path")]);
}
