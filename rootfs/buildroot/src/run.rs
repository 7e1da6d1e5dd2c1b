//! Runs a program of the host to its end, with a deadline, keeping what it said.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// Between two looks at the child: far below what a person notices.
const POLL: Duration = Duration::from_millis(20);

/// Lines of a failed program's output that the error shows.
const SHOWN_LINES: usize = 12;

/// A program that did not do its work.
#[derive(Debug, Error)]
pub enum RunError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its output could not be kept.
    #[error("cannot keep the output of {program}")]
    Output {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It took too long and was ended.
    #[error("{program} did not finish within {} s; its last words:\n{output}", deadline.as_secs())]
    Deadline {
        /// The program.
        program: String,
        /// How long it had.
        deadline: Duration,
        /// The end of its output.
        output: String,
    },
    /// It failed.
    #[error("{program} failed ({status}); its last words:\n{output}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
}

/// Runs `command` and returns what it wrote to standard output and standard error.
pub fn run(mut command: Command, deadline: Duration) -> Result<String, RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output_error = |source| RunError::Output {
        program: program.clone(),
        source,
    };
    // A file and no pipe: nobody has to read while the program runs, and nothing can block it.
    let mut output = anonymous_file().map_err(output_error)?;
    let copy = |file: &File| file.try_clone().map(Stdio::from);
    command
        .stdin(Stdio::null())
        .stdout(copy(&output).map_err(output_error)?)
        .stderr(copy(&output).map_err(output_error)?);
    let mut child = command.spawn().map_err(|source| RunError::Start {
        program: program.clone(),
        source,
    })?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(output_error)? {
            Some(status) => break Some(status),
            None if start.elapsed() >= deadline => {
                // It may have ended in this very moment; then there is nothing to end.
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => thread::sleep(POLL),
        }
    };
    let text = read_back(&mut output).map_err(output_error)?;
    match status {
        Some(status) if status.success() => Ok(text),
        Some(status) => Err(RunError::Failed {
            program,
            status,
            output: last_lines(&text),
        }),
        None => Err(RunError::Deadline {
            program,
            deadline,
            output: last_lines(&text),
        }),
    }
}

/// Like [`run`], but hands every line of output to `each` as it comes: for work that takes minutes.
pub fn run_watched(
    mut command: Command,
    deadline: Duration,
    mut each: impl FnMut(&str),
) -> Result<(), RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output_error = |source| RunError::Output {
        program: program.clone(),
        source,
    };
    let (reader, writer) = io::pipe().map_err(output_error)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(output_error)?)
        .stderr(writer);
    let child = command.spawn();
    // The command holds writing ends of the pipe: while it lives, the reader never sees the end.
    drop(command);
    let mut child = child.map_err(|source| RunError::Start {
        program: program.clone(),
        source,
    })?;
    let (sender, lines) = mpsc::channel();
    // Ends with the last writer, or when nobody listens any longer.
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n') {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    let mut last = VecDeque::new();
    let finished = loop {
        let left = deadline.saturating_sub(start.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                each(&line);
                last.push_back(line);
                if last.len() > SHOWN_LINES {
                    last.pop_front();
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break true,
            Err(mpsc::RecvTimeoutError::Timeout) => break false,
        }
    };
    if !finished {
        // It may have ended in this very moment; then there is nothing to end.
        let _ = child.kill();
    }
    let status = child.wait().map_err(output_error)?;
    let output = last.make_contiguous().join("\n");
    if !finished {
        Err(RunError::Deadline {
            program,
            deadline,
            output,
        })
    } else if status.success() {
        Ok(())
    } else {
        Err(RunError::Failed {
            program,
            status,
            output,
        })
    }
}

fn anonymous_file() -> io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    Ok(File::from(rustix::fs::memfd_create("output", flags)?))
}

fn read_back(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_of_both_streams_comes_back() {
        let text = run(shell("echo one; echo two >&2"), Duration::from_secs(10)).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn a_failure_shows_its_last_words() {
        let error = run(shell("echo reason; exit 3"), Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("reason"), "{error}");
    }

    #[test]
    fn watched_lines_come_one_by_one() {
        let mut lines = Vec::new();
        let each = |line: &str| lines.push(line.to_owned());
        run_watched(
            shell("echo one; echo two >&2"),
            Duration::from_secs(10),
            each,
        )
        .unwrap();
        assert_eq!(lines, ["one", "two"]);
        let failing = shell("echo reason; exit 3");
        let error = run_watched(failing, Duration::from_secs(10), |_| ()).unwrap_err();
        assert!(error.to_string().contains("reason"), "{error}");
        let hung = run_watched(shell("exec sleep 60"), Duration::from_millis(100), |_| ());
        assert!(matches!(hung, Err(RunError::Deadline { .. })));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let start = Instant::now();
        let result = run(shell("exec sleep 60"), Duration::from_millis(100));
        assert!(matches!(result, Err(RunError::Deadline { .. })));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
