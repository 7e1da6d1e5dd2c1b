//! A machine that loses power at any write: what was being written arrives in part and in any
//! order, what was flushed stays. Whatever happens, the next boot goes on, and data that was ever
//! in use is never formatted.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

mod shipped_image;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use keelson_bootstate::Guid;
use keelson_bootstate::layout::{MIB, Partition};
use keelson_storage::{
    CheckMode, Content, Disk, DiskFacts, Extent, Found, Host, Mark, TAIL, Table, ToolError, Volume,
    partition_device, plan_table, prepare_table, prepare_volume,
};
use proptest::prelude::*;

/// Where in a partition the test's user data is; making a file system overwrites it.
const USER_DATA: u64 = 2 * MIB;

struct Machine {
    sector: u64,
    inner: Mutex<Inner>,
}

#[derive(Clone, Default)]
struct Inner {
    size: u64,
    durable: BTreeMap<u64, Vec<u8>>,
    /// Written and not flushed, in order.
    pending: Vec<(u64, Vec<u8>)>,
    /// Writes and flushes until the power goes.
    budget: usize,
    /// Decides what of the pending writes arrives.
    dice: u64,
    extents: Vec<Extent>,
    mounted: Vec<&'static Path>,
}

impl Inner {
    fn roll(&mut self) -> u64 {
        // xorshift64: any sequence will do, it only has to be the same for the same seed.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    fn spend(&mut self) -> io::Result<()> {
        if self.budget == 0 {
            for (sector, bytes) in std::mem::take(&mut self.pending) {
                if self.roll().is_multiple_of(2) {
                    self.durable.insert(sector, bytes);
                }
            }
            return Err(io::Error::other("power cut"));
        }
        self.budget -= 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spend()?;
        self.durable.extend(std::mem::take(&mut self.pending));
        Ok(())
    }
}

impl Machine {
    fn new(size: u64, sector: u64, dice: u64) -> Self {
        let inner = Inner {
            size,
            dice: dice.max(1),
            budget: usize::MAX,
            ..Inner::default()
        };
        let machine = Self {
            sector,
            inner: Mutex::new(inner),
        };
        shipped_image::write_image(&machine);
        machine
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap())
    }

    /// One boot with this many writes before the power goes; whether it got to its end.
    fn boot(&self, budget: usize) -> Result<(), String> {
        self.with(|inner| {
            inner.budget = budget;
            inner.pending.clear();
            inner.mounted.clear();
        });
        let id = u128::from(self.with(Inner::roll));
        let text = |error: &dyn std::error::Error| keelson_control::chain(error);
        let extents = prepare_table(self, Guid::from_u128(id), &|_| {}).map_err(|e| text(&e))?;
        self.with(|inner| inner.extents = vec![extents.state, extents.data]);
        for (volume, extent) in [(Volume::State, extents.state), (Volume::Data, extents.data)] {
            let device = partition_device("/dev/sim", extent.number);
            prepare_volume(volume, &device, self).map_err(|e| text(&e))?;
            assert!(self.with(|inner| inner.mounted.contains(&volume.target())));
        }
        Ok(())
    }

    /// The node uses its volumes: from now on the data counts.
    fn use_volumes(&self) {
        self.with(|inner| inner.budget = usize::MAX);
        for extent in self.with(|inner| inner.extents.clone()) {
            self.write_at(extent.start + USER_DATA, b"precious")
                .unwrap();
        }
        self.flush().unwrap();
    }

    fn assert_data_is_there(&self) {
        for extent in self.with(|inner| inner.extents.clone()) {
            let mut bytes = [0; 8];
            self.read_at(extent.start + USER_DATA, &mut bytes).unwrap();
            assert_eq!(
                &bytes, b"precious",
                "partition {} was formatted",
                extent.number
            );
        }
    }

    /// The loader and the kernel find STATE through some copy of the table.
    fn assert_table_is_readable(&self) {
        let last = self.size() / self.sector - 1;
        let readable = [1, last]
            .into_iter()
            .filter_map(|lba| Table::read(self, lba).ok());
        let has_state = |table: &Table| {
            table
                .partitions(self.sector)
                .any(|(entry, _)| entry.is(Partition::State))
        };
        assert!(
            readable.into_iter().any(|table| has_state(&table)),
            "no copy of the partition table is valid"
        );
    }

    fn extent_of(&self, device: &Path) -> Extent {
        self.with(|inner| {
            let of = |extent: &&Extent| partition_device("/dev/sim", extent.number) == device;
            *inner.extents.iter().find(of).unwrap()
        })
    }

    fn superblock(&self, extent: Extent, label: &str, blocks: u64, clean: bool) -> io::Result<()> {
        let mut bytes = [0; 1024];
        bytes[4..8].copy_from_slice(&u32::try_from(blocks).unwrap().to_le_bytes());
        bytes[0x18] = 2;
        bytes[0x38..0x3a].copy_from_slice(&0xef53_u16.to_le_bytes());
        bytes[0x3a] = u8::from(clean);
        bytes[0x78..0x78 + label.len()].copy_from_slice(label.as_bytes());
        self.write_at(extent.start + 1024, &bytes)
    }

    fn content(&self, extent: Extent) -> io::Result<Content> {
        // The tail of the first MiB is never written here, so a part of it is enough.
        let mut head = vec![0; 128 * 1024];
        self.read_at(extent.start, &mut head)?;
        Ok(Content::of(&head))
    }
}

