//! What upgrades must not forget: one file on STATE, replaced before and after every step that a
//! power cut may fall into.
//!
//! The other slot's program reads and writes the same file, older or newer: fields are only ever
//! added, each with a default, and one that is not known is ignored.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use keelson_bootstate::Slot;
use keelson_durable::ReplaceError;
use serde::{Deserialize, Serialize};

/// Builds that have failed here and are refused. Who tries so many has other worries.
const MOST_FAILED: usize = 16;

/// Builds that something is known of: those in the slots and some before them.
const MOST_BUILDS: usize = 16;

/// Starts of a trial that are kept: a loader gives three.
const MOST_STARTS: usize = 8;

/// A file that is larger is no work of ours.
const MAX_BYTES: u64 = 256 * 1024;

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Memory {
    /// The slot that is being written: it holds a part of a bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transfer: Option<Transfer>,
    /// A slot that is complete and was not started yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) staged: Option<Target>,
    /// A slot that is to prove itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trial: Option<Trial>,
    /// Builds that have failed here, the newest last.
    pub(crate) failed: Vec<FailedBuild>,
    /// What is known of builds, by their ids.
    pub(crate) builds: BTreeMap<String, BuildFacts>,
    /// How the last upgrade ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Outcome>,
}

/// What goes into a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Target {
    #[serde(with = "letter")]
    pub(crate) slot: Slot,
    pub(crate) version: String,
    pub(crate) build: String,
    /// The version it replaces.
    pub(crate) from_version: String,
}

/// A bundle that is being received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transfer {
    /// Digest of the bundle's head.
    pub(crate) upgrade: String,
    #[serde(flatten)]
    pub(crate) target: Target,
}

/// A trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trial {
    #[serde(flatten)]
    pub(crate) target: Target,
    /// The boot in which it was decided on; it begins with the next one.
    pub(crate) boot_id: String,
    /// Whether the node had a configuration, and so has to be part of its cluster again.
    pub(crate) cluster: bool,
    /// Its starts as far as it could note them, the newest last.
    #[serde(default)]
    pub(crate) starts: Vec<Start>,
}

/// One start of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Start {
    pub(crate) boot_id: String,
    pub(crate) time: String,
    /// How far it came, as [`crate::health_gate::Reached`] says it.
    pub(crate) reached: String,
    /// What was missing for more.
    pub(crate) missing: String,
}

/// A build that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FailedBuild {
    pub(crate) build: String,
    pub(crate) version: String,
    pub(crate) time: String,
    pub(crate) reason: String,
}

/// What is known of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BuildFacts {
    pub(crate) version: String,
    /// It has proved itself on this node.
    pub(crate) good: bool,
    /// When its content was compared with its hashes last; empty for never.
    pub(crate) verified: String,
    /// Versions of what has a format of its own on disk, and of that of STATE.
    pub(crate) components: BTreeMap<String, String>,
}

/// How an upgrade ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) result: Ending,
    #[serde(flatten)]
    pub(crate) target: Target,
    pub(crate) time: String,
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) starts: Vec<Start>,
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    /// A person gave it up.
    Cancelled,
    /// It was never started.
    Failed,
    /// It has proved itself.
    Good,
    /// The node went back.
    RolledBack,
}

