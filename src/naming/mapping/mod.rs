//! The mapping file: one binding a line.

pub(super) mod field;
mod line;
mod turns;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::change::{Clash, Located};
use super::spec::{BindingKey, BindingSpec};
use line::Columns;
pub use turns::in_turns;

/// Something wrong at a place in a text. Lines and columns count from 1, columns in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    pub line: u32,
    pub column: u32,
    /// How many bytes are to blame, at least one.
    pub len: u32,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Mistake {
    /// `12:8: message`; a file name and a colon go before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl Mistake {
    /// Three lines for people: the mistake, the line of `text` that has it, and carets under what is to blame.
    #[must_use]
    pub fn render(&self, file: &str, text: &[u8]) -> String {
        let line = nth_line(text, self.line);
        let shown = String::from_utf8_lossy(line).replace('\t', " ");
        let (before, carets) = (self.column as usize - 1, "^".repeat(self.len.max(1) as usize));
        format!("{file}:{self}\n    {shown}\n    {:before$}{carets}", "")
    }
}

/// Reads a mapping, or finds everything that is wrong with its lines by themselves. What is wrong between lines, and
/// between them and the configuration, [`NamesWriter::replace`](super::NamesWriter::replace) finds.
///
/// # Errors
/// All mistakes, in the order of the text.
pub fn parse_mapping(text: impl AsRef<[u8]>) -> Result<Vec<Located<BindingSpec>>, Vec<Mistake>> {
    let (bindings, mistakes) = read_mapping(text);
    if mistakes.is_empty() { Ok(bindings) } else { Err(mistakes) }
}

/// As [`parse_mapping`], with the good lines beside the mistakes, so that both kinds of errors can be told at once.
pub fn read_mapping(text: impl AsRef<[u8]>) -> (Vec<Located<BindingSpec>>, Vec<Mistake>) {
    let mut text = text.as_ref();
    let mut pieces = Vec::with_capacity(text.len() / PIECE + 1);
    while !text.is_empty() {
        let piece;
        (piece, text) = text.split_at(end_of_lines(text, PIECE));
        pieces.push(piece);
    }
    let mut all =
        Part { bindings: Vec::with_capacity(text_lines(pieces.iter().map(|it| it.len()).sum())), ..Part::default() };
    in_turns(
        &pieces,
        |piece| Part::read(piece),
        |part| {
            all.append(part);
            true
        },
    );
    (all.bindings, all.mistakes)
}

/// Bytes of text that one thread reads at a time.
const PIECE: usize = 1 << 20;

/// About how many lines a large mapping of that many bytes has.
fn text_lines(bytes: usize) -> usize {
    bytes / 80
}

/// Where a line ends, `about` there or later, or the text.
fn end_of_lines(text: &[u8], about: usize) -> usize {
    let rest = text.get(about..).unwrap_or_default();
    rest.iter().position(|&byte| byte == b'\n').map_or(text.len(), |more| about + more + 1)
}

/// What is in a part of a text. Lines count from the part's first.
#[derive(Default)]
struct Part {
    bindings: Vec<Located<BindingSpec>>,
    mistakes: Vec<Mistake>,
    lines: u32,
}

impl Part {
    fn read(text: &[u8]) -> Part {
        let mut part = Part { bindings: Vec::with_capacity(text_lines(text.len())), ..Part::default() };
        let mut words = Words::default();
        for line in text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n') {
            part.lines += 1;
            if let Some(value) = line::parse(line, part.lines, &mut words, &mut part.mistakes) {
                part.bindings.push(Located { line: part.lines, value });
            }
        }
        part
    }

    /// Goes on with the part that follows.
    fn append(&mut self, mut next: Part) {
        next.bindings.iter_mut().for_each(|binding| binding.line += self.lines);
        next.mistakes.iter_mut().for_each(|mistake| mistake.line += self.lines);
        self.bindings.append(&mut next.bindings);
        self.mistakes.append(&mut next.mistakes);
        self.lines += next.lines;
    }
}

/// Reads one line, without its newline. `None`: there is no binding in it.
///
/// # Errors
/// The first mistake.
pub fn parse_binding(line: &[u8], words: &mut Words) -> Result<Option<BindingSpec>, Mistake> {
    let mut mistakes = Vec::new();
    let binding = line::parse(line, 1, words, &mut mistakes);
    mistakes.into_iter().next().map_or(Ok(binding), Err)
}

/// Reads what names a binding: `NETWORK PROTO MAC IP:PORT [id=WORD]`, or the binding's whole line.
///
/// # Errors
/// The first mistake, or all of the line.
pub fn parse_key(text: &str) -> Result<BindingKey, Vec<Mistake>> {
    let is_option = |word: &&str| word.contains('=');
    if text.split_ascii_whitespace().filter(|word| !is_option(word)).count() < 6 {
        return line::parse_key(text.as_bytes(), &mut Words::default()).map_err(|mistake| vec![mistake]);
    }
    parse_mapping(text)?.first().map(|binding| binding.value.key()).ok_or_else(Vec::new)
}

/// Where in the text of the mapping a clash is: a mistake like those of single lines. `text` must be what the
/// bindings were read from.
#[must_use]
pub fn locate(text: &[u8], clash: &Clash) -> Mistake {
    let line = nth_line(text, clash.binding.line);
    let (column, len) = Columns::of(line).place(clash.part, line);
    Mistake { line: clash.binding.line, column, len, message: clash.to_string() }
}

/// Names of networks, each kept once.
#[derive(Default)]
pub struct Words {
    last: Option<Arc<str>>,
    all: HashMap<Box<str>, Arc<str>>,
}

impl Words {
    /// The one copy of the word.
    pub fn intern(&mut self, word: &str) -> Arc<str> {
        if let Some(last) = self.last.as_ref().filter(|last| &***last == word) {
            return Arc::clone(last);
        }
        let kept = match self.all.get(word) {
            Some(kept) => Arc::clone(kept),
            None => {
                let kept: Arc<str> = word.into();
                self.all.insert(word.into(), Arc::clone(&kept));
                kept
            }
        };
        self.last = Some(Arc::clone(&kept));
        kept
    }
}

fn nth_line(text: &[u8], line: u32) -> &[u8] {
    let line = text.split(|&byte| byte == b'\n').nth((line as usize).wrapping_sub(1)).unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}
