//! The disks and builds that power cuts are tried on.

use keelson_bootstate::grub_env::{self, GrubRecord, RECORD_OFFSET};
use keelson_bootstate::layout::{MIB, Partition};
use keelson_bootstate::signature::{ReleaseKey, SigningKey, Trust};
use keelson_bootstate::{BootRecord, COPY_OFFSETS, Guid, Slot, Tries};
use keelson_images::bios::{FormatCounterError, volume};
use thiserror::Error;

use crate::target::payload;
use crate::{Build, BuildError, Image, NoPlace, Places, SECTOR};

/// Builds, and who may sign them.
#[derive(Clone, Debug)]
pub struct World {
    /// Whose signatures the EFI loader takes.
    pub trust: Trust,
    /// One after the other in age.
    pub builds: Vec<Build>,
}

/// Why there is no world.
#[derive(Debug, Error)]
pub enum WorldError {
    /// A build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The file system with GRUB's tries.
    #[error(transparent)]
    GrubEnv(#[from] FormatCounterError),
    /// A partition.
    #[error(transparent)]
    Place(#[from] NoPlace),
    /// The keys.
    #[error("no keys to sign small builds with: {0}")]
    Keys(String),
}

impl World {
    /// Builds that are signed by this key.
    pub fn new(key: &ReleaseKey, trust: Trust) -> Result<Self, WorldError> {
        let build = |version| Build::small(version, key);
        let versions = ["1.0.0", "2.0.0", "3.0.0"].into_iter();
        let builds = versions.map(build).collect::<Result<_, _>>()?;
        Ok(Self { trust, builds })
    }

    /// The same with keys that nobody else has.
    pub fn with_own_keys() -> Result<Self, WorldError> {
        let (root, release) = (
            SigningKey::from_seed(&[1; 32]),
            SigningKey::from_seed(&[2; 32]),
        );
        let certificate = root.certify(release.public(), 1);
        let key = ReleaseKey::new(release, certificate)
            .ok_or_else(|| WorldError::Keys("the certificate is of another key".to_owned()))?;
        let trust =
            Trust::new(&[root.public()], 1).map_err(|error| WorldError::Keys(error.to_string()))?;
        Self::new(&key, trust)
    }

    /// A disk of ours with the first build in slot A, as the imager makes it, but without loaders.
    pub fn disk(&self) -> Result<Image, WorldError> {
        let mut disk = partitioned();
        let place = Places::find(&disk)?.of(Partition::GrubEnv)?;
        let block = grub_env::encode_tries(Tries::FRESH);
        disk.write(place.start, &volume(&[("grubenv".to_owned(), block)])?);
        Ok(self.put_on(disk)?)
    }

    /// Puts the first build into slot A of a disk, empties slot B and starts its history anew.
    /// Loaders, partition table and the file systems stay.
    pub fn put_on(&self, mut disk: Image) -> Result<Image, NoPlace> {
        let places = Places::find(&disk)?;
        for kind in [
            Partition::BootA,
            Partition::BootB,
            Partition::RootA,
            Partition::RootB,
        ] {
            let place = places.of(kind)?;
            disk.discard(place.start, place.end - place.start);
        }
        let first = &self.builds[0];
        let boot = places.of(Partition::boot(Slot::A))?;
        disk.write(boot.start, first.page.as_bytes());
        disk.write(payload(&boot), &first.payload);
        disk.write(places.of(Partition::root(Slot::A))?.start, &first.root);

        let record = BootRecord::fresh(first.id);
        let state = places.of(Partition::BootState)?.start;
        for copy in COPY_OFFSETS {
            disk.write(state + copy, &record.encode());
            let text = GrubRecord::from(&record).encode();
            disk.write(state + copy + RECORD_OFFSET, &text);
        }
        disk.write(places.of(Partition::Tries)?.start, &Tries::FRESH.encode());
        Ok(disk)
    }

    /// Which of the builds lies whole in a slot.
    pub fn build_in(&self, disk: &Image, places: &Places, slot: Slot) -> Option<&Build> {
        let boot = places.of(Partition::boot(slot)).ok()?;
        let root = places.of(Partition::root(slot)).ok()?;
        let holds = |offset, bytes: &[u8]| {
            let mut found = vec![0; bytes.len()];
            disk.read(offset, &mut found).is_ok() && found == bytes
        };
        self.builds
            .iter()
            .find(|build| holds(payload(&boot), &build.payload) && holds(root.start, &build.root))
    }
}

/// A disk of zeros with our partition table.
fn partitioned() -> Image {
    const ENTRY: usize = 128;
    const ENTRIES: usize = 128;
    let mut entries = vec![0; ENTRY * ENTRIES];
    let mut start = MIB;
    let kinds = Partition::ALL.into_iter();
    let sized = kinds.filter_map(|kind| Some((kind, kind.size()?)));
    for (entry, (kind, size)) in entries.chunks_exact_mut(ENTRY).zip(sized) {
        let id = Guid::from_u128(kind.type_guid().to_u128() ^ 1);
        entry[..16].copy_from_slice(&kind.type_guid().to_disk());
        entry[16..32].copy_from_slice(&id.to_disk());
        entry[32..40].copy_from_slice(&(start / SECTOR).to_le_bytes());
        entry[40..48].copy_from_slice(&((start + size) / SECTOR - 1).to_le_bytes());
        for (place, unit) in entry[56..]
            .chunks_exact_mut(2)
            .zip(kind.name().encode_utf16())
        {
            place.copy_from_slice(&unit.to_le_bytes());
        }
        start += size;
    }
    let mut disk = Image::blank(start + MIB);
    let last = disk.size() / SECTOR - 1;
    let table = 2;
    let backup = last - 32;
    for (own, other, at) in [(1, last, table), (last, 1, backup)] {
        let mut header = [0; 512];
        header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
        let words = [own, other, table + 32, backup - 1];
        for (place, word) in header[24..56].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header[56..72].fill(0x11);
        header[72..80].copy_from_slice(&at.to_le_bytes());
        header[80..88].copy_from_slice(b"\x80\0\0\0\x80\0\0\0");
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let sum = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        disk.write(own * SECTOR, &header);
        disk.write(at * SECTOR, &entries);
    }
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_its_partitions_and_the_first_build() {
        let world = World::with_own_keys().unwrap();
        let disk = world.disk().unwrap();
        let places = Places::find(&disk).unwrap();
        let boot = places.of(Partition::BootB).unwrap();
        assert_eq!(boot.end - boot.start, Partition::BootB.size().unwrap());
        let build = world.build_in(&disk, &places, Slot::A).unwrap();
        assert_eq!(build.version, "1.0.0");
        assert!(world.build_in(&disk, &places, Slot::B).is_none());
    }
}
