//! The cluster through a stock kubectl, each call with a deadline.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use keelson_qemu::{RunError, run_within, scaled};
use serde_json::Value;

/// For one call; a busy API server under emulation takes many seconds.
const CALL: Duration = Duration::from_secs(60);

/// Between two looks at something that nothing reports.
const PAUSE: Duration = Duration::from_millis(500);

/// kubectl for one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self {
            program,
            kubeconfig,
        }
    }

    /// Runs kubectl and returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String, RunError> {
        self.run_within(arguments, CALL)
    }

    /// The same with another deadline than that of an ordinary call.
    pub fn run_within(&self, arguments: &[&str], deadline: Duration) -> Result<String, RunError> {
        let output = run_within(&mut self.command(arguments), scaled(deadline))?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Runs kubectl with `--output json`.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.run(&[arguments, &["--output", "json"]].concat())?;
        serde_json::from_str(&text).context("kubectl did not print JSON")
    }

    /// `kubectl wait` with this deadline.
    pub fn wait(&self, arguments: &[&str], deadline: Duration) -> Result<String, RunError> {
        let timeout = format!("--timeout={}s", scaled(deadline).as_secs());
        self.run_within(&[&["wait", &timeout], arguments].concat(), deadline + CALL)
    }

    /// Applies a manifest of `tests/manifests`.
    pub fn apply(&self, name: &str) -> Result<String, RunError> {
        let path = format!("{}/manifests/{name}", env!("CARGO_MANIFEST_DIR"));
        self.run(&["apply", "--filename", &path])
    }

    /// Runs the workload program in a pod.
    pub fn exec(&self, pod: &str, arguments: &[&str]) -> Result<String, RunError> {
        self.run(&[&["exec", pod, "--", "/keelson-workload"], arguments].concat())
    }

    /// Starts a kubectl that goes on until it is killed.
    pub fn spawn(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start kubectl")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments);
        command
    }
}

/// Tries until it succeeds, for what can only be asked; the error is the last one.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = scaled(deadline);
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > deadline => {
                bail!(
                    "{what} did not come within {} s: {error:#}",
                    deadline.as_secs()
                );
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
