//! What a delta is made against: slot A of an image, or a bundle, which is unpacked.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use anyhow::Context;
use keelson_bootstate::signature::Trust;
use keelson_bootstate::{HEADER_SIZE, Slot};
use keelson_bundle::writer::System;
use keelson_bundle::{BlockReader, Part, UnverifiedHead};
use keelson_images::slot::InstalledBuild;

/// A system that is not built now.
pub(super) enum Base {
    Image(InstalledBuild),
    Unpacked {
        header: Box<[u8; HEADER_SIZE]>,
        boot: File,
        root: File,
    },
}

impl Base {
    /// Opens it; a bundle is unpacked to files in `folder` that nobody else sees.
    pub(super) fn open(path: &Path, trust: &Trust, folder: &Path) -> anyhow::Result<Self> {
        if path
            .extension()
            .is_some_and(|extension| extension == "keelson")
        {
            return unpack(path, trust, folder)
                .with_context(|| format!("cannot unpack {}", path.display()));
        }
        Ok(Self::Image(InstalledBuild::open(path, Slot::A)?))
    }

    pub(super) fn system(&self) -> System<'_> {
        match self {
            Self::Image(installed) => installed.system(),
            Self::Unpacked { header, boot, root } => System { header, boot, root },
        }
    }
}

fn unpack(path: &Path, trust: &Trust, folder: &Path) -> anyhow::Result<Base> {
    let mut from = BufReader::new(File::open(path)?);
    let head = UnverifiedHead::read(&mut from)?.verify(trust)?;
    let (mut boot, mut root) = (
        tempfile::tempfile_in(folder)?,
        tempfile::tempfile_in(folder)?,
    );
    let mut blocks = BlockReader::new(&head);
    for number in 0..head.blocks().len() {
        let stored = blocks.read(number, &mut from)?;
        let to = match stored.block().part() {
            Part::Boot => &mut boot,
            Part::Root => &mut root,
        };
        to.write_all(stored.unpack(None)?)?;
    }
    let header = Box::new(*head.manifest().header());
    Ok(Base::Unpacked { header, boot, root })
}
