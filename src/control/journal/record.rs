//! What frames say, a line each. A journal can be read with `less`:
//!
//! ```text
//! = 1042 5f3a9b01              goes out from the mapping file of this length and checksum
//! : blue tcp - 192.168.…       a binding, as it is at this place of the journal
//! . 17 1790000000123           the whole mapping was listed; the generation, and when the latest change was
//! @ 18 1790000004567           a change set: its generation, and when it was accepted, in ms since 1970
//! - blue tcp - 192.168.…       is gone, or has another in its place
//! + blue tcp - 192.168.…       is new, or in the place of another
//! * unhealthy healthy 192.168.50.2 blue tcp …   what is known of a binding where it is, and what was
//! ```
//!
//! Bindings are listed while changes go on, so that a listing may say less or more than one generation had; each `-` and
//! `+` says what became of a binding since it was listed, or makes what is listed later say the same.

use std::borrow::Borrow;
use std::fmt::{Display, Write};

use crate::naming::{BindingSpec, Health, HealthNote, Words, parse_binding};

/// The longest `=` line.
pub const MOST_BASE: usize = 64;

/// A mapping file, as far as it takes to notice that it was edited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileMark {
    pub len: u64,
    pub checksum: u32,
}

impl FileMark {
    /// That of a file with this content.
    #[must_use]
    pub fn of(content: &[u8]) -> FileMark {
        FileMark { len: content.len() as u64, checksum: crc32fast::hash(content) }
    }
}

/// A line of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    Base(FileMark),
    Listed(BindingSpec),
    Complete { generation: u64, last_change_ms: u64 },
    Change { generation: u64, at_ms: u64 },
    Gone(BindingSpec),
    Put(BindingSpec),
    Health(HealthNote),
}

/// The line that every journal begins with.
#[must_use]
pub fn base(mark: FileMark) -> String {
    format!("= {} {:08x}\n", mark.len, mark.checksum)
}

/// Bindings as they are, and what is known of them.
#[must_use]
pub fn listed(bindings: impl Iterator<Item = (BindingSpec, Health)>) -> String {
    let mut text = String::new();
    bindings.for_each(|(binding, state)| {
        line(&mut text, ':', &binding);
        if state != Health::Unknown {
            let (server, before) = (binding.server_ip, Health::Unknown);
            line(&mut text, '*', &HealthNote { state, before, server, binding: binding.exact_key() });
        }
    });
    text
}

/// The end of a listing.
#[must_use]
pub fn complete(generation: u64, last_change_ms: u64) -> String {
    format!(". {generation} {last_change_ms}\n")
}

/// A change set.
#[must_use]
pub fn change<'a>(
    generation: u64,
    at_ms: u64,
    gone: impl Iterator<Item = impl Borrow<BindingSpec>>,
    put: impl Iterator<Item = &'a BindingSpec>,
    health: &[HealthNote],
) -> String {
    let mut text = format!("@ {generation} {at_ms}\n");
    gone.for_each(|binding| line(&mut text, '-', binding.borrow()));
    put.for_each(|binding| line(&mut text, '+', binding));
    health.iter().for_each(|note| line(&mut text, '*', note));
    text
}

fn line(text: &mut String, mark: char, what: &impl Display) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{mark} {what}");
}

/// Reads a line, without its newline. `None`: it is none.
#[must_use]
pub fn read(line: &[u8], words: &mut Words) -> Option<Line> {
    let (mark, rest) = line.split_at_checked(2)?;
    let mut binding = || parse_binding(rest, words).ok().flatten();
    let numbers = || {
        let (first, second) = std::str::from_utf8(rest).ok()?.split_once(' ')?;
        Some((first.parse::<u64>().ok()?, second))
    };
    Some(match mark {
        b": " => Line::Listed(binding()?),
        b"- " => Line::Gone(binding()?),
        b"+ " => Line::Put(binding()?),
        b"* " => Line::Health(std::str::from_utf8(rest).ok()?.parse().ok()?),
        b"= " => {
            let (len, checksum) = numbers()?;
            Line::Base(FileMark { len, checksum: u32::from_str_radix(checksum, 16).ok()? })
        }
        b". " => {
            let (generation, at) = numbers()?;
            Line::Complete { generation, last_change_ms: at.parse().ok()? }
        }
        b"@ " => {
            let (generation, at) = numbers()?;
            Line::Change { generation, at_ms: at.parse().ok()? }
        }
        _ => return None,
    })
}
