//! GRUB alone in a machine: it chooses for many disks in one start, which takes milliseconds each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use keelson_bootstate::grub_env::{BLOCK_SIZE, GrubRecord};
use keelson_bootstate::layout::{MIB, Partition};
use keelson_bootstate::{BootRecord, Guid, Slot, SlotHeader, SlotHeaderFields, SlotPage};
use keelson_images::bios::{self, BOOT_CODE, CORE, CoreRecipe, MODULES_FOLDER};
use keelson_images::disk::{Content, DiskPlan, PlannedEsp, PlannedPartition, RawWrite};
use keelson_images::{SectorSize, grub};
use keelson_qemu::{
    Acceleration, Clock, Disk, DiskFormat, Durability, Firmware, Lifetime, Start, Tools, Vm,
    VmSpec, run_within,
};

/// What GRUB is given besides the real `choose.cfg`.
const SCRIPT: &str = include_str!("../grub/points.cfg");

/// An environment block of GRUB.
pub type Block = [u8; BLOCK_SIZE];

/// `grub-mkimage` takes a tenth of a second.
const MKIMAGE: Duration = Duration::from_secs(60);

/// SeaBIOS and GRUB take a second, a point some ten milliseconds.
const POINTS: Duration = Duration::from_secs(90);

/// GRUBENV's root folder holds no more files.
const MOST_POINTS: usize = 250;

const SECTOR: u64 = 512;

/// Where the counters are on the disk, behind the core image.
const COUNTERS: u64 = 2 * MIB;

/// Where the records are: room for one after the other.
const RECORDS: u64 = 4 * MIB;

/// Where the slots are.
const SLOTS: u64 = 8 * MIB;

/// One disk as GRUB finds it.
#[derive(Clone, Debug)]
pub struct Point {
    /// The text of the two copies of the record.
    pub records: [Block; 2],
    /// GRUB's tries.
    pub tries: Counter,
    /// The slots, by their names.
    pub slots: [&'static str; 2],
}

/// The file with GRUB's tries.
#[derive(Clone, Copy, Debug)]
pub enum Counter {
    /// It can be read and written.
    File(Block),
    /// The disk takes no writes.
    Frozen(Block),
    /// There is no such file.
    Missing,
}

/// What GRUB started: its words on the kernel command line, such as `slot` and `why`.
pub type Facts = BTreeMap<String, String>;

/// GRUB at work.
#[derive(Debug)]
pub struct Grub {
    /// Its machine.
    pub vm: Vm,
    disk: PathBuf,
    points: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Chosen {
    /// What was started for each point; empty when no slot was.
    pub facts: Vec<Facts>,
    /// Everything on the file system with the counters.
    pub counters: Vec<u8>,
}

impl Grub {
    /// Starts a machine on a disk that is made in `folder`, with these slots and points.
    pub fn start(
        tools: &Tools,
        folder: &Path,
        slots: &BTreeMap<&'static str, Vec<u8>>,
        points: &[Point],
    ) -> anyhow::Result<Self> {
        let mut writes = Vec::new();
        let mut put = |offset, bytes| {
            let content = Content::Bytes(bytes);
            writes.push(RawWrite { offset, content });
        };
        let mut script = SCRIPT.to_owned();
        let mut end = SLOTS;
        for (name, bytes) in slots {
            let length = u64::try_from(bytes.len())?.next_multiple_of(SECTOR);
            script += &format!("slot {name} {}\n", sectors(end, length));
            put(end, bytes.clone());
            end += length;
        }
        script += &format!("slot frozen {}\n", sectors(COUNTERS, MIB));
        for (number, point) in points.iter().enumerate() {
            let block = u64::try_from(BLOCK_SIZE)?;
            let first = RECORDS + 2 * block * u64::try_from(number)?;
            put(first, point.records.concat());
            let file = match point.tries {
                Counter::File(_) => format!("($disk,gpt2)/{}", file_name(number)),
                Counter::Frozen(_) => format!("(frozen)/{}", file_name(number)),
                Counter::Missing => "($disk,gpt2)/missing".to_owned(),
            };
            script += &format!(
                "point {number} {} {} {file} {} {}\n",
                sectors(first, block),
                sectors(first + block, block),
                point.slots[0],
                point.slots[1]
            );
        }
        let counters = counters(points.iter().map(|point| point.tries))?;
        let mut plan = plan(end);
        install(tools, &mut plan, &recipe(script)?, folder)?;
        writes.push(RawWrite {
            offset: COUNTERS,
            content: Content::Bytes(counters),
        });
        plan.writes.extend(writes);
        let disk = folder.join("disk.raw");
        plan.write_raw(&disk)?;
        let vm = launch(tools, &disk, folder, &[])?;
        let points = points.len();
        Ok(Self { vm, disk, points })
    }

