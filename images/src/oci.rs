//! OCI image archives (one tar file per image) from a list of files.
//!
//! The archive holds one uncompressed layer: inside the root file system it is compressed by
//! erofs anyway, and unpacking it at first boot then costs no second decompression. containerd
//! takes the image's full name from the annotation `io.containerd.image.name`.
//!
//! ```no_run
//! use std::path::Path;
//! use keelson_images::oci::{Entry, Image, Platform};
//!
//! let image = Image {
//!     entrypoint: vec!["/pause".into()],
//!     user: "65535:65535".into(),
//!     ..Image::new("keelson.dev/pause:1", Platform::amd64())
//! };
//! let written = image.write(vec![Entry::file("/pause", 0o755, Path::new("pause"))], Path::new("pause.tar"))?;
//! println!("{}", written.manifest);
//! # Ok::<(), keelson_images::oci::WriteArchiveError>(())
//! ```

mod config;
mod layer;
mod name;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::NamedTempFile;

use crate::digest::Sha256Digest;
pub use layer::{Content, Entry};
pub use name::{ImageName, ParseImageNameError};

/// Processor and variant an image is for; the operating system is always Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    architecture: &'static str,
    variant: Option<&'static str>,
}

impl Platform {
    /// 64-bit x86.
    pub fn amd64() -> Self {
        Self {
            architecture: "amd64",
            variant: None,
        }
    }

    /// 64-bit Arm.
    pub fn arm64() -> Self {
        Self {
            architecture: "arm64",
            variant: Some("v8"),
        }
    }

    /// 32-bit Arm with hardware floating point.
    pub fn armv7() -> Self {
        Self {
            architecture: "arm",
            variant: Some("v7"),
        }
    }
}

/// What a container made from the image runs, besides its files.
#[derive(Debug, Clone)]
pub struct Image {
    /// Full reference with tag, for example `keelson.dev/coredns:1.12`.
    pub name: String,
    /// What it runs on.
    pub platform: Platform,
    /// Program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// `KEY=value` lines.
    pub env: Vec<String>,
    /// `uid:gid`; empty means root.
    pub user: String,
    /// Working folder; empty means `/`.
    pub working_dir: String,
    /// Labels, sorted when written.
    pub labels: Vec<(String, String)>,
}

/// What [`Image::write`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Digest of the manifest: what a registry and containerd call the image's digest.
    pub manifest: Sha256Digest,
    /// Digest of the configuration: what CRI calls the image id.
    pub config: Sha256Digest,
    /// Size of the archive in bytes.
    pub size: u64,
}

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteArchiveError {
    /// The image's name is not a full reference with a tag.
    #[error("image name")]
    Name(#[source] ParseImageNameError),
    /// Two entries have the same path.
    #[error("two entries for {path} in the image")]
    Duplicate {
        /// The path inside the image.
        path: String,
    },
    /// A path inside the image is empty or leaves the root.
    #[error("{path:?} is not a path inside an image: give it without \"..\" and not empty")]
    Path {
        /// The path as given.
        path: String,
    },
    /// A file that goes into the layer cannot be read.
    #[error("cannot add {source_path} to the image")]
    Add {
        /// The file on the host.
        source_path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The archive or its temporary file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The archive.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Image {
    /// An image that runs as root with no entry point and no environment.
    pub fn new(name: impl Into<String>, platform: Platform) -> Self {
        Self {
            name: name.into(),
            platform,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: Vec::new(),
            user: String::new(),
            working_dir: String::new(),
            labels: Vec::new(),
        }
    }

    /// Writes the archive to `path`, replacing it whole or not at all.
    ///
    /// Entries may come in any order; missing parent folders are added (0755, root). The same
    /// entries and image always give the same bytes.
    pub fn write(&self, entries: Vec<Entry>, path: &Path) -> Result<Written, WriteArchiveError> {
        let name: ImageName = self.name.parse().map_err(WriteArchiveError::Name)?;
        let failed = |source| WriteArchiveError::Write {
            path: path.to_owned(),
            source,
        };
        let folder = crate::publish::folder_of(path);

        let entries = layer::plan(entries)?;
        let layer_file = NamedTempFile::new_in(folder).map_err(failed)?;
        let layer = layer::write(&entries, layer_file.as_file(), path)?;

        let config = config::image_config(self, layer.digest);
        let config_digest = Sha256Digest::of(&config);
        let manifest = to_json(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{config_digest}"),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{}", layer.digest),
                "size": layer.size,
            }],
        }));
        let manifest_digest = Sha256Digest::of(&manifest);
        let index = to_json(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{manifest_digest}"),
                "size": manifest.len(),
                "platform": config::platform(&self.platform),
                "annotations": {
                    "io.containerd.image.name": name.to_string(),
                    "org.opencontainers.image.ref.name": name.tag(),
                },
            }],
        }));

        let mut archive = NamedTempFile::new_in(folder).map_err(failed)?;
        {
            let mut tar = tar::Builder::new(io::BufWriter::new(archive.as_file_mut()));
            let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
            append(&mut tar, "oci-layout", layout.len(), &layout[..]).map_err(failed)?;
            append(&mut tar, "index.json", index.len(), index.as_slice()).map_err(failed)?;
            for (digest, bytes) in [(config_digest, &config), (manifest_digest, &manifest)] {
                append(&mut tar, &blob(digest), bytes.len(), bytes.as_slice()).map_err(failed)?;
            }
            let mut body: &File = layer_file.as_file();
            body.seek(SeekFrom::Start(0)).map_err(failed)?;
            let mut header = layer::header(tar::EntryType::Regular, 0o644, layer.size);
            tar.append_data(&mut header, blob(layer.digest), body)
                .map_err(failed)?;
            tar.into_inner()
                .and_then(|w| w.into_inner().map_err(io::IntoInnerError::into_error))
                .map_err(failed)?;
        }
        let size = crate::publish::publish(archive, path).map_err(failed)?;
        Ok(Written {
            manifest: manifest_digest,
            config: config_digest,
            size,
        })
    }
}

fn blob(digest: Sha256Digest) -> String {
    format!("blobs/sha256/{digest}")
}

fn append<W: io::Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    size: usize,
    body: &[u8],
) -> io::Result<()> {
    let size = u64::try_from(size).map_err(io::Error::other)?;
    tar.append_data(
        &mut layer::header(tar::EntryType::Regular, 0o644, size),
        path,
        body,
    )
}

fn to_json(value: &serde_json::Value) -> Vec<u8> {
    // A `Value` always serializes, and its maps are sorted: the text is the same every time.
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
