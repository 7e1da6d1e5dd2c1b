//! The real loaders, in a machine: which slot do they start from this disk?

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_bootstate::Slot;
use keelson_bootstate::layout::{MIB, Partition};
use keelson_qemu::{Bench, BenchError, BenchFirmware, BenchStart, Tools};
use thiserror::Error;

use crate::{Build, Image, Loader, Named, NoPlace, Places, World};

/// From the firmware's menu to a slot that is named takes 0.3 s, from a reset 2 s.
const CHOICE: Duration = Duration::from_secs(60);

/// Both loaders say so when they give up.
const NO_SLOT: &str = "no slot of this disk starts";

/// The EFI loader names a slot so.
const EFI_NAMES: &str = "SHA-256 good";

/// Why a loader was not asked.
#[derive(Debug, Error)]
pub enum AskError {
    /// The machine.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The image file of the machine.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The disk to start with.
    #[error(transparent)]
    Place(#[from] NoPlace),
}

/// What a loader did with a disk.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The slot it starts, and the version in it; `None` when it starts none.
    pub named: Option<Named>,
    /// What it said.
    pub console: String,
    /// The disk when the slot was named.
    pub disk: Image,
}

/// A loader with a machine of its own.
#[derive(Debug)]
pub struct RealLoader {
    loader: Loader,
    bench: Bench,
    file: File,
    path: PathBuf,
    /// What the file holds.
    now: Image,
    /// The disk that the firmware saw when it was saved.
    seen: Image,
    /// What the firmware remembers of that one.
    remembered: Vec<Range<u64>>,
}

impl RealLoader {
    /// Starts the machine with a disk that has the loader. Files go to `folder`, which exists.
    pub fn start(
        tools: &Tools,
        loader: Loader,
        folder: &Path,
        disk: &Image,
    ) -> Result<Self, AskError> {
        let path = folder.join("disk.raw");
        let failed = |source| AskError::File {
            path: path.clone(),
            source,
        };
        let blank = Image::blank(disk.size());
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&path).map_err(failed)?;
        file.set_len(disk.size()).map_err(failed)?;
        disk.store(&file, &blank).map_err(failed)?;
        let (firmware, remembered) = match loader {
            Loader::Efi => (BenchFirmware::Uefi, seen_by_uefi(disk)?),
            // SeaBIOS looks at the size only.
            Loader::Grub => (BenchFirmware::Bios, Vec::new()),
        };
        Ok(Self {
            loader,
            bench: Bench::start(tools, firmware, &path, folder)?,
            file,
            path,
            now: disk.clone(),
            seen: disk.clone(),
            remembered,
        })
    }

    /// Which one it is.
    pub fn loader(&self) -> Loader {
        self.loader
    }

    /// Starts the machine with this disk and waits until a slot is named.
    pub fn ask(&mut self, disk: &Image, world: &World) -> Result<Answer, AskError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| AskError::File { path, source }
        };
        self.bench.hold()?;
        let stored = disk.store(&self.file, &self.now);
        stored.map_err(failed(&self.path))?;
        self.now = disk.clone();
        self.bench.boot(self.start_for(disk))?;
        let loader = self.loader;
        let named = self.bench.wait("slot that is named", CHOICE, |console| {
            named(loader, console, world)
        })?;
        self.bench.hold()?;
        self.now = Image::load(&self.file).map_err(failed(&self.path))?;
        Ok(Answer {
            named,
            console: self.bench.console()?,
            disk: self.now.clone(),
        })
    }

    fn start_for(&self, disk: &Image) -> BenchStart {
        let looked_at = disk.changes(&self.seen).any(|(at, bytes)| {
            let end = at + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let mut parts = self.remembered.iter();
            parts.any(|part| at < part.end && part.start < end)
        });
        if looked_at {
            BenchStart::Reset
        } else {
            BenchStart::Menu
        }
    }
}

/// The tables, and the file system with the loader.
fn seen_by_uefi(disk: &Image) -> Result<Vec<Range<u64>>, NoPlace> {
    let esp = Places::find(disk)?.of(Partition::Esp)?;
    Ok(vec![0..MIB, esp, disk.size() - MIB..disk.size()])
}

/// Reads the console; nothing as long as the loader is at work.
fn named(loader: Loader, console: &str, world: &World) -> Option<Option<Named>> {
    // Whole lines only.
    let text = &console[..console.rfind('\n')?];
    let version = |line: &str, word: &dyn Fn(&Build) -> String| {
        let mut builds = world.builds.iter();
        builds
            .find(|build| line.contains(&word(build)))
            .map(|build| build.version.clone())
    };
    let mut slot = None;
    for line in text.lines() {
        let words = line.split("keelson: slot ").nth(1);
        if let Some(letter) = words.and_then(|words| words.chars().next()) {
            let mut slots = Slot::ALL.into_iter();
            slot = slots.find(|slot| slot.letter() == letter.to_ascii_lowercase());
        }
        let version = match loader {
            Loader::Efi if line.contains(EFI_NAMES) => version(line, &|build| build.id.to_string()),
            Loader::Grub => version(line, &|build| Build::word(&build.version)),
            Loader::Efi => None,
        };
        if let (Some(slot), Some(version)) = (slot, version) {
            return Some(Some((slot, version)));
        }
    }
    text.to_ascii_lowercase().contains(NO_SLOT).then_some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_of_both_loaders() {
        let world = World::with_own_keys().unwrap();
        let id = world.builds[1].id;
        let skipped = "keelson: slot B skipped: nothing is installed in it\r\n";
        let efi = format!(
            "BdsDxe: starting\r\n{skipped}keelson: slot A (default), 2.0.0, build {id}, 48 KiB, SHA-256 good, signed\r\n"
        );
        let expected = Some(Some((Slot::A, "2.0.0".to_owned())));
        assert_eq!(named(Loader::Efi, &efi, &world), expected);
        assert_eq!(
            named(Loader::Efi, efi.trim_end(), &world),
            None,
            "half a line"
        );
        let grub = "keelson: slot b (trial)\r\nkeelson: slot b cannot be started\r\n\
                    keelson: slot a (other)\r\npowercut: script of 1.0.0\r\n";
        let expected = Some(Some((Slot::A, "1.0.0".to_owned())));
        assert_eq!(named(Loader::Grub, grub, &world), expected);
        let none = "keelson: NO SLOT OF THIS DISK STARTS\r\n";
        assert_eq!(named(Loader::Efi, none, &world), Some(None));
    }
}
