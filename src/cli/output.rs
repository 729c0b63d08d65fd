//! What commands print: lines for people, with colours on a terminal only, or JSON for programs.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// The standard output. A reader that went away ends no command.
pub struct Output {
    json: bool,
    colours: bool,
}

/// How a word stands out on a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    Green,
    Yellow,
    Red,
    Bold,
}

impl Output {
    /// For lines, or for JSON where `json` is set. Honours `NO_COLOR` (no-color.org).
    #[must_use]
    pub fn new(json: bool) -> Output {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Output { json, colours: wanted && io::stdout().is_terminal() }
    }

    /// True if the command must print JSON and nothing else.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line.
    pub fn line(&mut self, line: impl Display) {
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// Prints a value as one line of JSON.
    pub fn json(&mut self, value: &impl Serialize) {
        let mut stdout = io::stdout().lock();
        let _ = serde_json::to_writer(&mut stdout, value).map_err(io::Error::from).and_then(|()| writeln!(stdout));
    }

    /// `text` in a colour, where there are colours.
    #[must_use]
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        // ECMA-48 8.3.117, SGR.
        let code = match colour {
            _ if !self.colours => return text.to_owned(),
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
            Colour::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Reports why a command could not do its work, on the standard error.
pub fn complain(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "sixway: {message}");
}
