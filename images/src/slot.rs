//! One build as a slot holds it: the signed page, the payload and the root part. Made from parts,
//! or found on a disk image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use keelson_bootstate::layout::Partition;
use keelson_bootstate::signature::{Context, ReleaseKey};
use keelson_bootstate::{
    HEADER_SIZE, HeaderError, PageError, Slot, SlotHeader, SlotHeaderFields, SlotPage,
};
use keelson_bundle::Region;
use keelson_bundle::writer::System;

use crate::Platform;
use crate::digest::Sha256Digest;
use crate::esp::{self, ConfigOnImageError};
use crate::grub::{self, SlotScriptError};
use crate::verity::Sealed;

/// What a build is made from.
#[derive(Debug, Clone, Copy)]
pub struct BuildSpec<'a> {
    /// Which machines it is for: GRUB needs texts of its own.
    pub platform: &'a Platform,
    /// The payload, for example a unified kernel image.
    pub payload: &'a [u8],
    /// The file with the root file system and its hash tree.
    pub root: &'a Path,
    /// What [`crate::verity::seal`] said about it.
    pub sealed: &'a Sealed,
    /// Its version.
    pub version: &'a str,
    /// Who signs; for nobody, no loader that checks signatures starts it.
    pub keys: &'a [ReleaseKey],
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    header: SlotHeader,
    page: SlotPage,
    payload: Vec<u8>,
    root: PathBuf,
}

/// Why there is no build.
#[derive(Debug, thiserror::Error)]
pub enum SealBuildError {
    /// Payload, root part or version do not fit a slot.
    #[error("the build does not fit into a slot")]
    Header(#[source] HeaderError),
    /// The texts for GRUB or the signatures do not fit the page.
    #[error("the page of the slot cannot be made")]
    Page(#[source] PageError),
    /// GRUB could not start it.
    #[error("the payload cannot be started by GRUB")]
    Script(#[source] SlotScriptError),
}

impl BuildSpec<'_> {
    /// Describes and signs it.
    ///
    /// # Errors
    /// When it does not fit into a slot.
    pub fn seal(&self) -> Result<Build, SealBuildError> {
        let header = SlotHeader::new(SlotHeaderFields {
            payload_len: u64::try_from(self.payload.len()).unwrap_or(u64::MAX),
            sha256: *Sha256Digest::of(self.payload).as_bytes(),
            root_len: self.sealed.size,
            root_sha256: *self.sealed.sha256.as_bytes(),
            version: self.version,
        })
        .map_err(SealBuildError::Header)?;
        let signed = header.encode();
        let signatures: Vec<_> = self
            .keys
            .iter()
            .map(|key| key.sign(Context::SlotHeader, &signed))
            .collect();
        let mut page = SlotPage::new(&header)
            .with_signatures(&signatures)
            .map_err(SealBuildError::Page)?;
        if self.platform.partitions().contains(&Partition::Bios) {
            let script = grub::script(self.payload).map_err(SealBuildError::Script)?;
            let hashes = grub::check_list(self.payload, &script);
            page = page
                .with_grub(&hashes, &script)
                .map_err(SealBuildError::Page)?;
        }
        Ok(Build {
            header,
            page,
            payload: self.payload.to_vec(),
            root: self.root.into(),
        })
    }
}

impl Build {
    /// What the slot says that it holds.
    pub const fn header(&self) -> &SlotHeader {
        &self.header
    }

    /// The bytes in front of the payload.
    pub const fn page(&self) -> &SlotPage {
        &self.page
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The file with the root part.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The hash that identifies it, and the disk that it is shipped on.
    pub(crate) fn seed(&self) -> Sha256Digest {
        (*self.header.sha256()).into()
    }
}

/// A build in a slot of a raw disk image.
#[derive(Debug)]
pub struct InstalledBuild {
    page: Box<[u8; HEADER_SIZE]>,
    header: SlotHeader,
    boot: Region,
    root: Region,
}

/// Why an image gives no build.
#[derive(Debug, thiserror::Error)]
pub enum ReadBuildError {
    /// Nothing is installed in the slot.
    #[error("slot {slot} of {image} cannot be used")]
    Header {
        /// The image.
        image: PathBuf,
        /// The slot.
        slot: Slot,
        /// What is wrong with it.
        #[source]
        source: HeaderError,
    },
    /// Not one of our images.
    #[error("{image} has no partition {}", .partition.name())]
    NoPartition {
        /// The image.
        image: PathBuf,
        /// Which one.
        partition: Partition,
    },
    /// The image cannot be read.
    #[error("cannot read {image}")]
    Read {
        /// The image.
        image: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It has no partition table.
    #[error("cannot find the slots")]
    Table(#[source] ConfigOnImageError),
}

impl InstalledBuild {
    /// Finds what is in a slot; its parts are read when they are asked for.
    ///
    /// # Errors
    /// When the file is no image of ours or the slot is empty.
    pub fn open(image: &Path, slot: Slot) -> Result<Self, ReadBuildError> {
        let read = |source| ReadBuildError::Read {
            image: image.into(),
            source,
        };
        let file = File::open(image).map_err(read)?;
        let start = |partition| {
            esp::find_partition(&file, image, partition)
                .map_err(ReadBuildError::Table)?
                .map(|(start, _)| start)
                .ok_or(ReadBuildError::NoPartition {
                    image: image.into(),
                    partition,
                })
        };
        let (boot, root) = (start(Partition::boot(slot))?, start(Partition::root(slot))?);
        let mut page = Box::new([0; HEADER_SIZE]);
        file.read_exact_at(&mut *page, boot).map_err(read)?;
        let header = SlotHeader::decode(&*page).map_err(|source| ReadBuildError::Header {
            image: image.into(),
            slot,
            source,
        })?;
        let region = |start| {
            let file = file.try_clone().map_err(read)?;
            Ok(Region { file, start })
        };
        // A page is small enough for any kind of number.
        let payload = boot + u64::try_from(HEADER_SIZE).unwrap_or_default();
        Ok(Self {
            page,
            header,
            boot: region(payload)?,
            root: region(root)?,
        })
    }

    /// What the slot says that it holds.
    pub const fn header(&self) -> &SlotHeader {
        &self.header
    }

    /// The same for a bundle.
    pub fn system(&self) -> System<'_> {
        System {
            header: &self.page,
            boot: &self.boot,
            root: &self.root,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
