//! The configuration on STATE and on the firmware partition: found, kept, changed.

pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod programs;
pub(crate) mod trial;

use std::io;
use std::path::{Path, PathBuf};

use keelson_config::MAX_BYTES;
use keelson_control::chain;
use keelson_durable::ReplaceError;
use sha2::{Digest, Sha256};

use crate::paths::Paths;
use crate::source::{Candidates, Found};

/// Enough for the parser to see that a file is too long, without reading all of a huge one.
pub(crate) const READ_LIMIT: usize = 4 * MAX_BYTES;

/// The firmware partition, as far as machined needs it.
pub(crate) trait Firmware {
    /// Reads its `keelson.yaml`, not much more than `limit` bytes of it.
    fn read(&self, limit: usize) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error>>;
}

/// The configuration on STATE is out of reach.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// A file or folder cannot be read or made.
    #[error("cannot use {path}")]
    Access {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A configuration cannot be kept.
    #[error("cannot keep the configuration")]
    Keep(#[from] ReplaceError),
}

/// Reads both places. A firmware partition that cannot be read is no reason not to start.
pub(crate) fn gather(
    paths: &Paths,
    firmware: &dyn Firmware,
) -> Result<Candidates, ConfigurationError> {
    let imported = read_optional(&paths.import_record())?
        .map(|digest| String::from_utf8_lossy(&digest).trim_end().to_owned());
    let firmware = match firmware.read(READ_LIMIT) {
        Ok(content) => content,
        Err(error) => {
            tracing::warn!("{}", chain(error.as_ref()));
            None
        }
    };
    Ok(Candidates {
        imported,
        firmware: firmware.map(|content| Found {
            digest: digest(&content),
            content,
        }),
        ..stored(paths)?
    })
}

/// Reads only what is on STATE: what this boot has already settled on.
pub(crate) fn stored(paths: &Paths) -> Result<Candidates, ConfigurationError> {
    Ok(Candidates {
        stored: read_optional(&paths.stored_config())?,
        ..Candidates::default()
    })
}

/// Takes a firmware file over to STATE. The record comes second: a power cut in between means
/// that the same file is imported again.
pub(crate) fn import(paths: &Paths, found: &Found) -> Result<(), ConfigurationError> {
    keep(paths, &found.content)?;
    let record = format!("{}\n", found.digest);
    keelson_durable::replace(&paths.import_record(), record.as_bytes(), 0o600)?;
    Ok(())
}

/// From now on this one holds: once this returns, also after a power cut.
pub(crate) fn keep(paths: &Paths, content: &[u8]) -> Result<(), ConfigurationError> {
    let path = paths.stored_config();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| ConfigurationError::Access {
            path: folder.to_owned(),
            source,
        })?;
    }
    keelson_durable::replace(&path, content, 0o600)?;
    Ok(())
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, ConfigurationError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigurationError::Access {
            path: path.to_owned(),
            source,
        }),
    }
}

/// SHA-256, hexadecimal.
pub(crate) fn digest(content: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(content) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Choice, choose};

    struct Fat(Option<&'static str>);

    impl Firmware for Fat {
        fn read(&self, limit: usize) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error>> {
            Ok(self.0.map(|text| text.bytes().take(limit).collect()))
        }
    }

    const FED: &str = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n";

    #[test]
    fn an_imported_file_is_imported_once() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let Choice::Import { found, .. } = choose(gather(&paths, &Fat(Some(FED))).unwrap()) else {
            panic!("not imported");
        };
        import(&paths, &found).unwrap();
        let again = choose(gather(&paths, &Fat(Some(FED))).unwrap());
        assert!(matches!(again, Choice::Stored { refused: None, .. }));
        let removed = choose(gather(&paths, &Fat(None)).unwrap());
        assert!(matches!(removed, Choice::Stored { refused: None, .. }));
    }

    #[test]
    fn a_power_cut_between_the_two_writes_imports_again() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let Choice::Import { found, .. } = choose(gather(&paths, &Fat(Some(FED))).unwrap()) else {
            panic!("not imported");
        };
        import(&paths, &found).unwrap();
        std::fs::remove_file(paths.import_record()).unwrap();
        let again = choose(gather(&paths, &Fat(Some(FED))).unwrap());
        assert!(matches!(again, Choice::Import { .. }));
    }

    #[test]
    fn digests_are_sha256_in_hexadecimal() {
        // From FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(b"abc"), expected);
    }
}
