//! The log, a few lines per second and kind: a flood must not fill the disk with itself.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::limits;

/// Kinds of events, counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    FailedHandshake,
    ShutOut,
    RefusedCall,
    EndedConnection,
    Machined,
    Accept,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::FailedHandshake,
        Self::ShutOut,
        Self::RefusedCall,
        Self::EndedConnection,
        Self::Machined,
        Self::Accept,
    ];

    const fn plural(self) -> &'static str {
        match self {
            Self::FailedHandshake => "failed handshakes",
            Self::ShutOut => "addresses shut out",
            Self::RefusedCall => "refused calls",
            Self::EndedConnection => "connections ended",
            Self::Machined => "failures of machined",
            Self::Accept => "failures to accept a connection",
        }
    }
}

/// Writes lines, or counts them.
#[derive(Debug)]
pub(crate) struct Journal {
    windows: RefCell<[(Kind, Window); Kind::ALL.len()]>,
}

impl Journal {
    pub(crate) fn new() -> Rc<Self> {
        let windows = Kind::ALL.map(|kind| (kind, Window::default()));
        Rc::new(Self {
            windows: RefCell::new(windows),
        })
    }

    /// Writes a warning, or counts it when there were enough of its kind within this second.
    /// Must be called inside a `LocalSet`.
    pub(crate) fn warn(self: &Rc<Self>, kind: Kind, line: impl fmt::Display) {
        match self.with(kind, |window| window.note(Instant::now())) {
            Some(Verdict::Write) => tracing::warn!("{line}"),
            Some(Verdict::CountFirst) => {
                let journal = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(WINDOW).await;
                    if let Some(more) = journal.with(kind, Window::take) {
                        tracing::warn!("{more} more {} within a second", kind.plural());
                    }
                });
            }
            Some(Verdict::Count) | None => {}
        }
    }

    fn with<T>(&self, kind: Kind, act: impl FnOnce(&mut Window) -> T) -> Option<T> {
        self.windows
            .borrow_mut()
            .iter_mut()
            .find(|(known, _)| *known == kind)
            .map(|(_, window)| act(window))
    }
}

const WINDOW: Duration = Duration::from_secs(1);

/// What was written and what was only counted since a moment.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    written: u32,
    counted: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Write,
    /// The first that is not written: somebody must tell the sum.
    CountFirst,
    Count,
}

impl Window {
    fn note(&mut self, now: Instant) -> Verdict {
        if self.since.is_none_or(|since| now - since >= WINDOW) {
            self.since = Some(now);
            self.written = 0;
        }
        if self.written < limits::LINES {
            self.written += 1;
            return Verdict::Write;
        }
        self.counted += 1;
        if self.counted == 1 {
            Verdict::CountFirst
        } else {
            Verdict::Count
        }
    }

    fn take(&mut self) -> u64 {
        std::mem::take(&mut self.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_sum() {
        let (mut window, now) = (Window::default(), Instant::now());
        let verdicts: Vec<Verdict> = (0..1000).map(|_| window.note(now)).collect();
        let written = verdicts.iter().filter(|v| **v == Verdict::Write).count();
        let told = verdicts
            .iter()
            .filter(|v| **v == Verdict::CountFirst)
            .count();
        assert_eq!(written, usize::try_from(limits::LINES).unwrap());
        assert_eq!(told, 1);
        assert_eq!(window.take(), 1000 - u64::from(limits::LINES));
        assert_eq!(window.note(now), Verdict::CountFirst);
        assert_eq!(window.note(now + WINDOW), Verdict::Write);
    }
}
