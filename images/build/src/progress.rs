//! Progress a person can follow: which stage, what it is doing, how long it has taken.

use std::io::{IsTerminal, Write, stderr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A log file gets a sign of life this often; a terminal is redrawn every second.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
const TERMINAL_INTERVAL: Duration = Duration::from_secs(1);

/// The stages of one build, counted.
#[derive(Debug)]
pub(crate) struct Stages {
    total: usize,
    done: usize,
    started: Instant,
}

impl Stages {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            done: 0,
            started: Instant::now(),
        }
    }

    /// Runs one stage, showing its name, its status lines and its time.
    pub(crate) fn run<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&dyn Fn(&str)) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.done += 1;
        let label = format!("[{}/{}] {name:<12}", self.done, self.total);
        let started = Instant::now();
        let ticker = Ticker::start(label.clone(), started);
        let result = work(&|status| ticker.status(status));
        ticker.stop();
        let verdict = if result.is_ok() { "done" } else { "FAILED" };
        eprintln!("{label} {verdict} in {}", clock(started.elapsed()));
        result
    }

    pub(crate) fn elapsed(&self) -> String {
        clock(self.started.elapsed())
    }
}

/// Repeats the newest status line with the time that has passed, from a thread of its own.
struct Ticker {
    statuses: Sender<String>,
    thread: JoinHandle<()>,
}

impl Ticker {
    fn start(label: String, started: Instant) -> Self {
        let (statuses, receiver) = channel();
        let thread = std::thread::spawn(move || show(&label, started, &receiver));
        Self { statuses, thread }
    }

    fn status(&self, status: &str) {
        // The thread only ends after this sender is dropped.
        let _ = self.statuses.send(status.to_owned());
    }

    fn stop(self) {
        drop(self.statuses);
        // A panic there has been printed already and costs only the display.
        let _ = self.thread.join();
    }
}

fn show(label: &str, started: Instant, statuses: &Receiver<String>) {
    let terminal = stderr().is_terminal();
    let interval = if terminal {
        TERMINAL_INTERVAL
    } else {
        LOG_INTERVAL
    };
    let mut status = String::new();
    loop {
        match statuses.recv_timeout(interval) {
            Ok(new) => status = new,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let line = format!("{label} {} {status}", clock(started.elapsed()));
        if terminal {
            let short: String = line.chars().take(120).collect();
            eprint!("\r\x1b[2K{short}");
        } else {
            eprintln!("{line}");
        }
        let _ = stderr().flush();
    }
    if terminal {
        eprint!("\r\x1b[2K");
    }
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_secs(0)), "00:00");
        assert_eq!(clock(Duration::from_secs(754)), "12:34");
        assert_eq!(clock(Duration::from_secs(6000)), "100:00");
    }

    #[test]
    fn a_failing_stage_keeps_its_error() {
        let mut stages = Stages::new(1);
        let result: anyhow::Result<()> = stages.run("x", |status| {
            status("trying");
            anyhow::bail!("the reason")
        });
        assert_eq!(result.unwrap_err().to_string(), "the reason");
    }
}