impl Disk for Machine {
    fn size(&self) -> u64 {
        self.with(|inner| inner.size)
    }

    fn sector_size(&self) -> u32 {
        u32::try_from(self.sector).unwrap()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|inner| {
            let mut done = 0;
            while done < buffer.len() {
                let at = offset + u64::try_from(done).unwrap();
                let sector = at / self.sector;
                let index = usize::try_from(at % self.sector).unwrap();
                let newest = inner.pending.iter().rev().find(|(s, _)| *s == sector);
                let bytes = newest
                    .map(|(_, bytes)| bytes)
                    .or_else(|| inner.durable.get(&sector));
                let length =
                    (usize::try_from(self.sector).unwrap() - index).min(buffer.len() - done);
                match bytes {
                    Some(bytes) => {
                        buffer[done..done + length].copy_from_slice(&bytes[index..index + length])
                    }
                    None => buffer[done..done + length].fill(0),
                }
                done += length;
            }
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + u64::try_from(done).unwrap();
            let sector = at / self.sector;
            let index = usize::try_from(at % self.sector).unwrap();
            let mut whole = vec![0; usize::try_from(self.sector).unwrap()];
            self.read_at(sector * self.sector, &mut whole)?;
            let length = (whole.len() - index).min(bytes.len() - done);
            whole[index..index + length].copy_from_slice(&bytes[done..done + length]);
            self.with(|inner| {
                inner.spend()?;
                inner.pending.push((sector, whole));
                Ok::<(), io::Error>(())
            })?;
            done += length;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.with(Inner::flush)
    }
}

impl Host for Machine {
    fn look(&self, device: &Path) -> io::Result<Found> {
        let extent = self.extent_of(device);
        let mut tail = vec![0; 4096];
        self.read_at(extent.end() - TAIL, &mut tail)?;
        Ok(Found {
            content: self.content(extent)?,
            mark: Mark::read(&tail),
            bytes: extent.length,
        })
    }

    fn write_tail(&self, device: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write_at(self.extent_of(device).end() - TAIL, bytes)?;
        self.flush()
    }

    fn overwrite(&self, device: &Path) -> io::Result<()> {
        let extent = self.extent_of(device);
        self.write_at(extent.start, &[0; 4096])?;
        self.write_at(extent.start + USER_DATA, &[0; 512])?;
        self.flush()
    }

    fn make(&self, volume: Volume, device: &Path, blocks: u64) -> Result<(), ToolError> {
        let extent = self.extent_of(device);
        let work = || {
            // Tables and an emptied disk first, the superblock whenever the kernel likes.
            self.write_at(extent.start, &[0; 1024])?;
            self.write_at(extent.start + 4096, &[0x77; 8192])?;
            self.superblock(extent, volume.name(), blocks, true)?;
            self.write_at(extent.start + USER_DATA, &[0; 512])?;
            self.write_at(extent.start + 65536, &[0x33; 4096])?;
            self.flush()
        };
        work().map_err(|source| ToolError::Flush {
            program: "mkfs.ext4",
            source,
        })
    }

    fn check(&self, _: Volume, device: &Path, _: CheckMode) -> Result<bool, ToolError> {
        let extent = self.extent_of(device);
        let failed = |source| ToolError::Flush {
            program: "e2fsck",
            source,
        };
        let Content::Ext(superblock) = self.content(extent).map_err(failed)? else {
            return Ok(false);
        };
        self.superblock(extent, &superblock.label, superblock.blocks, true)
            .and_then(|()| self.flush())
            .map_err(failed)?;
        Ok(true)
    }

    fn is_mounted(&self, target: &Path) -> bool {
        self.with(|inner| inner.mounted.contains(&target))
    }

    fn mount(&self, volume: Volume, device: &Path) -> io::Result<()> {
        let extent = self.extent_of(device);
        match self.content(extent)? {
            Content::Ext(superblock) if superblock.clean => {
                assert_eq!(superblock.label, volume.name());
                assert!(superblock.bytes() <= extent.length - TAIL);
                // Mounted for writing: not clean until it is unmounted, which never happens here.
                self.superblock(extent, &superblock.label, superblock.blocks, false)?;
                self.flush()?;
                self.with(|inner| inner.mounted.push(volume.target()));
                Ok(())
            }
            _ => Err(io::Error::other("bad superblock")),
        }
    }

    fn grow(&self, volume: Volume, blocks: u64) -> io::Result<()> {
        let index = usize::from(volume == Volume::Data);
        let extent = self.with(|inner| inner.extents[index]);
        self.superblock(extent, volume.name(), blocks, false)?;
        self.flush()
    }

