//! Platforms and boards as data files (`images/platforms/*.yaml`).

use std::path::{Path, PathBuf};

use keelson_bootstate::layout::Partition;
use keelson_bundle::Architecture;
use serde::Deserialize;

use crate::verity::Sealed;

/// What an image for one kind of machine looks like.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "File")]
pub struct Platform {
    name: String,
    architecture: Architecture,
    sector_size: SectorSize,
    loader_path: String,
    partitions: Vec<Partition>,
    kernel_arguments: Vec<String>,
}

/// Logical sector size of the disks a platform's images are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub enum SectorSize {
    /// 512 bytes: nearly all disks and all clouds.
    Bytes512,
    /// 4096 bytes: "4K native" disks.
    Bytes4096,
}

/// Why a platform file is not a platform.
#[derive(Debug, thiserror::Error)]
pub enum LoadPlatformError {
    /// The file cannot be read.
    #[error("cannot read platform file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("platform file {path} is wrong")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
}

/// The file's shape; [`Platform`] is what holds after the checks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    name: String,
    architecture: Architecture,
    sector_size: SectorSize,
    loader_path: String,
    partitions: Vec<String>,
    kernel_arguments: Vec<String>,
}

impl Platform {
    /// Reads a platform file.
    pub fn load(path: &Path) -> Result<Self, LoadPlatformError> {
        let text = std::fs::read_to_string(path).map_err(|source| LoadPlatformError::Read {
            path: path.into(),
            source,
        })?;
        serde_saphyr::from_str(&text).map_err(|source| LoadPlatformError::Parse {
            path: path.into(),
            source: Box::new(source),
        })
    }

    /// What people call it, for example `amd64`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its processor family.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Its disks' logical sectors.
    pub fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// Where on the ESP the firmware looks for the loader.
    pub fn loader_path(&self) -> &str {
        &self.loader_path
    }

    /// The partitions of its images, in disk order.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The kernel command line of a system whose root file system is `root`.
    pub fn command_line(&self, root: &Sealed) -> String {
        let mut words = self.kernel_arguments.clone();
        words.push(format!("roothash={}", root.root_hash));
        words.push(format!("keelson.verity_blocks={}", root.data_blocks));
        words.push(format!("keelson.verity_salt={}", root.salt));
        words.join(" ")
    }
}

impl SectorSize {
    /// The number of bytes.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Bytes512 => 512,
            Self::Bytes4096 => 4096,
        }
    }
}

impl TryFrom<u32> for SectorSize {
    type Error = String;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        match bytes {
            512 => Ok(Self::Bytes512),
            4096 => Ok(Self::Bytes4096),
            _ => Err(format!("sectorSize {bytes}: disks have 512 or 4096")),
        }
    }
}

impl TryFrom<File> for Platform {
    type Error = String;

    fn try_from(file: File) -> Result<Self, Self::Error> {
        let partitions = file
            .partitions
            .iter()
            .map(|name| {
                Partition::from_name(name)
                    .ok_or(format!("partitions: {name:?} is not a partition of ours"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if !partitions.is_sorted_by(|a, b| a < b) {
            let all: Vec<&str> = Partition::ALL.iter().map(|kind| kind.name()).collect();
            return Err(format!(
                "partitions: each at most once and in the order {}",
                all.join(", ")
            ));
        }
        if partitions.contains(&Partition::Data) {
            return Err("partitions: DATA is made by the node at first boot, leave it out".into());
        }
        let needed = [
            Partition::Esp,
            Partition::BootState,
            Partition::Tries,
            Partition::BootA,
            Partition::RootA,
            Partition::State,
        ];
        if let Some(missing) = needed.into_iter().find(|kind| !partitions.contains(kind)) {
            return Err(format!(
                "partitions: {} is missing, every image needs it",
                missing.name()
            ));
        }
        if let Some(bad) = file
            .kernel_arguments
            .iter()
            .find(|a| a.is_empty() || a.contains(char::is_whitespace))
        {
            return Err(format!(
                "kernelArguments: {bad:?} is not one argument; write one per line"
            ));
        }
        Ok(Self {
            name: file.name,
            architecture: file.architecture,
            sector_size: file.sector_size,
            loader_path: file.loader_path,
            partitions,
            kernel_arguments: file.kernel_arguments,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const AMD64: &str = include_str!("../platforms/amd64.yaml");

    #[test]
    fn the_shipped_platform_gives_the_contracts_command_line() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("platforms/amd64.yaml");
        let platform = Platform::load(&path).unwrap();
        assert_eq!(platform.architecture(), Architecture::Amd64);
        let root = Sealed {
            root_hash: [0xab; 32].into(),
            salt: [0xcd; 32].into(),
            data_blocks: 77,
            size: 0,
            sha256: [0; 32].into(),
        };
        let line = platform.command_line(&root);
        let (ab, cd) = ("ab".repeat(32), "cd".repeat(32));
        assert_eq!(
            line,
            format!(
                "console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=10 net.ifnames=0 gpt roothash={ab} keelson.verity_blocks=77 keelson.verity_salt={cd}"
            )
        );
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("sectorSize: 512", "sectorSize: 520", "512 or 4096"),
            ("[ESP, BIOS", "[BIOS, ESP", "in the order ESP, BIOS"),
            ("[ESP, BIOS", "[ESP, ESP, BIOS", "each at most once"),
            (
                "BOOT-A, BOOT-B",
                "BOOT-A, BOOT-C",
                "\"BOOT-C\" is not a partition",
            ),
            ("STATE]", "STATE, DATA]", "DATA is made by the node"),
            ("TRIES, ", "", "TRIES is missing"),
            (
                "- quiet",
                "- quiet splash",
                "\"quiet splash\" is not one argument",
            ),
            ("architecture: amd64", "architecture: x86", "x86"),
            ("loaderPath:", "loader:", "loader"),
        ];
        for (from, to, expected) in cases {
            let text = AMD64.replacen(from, to, 1);
            assert_ne!(text, AMD64);
            let error = serde_saphyr::from_str::<Platform>(&text)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
