//! Saved machines: the memory of a running node in a file, to start many machines from.
//!
//! The memory goes to a file of its own, not into the disk image as `savevm` would put it: the
//! disks of the saved machine then stay untouched, and every machine that starts from them lays
//! an empty overlay over each instead of copying them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;

use crate::{QmpError, Vm, WaitError};

/// QEMU writes or reads at most 2 GiB of sparse file.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(180);

/// Why a machine was not saved or restored.
#[derive(Debug, Error)]
pub enum SaveError {
    /// QEMU gave up on the transfer.
    #[error("QEMU could not transfer the memory of the machine: {reason}")]
    Failed {
        /// QEMU's words.
        reason: String,
    },
    /// QEMU could not be driven.
    #[error("cannot drive QEMU")]
    Qmp(#[from] QmpError),
    /// The transfer did not end.
    #[error("the transfer of the machine's memory")]
    Wait(#[from] WaitError),
}

impl Vm {
    /// Stops the machine for good and writes its memory to `path`. The disks then hold exactly
    /// what that memory expects; QEMU has ended when this returns.
    pub fn save(mut self, path: &Path) -> Result<(), SaveError> {
        self.qmp().execute("stop", &json!({}))?;
        self.prepare_transfer()?;
        self.qmp()
            .execute("migrate", &json!({ "uri": file_uri(path) }))?;
        self.wait_for_transfer()?;
        self.qmp().execute("quit", &json!({}))?;
        self.wait_for_end(TRANSFER_DEADLINE)?;
        Ok(())
    }

    /// Fills the memory of a machine started with [`crate::Start::Restore`]; it runs when this
    /// returns.
    pub fn restore(&mut self, path: &Path) -> Result<(), SaveError> {
        self.prepare_transfer()?;
        self.qmp()
            .execute("migrate-incoming", &json!({ "uri": file_uri(path) }))?;
        self.wait_for_transfer()?;
        // It was stopped when it was saved, and it comes back as it was.
        self.qmp().execute("cont", &json!({}))?;
        Ok(())
    }

    fn prepare_transfer(&mut self) -> Result<(), QmpError> {
        let enabled: Vec<Value> = ["events", "mapped-ram"]
            .into_iter()
            .map(|name| json!({ "capability": name, "state": true }))
            .collect();
        self.qmp()
            .execute(
                "migrate-set-capabilities",
                &json!({ "capabilities": enabled }),
            )
            .map(drop)
    }

    fn wait_for_transfer(&mut self) -> Result<(), SaveError> {
        let status = self.wait("the transfer of memory", TRANSFER_DEADLINE, |seen| {
            seen.events
                .iter()
                .filter(|event| event.name == "MIGRATION")
                .filter_map(|event| event.data["status"].as_str())
                .find(|status| matches!(*status, "completed" | "failed" | "cancelled"))
                .map(str::to_owned)
        })?;
        if status == "completed" {
            return Ok(());
        }
        let query = self.qmp().execute("query-migrate", &json!({}))?;
        let reason = query["error-desc"].as_str().unwrap_or(&status).to_owned();
        Err(SaveError::Failed { reason })
    }
}

fn file_uri(path: &Path) -> String {
    format!("file:{}", path.display())
}
