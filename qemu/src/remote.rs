//! A machine that another program started and left running.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use thiserror::Error;

use crate::vm::{parse_forwards, wait_readable};
use crate::{Ending, Endpoints, Qmp, QmpError, scaled};

/// How long the kernel takes to end a killed QEMU and free its memory and files.
const KILL_DEADLINE: Duration = Duration::from_secs(60);

/// Why a running machine could not be reached or ended.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The kernel did not give us a handle on the process.
    #[error("cannot watch QEMU's process")]
    Handle(#[source] io::Error),
    /// It could not be driven.
    #[error("cannot drive QEMU")]
    Qmp(#[from] QmpError),
    /// It was killed and is still there.
    #[error("QEMU was killed and {reason}")]
    Survived {
        /// What was seen.
        reason: String,
    },
}

/// A machine that another program started.
#[derive(Debug)]
pub struct Remote {
    qmp: Qmp,
    process: OwnedFd,
}

impl Remote {
    /// Reaches the machine whose sockets are in this folder; `None` when none is running.
    pub fn attach(sockets: &Path) -> Result<Option<Self>, RemoteError> {
        let control = Endpoints::in_folders(sockets, sockets).control;
        let qmp = match Qmp::connect(&control, |_| ()) {
            Ok(qmp) => qmp,
            // No socket, or one that a killed QEMU left behind.
            Err(QmpError::Connect { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let peer = socket_peercred(qmp.stream()).map_err(|e| RemoteError::Handle(e.into()))?;
        let process =
            pidfd_open(peer.pid, PidfdFlags::empty()).map_err(|e| RemoteError::Handle(e.into()))?;
        Ok(Some(Self { qmp, process }))
    }

    /// Guest ports and the ports of 127.0.0.1 behind which they are.
    pub fn forwards(&mut self) -> Result<Vec<(u16, u16)>, RemoteError> {
        Ok(parse_forwards(&self.qmp.human("info usernet")?)
            .into_iter()
            .collect())
    }

    /// Presses the power button, waits, and kills QEMU after the deadline.
    pub fn shut_down(mut self, deadline: Duration) -> Result<Ending, RemoteError> {
        self.qmp.execute("system_powerdown", &json!({}))?;
        if wait_readable(self.process.as_fd(), scaled(deadline)).is_ok() {
            return Ok(Ending::Clean);
        }
        // Fails only when it has ended in this very moment.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        wait_readable(self.process.as_fd(), KILL_DEADLINE)
            .map_err(|reason| RemoteError::Survived { reason })?;
        Ok(Ending::Killed)
    }
}
