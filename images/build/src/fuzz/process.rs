//! A program that says lines while it runs and must end in time.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// On top of the time that the program was given: reading seeds, and its own limit for an input
/// that hangs, which shows more than being killed.
const GRACE: Duration = Duration::from_secs(60);

/// How it ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// By itself.
    Ended(ExitStatus),
    /// Not at all.
    Stuck,
}

/// How LibAFL ends a program in which an input runs too long.
const HANG: i32 = 55;

impl Outcome {
    /// An error when it did not end well.
    pub(crate) fn success(&self) -> anyhow::Result<()> {
        match self {
            Self::Ended(status) if status.success() => Ok(()),
            Self::Ended(status) if status.code() == Some(HANG) => {
                bail!("an input runs longer than it may")
            }
            Self::Ended(status) => bail!("{status}"),
            Self::Stuck => bail!("it did not end in time and was killed"),
        }
    }
}

/// Runs it and hands on its lines.
pub(crate) fn follow(
    command: &mut Command,
    time: Duration,
    mut say: impl FnMut(&str),
) -> anyhow::Result<Outcome> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        // One line for each panic; the whole story comes with a repetition.
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {program}"))?;
    let (sender, lines) = channel();
    let output = child.stdout.take();
    let reader = thread::spawn(move || {
        let output = output.map(BufReader::new);
        for line in output.into_iter().flat_map(|output| output.split(b'\n')) {
            let text = line.map(|line| String::from_utf8_lossy(&line).into_owned());
            if !text.is_ok_and(|text| sender.send(text).is_ok()) {
                break;
            }
        }
    });
    let end = Instant::now() + time + GRACE;
    let stuck = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => say(&line),
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if stuck {
        child
            .kill()
            .with_context(|| format!("cannot kill {program}"))?;
    }
    // Its output is closed or it was killed: it is about to end.
    let status = child
        .wait()
        .with_context(|| format!("cannot tell how {program} ended"))?;
    // A panic there has been printed already.
    let _ = reader.join();
    Ok(if stuck {
        Outcome::Stuck
    } else {
        Outcome::Ended(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_status_are_handed_on() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; exit 3"]);
        let outcome = follow(&mut command, Duration::ZERO, |line| {
            lines.push(line.to_owned())
        });
        assert_eq!(lines, ["one", "two"]);
        let error = outcome.unwrap().success().unwrap_err();
        assert_eq!(error.to_string(), "exit status: 3");
    }
}