    /// Waits until it has chosen for every point.
    pub fn finish(self) -> anyhow::Result<Chosen> {
        let last = self.points.saturating_sub(1);
        self.vm
            .wait_for_serial(&format!("POINT {last} done"), POINTS)?;
        let facts = (0..self.points)
            .map(|number| self.vm.look(|seen| facts(seen.serial, number)))
            .collect();
        self.vm.power_cut()?;
        let mut counters = vec![0; usize::try_from(MIB)?];
        File::open(&self.disk)?.read_exact_at(&mut counters, COUNTERS)?;
        Ok(Chosen { facts, counters })
    }
}

/// The file system with the counters of all points.
pub fn counters(all: impl Iterator<Item = Counter>) -> anyhow::Result<Vec<u8>> {
    let files: Vec<_> = (0..)
        .zip(all)
        .filter_map(|(number, counter)| match counter {
            Counter::File(block) | Counter::Frozen(block) => Some((file_name(number), block)),
            Counter::Missing => None,
        })
        .collect();
    ensure!(files.len() <= MOST_POINTS, "too many points for one start");
    Ok(bios::volume(&files)?)
}

/// Adds GRUB to a disk; `folder` is for its work.
pub fn install(
    tools: &Tools,
    plan: &mut DiskPlan,
    recipe: &CoreRecipe,
    folder: &Path,
) -> anyhow::Result<()> {
    recipe.write_files(folder)?;
    let mut mkimage = tools.command("grub-mkimage");
    mkimage.args(recipe.arguments(folder, &Path::new("/").join(MODULES_FOLDER)));
    run_within(&mut mkimage, MKIMAGE)?;
    let boot_code = fs::read(tools.file(MODULES_FOLDER).join(BOOT_CODE))?;
    Ok(bios::install(
        plan,
        &boot_code,
        &fs::read(folder.join(CORE))?,
    )?)
}

/// Starts a machine without UEFI from a raw disk.
pub fn launch(
    tools: &Tools,
    disk: &Path,
    folder: &Path,
    kernel_arguments: &[&str],
) -> anyhow::Result<Vm> {
    let spec = VmSpec {
        kernel_arguments: kernel_arguments
            .iter()
            .map(|one| (*one).to_owned())
            .collect(),
        ..machine(disk)
    };
    let state = folder.join("vm");
    Ok(Vm::launch(
        tools,
        &spec,
        &state,
        &state.join("s"),
        Lifetime::WithCaller,
    )?)
}

/// The facts that a script has written to the serial port, one a line behind `POINT` and a number.
pub fn facts(serial: &str, number: usize) -> Facts {
    let start = format!("POINT {number} ");
    serial
        .lines()
        .filter_map(|line| line.split_once(&start)?.1.trim().split_once('='))
        .map(|(name, value)| {
            let name = name.trim_start_matches("keelson.");
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// The slot that the facts name.
pub fn slot(facts: &Facts) -> Option<Slot> {
    let letter = facts.get("slot")?;
    Slot::ALL
        .into_iter()
        .find(|slot| slot.letter().to_string() == *letter)
}

/// The text of a copy of the record, without a trial when that would be of the default slot.
pub fn record(sequence: u32, trial: Option<Slot>, default: Slot) -> Block {
    let trial = trial.filter(|trial| *trial != default);
    BootRecord::new(sequence, trial, default, [None; 2])
        .map_or([0; BLOCK_SIZE], |record| GrubRecord::from(&record).encode())
}

/// A slot with this payload, for which GRUB runs `script`.
pub fn slot_bytes(payload: &[u8], script: &str) -> anyhow::Result<Vec<u8>> {
    let header = SlotHeader::new(SlotHeaderFields {
        payload_len: u64::try_from(payload.len())?,
        sha256: [1; 32],
        root_len: 4096,
        root_sha256: [2; 32],
        version: "1.0.0",
    });
    let header = header.map_err(|error| anyhow!("{error}"))?;
    let page = SlotPage::new(&header)
        .with_grub(&grub::check_list(payload, script), script)
        .map_err(|error| anyhow!("{error}"))?;
    let mut bytes = [page.as_bytes(), payload].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    Ok(bytes)
}

fn file_name(number: usize) -> String {
    format!("point{number}")
}

/// GRUB's name for bytes of a disk.
fn sectors(offset: u64, length: u64) -> String {
    format!("{}+{}", offset / SECTOR, length / SECTOR)
}

/// A core image that runs `script` with the real rule, except that nothing is started at last.
fn recipe(script: String) -> anyhow::Result<CoreRecipe> {
    let (before, after) = bios::CHOOSE
        .split_once("then boot; fi")
        .context("choose.cfg does not start a slot as it used to")?;
    Ok(CoreRecipe {
        files: vec![
            ("grub.cfg", script),
            ("choose.cfg", format!("{before}then booted; fi{after}")),
        ],
        modules: bios::MODULES.to_vec(),
    })
}

fn plan(end: u64) -> DiskPlan {
    let partition = |kind, number: u64| PlannedPartition {
        kind,
        id: Guid::from_u128(u128::from(number)),
        start: number * MIB,
        size: MIB,
    };
    DiskPlan {
        id: Guid::from_u128(7),
        sector_size: SectorSize::Bytes512,
        size: end.next_multiple_of(MIB) + MIB,
        partitions: vec![
            partition(Partition::Bios, 1),
            partition(Partition::GrubEnv, COUNTERS / MIB),
        ],
        writes: vec![],
        // Not written: the disk has no such partition.
        esp: PlannedEsp {
            volume_id: 0,
            loader_path: String::new(),
            loader: vec![],
        },
    }
}

fn machine(disk: &Path) -> VmSpec {
    VmSpec {
        name: "grub".to_owned(),
        acceleration: Acceleration::of_this_host(),
        memory_mib: 256,
        cpus: 1,
        firmware: Firmware::Bios,
        kernel: None,
        disks: vec![Disk {
            path: disk.to_owned(),
            format: DiskFormat::Raw,
            durability: Durability::Flushed,
            write_log: None,
        }],
        networks: vec![],
        kernel_arguments: vec![],
        clock: Clock::Host,
        start: Start::PowerOn,
    }
}
