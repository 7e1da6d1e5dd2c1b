//! What is known of a running machine so far, and waits on it.
//!
//! Threads (serial port, host channel, QMP, end of the process) add to one [`Observed`] and wake
//! everybody who waits. A wait looks at what is known, not at what arrives: it cannot miss
//! anything, whenever it starts.

use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keelson_control::{BootReport, Event, Phase, ServiceStatus};
use thiserror::Error;

use crate::{HostMessage, NodeContext, QmpEvent};

/// How many lines of the serial log an error shows.
const TAIL_LINES: usize = 40;

/// A wait that did not see what it waited for.
#[derive(Debug, Error)]
#[error("{machine}: {what} {reason}; last lines of {log}:\n{tail}")]
pub struct WaitError {
    /// Name of the machine.
    pub machine: String,
    /// What was waited for.
    pub what: String,
    /// `did not come within 60 s` or how QEMU ended.
    pub reason: String,
    /// The whole serial log.
    pub log: String,
    /// The end of it.
    pub tail: String,
}

/// A moment in the life of a machine; waits see only what came after theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    serial: usize,
    messages: usize,
    events: usize,
}

/// Everything known since a [`Mark`].
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// What the guest wrote to its serial port, without carriage returns.
    pub serial: &'a str,
    /// What the node said on the host channel.
    pub messages: &'a [HostMessage],
    /// What QEMU reported.
    pub events: &'a [QmpEvent],
    /// How QEMU ended, if it has.
    pub ended: Option<&'a str>,
}

impl<'a> Observed<'a> {
    /// The first whole serial line that contains `text`. The line that the guest is still writing
    /// does not count: it may end differently from what it is now.
    pub fn serial_line(&self, text: &str) -> Option<&'a str> {
        let whole = self.serial.rfind('\n').map_or(0, |end| end + 1);
        let lines = self.serial.get(..whole).unwrap_or_default();
        lines.lines().find(|line| line.contains(text))
    }

    /// Whether QEMU reported an event of this name.
    pub fn qmp_event(&self, name: &str) -> Option<&'a QmpEvent> {
        self.events.iter().find(|event| event.name == name)
    }

    /// The newest kubeconfig the node sent.
    pub fn kubeconfig(&self) -> Option<&'a str> {
        self.messages
            .iter()
            .rev()
            .find_map(|message| match message {
                HostMessage::Kubeconfig(text) => Some(text.as_str()),
                HostMessage::Context(_) | HostMessage::Event(_) => None,
            })
    }

    /// The newest administrator's certificate the node sent.
    pub fn context(&self) -> Option<&'a NodeContext> {
        self.messages
            .iter()
            .rev()
            .find_map(|message| match message {
                HostMessage::Context(context) => Some(context),
                HostMessage::Event(_) | HostMessage::Kubeconfig(_) => None,
            })
    }

    /// Whether a condition of PID 1 holds, as far as the node has said.
    pub fn condition(&self, wanted: &str) -> bool {
        let last = self.node_events().rev().find_map(|event| match event {
            Event::Condition { name, raised } if name == wanted => Some(*raised),
            _ => None,
        });
        last.unwrap_or(false)
    }

    /// The newest state of a service.
    pub fn service(&self, wanted: &str) -> Option<&'a ServiceStatus> {
        self.node_events().rev().find_map(|event| match event {
            Event::Service(status) if status.name == wanted => Some(status),
            _ => None,
        })
    }

    /// The report of a finished boot.
    pub fn boot_report(&self) -> Option<&'a BootReport> {
        self.node_events().rev().find_map(|event| match event {
            Event::BootReport(report) => Some(report),
            _ => None,
        })
    }

    /// Boot phases in the order they were told.
    pub fn phases(&self) -> impl Iterator<Item = &'a Phase> {
        self.node_events().filter_map(|event| match event {
            Event::Phase(phase) => Some(phase),
            _ => None,
        })
    }

    fn node_events(&self) -> impl DoubleEndedIterator<Item = &'a Event> + use<'a> {
        self.messages.iter().filter_map(|message| match message {
            HostMessage::Event(event) => Some(event),
            HostMessage::Context(_) | HostMessage::Kubeconfig(_) => None,
        })
    }
}

/// Makes every wait on a machine look again, for what the machine itself does not tell.
#[derive(Clone, Debug)]
pub struct Waker(Watch);

impl Waker {
    /// Wakes everybody who waits.
    pub fn wake(&self) {
        self.0.change(|_| ());
    }
}

/// Shared between the threads that watch a machine and those that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(Arc<(Mutex<Known>, Condvar)>);

#[derive(Debug, Default)]
struct Known {
    serial: String,
    messages: Vec<HostMessage>,
    events: Vec<QmpEvent>,
    ended: Option<String>,
}

impl Known {
    fn since(&self, mark: Mark) -> Observed<'_> {
        Observed {
            serial: self.serial.get(mark.serial..).unwrap_or_default(),
            messages: self.messages.get(mark.messages..).unwrap_or_default(),
            events: self.events.get(mark.events..).unwrap_or_default(),
            ended: self.ended.as_deref(),
        }
    }
}

