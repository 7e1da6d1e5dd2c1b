//! Where a bundle is read from: any place of it, at any time, for a node may want a part again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use keelson_bundle::{ReadHeadError, UnverifiedHead};

use super::fetch::Server;
use crate::failure::Failure;

/// First attempt at the head: that of a usual bundle is 20 KiB.
const FIRST_LOOK: usize = 64 * 1024;

/// The largest head there can be: manifest, signatures and index at their limits.
const LARGEST_HEAD: usize = 2 * 1024 * 1024;

/// A bundle.
#[derive(Debug)]
pub(super) enum Source {
    File { file: File, path: PathBuf },
    Url(Server),
}

/// The head of a bundle and what it claims.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    pub(super) version: String,
    pub(super) build: String,
    pub(super) platform: String,
    pub(super) is_delta: bool,
}

impl Source {
    pub(super) async fn open(image: &str) -> Result<Self, Failure> {
        if image.starts_with("http://") || image.starts_with("https://") {
            return Ok(Self::Url(Server::open(image).await?));
        }
        let path = Path::new(image);
        let file = File::open(path).map_err(Failure::file("read", path))?;
        Ok(Self::File {
            file,
            path: path.to_owned(),
        })
    }

    /// At most so many bytes from a place on; fewer only at the end.
    pub(super) async fn read(&mut self, position: u64, most: usize) -> Result<Vec<u8>, Failure> {
        match self {
            Self::File { file, path } => {
                let mut bytes = vec![0; most];
                let mut length = 0;
                while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
                    let at = position + u64::try_from(length).unwrap_or_default();
                    match file
                        .read_at(rest, at)
                        .map_err(Failure::file("read", path))?
                    {
                        0 => break,
                        read => length += read,
                    }
                }
                bytes.truncate(length);
                Ok(bytes)
            }
            Self::Url(server) => server.read(position, most).await,
        }
    }

    /// Reads the head. The node decides whether it counts.
    pub(super) async fn head(&mut self) -> Result<Head, Failure> {
        let mut most = FIRST_LOOK;
        loop {
            let mut bytes = self.read(0, most).await?;
            let mut rest = bytes.as_slice();
            match UnverifiedHead::read(&mut rest) {
                Ok(head) => {
                    let left = rest.len();
                    let claims = head.claims().map_err(|error| self.wrong(&error))?;
                    bytes.truncate(bytes.len() - left);
                    return Ok(Head {
                        bytes,
                        version: claims.version().to_string(),
                        build: claims.build().to_string(),
                        platform: claims.platform().to_owned(),
                        is_delta: claims.base().is_some(),
                    });
                }
                Err(ReadHeadError::Ended { .. }) if bytes.len() == most && most < LARGEST_HEAD => {
                    most *= 2;
                }
                Err(error) => return Err(self.wrong(&error)),
            }
        }
    }

    fn wrong(&self, error: &dyn std::error::Error) -> Failure {
        let name = match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Url(server) => server.to_string(),
        };
        Failure::other(format!("{name}: {}", keelson_control::chain(error)))
    }
}