impl Ending {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Good => "good",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// The memory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not what this program writes", path.display())]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} is too large to be what this program writes", path.display())]
    Size { path: PathBuf },
    #[error("cannot make the folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot write down how the upgrade stands")]
    Write(#[from] ReplaceError),
    #[error("cannot write down how the upgrade stands")]
    Encode(#[source] serde_json::Error),
}

/// What is on STATE names no keys; but it tells which versions a node will refuse.
const MODE: u32 = 0o600;

impl Memory {
    /// Reads the file; a node without one has no memory.
    pub(crate) fn read(path: &Path) -> Result<Self, MemoryError> {
        let read = |source| MemoryError::Read {
            path: path.to_owned(),
            source,
        };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(read(error)),
            Ok(facts) if facts.len() > MAX_BYTES => {
                return Err(MemoryError::Size {
                    path: path.to_owned(),
                });
            }
            Ok(_) => {}
        }
        let text = std::fs::read(path).map_err(read)?;
        serde_json::from_slice(&text).map_err(|source| MemoryError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// Replaces the file; it survives a power cut once this returns.
    pub(crate) fn write(&self, path: &Path) -> Result<(), MemoryError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| MemoryError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        }
        let text = serde_json::to_vec_pretty(self).map_err(MemoryError::Encode)?;
        keelson_durable::replace(path, &text, MODE)?;
        Ok(())
    }

    /// Why a build is refused, if it is.
    pub(crate) fn failure(&self, build: &str) -> Option<&FailedBuild> {
        self.failed
            .iter()
            .rev()
            .find(|failed| failed.build == build)
    }

    /// From now on a build is refused.
    pub(crate) fn refuse(&mut self, target: &Target, time: &str, reason: &str) {
        self.forgive(&target.build);
        self.failed.push(FailedBuild {
            build: target.build.clone(),
            version: target.version.clone(),
            time: time.to_owned(),
            reason: reason.to_owned(),
        });
        let extra = self.failed.len().saturating_sub(MOST_FAILED);
        self.failed.drain(..extra);
    }

    /// A build gets another chance.
    pub(crate) fn forgive(&mut self, build: &str) {
        self.failed.retain(|failed| failed.build != build);
    }

    /// What is known of a build, to be added to.
    pub(crate) fn build_mut(&mut self, build: &str) -> &mut BuildFacts {
        self.builds.entry(build.to_owned()).or_default()
    }

    /// Forgets builds when they are many; never those that are still somewhere.
    pub(crate) fn forget_builds(&mut self, in_use: &[&str]) {
        while self.builds.len() > MOST_BUILDS {
            let Some(gone) = self
                .builds
                .keys()
                .find(|build| !in_use.contains(&build.as_str()))
                .cloned()
            else {
                return;
            };
            self.builds.remove(&gone);
        }
    }
}

impl Trial {
    /// The start of this boot; a new one is noted when the daemon sees it for the first time.
    pub(crate) fn start(&mut self, boot_id: &str, time: &str) -> Option<&mut Start> {
        if self
            .starts
            .last()
            .is_none_or(|last| last.boot_id != boot_id)
        {
            self.starts.push(Start {
                boot_id: boot_id.to_owned(),
                time: time.to_owned(),
                reached: String::new(),
                missing: String::new(),
            });
            let extra = self.starts.len().saturating_sub(MOST_STARTS);
            self.starts.drain(..extra);
        }
        self.starts.last_mut()
    }
}

/// Slots as their letters.
mod letter {
    use keelson_bootstate::Slot;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the form serde's `with` asks for"
    )]
    pub(super) fn serialize<S: Serializer>(slot: &Slot, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_char(slot.letter())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Slot, D::Error> {
        let letter = char::deserialize(deserializer)?;
        Slot::ALL
            .into_iter()
            .find(|slot| slot.letter() == letter)
            .ok_or_else(|| D::Error::custom("no slot has this letter"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn target(slot: Slot, build: &str) -> Target {
        Target {
            slot,
            version: "0.2.0".to_owned(),
            build: build.to_owned(),
            from_version: "0.1.0".to_owned(),
        }
    }

    pub(crate) fn trial(slot: Slot, build: &str, boot_id: &str) -> Trial {
        Trial {
            target: target(slot, build),
            boot_id: boot_id.to_owned(),
            cluster: true,
            starts: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_node_without_a_file_has_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade/memory.json");
        assert_eq!(Memory::read(&path).unwrap(), Memory::default());
        let mut memory = Memory {
            transfer: Some(Transfer {
                upgrade: "ab".to_owned(),
                target: target(Slot::B, "cd"),
            }),
            staged: Some(target(Slot::B, "cd")),
            trial: Some(trial(Slot::B, "cd", "boot-1")),
            ..Memory::default()
        };
        memory.refuse(
            &target(Slot::B, "ef"),
            "2026-01-01T00:00:00.000Z",
            "it hung",
        );
        memory.build_mut("cd").good = true;
        memory.last = Some(Outcome {
            result: Ending::RolledBack,
            target: target(Slot::A, "ef"),
            time: "2026-01-01T00:00:00.000Z".to_owned(),
            reason: "it hung".to_owned(),
            starts: Vec::new(),
        });
        memory.write(&path).unwrap();
        assert_eq!(Memory::read(&path).unwrap(), memory);
    }

    #[test]
    fn a_later_programs_fields_are_ignored_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.json");
        std::fs::write(
            &path,
            r#"{"invented": {"later": 1},
                "staged": {"slot": "b", "version": "1.0.0", "build": "ab", "fromVersion": "0.9.0", "more": 2}}"#,
        )
        .unwrap();
        let memory = Memory::read(&path).unwrap();
        assert_eq!(memory.staged.unwrap().slot, Slot::B);
        for damage in [
            "{",
            r#"{"staged": {"slot": "c", "version": "", "build": "", "fromVersion": ""}}"#,
        ] {
            std::fs::write(&path, damage).unwrap();
            assert!(matches!(
                Memory::read(&path),
                Err(MemoryError::Parse { .. })
            ));
        }
    }

    #[test]
    fn lists_are_bounded_and_the_newest_counts() {
        let mut memory = Memory::default();
        for number in 0..40 {
            memory.refuse(&target(Slot::A, &number.to_string()), "", "first");
            memory.build_mut(&format!("{number:02}"));
        }
        memory.refuse(&target(Slot::A, "39"), "", "second");
        assert_eq!(memory.failed.len(), MOST_FAILED);
        assert_eq!(memory.failure("39").unwrap().reason, "second");
        assert!(memory.failure("0").is_none());
        memory.forgive("39");
        assert!(memory.failure("39").is_none());
        memory.forget_builds(&["00", "39"]);
        assert_eq!(memory.builds.len(), MOST_BUILDS);
        assert!(memory.builds.contains_key("00") && memory.builds.contains_key("39"));
    }

    #[test]
    fn a_start_is_noted_once_for_each_boot() {
        let mut trial = trial(Slot::B, "cd", "boot-0");
        for boot in ["boot-1", "boot-1", "boot-2"] {
            trial.start(boot, "now").unwrap().reached = "services".to_owned();
        }
        assert_eq!(trial.starts.len(), 2);
        for number in 0..20 {
            trial.start(&format!("more-{number}"), "now");
        }
        assert_eq!(trial.starts.len(), MOST_STARTS);
    }
}
