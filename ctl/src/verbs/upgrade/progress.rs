//! How far a transfer is: a bar on a terminal, a line now and then elsewhere.

use std::io::{Write, stderr};
use std::time::{Duration, Instant};

use crate::terminal::{note, printable};
use crate::units::{size, span};

/// Often enough to see that it goes on.
const INTERVAL: Duration = Duration::from_millis(200);

/// Places of the bar.
const WIDTH: u64 = 24;

/// Without a terminal, a line for each of so many percent.
const STEP: u64 = 10;

/// The progress of one command.
#[derive(Debug)]
pub(super) struct Progress {
    live: bool,
    shown: Option<Instant>,
    /// The phase, when it began and how many bytes were done by then.
    phase: Option<(String, Instant, u64)>,
    /// Percent that were told last.
    told: u64,
}

impl Progress {
    /// `live`: somebody looks at a terminal.
    pub(super) fn new(live: bool) -> Self {
        Self {
            live,
            shown: None,
            phase: None,
            told: 0,
        }
    }

    /// So much of it is done.
    pub(super) fn bytes(&mut self, phase: &str, done: u64, total: u64) {
        self.enter(phase, done);
        let Some((_, since, begun_with)) = &self.phase else {
            return;
        };
        let percent = done.min(total).saturating_mul(100) / total.max(1);
        let rate = rate(done.saturating_sub(*begun_with), since.elapsed());
        if !self.live {
            if percent / STEP > self.told / STEP {
                note(&format!(
                    "{phase}: {percent} % of {}, {}/s",
                    size(total),
                    size(rate)
                ));
                self.told = percent;
            }
            return;
        }
        if self.shown.is_some_and(|shown| shown.elapsed() < INTERVAL) && done < total {
            return;
        }
        self.shown = Some(Instant::now());
        let line = line(phase, done, total, rate);
        let _ = write!(stderr(), "\r{}\x1b[K", printable(&line));
    }

    /// Something without a measure goes on.
    pub(super) fn words(&mut self, phase: &str) {
        if self
            .phase
            .as_ref()
            .is_some_and(|(known, ..)| known == phase)
        {
            return;
        }
        self.enter(phase, 0);
        self.end();
        note(phase);
    }

    /// Leaves the line.
    pub(super) fn end(&mut self) {
        if self.live && self.shown.take().is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }

    fn enter(&mut self, phase: &str, done: u64) {
        if self.phase.as_ref().is_none_or(|(known, ..)| known != phase) {
            self.phase = Some((phase.to_owned(), Instant::now(), done));
            self.told = 0;
        }
    }
}

/// Bytes a second; nothing before there is something to tell.
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    if ms < 100 {
        return 0;
    }
    bytes.saturating_mul(1000) / ms
}

fn line(phase: &str, done: u64, total: u64, rate: u64) -> String {
    let done = done.min(total);
    let filled = done.saturating_mul(WIDTH) / total.max(1);
    let bar: String = (0..WIDTH)
        .map(|place| if place < filled { '#' } else { '.' })
        .collect();
    let percent = done.saturating_mul(100) / total.max(1);
    let left = match rate {
        0 => String::new(),
        rate => format!(
            ", {} left",
            span(Duration::from_secs((total - done) / rate))
        ),
    };
    format!(
        "{phase} [{bar}] {percent} % of {}, {}/s{left}",
        size(total),
        size(rate)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_much_and_how_long() {
        let mib = 1 << 20;
        assert_eq!(
            line("sending", 32 * mib, 64 * mib, mib),
            "sending [############............] 50 % of 64.0 MiB, 1.0 MiB/s, 32s left"
        );
        assert_eq!(
            line("sending", 5, 0, 0),
            "sending [........................] 0 % of 0 B, 0 B/s"
        );
        assert_eq!(rate(1000, Duration::from_millis(500)), 2000);
        assert_eq!(rate(1000, Duration::ZERO), 0);
    }
}
