//! The folder of one machine: its disk, its firmware variables, its logs, and which image it is.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::disk::{BaseImage, DiskError, create_overlay, create_variables};
use crate::{Acceleration, Clock, Disk, DiskFormat, Durability, Firmware, Start, Tools, VmSpec};

/// Why a machine's folder cannot be used.
#[derive(Debug, Error)]
pub enum MachineError {
    /// The image or an overlay of it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file of the folder.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// `make`, `read`, `remove`, `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The folder for sockets belongs to somebody else.
    #[error("{} is not ours alone: remove it", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// The record is damaged.
    #[error("{} is damaged: start anew with FRESH=1", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// What a machine was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// SHA-256 of the image file.
    pub image: String,
}

/// The folder of one machine.
#[derive(Clone, Debug)]
pub struct MachineFolder {
    path: PathBuf,
}

impl MachineFolder {
    /// Names the folder; nothing is made yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk of the machine.
    pub fn disk(&self) -> PathBuf {
        self.path.join("disk.qcow2")
    }

    /// The firmware variables of the machine.
    pub fn variables(&self) -> PathBuf {
        self.path.join("variables.qcow2")
    }

    /// What the machine was made from; `None` when there is no machine yet.
    pub fn record(&self) -> Result<Option<Record>, MachineError> {
        let path = self.record_path();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| MachineError::Record { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MachineError::File {
                verb: "read",
                path,
                source,
            }),
        }
    }

    /// Removes the machine with everything on its disk.
    pub fn remove(&self) -> Result<(), MachineError> {
        match fs::remove_dir_all(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(MachineError::File {
                verb: "remove",
                path: self.path.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Makes a new machine with its own copy of `image`. The record comes last: a folder without
    /// one holds no machine.
    pub fn create(
        &self,
        tools: &Tools,
        image: &Path,
        fingerprint: &str,
        disk_bytes: u64,
    ) -> Result<(), MachineError> {
        self.remove()?;
        self.make()?;
        let base = BaseImage::import(image, &self.path)?;
        self.create_from(tools, &base, disk_bytes)?;
        let path = self.record_path();
        let record = Record {
            image: fingerprint.to_owned(),
        };
        let bytes = serde_json::to_vec_pretty(&record).map_err(|source| MachineError::Record {
            path: path.clone(),
            source,
        })?;
        let temporary = path.with_extension("new");
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| MachineError::File {
                verb: "write",
                path,
                source,
            })
    }

    /// Makes disk and variables of a machine on a base that others use too.
    pub fn create_from(
        &self,
        tools: &Tools,
        base: &BaseImage,
        disk_bytes: u64,
    ) -> Result<(), MachineError> {
        self.make()?;
        create_overlay(
            tools,
            &base.path,
            base.format,
            &self.disk(),
            Some(disk_bytes),
        )?;
        create_variables(tools, &self.variables())?;
        Ok(())
    }

    /// A folder with a short path for the machine's sockets, ours alone; made when missing. A
    /// socket's path has at most 107 bytes, and a repository may lie deep.
    pub fn sockets(&self) -> Result<PathBuf, MachineError> {
        let file = |path: &Path, source| MachineError::File {
            verb: "make",
            path: path.to_owned(),
            source,
        };
        let uid = rustix::process::geteuid().as_raw();
        let path = self.sockets_path(uid).map_err(|e| file(&self.path, e))?;
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file(&path, error));
            }
            _ => {}
        }
        let metadata = fs::symlink_metadata(&path).map_err(|e| file(&path, e))?;
        if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o077 != 0 {
            return Err(MachineError::Foreign { path });
        }
        Ok(path)
    }

    /// Removes the folder with the sockets of a machine that has ended.
    pub fn remove_sockets(&self) -> io::Result<()> {
        let path = self.sockets_path(rustix::process::geteuid().as_raw())?;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sockets_path(&self, uid: u32) -> io::Result<PathBuf> {
        let place = std::path::absolute(&self.path)?;
        let hash = Sha256::digest(place.as_os_str().as_encoded_bytes());
        let name: String = hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(std::env::temp_dir().join(format!("keelson-vm-{uid}-{name}")))
    }

    /// The usual machine on this folder's disk: two processors, 2 GiB, no network yet.
    pub fn spec(&self, tools: &Tools, name: &str) -> VmSpec {
        VmSpec {
            name: name.to_owned(),
            acceleration: Acceleration::of_this_host(),
            memory_mib: 2048,
            cpus: 2,
            firmware: Firmware::Uefi {
                code: tools.firmware_code(),
                variables: self.variables(),
            },
            kernel: None,
            disks: vec![Disk {
                path: self.disk(),
                format: DiskFormat::Qcow2,
                durability: Durability::Throwaway,
                write_log: None,
            }],
            networks: vec![],
            kernel_arguments: kernel_arguments(),
            clock: Clock::Host,
            start: Start::PowerOn,
        }
    }

    fn make(&self) -> Result<(), MachineError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| MachineError::File {
                verb: "make",
                path: self.path.clone(),
                source,
            })
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("machine.json")
    }
}

/// What only an emulated machine wants on its kernel's command line.
fn kernel_arguments() -> Vec<String> {
    // Measured under emulation: without these a node takes seconds longer, and they protect
    // nobody here.
    let mut arguments = vec!["mitigations=off".to_owned(), "tsc=reliable".to_owned()];
    if Acceleration::of_this_host() == Acceleration::Emulation
        && let Some(khz) = keelson_sys::cycle_counter::khz()
    {
        // The guest reads the host's counter. On a busy host it would measure it wrong, by a
        // factor of two and more, and then all its time runs too fast.
        arguments.push(format!("tsc_early_khz={khz}"));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_record_holds_no_machine() {
        let folder = tempfile::tempdir().unwrap();
        let machine = MachineFolder::new(folder.path());
        assert_eq!(machine.record().unwrap(), None);
        fs::write(folder.path().join("machine.json"), "{\"image\":\"ab\"}").unwrap();
        assert_eq!(
            machine.record().unwrap(),
            Some(Record {
                image: "ab".to_owned()
            })
        );
        fs::write(folder.path().join("machine.json"), "{").unwrap();
        let error = machine.record().unwrap_err();
        assert!(error.to_string().contains("FRESH=1"), "{error}");
        machine.remove().unwrap();
        assert_eq!(machine.record().unwrap(), None);
    }

    #[test]
    fn the_socket_folder_is_short_and_private() {
        let deep = PathBuf::from("/tmp").join("x".repeat(200));
        let path = MachineFolder::new(&deep).sockets().unwrap();
        assert!(
            path.join("control.sock").as_os_str().len() < 107,
            "{path:?}"
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::write(path.join("control.sock"), "").unwrap();
        MachineFolder::new(&deep).remove_sockets().unwrap();
        assert!(!path.exists());
        MachineFolder::new(&deep).remove_sockets().unwrap();
    }
}
