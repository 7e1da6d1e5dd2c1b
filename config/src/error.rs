//! What the reader of a configuration error gets to see.

use std::fmt;

/// Why a configuration was refused: where, what is wrong, what to do.
///
/// `Display` is one line for logs and the console; [`ConfigError::report`] adds the source lines.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct ConfigError {
    /// Name of the file or place that the text came from.
    pub source_name: Box<str>,
    /// Where in the text, if it can be told.
    pub position: Option<Position>,
    /// The key concerned, such as `network.interfaces[0].dhcp4`; empty for the whole document.
    pub key_path: Box<str>,
    /// What is wrong.
    pub problem: Box<str>,
    /// What to do about it.
    pub advice: Box<str>,
    /// The line concerned and its neighbours with line numbers and a caret, or empty.
    pub frame: Box<str>,
}

impl ConfigError {
    /// The one-line text, followed by the source lines when there are any.
    pub fn report(&self) -> String {
        if self.frame.is_empty() {
            self.to_string()
        } else {
            format!("{self}\n{}", self.frame)
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source_name)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key_path.is_empty() {
            write!(f, ": {}", self.key_path)?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// A place in the text; both count from 1, columns count characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Most characters of one source line shown in a frame: it fits an 80-column console.
const FRAME_COLUMNS: usize = 72;

/// The line at `position` with one line before and one after, and a caret below the place.
pub(crate) fn frame(text: &str, position: Position) -> String {
    let first = position.line.saturating_sub(1).max(1);
    // Long lines are shown from a little before the place concerned.
    let skip = position.column.saturating_sub(FRAME_COLUMNS / 2);
    let mut out = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .map(|(i, l)| (i + 1, l))
        .skip(first - 1)
        .take(3)
    {
        if number > position.line + 1 {
            break;
        }
        let shown: String = line
            .chars()
            .skip(skip)
            .take(FRAME_COLUMNS)
            .map(printable)
            .collect();
        out.push(format!("{number:>5} | {shown}").trim_end().to_owned());
        if number == position.line {
            let indent = position.column.saturating_sub(skip + 1);
            out.push(format!("      | {:indent$}^", ""));
        }
    }
    out.join("\n")
}

fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_shows_three_lines_and_a_caret() {
        let at = Position { line: 2, column: 3 };
        assert_eq!(
            frame("a\nb: c\nd\ne", at),
            "    1 | a\n    2 | b: c\n      |   ^\n    3 | d"
        );
    }

    #[test]
    fn frame_of_a_long_line_stays_short() {
        let text = "x".repeat(100_000);
        let shown = frame(
            &text,
            Position {
                line: 1,
                column: 90_000,
            },
        );
        assert!(
            shown.lines().all(|line| line.len() <= FRAME_COLUMNS + 8),
            "{shown}"
        );
        assert!(shown.ends_with('^'));
    }

    #[test]
    fn places_outside_of_the_text_give_no_panic() {
        for (line, column) in [(0, 0), (9, 9), (1, 500)] {
            let _ = frame("a\n", Position { line, column });
        }
    }
}
