//! Lines for people, on every console of the machine.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use keelson_control::Level;
use rustix::fs::OFlags;

/// The kernel's list of consoles, such as `tty0 ttyS0`.
const ACTIVE: &str = "/sys/class/tty/console/active";

/// Bytes kept for a console that is slow or held by flow control; more is dropped.
const MAX_PENDING: usize = 16 * 1024;

/// Writes to all consoles without ever waiting for one.
#[derive(Debug)]
pub(crate) struct Console {
    outputs: Vec<Output>,
    /// The kernel's log, so that lines survive in a crash dump.
    kernel_log: Option<File>,
}

#[derive(Debug)]
struct Output {
    file: File,
    pending: VecDeque<u8>,
}

impl Console {
    /// Opens the machine's consoles, or in a test's namespace standard error.
    pub(crate) fn open(namespace: bool) -> Self {
        if namespace {
            let outputs = open_device("/dev/stderr".into()).into_iter().collect();
            return Self {
                outputs,
                kernel_log: None,
            };
        }
        let names = std::fs::read_to_string(ACTIVE).unwrap_or_default();
        let mut outputs: Vec<Output> = names
            .split_whitespace()
            .filter_map(|name| open_device(PathBuf::from("/dev").join(name)))
            .collect();
        if outputs.is_empty() {
            outputs.extend(open_device("/dev/console".into()));
        }
        let kernel_log = OpenOptions::new().write(true).open("/dev/kmsg").ok();
        Self {
            outputs,
            kernel_log,
        }
    }

    /// Prints one line, which the kernel's log has too.
    pub(crate) fn line(&mut self, level: Level, text: &str) {
        let clean = clean(text);
        if let Some(log) = &mut self.kernel_log {
            let priority = match level {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
            };
            // Below the kernel's own console level (4), errors would be printed twice.
            let priority = priority.max(4);
            let _ = log.write_all(format!("<{priority}>keelson: {clean}\n").as_bytes());
        }
        self.print(&clean);
    }

    /// Prints one line that no log has.
    pub(crate) fn show(&mut self, text: &str) {
        self.print(&clean(text));
    }

    fn print(&mut self, clean: &str) {
        let line = format!("keelson: {clean}\r\n");
        for output in &mut self.outputs {
            if output.pending.len() + line.len() <= MAX_PENDING {
                output.pending.extend(line.as_bytes());
            }
        }
        self.flush();
    }

    /// Writes what consoles take at the moment; true when something is left.
    pub(crate) fn flush(&mut self) -> bool {
        self.outputs.retain_mut(|output| output.flush().is_ok());
        self.outputs.iter().any(|output| !output.pending.is_empty())
    }
}

impl Console {
    /// Waits for slow consoles, but not long: the last words before the machine ends.
    pub(crate) fn drain(&mut self, longest: Duration) {
        let step = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        while self.flush() && waited < longest {
            thread::sleep(step);
            waited += step;
        }
    }
}

impl Output {
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let (bytes, _) = self.pending.as_slices();
            match self.file.write(bytes) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// One line each, whatever came in: control characters could drive a terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(1000)
        .collect()
}

fn open_device(path: PathBuf) -> Option<Output> {
    // Never becomes the controlling terminal, else its Ctrl-C would reach PID 1.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).ok()?;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    Some(Output {
        file,
        pending: VecDeque::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn what_is_shown_is_in_no_log() {
        let file = || tempfile::tempfile().unwrap();
        let (mut screen, mut log) = (file(), file());
        let mut console = Console {
            outputs: vec![Output {
                file: screen.try_clone().unwrap(),
                pending: VecDeque::new(),
            }],
            kernel_log: Some(log.try_clone().unwrap()),
        };
        console.line(Level::Error, "for\nall");
        console.show("for\x1b[2Jyou");
        let content = |file: &mut File| {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(
            content(&mut screen),
            "keelson: for all\r\nkeelson: for [2Jyou\r\n"
        );
        assert_eq!(content(&mut log), "<4>keelson: for all\n");
    }
}
