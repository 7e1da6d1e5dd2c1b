//! The machine id: made once, kept on STATE.

use std::io;
use std::path::{Path, PathBuf};

use keelson_config::MachineId;
use keelson_durable::ReplaceError;

/// The machine id could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineIdError {
    /// The file says something else.
    #[error(
        "{path} does not hold 32 hexadecimal digits; the node's name may depend on it, so it is not \
         made anew: restore it, or remove it to get a new one"
    )]
    Damaged { path: PathBuf },
    /// The kernel gave no random bytes.
    #[error("the kernel gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot keep the machine id")]
    Write(#[from] ReplaceError),
}

/// Reads the machine id, or makes one when there is none.
pub(crate) fn load_or_make(path: &Path) -> Result<MachineId, MachineIdError> {
    match std::fs::read_to_string(path) {
        Ok(text) => text
            .trim_end()
            .parse()
            .map_err(|_| MachineIdError::Damaged {
                path: path.to_owned(),
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(source) => Err(MachineIdError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn make(path: &Path) -> Result<MachineId, MachineIdError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(MachineIdError::Random)?;
    let id = MachineId::from_bytes(bytes);
    // Readable by all: it is copied to /etc/machine-id, and STATE itself is root's.
    keelson_durable::replace(path, format!("{}\n", id.as_str()).as_bytes(), 0o644)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_read_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        let first = load_or_make(&path).unwrap();
        assert_eq!(load_or_make(&path).unwrap(), first);
        std::fs::remove_file(&path).unwrap();
        assert_ne!(load_or_make(&path).unwrap(), first);
    }

    #[test]
    fn a_damaged_one_is_reported_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        for damaged in ["", "0123", "zz23456789abcdef0123456789abcdef\n"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(
                load_or_make(&path),
                Err(MachineIdError::Damaged { .. })
            ));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
