//! What is wrong with a file that a person wrote, and where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake, shown as `file:line:column: message`, the form that editors and CI jump to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    pub file: PathBuf,
    /// `None` where the file as a whole is meant: it cannot be read, say.
    pub at: Option<Position>,
    pub message: String,
}

/// A place in a text. Both count from 1; columns count characters, not bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Mistake {
    /// A mistake of the file as a whole.
    #[must_use]
    pub fn in_file(file: &Path, message: impl Into<String>) -> Mistake {
        Mistake { file: file.to_owned(), at: None, message: message.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Position { line, column }) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Collects the mistakes of one file while it is read.
pub(super) struct Mistakes<'a> {
    file: &'a Path,
    text: &'a str,
    list: Vec<Mistake>,
}

impl<'a> Mistakes<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Mistakes<'a> {
        Mistakes { file, text, list: Vec::new() }
    }

    /// Notes a mistake at the start of `span`, which counts bytes.
    pub(super) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let at = Some(self.position(span.start));
        self.list.push(Mistake { file: self.file.to_owned(), at, message: message.into() });
    }

    /// Where in the text byte `offset` is.
    pub(super) fn position(&self, offset: usize) -> Position {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.bytes().filter(|&b| b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    pub(super) fn line_of(&self, span: &Range<usize>) -> usize {
        self.position(span.start).line
    }

    /// All mistakes in the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Mistake> {
        self.list.sort_by_key(|mistake| mistake.at);
        self.list
    }
}
