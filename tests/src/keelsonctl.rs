//! The node through the real `keelsonctl`, each call with a deadline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use keelson_client::{Context, Contexts};
use keelson_qemu::{NodeContext, output_within, scaled};
use serde_json::Value;

/// For one call; most take a second under emulation.
const CALL: Duration = Duration::from_secs(60);

/// keelsonctl with one contexts file.
#[derive(Clone, Debug)]
pub struct Keelsonctl {
    program: PathBuf,
    config: PathBuf,
}

impl Keelsonctl {
    /// With a contexts file that holds what the node gave its runner.
    pub(crate) fn new(
        program: PathBuf,
        config: PathBuf,
        context: &NodeContext,
        port: u16,
    ) -> anyhow::Result<Self> {
        let context = Context {
            endpoints: vec![format!("127.0.0.1:{port}").parse()?],
            authority: context.authority.clone(),
            certificate: context.certificate.clone(),
            key: context.key.clone(),
            server_name: None,
        };
        let contexts = Contexts {
            current: Some("test".to_owned()),
            contexts: [("test".to_owned(), context)].into(),
        };
        contexts.save(&config)?;
        Ok(Self { program, config })
    }

    /// With an empty contexts file.
    pub(crate) fn without_context(program: PathBuf, config: PathBuf) -> Self {
        let _ = fs::remove_file(&config);
        Self { program, config }
    }

    /// The same program with another contexts file.
    #[must_use]
    pub fn with_config(&self, config: &Path) -> Self {
        Self {
            program: self.program.clone(),
            config: config.to_owned(),
        }
    }

    /// The contexts file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Runs it and returns what it printed; anything but exit code 0 is an error.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.output(arguments, CALL)?;
        if !output.status.success() {
            bail!(
                "keelsonctl {} ended with {}:\n{}{}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it with `-o json`.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("keelsonctl printed no JSON:\n{text}"))
    }

    /// Runs it and wants this exit code; returns what it printed on standard error.
    pub fn fails(&self, arguments: &[&str], code: i32) -> anyhow::Result<String> {
        let output = self.output(arguments, CALL)?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() != Some(code) {
            bail!(
                "keelsonctl {} ended with {} instead of {code}:\n{}{words}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout)
            );
        }
        Ok(words)
    }

    /// Runs it within a deadline, whatever the exit code; past it the program is killed.
    pub fn output(&self, arguments: &[&str], deadline: Duration) -> anyhow::Result<Output> {
        output_within(&mut self.command(arguments), scaled(deadline))
            .with_context(|| format!("keelsonctl {}", arguments.join(" ")))
    }

    /// Starts one that goes on until it is killed.
    pub fn spawn(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("KEELSONCONFIG", &self.config)
            .stdin(Stdio::null())
            .args(arguments);
        command
    }
}
