//! Runs a build tool: its lines go to a callback, its silence has a limit.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use thiserror::Error;

/// The longest a build tool may be silent. Linking Kubernetes, the longest quiet
/// step, takes 15 s alone and some minutes on a machine that is busy elsewhere.
const SILENCE: Duration = Duration::from_secs(20 * 60);

/// Lines of output kept for the error when the tool fails.
const KEPT: usize = 20;

/// Why a tool did not do its work.
#[derive(Debug, Error)]
pub enum RunError {
    /// It cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// The tool.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}); its last lines:\n{lines}")]
    Failed {
        /// The tool.
        program: String,
        /// Exit code or signal.
        status: ExitStatus,
        /// The end of its output.
        lines: String,
    },
    /// It stopped saying anything.
    #[error("{program} was silent for {} minutes and was ended", SILENCE.as_secs() / 60)]
    Silent {
        /// The tool.
        program: String,
    },
}

/// Runs `command` to its end; every line of its standard error goes to `line`.
pub(crate) fn run(mut command: Command, line: &dyn Fn(&str)) -> Result<(), RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start_error = |source| RunError::Start {
        program: program.clone(),
        source,
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start_error)?;
    let (send, lines) = mpsc::sync_channel(64);
    if let Some(output) = child.stderr.take() {
        thread::spawn(move || {
            for text in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if send
                    .send(String::from_utf8_lossy(&text).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
    }

    let mut last = Vec::new();
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(text) => {
                line(&text);
                if last.len() == KEPT {
                    last.remove(0);
                }
                last.push(text);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                end(&mut child);
                return Err(RunError::Silent { program });
            }
        }
    }
    let status = child.wait().map_err(start_error)?;
    if status.success() {
        return Ok(());
    }
    Err(RunError::Failed {
        program,
        status,
        lines: last.join("\n"),
    })
}

/// Runs `command` and returns what it wrote to standard output, without line ends.
pub(crate) fn output(mut command: Command) -> Result<String, RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| RunError::Start {
        program: program.clone(),
        source,
    })?;
    if !output.status.success() {
        return Err(RunError::Failed {
            program,
            status: output.status,
            lines: String::from_utf8_lossy(&output.stderr)
                .trim_end()
                .to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

fn end(child: &mut Child) {
    // Nothing can be done about a child that cannot be killed; the error is the silence.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_arrive_in_order() {
        let seen = RefCell::new(Vec::new());
        run(shell("echo one >&2; echo two >&2"), &|text| {
            seen.borrow_mut().push(text.to_owned());
        })
        .unwrap();
        assert_eq!(*seen.borrow(), ["one", "two"]);
    }

    #[test]
    fn a_failure_shows_the_last_lines() {
        let error = run(shell("echo no such luck >&2; exit 3"), &|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("no such luck"), "{text}");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = output(Command::new("no-such-tool")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start no-such-tool");
    }
}
