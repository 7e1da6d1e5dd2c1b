//! A configuration on trial: in force until it is confirmed or its time is over.
//!
//! The one that holds stays on STATE all the while. The trial lives in a file on tmpfs, so that a
//! reboot, however it comes, ends it; a machined that starts again within the boot finds it and
//! goes on counting. Time is counted by the clock that nobody can set.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_durable::ReplaceError;
use serde::{Deserialize, Serialize};

/// Shorter than it takes to apply and look is no trial.
pub(crate) const SHORTEST: Duration = Duration::from_secs(10);

/// A change that nobody looked at for a day was not tried.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Trial {
    /// The configuration as given.
    pub(crate) yaml: String,
    /// When it is over, in milliseconds since the kernel started.
    until_ms: u64,
}

/// A trial cannot be written down or forgotten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// The file or its folder.
    #[error("cannot use {}", path.display())]
    Access { path: PathBuf, source: io::Error },
    /// It is not what was written.
    #[error("{} is damaged", path.display())]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// It cannot be replaced.
    #[error("cannot keep the trial")]
    Write(#[from] ReplaceError),
}

/// What a machined that starts has to do about a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// There is none.
    Absent,
    /// It goes on: the configuration on trial is in force.
    GoesOn(Trial),
    /// What holds is in force. The file only has to go.
    Ends(Ending),
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was confirmed: what was tried is on STATE.
    Confirmed,
    /// Its time is over.
    Over,
}

/// Decides from what was found and the time since the kernel started.
pub(crate) fn course(trial: Option<Trial>, holding: Option<&[u8]>, now: Duration) -> Course {
    match trial {
        None => Course::Absent,
        Some(trial) if holding == Some(trial.yaml.as_bytes()) => Course::Ends(Ending::Confirmed),
        Some(trial) if trial.left(now).is_zero() => Course::Ends(Ending::Over),
        Some(trial) => Course::GoesOn(trial),
    }
}

impl Trial {
    /// Begins one.
    pub(crate) fn new(yaml: String, lasts: Duration, now: Duration) -> Self {
        Self {
            yaml,
            until_ms: u64::try_from((now + lasts).as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// How long it goes on.
    pub(crate) fn left(&self, now: Duration) -> Duration {
        Duration::from_millis(self.until_ms).saturating_sub(now)
    }

    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, TrialError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(TrialError::Access {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| TrialError::Damaged {
                path: path.to_owned(),
                source,
            })
    }

    /// Writes the file; root alone may read it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), TrialError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| TrialError::Access {
                path: folder.to_owned(),
                source,
            })?;
        }
        let text = serde_json::to_vec(self).map_err(|source| TrialError::Damaged {
            path: path.to_owned(),
            source,
        })?;
        keelson_durable::replace(path, &text, 0o600)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(until: u64) -> Trial {
        Trial::new("new".to_owned(), Duration::from_secs(until), Duration::ZERO)
    }

    #[test]
    fn decision_table() {
        let now = Duration::from_secs(100);
        let table = [
            (None, Some("old"), Course::Absent),
            (Some(trial(101)), Some("old"), Course::GoesOn(trial(101))),
            (Some(trial(100)), Some("old"), Course::Ends(Ending::Over)),
            (Some(trial(5)), Some("old"), Course::Ends(Ending::Over)),
            // Confirmed, and machined ended before it could remove the file.
            (
                Some(trial(101)),
                Some("new"),
                Course::Ends(Ending::Confirmed),
            ),
            (Some(trial(5)), Some("new"), Course::Ends(Ending::Confirmed)),
            // Nothing holds: somebody emptied STATE. The trial ends in its time all the same.
            (Some(trial(101)), None, Course::GoesOn(trial(101))),
        ];
        for (trial, holding, expected) in table {
            let found = course(trial.clone(), holding.map(str::as_bytes), now);
            assert_eq!(found, expected, "{trial:?}, {holding:?}");
        }
    }

    #[test]
    fn it_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machined/trial.json");
        assert_eq!(Trial::read(&path).unwrap(), None);
        trial(7).write(&path).unwrap();
        assert_eq!(Trial::read(&path).unwrap(), Some(trial(7)));
        std::fs::write(&path, "{\"yaml\":").unwrap();
        assert!(matches!(
            Trial::read(&path),
            Err(TrialError::Damaged { .. })
        ));
    }
}
