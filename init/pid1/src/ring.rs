//! The last lines of a service, in bounded memory.

use std::collections::VecDeque;

use crate::log_level::LogLevel;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// When PID 1 read it, as text.
    pub(crate) time: String,
    pub(crate) level: LogLevel,
    pub(crate) text: String,
}

impl Line {
    /// As it stands in the log file.
    pub(crate) fn render(&self) -> String {
        format!("{} {} {}\n", self.time, self.level, self.text)
    }
}

/// Lines whose text is together not longer than a bound.
#[derive(Debug)]
pub(crate) struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    bound: usize,
}

impl Ring {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            bound,
        }
    }

    /// Adds a line; the oldest ones make room.
    pub(crate) fn push(&mut self, line: Line) {
        self.bytes += cost(&line);
        self.lines.push_back(line);
        self.shrink();
    }

    /// Changes the bound.
    pub(crate) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
        self.shrink();
        self.lines.shrink_to_fit();
    }

    /// All lines, oldest first.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }

    /// The last `count` lines, oldest first.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = &Line> {
        self.lines
            .iter()
            .skip(self.lines.len().saturating_sub(count))
    }

    fn shrink(&mut self) {
        while self.bytes > self.bound {
            let Some(line) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= cost(&line);
        }
    }
}

/// Memory of a line: its two texts and about as much for the structure.
fn cost(line: &Line) -> usize {
    line.text.len() + line.time.len() + size_of::<Line>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line {
            time: String::new(),
            level: LogLevel::Info,
            text: text.to_owned(),
        }
    }

    proptest::proptest! {
        #[test]
        fn keeps_the_newest_within_the_bound(lengths: Vec<u8>, bound in 0_usize..4000) {
            let mut ring = Ring::new(bound);
            for length in &lengths {
                ring.push(line(&"x".repeat((*length).into())));
                let used: usize = ring.lines().map(cost).sum();
                proptest::prop_assert!(used <= bound);
            }
            let kept: Vec<usize> = ring.lines().map(|line| line.text.len()).collect();
            let all: Vec<usize> = lengths.iter().map(|length| usize::from(*length)).collect();
            proptest::prop_assert!(all.ends_with(&kept));
        }
    }
}