/// Why a wait ended without a result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unseen {
    Ended(String),
    TimedOut,
}

impl Watch {
    pub(crate) fn add_serial(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).replace('\r', "");
        self.change(|known| known.serial.push_str(&text));
    }

    pub(crate) fn add_message(&self, message: HostMessage) {
        self.change(|known| known.messages.push(message));
    }

    pub(crate) fn add_event(&self, event: QmpEvent) {
        self.change(|known| known.events.push(event));
    }

    pub(crate) fn end(&self, how: String) {
        self.change(|known| known.ended = Some(how));
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(self.clone())
    }

    pub(crate) fn mark(&self) -> Mark {
        let known = self.lock();
        Mark {
            serial: known.serial.len(),
            messages: known.messages.len(),
            events: known.events.len(),
        }
    }

    pub(crate) fn look<T>(&self, mark: Mark, look: impl FnOnce(Observed<'_>) -> T) -> T {
        look(self.lock().since(mark))
    }

    /// Waits until `look` finds something in what is known since `mark`.
    pub(crate) fn wait<T>(
        &self,
        mark: Mark,
        deadline: Duration,
        mut look: impl FnMut(Observed<'_>) -> Option<T>,
    ) -> Result<T, Unseen> {
        let start = Instant::now();
        let mut known = self.lock();
        loop {
            if let Some(found) = look(known.since(mark)) {
                return Ok(found);
            }
            if let Some(how) = &known.ended {
                return Err(Unseen::Ended(how.clone()));
            }
            let left = deadline.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(Unseen::TimedOut);
            }
            (known, _) = self
                .0
                .1
                .wait_timeout(known, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The last lines of the serial log.
    pub(crate) fn tail(&self) -> String {
        let known = self.lock();
        let lines: Vec<&str> = known.serial.lines().collect();
        let mut tail = String::new();
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
            // Writing to a String cannot fail.
            let _ = writeln!(tail, "    {line}");
        }
        tail
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    /// A thread that panicked while it held the lock left nothing half-done: every change is one
    /// push.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const NOW: Duration = Duration::ZERO;

    fn condition(name: &str, raised: bool) -> HostMessage {
        HostMessage::Event(Event::Condition {
            name: name.to_owned(),
            raised,
        })
    }

    #[test]
    fn a_wait_sees_what_is_already_there_and_what_comes() {
        let watch = Watch::default();
        watch.add_serial(b"one\r\ntwo\r\n");
        let line = watch.wait(Mark::default(), NOW, |seen| {
            seen.serial_line("two").map(str::to_owned)
        });
        assert_eq!(line.unwrap(), "two");
        let other = watch.clone();
        let writer = thread::spawn(move || other.add_serial(b"three\n"));
        let line = watch.wait(Mark::default(), SOON, |seen| {
            seen.serial_line("three").map(str::to_owned)
        });
        assert_eq!(line.unwrap(), "three");
        writer.join().unwrap();
    }

    #[test]
    fn a_line_that_is_still_written_does_not_count() {
        let watch = Watch::default();
        watch.add_serial(b"one\ntime: ");
        let line = || watch.look(Mark::default(), |seen| seen.serial_line("time").is_some());
        assert!(!line());
        watch.add_serial(b"set by a server\n");
        assert!(line());
    }

    #[test]
    fn a_mark_hides_what_was_before_it() {
        let watch = Watch::default();
        watch.add_serial(b"panic\n");
        watch.add_message(condition("node-ready", true));
        let mark = watch.mark();
        assert!(!watch.look(mark, |seen| seen.condition("node-ready")));
        assert_eq!(
            watch.wait(mark, NOW, |seen| seen.serial_line("panic").map(|_| ())),
            Err(Unseen::TimedOut)
        );
    }

    #[test]
    fn the_last_word_on_a_condition_counts() {
        let watch = Watch::default();
        watch.add_message(condition("network", true));
        watch.add_message(condition("network", false));
        assert!(!watch.look(Mark::default(), |seen| seen.condition("network")));
        watch.add_message(condition("network", true));
        assert!(watch.look(Mark::default(), |seen| seen.condition("network")));
    }

    #[test]
    fn the_end_of_qemu_ends_every_wait() {
        let watch = Watch::default();
        let other = watch.clone();
        let ender = thread::spawn(move || other.end("exit status: 1".to_owned()));
        let result = watch.wait(Mark::default(), SOON, |seen| {
            seen.serial_line("x").map(|_| ())
        });
        assert_eq!(result, Err(Unseen::Ended("exit status: 1".to_owned())));
        ender.join().unwrap();
    }

    #[test]
    fn the_tail_is_short() {
        let watch = Watch::default();
        for number in 0..100 {
            watch.add_serial(format!("line {number}\n").as_bytes());
        }
        let tail = watch.tail();
        assert!(tail.starts_with("    line 60\n"), "{tail}");
        assert!(tail.ends_with("    line 99\n"), "{tail}");
    }
}
