//! Runs the program that people run, each time with a deadline.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use keelson_api::access::Role;
use keelson_client::{Context, Contexts};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::pki::Authority;

/// Longer than any command of these tests takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A person's program and files.
pub(crate) struct Person {
    pub(crate) folder: TempDir,
    pub(crate) contexts: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Person {
    /// Without contexts.
    pub(crate) fn stranger() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let contexts = folder.path().join("contexts");
        Self { folder, contexts }
    }

    /// With one context: an admin certificate for these nodes.
    pub(crate) fn admin(authority: &Arc<Authority>, endpoints: &[&str]) -> Self {
        let person = Self::stranger();
        let context = context(authority, endpoints);
        person.save(context);
        person
    }

    /// Makes this the only context.
    pub(crate) fn save(&self, context: Context) {
        let contexts = Contexts {
            current: Some("test".to_owned()),
            contexts: [("test".to_owned(), context)].into(),
        };
        contexts.save(&self.contexts).unwrap();
    }

    /// Runs a command to its end; words are separated by blanks.
    pub(crate) fn run(&self, command: &str) -> Ended {
        self.run_with(command, &[])
    }

    /// With more variables in its environment.
    pub(crate) fn run_with(&self, command: &str, variables: &[(&str, &str)]) -> Ended {
        let mut program = self.command(command);
        program.envs(variables.iter().copied());
        Running::start(program).end()
    }

    /// Starts a command.
    pub(crate) fn start(&self, command: &str) -> Running {
        Running::start(self.command(command))
    }

    /// A file of this person.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Starts a command on a terminal of its own.
    pub(crate) fn start_on_terminal(&self, command: &str) -> OnTerminal {
        self.start_on_terminal_with(command, &[])
    }

    /// With more variables in its environment.
    pub(crate) fn start_on_terminal_with(
        &self,
        command: &str,
        variables: &[(&str, &str)],
    ) -> OnTerminal {
        let mut program = self.command(command);
        program.env("TERM", "xterm").envs(variables.iter().copied());
        OnTerminal::start(program)
    }

    fn command(&self, command: &str) -> Command {
        let mut program = Command::new(Path::new(env!("CARGO_BIN_EXE_keelsonctl")));
        program
            .args(command.split_whitespace())
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TMPDIR", self.folder.path())
            .env("USER", "ana")
            .env("KEELSONCONFIG", &self.contexts);
        program
    }
}

/// An admin's context.
pub(crate) fn context(authority: &Authority, endpoints: &[&str]) -> Context {
    let pair = authority.person("ana", Role::Admin, time::Duration::days(1));
    Context {
        endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
        authority: authority.pem.clone(),
        certificate: pair.certificate,
        key: pair.key,
        server_name: None,
    }
}

/// A command that runs. Its output is read by threads, so that it never blocks.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Running {
    fn start(mut program: Command) -> Self {
        let mut child = program
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let errors = lines_of(child.stderr.take().unwrap());
        Self {
            child,
            lines,
            errors,
        }
    }

    /// Its next line.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("no line in time")
    }

    /// Its next line on standard error.
    pub(crate) fn error_line(&self) -> String {
        self.errors.recv_timeout(DEADLINE).expect("no line in time")
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        interrupt(&self.child);
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let mut texts = [String::new(), String::new()];
        for (text, lines) in texts.iter_mut().zip([&self.lines, &self.errors]) {
            // The channel closes with the pipe.
            loop {
                match lines.recv_timeout(DEADLINE) {
                    Ok(line) => text.push_str(&line),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        let _ = self.child.kill();
                        panic!("no end in time; so far: {text}");
                    }
                }
            }
        }
        let [out, err] = texts;
        Ended {
            code: self.child.wait().unwrap().code(),
            out,
            err,
        }
    }
}

/// A command on a terminal: what it shows comes as it is written.
pub(crate) struct OnTerminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl OnTerminal {
    fn start(mut program: Command) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let path = ptsname(&terminal, Vec::new()).unwrap();
        let open = || {
            let path = path.to_str().unwrap();
            File::options().read(true).write(true).open(path).unwrap()
        };
        let child = program
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        // The command alone holds its end now.
        drop(program);
        let keyboard = File::from(terminal);
        let mut screen = keyboard.try_clone().unwrap();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The terminal reports an error when the command has ended.
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keyboard,
            screen: receiver,
            shown: String::new(),
        }
    }

    /// Waits until the screen has shown this, after what was waited for before.
    #[track_caller]
    pub(crate) fn shows(&mut self, wanted: &str) {
        loop {
            if let Some(at) = self.shown.find(wanted) {
                self.shown.drain(..at + wanted.len());
                return;
            }
            match self.screen.recv_timeout(DEADLINE) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("the screen shows no {wanted:?}: {:?}", self.shown),
            }
        }
    }

    pub(crate) fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn interrupt(&self) {
        interrupt(&self.child);
    }

    /// Waits for its end: everything it showed since, and the exit code.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        loop {
            match self.screen.recv_timeout(DEADLINE) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no end in time; so far: {}", self.shown),
            }
        }
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.shown))
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), Signal::INT).unwrap();
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines with their ends; what is not UTF-8 is kept as Latin-1, so that bytes can be compared.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            match pipe.read_until(b'\n', &mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let text = String::from_utf8(line).unwrap_or_else(|error| {
                error
                    .as_bytes()
                    .iter()
                    .map(|byte| char::from(*byte))
                    .collect()
            });
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    receiver
}
