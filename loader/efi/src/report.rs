//! What the loader tells people and the system it starts: one short line for everything unusual.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use keelson_bootstate::Slot;

use crate::boot::Why;

/// Longest line. What is longer is cut: firmware has little room for variables.
const LINE: usize = 160;

/// The lines of one boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    lines: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, line: fmt::Arguments<'_>) {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text.write_fmt(line);
        let cut = text
            .char_indices()
            .nth(LINE)
            .map_or(text.len(), |(at, _)| at);
        text.truncate(cut);
        self.lines.push(text);
    }

    pub(crate) fn skipped(&mut self, slot: Slot, reason: &dyn fmt::Display) {
        self.add(format_args!("slot {slot} skipped: {reason}"));
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The text of the variable `KeelsonLoaderReport`: why the slot is started in one word, then
    /// the lines.
    pub fn to_variable(&self, why: Why) -> String {
        let mut text = String::from(why.name());
        for line in self.lines() {
            text.push('\n');
            text.push_str(line);
        }
        text
    }
}