    fn say(&self, _: &str) {}

    fn warn(&self, text: &str) {
        assert!(text.contains("power cut"), "{text}");
    }
}

/// Writes of a first boot that ends well.
fn writes_of_a_first_boot(sector: u64) -> usize {
    let machine = Machine::new(2048 * MIB, sector, 1);
    machine.boot(usize::MAX).unwrap();
    usize::MAX - machine.with(|inner| inner.budget)
}

#[test]
fn a_cut_at_every_write_of_the_first_boot() {
    for sector in [512, 4096] {
        let writes = writes_of_a_first_boot(sector);
        assert!(writes > 20, "{writes}");
        for cut in 0..writes {
            for dice in 1..3 {
                let machine = Machine::new(2048 * MIB, sector, dice);
                machine.boot(cut).unwrap_err();
                machine.assert_table_is_readable();
                machine
                    .boot(usize::MAX)
                    .unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            }
        }
    }
}

#[test]
fn a_cut_at_every_write_after_the_disk_grew() {
    for cut in 0..120 {
        let machine = Machine::new(2048 * MIB, 512, cut + 1);
        machine.boot(usize::MAX).unwrap();
        machine.use_volumes();
        machine.with(|inner| inner.size = 3000 * MIB);
        let _ = machine.boot(usize::try_from(cut).unwrap());
        machine.assert_table_is_readable();
        machine
            .boot(usize::MAX)
            .unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        machine.assert_data_is_there();
    }
}

#[test]
fn foreign_content_survives_every_boot() {
    let machine = Machine::new(2048 * MIB, 512, 1);
    let state = plan_table(&DiskFacts::read(&machine), Guid::ZERO)
        .unwrap()
        .state;
    machine.write_at(state.start, b"XFSB").unwrap();
    machine.flush().unwrap();
    for _ in 0..2 {
        assert_eq!(
            machine.boot(usize::MAX).unwrap_err(),
            "STATE on /dev/sim10 is left alone: the partition holds an XFS file system, which is \
             not the node's; nothing was changed: save what you need and clear the first MiB of \
             the partition, or write the image to the disk again"
        );
        let mut bytes = [0; 4];
        machine.read_at(state.start, &mut bytes).unwrap();
        assert_eq!(&bytes, b"XFSB");
    }
}

#[test]
fn old_content_where_data_will_be_does_not_stop_the_first_boot() {
    let machine = Machine::new(2048 * MIB, 512, 1);
    let data = plan_table(&DiskFacts::read(&machine), Guid::ZERO)
        .unwrap()
        .data;
    machine
        .write_at(data.start, b"XFSB of a disk used before")
        .unwrap();
    machine.flush().unwrap();
    machine.boot(usize::MAX).unwrap();
}

#[test]
fn an_erasure_asked_for_is_finished_whatever_cuts_it_short() {
    for cut in 0..80 {
        let machine = Machine::new(2048 * MIB, 512, cut + 1);
        machine.boot(usize::MAX).unwrap();
        machine.use_volumes();
        for extent in machine.with(|inner| inner.extents.clone()) {
            machine
                .write_at(extent.end() - TAIL, &Mark::Erase.tail())
                .unwrap();
        }
        machine.flush().unwrap();
        let _ = machine.boot(usize::try_from(cut).unwrap());
        machine.boot(usize::MAX).unwrap();
        for extent in machine.with(|inner| inner.extents.clone()) {
            let mut bytes = [0; 8];
            machine
                .read_at(extent.start + USER_DATA, &mut bytes)
                .unwrap();
            assert_ne!(&bytes, b"precious", "cut at {cut}");
            let mut tail = [0; 4096];
            machine.read_at(extent.end() - TAIL, &mut tail).unwrap();
            assert_eq!(Mark::read(&tail), None, "cut at {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any number of cuts, disks that grow in between, data in use from the first good boot on.
    #[test]
    fn every_history_ends_well(
        cuts in prop::collection::vec((0_usize..160, any::<bool>()), 1..12),
        dice: u64,
        large_sectors: bool,
    ) {
        let sector = if large_sectors { 4096 } else { 512 };
        let machine = Machine::new(2048 * MIB, sector, dice);
        let mut in_use = false;
        for (budget, grow) in cuts {
            if machine.boot(budget).is_ok() {
                if in_use { machine.assert_data_is_there() }
                machine.use_volumes();
                in_use = true;
                if grow {
                    machine.with(|inner| inner.size += 300 * MIB + 4096 * 7);
                }
            }
            machine.assert_table_is_readable();
        }
        machine.boot(usize::MAX).map_err(TestCaseError::fail)?;
        if in_use { machine.assert_data_is_there() }
        let after = plan_table(&DiskFacts::read(&machine), Guid::ZERO).unwrap();
        prop_assert_eq!(after.steps, vec![]);
    }
}
