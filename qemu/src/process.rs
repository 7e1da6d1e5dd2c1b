//! Runs a program to its end, within a deadline.

use std::io;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

/// Why a program gave no result.
#[derive(Debug, Error)]
pub enum RunError {
    /// It ended, but not with success.
    #[error("`{program}` ended with {status}: {message}")]
    Failed {
        /// Program and arguments.
        program: String,
        /// Exit code or signal.
        status: String,
        /// What it wrote to standard error, or to standard output when that was empty.
        message: String,
    },
    /// It could not be started or watched.
    #[error("cannot run `{program}`")]
    Start {
        /// Program and arguments.
        program: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("`{program}` did not end within {} s", deadline.as_secs())]
    Timeout {
        /// Program and arguments.
        program: String,
        /// How long it had.
        deadline: Duration,
    },
}

/// Runs `command` and returns what it wrote to standard output; success is exit code 0.
pub fn run_within(command: &mut Command, deadline: Duration) -> Result<Vec<u8>, RunError> {
    let output = output_within(command, deadline)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    Err(RunError::Failed {
        program: describe(command),
        status: output.status.to_string(),
        message: String::from_utf8_lossy(text).trim().to_owned(),
    })
}

/// Runs `command` and returns how it ended, whatever that is.
pub fn output_within(command: &mut Command, deadline: Duration) -> Result<Output, RunError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn();
    let child = child.map_err(|source| RunError::Start {
        program: describe(command),
        source,
    })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (done, result) = mpsc::channel();
    // Nobody listens any more after a timeout; the child is dead then and the thread ends.
    thread::spawn(move || drop(done.send(child.wait_with_output())));
    match result.recv_timeout(deadline) {
        Ok(output) => output.map_err(|source| RunError::Start {
            program: describe(command),
            source,
        }),
        Err(_) => {
            if let Some(pid) = pid {
                // The thread above has not reaped it yet, or this fails: never another process.
                let _ = kill_process(pid, Signal::KILL);
            }
            Err(RunError::Timeout {
                program: describe(command),
                deadline,
            })
        }
    }
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn output_and_failure() {
        let output = run_within(Command::new("echo").arg("one"), SOON).unwrap();
        assert_eq!(output, b"one\n");
        let error = run_within(Command::new("ls").arg("/nothing/here"), SOON).unwrap_err();
        assert!(error.to_string().contains("/nothing/here"), "{error}");
        let error = run_within(&mut Command::new("/nothing/here"), SOON).unwrap_err();
        assert!(matches!(error, RunError::Start { .. }));
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let error = run_within(Command::new("sleep").arg("600"), Duration::from_millis(50));
        assert!(matches!(error, Err(RunError::Timeout { .. })));
    }
}
