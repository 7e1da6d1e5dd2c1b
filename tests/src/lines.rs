//! What a program that goes on writes, line by line.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use keelson_qemu::scaled;

/// For a line that something is about to write.
const LINE: Duration = Duration::from_secs(60);

/// A program that goes on; it ends with this.
#[derive(Debug)]
pub struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    /// Reads the standard output of a program, which must be a pipe.
    pub fn of(mut child: Child) -> anyhow::Result<Self> {
        let out = child.stdout.take().context("no standard output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line with all these words in it; those before it are gone.
    pub fn wait_for(&mut self, words: &[&str]) -> anyhow::Result<String> {
        let end = Instant::now() + scaled(LINE);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .with_context(|| format!("no line with {words:?}"))?;
            if words.iter().all(|word| line.contains(word)) {
                return Ok(line);
            }
        }
    }

    /// An error when the program has ended.
    pub fn still_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it has ended ({status})"),
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn program(arguments: &[&str]) -> Lines {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").args(arguments).stdout(Stdio::piped());
        Lines::of(command.spawn().unwrap()).unwrap()
    }

    #[test]
    fn lines_are_found_in_order_and_the_end_is_seen() {
        let mut lines = program(&["echo one a; echo two a; echo one b; exec sleep 100"]);
        assert_eq!(lines.wait_for(&["one", "b"]).unwrap(), "one b");
        lines.still_running().unwrap();
        let mut ended = program(&["echo last"]);
        assert!(ended.wait_for(&["never"]).is_err(), "its output is closed");
        let status = ended.child.wait().unwrap();
        assert!(status.success());
        assert!(ended.still_running().is_err());
    }
}
