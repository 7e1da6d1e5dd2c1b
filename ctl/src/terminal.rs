//! What is known about the terminal, and how text gets there safely.

use std::env;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};

use crate::failure::Failure;

/// Whom the output is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Colours are wanted.
    pub(crate) colour: bool,
    /// Standard output is a terminal.
    pub(crate) output: bool,
    /// Somebody can answer questions.
    pub(crate) questions: bool,
}

impl Terminal {
    /// Of this process.
    pub(crate) fn of_process(no_color: bool) -> Self {
        let output = stdout().is_terminal();
        let said = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: output && !no_color && !said("NO_COLOR") && !dumb,
            output,
            questions: stdin().is_terminal() && stderr().is_terminal(),
        }
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

/// Writes a line to standard error; nobody can be told when that fails.
pub(crate) fn note(line: &str) {
    let _ = writeln!(stderr().lock(), "{}", printable(line));
}

/// Text that cannot command the terminal: a node, or whoever writes to its logs, is not the one
/// who sits in front of it. Tabs and line ends stay.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !matches!(c, '\t' | '\n') {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_escape_sequence_reaches_the_terminal() {
        assert_eq!(printable("a\tb\nc é"), "a\tb\nc é");
        assert_eq!(printable("\u{1b}[2J\u{9b}x\r"), "\\u{1b}[2J\\u{9b}x\\u{d}");
    }
}
