//! Plans are checked as data; written disks are read back with the loader's own reader.

use std::os::unix::fs::FileExt;

use hadris_fat::{FatVolume, FatVolumeReadExt};
use keelson_bootstate::layout::SMALLEST_DISK;
use keelson_bootstate::{Copy, HeaderError, SlotHeader, newest_record};

use super::*;
use crate::digest::of_reader;
use crate::platform::tests::AMD64;
use crate::slot::tests::{build, uki};
use crate::window::Window;
use crate::{sparse, verity};

struct Parts {
    folder: tempfile::TempDir,
    platform: Platform,
}

impl Parts {
    fn new(sector_size: u16) -> Self {
        let text = AMD64.replace("sectorSize: 512", &format!("sectorSize: {sector_size}"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fs"), vec![0x5a; 3 * 4096]).unwrap();
        Self {
            folder,
            platform: serde_saphyr::from_str(&text).unwrap(),
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn plan(&self, command_line: &str) -> Result<DiskPlan, PlanDiskError> {
        let sealed = verity::seal(&self.folder.path().join("fs"), &self.root()).unwrap();
        let build = build(&self.platform, &uki(command_line), &self.root(), &sealed);
        DiskSpec {
            platform: &self.platform,
            loader: b"loader program",
            build: &build.unwrap(),
        }
        .plan()
    }

    fn write(&self, command_line: &str, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        self.plan(command_line).unwrap().write_raw(&path).unwrap();
        path
    }
}

#[test]
fn partitions_are_aligned_in_order_without_gaps_and_fit() {
    let plan = Parts::new(512).plan("quiet").unwrap();
    let mut at = MIB;
    for partition in &plan.partitions {
        assert_eq!(partition.start, at, "{:?}", partition.kind);
        assert!(partition.start.is_multiple_of(MIB));
        at += partition.size;
    }
    assert!(plan.size <= SMALLEST_DISK && plan.size.is_multiple_of(MIB));
    assert!(plan.partitions.is_sorted_by_key(|p| p.kind));
    assert_eq!(plan.partition(Partition::Data), None);
    let mut ids: Vec<Guid> = plan
        .partitions
        .iter()
        .map(|p| p.id)
        .chain([plan.id])
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), plan.partitions.len() + 1);
}

#[test]
fn a_written_disk_reads_back_with_both_sector_sizes() {
    for sector_size in [512u16, 4096] {
        let parts = Parts::new(sector_size);
        let payload = uki("quiet");
        let file = File::open(parts.write("quiet", "disk.img")).unwrap();
        let sector = u64::from(sector_size);

        let partitions = esp::read_table(&file, sector).unwrap().unwrap();
        let found = |kind: Partition| partitions.iter().find(|e| e.is(kind)).unwrap();
        assert_eq!(partitions.len(), parts.platform.partitions().len());
        let read = |kind: Partition, offset: u64, len: usize| {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, found(kind).first_lba() * sector + offset)
                .unwrap();
            bytes
        };

        let header = SlotHeader::decode(&read(Partition::BootA, 0, 4096)).unwrap();
        assert_eq!(header.payload_len(), payload.len() as u64);
        assert_eq!(read(Partition::BootA, 4096, payload.len()), payload);
        assert_eq!(
            SlotHeader::decode(&read(Partition::BootB, 0, 4096)),
            Err(HeaderError::Blank)
        );
        assert_eq!(read(Partition::RootA, 0, 3 * 4096), vec![0x5a; 3 * 4096]);
        assert_eq!(Tries::decode(&read(Partition::Tries, 0, 512)), Tries::FRESH);
        let copies = COPY_OFFSETS.map(|offset| read(Partition::BootState, offset, 512));
        let (record, copy) = newest_record(&copies[0], &copies[1]).unwrap();
        assert_eq!(
            (record.default_slot(), record.trial(), copy),
            (Slot::A, None, Copy::First)
        );
        assert_eq!(record.build(Slot::A), Some(header.build_id()));
        assert!(BootRecord::decode(&copies[1]).is_ok());
        let texts = COPY_OFFSETS.map(|copy| read(Partition::BootState, copy + RECORD_OFFSET, 1024));
        for text in texts {
            assert_eq!(GrubRecord::decode(&text), Some(GrubRecord::from(&record)));
        }
        assert!(read(Partition::State, 0, 4096).iter().all(|b| *b == 0));

        // The backup table, which firmware falls back to.
        let size = file.metadata().unwrap().len();
        let mut backup = vec![0; usize::from(sector_size)];
        file.read_exact_at(&mut backup, size - sector).unwrap();
        let backup = keelson_bootstate::gpt::Header::parse(&backup, size / sector - 1).unwrap();
        assert_eq!(backup.disk(), parts.plan("quiet").unwrap().id);
    }
}

#[test]
fn the_esp_holds_the_loader_and_takes_a_configuration() {
    for sector_size in [512, 4096] {
        let parts = Parts::new(sector_size);
        let image = parts.write("quiet", "disk.img");
        let plan = parts.plan("quiet").unwrap();
        let esp_range = plan.partition(Partition::Esp).unwrap();
        let end = esp_range.start + esp_range.size;
        // The table in front of it and everything raw that is written behind it.
        let rest = || {
            let file = File::open(&image).unwrap();
            let part = |start, len| of_reader(Window::new(&file, start, len)).unwrap();
            (part(0, MIB), part(end, 8 * MIB))
        };
        let untouched = rest();

        assert_eq!(esp::read_config(&image).unwrap(), None);
        for text in [
            "a: 1\n".to_owned(),
            "b: 2\n".repeat(5000),
            "c: 3\n".to_owned(),
        ] {
            esp::put_config(&image, text.as_bytes()).unwrap();
            assert_eq!(
                esp::read_config(&image).unwrap().as_deref(),
                Some(text.as_bytes())
            );
        }
        esp::remove_config(&image).unwrap();
        esp::remove_config(&image).unwrap();
        assert_eq!(esp::read_config(&image).unwrap(), None);

        // Only the ESP was touched, and the loader is still there.
        assert_eq!(rest(), untouched);
        let file = File::open(&image).unwrap();
        let window = Window::new(&file, esp_range.start, esp_range.size);
        let fs = FatVolume::open(window).unwrap();
        let entry = fs.open_path("EFI/BOOT/BOOTX64.EFI").unwrap();
        let loader = fs.read_file(&entry).unwrap().read_to_vec().unwrap();
        assert_eq!(loader, b"loader program");
    }
}

#[test]
fn configuration_needs_an_image_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.img");
    std::fs::write(&path, b"QFI\xfb").unwrap();
    let error = esp::put_config(&path, b"a: 1").unwrap_err().to_string();
    assert!(error.ends_with("is not a raw disk image"), "{error}");
    let big = vec![b'a'; 1024 * 1024 + 1];
    assert!(
        esp::put_config(&path, &big)
            .unwrap_err()
            .to_string()
            .contains("at most")
    );
}

#[test]
fn same_input_same_bytes_other_input_other_ids() {
    let parts = Parts::new(512);
    // Without the holes, which are a gigabyte of nothing.
    let content = |name| {
        let file = File::open(parts.write("quiet", name)).unwrap();
        let mut blocks = vec![(file.metadata().unwrap().len(), Sha256Digest::of(b""))];
        sparse::for_each_block(&file, 4096, |index, bytes| {
            blocks.push((index, Sha256Digest::of(bytes)));
            Ok(())
        })
        .unwrap();
        blocks
    };
    let one = content("1.img");
    assert!(one.len() > 15, "{} blocks", one.len());
    assert!(
        one == content("2.img"),
        "two disks from the same parts differ"
    );
    let (plan, other) = (parts.plan("quiet").unwrap(), parts.plan("other").unwrap());
    assert_ne!(plan.id, other.id);
    assert_ne!(plan.esp.volume_id, other.esp.volume_id);
}
