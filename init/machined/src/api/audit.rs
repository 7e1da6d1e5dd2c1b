//! One line for every call that changes something: who, role, from where, what, result.
//!
//! The lines go to `/var/log/keelson/audit.log` (read with `keelsonctl logs audit`), each flushed
//! to the disk before the caller has its answer, and to the watchers of events.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use keelson_control::chain;
use tonic::Status;

use super::caller::Caller;
use super::events::Hub;
use super::timestamp;

/// Size at which the file is put aside; one predecessor is kept. A line is 200 bytes, so this is
/// several thousand changes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Longest text of one field: callers choose names of services and files.
const MAX_FIELD: usize = 300;

/// The audit log.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    path: Arc<PathBuf>,
    file: Arc<Mutex<()>>,
    events: Hub,
}

impl Audit {
    pub(crate) fn new(folder: &Path, events: Hub) -> Self {
        Self {
            path: Arc::new(folder.join("audit.log")),
            file: Arc::default(),
            events,
        }
    }

    /// Does the work and writes its line, whatever the result.
    pub(crate) async fn record<T>(
        &self,
        caller: &Caller,
        what: impl Into<String>,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let what = what.into();
        let result = work.await;
        let outcome = match &result {
            Ok(_) => "ok".to_owned(),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        };
        self.write(caller, &what, &outcome);
        result
    }

    /// Writes the line of a call.
    pub(crate) fn write(&self, caller: &Caller, what: &str, result: &str) {
        let text = line(caller, what, result);
        let details = [
            ("person", caller.person.clone()),
            ("role", caller.role.to_string()),
            ("from", caller.peer.clone()),
            ("result", result.to_owned()),
        ];
        self.events.publish("audit", &caller.person, what, details);
        let _one_at_a_time = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let stamped = format!("{} I {text}\n", timestamp::now());
        if let Err(error) = append(&self.path, stamped.as_bytes()) {
            // Without the file (a full disk, maintenance without DATA) the line is in the log.
            tracing::warn!("audit: {text} (not in the file: {})", chain(&error));
        }
    }
}

/// `person="ada" role=admin from=192.0.2.7:40112 what="restart kubelet" result="ok"`.
fn line(caller: &Caller, what: &str, result: &str) -> String {
    let mut line = String::new();
    let quoted = |text: &str| {
        let short: String = text.chars().take(MAX_FIELD).collect();
        format!("{short:?}")
    };
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        "person={} role={} from={} what={} result={}",
        quoted(&caller.person),
        caller.role,
        caller.peer,
        quoted(what),
        quoted(result)
    );
    line
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    if file.metadata()?.len() >= MAX_BYTES {
        std::fs::rename(path, path.with_extension("log.1"))?;
        file = OpenOptions::new().append(true).create(true).open(path)?;
        sync_folder(path)?;
    }
    file.write_all(bytes)?;
    file.sync_data()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use keelson_api::access::Role;

    use super::*;

    fn caller() -> Caller {
        Caller {
            person: "ada\n2026-01-01T00:00:00.000Z I person=\"eve".to_owned(),
            role: Role::Admin,
            peer: "192.0.2.7:40112".to_owned(),
        }
    }

    #[tokio::test]
    async fn every_result_leaves_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path(), Hub::default());
        let fine: Result<(), Status> = audit
            .record(&caller(), "restart kubelet", async { Ok(()) })
            .await;
        assert!(fine.is_ok());
        let refused: Result<(), Status> = audit
            .record(&caller(), "stop machined", async {
                Err(Status::failed_precondition("the API needs it"))
            })
            .await;
        assert!(refused.is_err());
        let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].contains(
                " role=admin from=192.0.2.7:40112 what=\"restart kubelet\" result=\"ok\""
            )
        );
        assert!(lines[1].ends_with("result=\"FailedPrecondition: the API needs it\""));
    }

    #[test]
    fn a_full_file_is_put_aside_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, vec![b'x'; 1024 * 1024]).unwrap();
        append(&path, b"new\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new\n");
        assert_eq!(
            std::fs::metadata(folder.path().join("audit.log.1"))
                .unwrap()
                .len(),
            MAX_BYTES
        );
    }
}
