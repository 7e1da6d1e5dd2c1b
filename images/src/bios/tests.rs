//! Recipes and plans as data. What GRUB makes of them is tried in `tests/tests/grub.rs`.

use std::path::PathBuf;

use keelson_bootstate::Guid;

use super::*;
use crate::disk::PlannedEsp;

fn plan() -> DiskPlan {
    let mut start = MIB;
    let partitions = Partition::ALL
        .into_iter()
        .filter_map(|kind| {
            let size = kind.size()?;
            let id = Guid::from_u128(0xabcd_0000 + u128::from(start / MIB));
            let planned = PlannedPartition {
                kind,
                id,
                start,
                size,
            };
            start += size;
            Some(planned)
        })
        .collect();
    DiskPlan {
        id: Guid::from_u128(1),
        sector_size: SectorSize::Bytes512,
        size: start + MIB,
        partitions,
        writes: vec![],
        esp: PlannedEsp {
            volume_id: 1,
            loader_path: "loader".to_owned(),
            loader: vec![],
        },
    }
}

const MIB: u64 = 1024 * 1024;

fn boot_code() -> Vec<u8> {
    let mut code = vec![0x11; 512];
    put(&mut code, CORE_SECTOR, &1u64.to_le_bytes());
    put(&mut code, DRIVE_CHECK, &JUMP);
    put(&mut code, 510, &[0x55, 0xaa]);
    code
}

fn core(len: usize) -> Vec<u8> {
    let mut core = vec![0x22; len];
    let rest = u16::try_from(len.div_ceil(512) - 1).unwrap();
    put(&mut core, REST_SECTOR, &2u64.to_le_bytes());
    put(&mut core, REST_SECTOR + 8, &rest.to_le_bytes());
    core
}

#[test]
fn the_layout_names_every_partition_of_the_scripts() {
    let layout = layout(&plan()).unwrap();
    assert!(!layout.contains('@'), "{layout}");
    // ESP has 64 MiB, the next ones 1 MiB each.
    for line in [
        "set tries_file=($disk,gpt3)/grubenv",
        "partition bootstate gpt4 137216+2048",
        "partition boot_a gpt6 141312+131072",
        "partition boot_b gpt7 272384+131072",
        "guid part_a gpt6 00000000-0000-0000-0000-0000abcd0045",
        "guid part_b gpt7 00000000-0000-0000-0000-0000abcd0085",
        "set record_first=($bootstate)8+2",
        "set record_second=($bootstate)136+2",
    ] {
        assert!(layout.lines().any(|one| one == line), "{line} in\n{layout}");
    }
}

#[test]
fn the_recipe_is_the_same_every_time_and_has_every_script() {
    let recipe = CoreRecipe::new(&plan()).unwrap();
    let tar = recipe.memory_disk().unwrap();
    assert_eq!(
        tar,
        CoreRecipe::new(&plan()).unwrap().memory_disk().unwrap()
    );
    let mut archive = tar::Archive::new(&tar[..]);
    let names: Vec<PathBuf> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    let expected = ["grub.cfg", "choose.cfg", "layout.cfg"].map(PathBuf::from);
    assert_eq!(names, expected);
    for (_, script) in &recipe.files {
        for line in script.lines() {
            // The memory disk is the only place that scripts are taken from.
            if let Some(file) = line.trim().strip_prefix("source (memdisk)/") {
                assert!(names.contains(&PathBuf::from(file)), "{file}");
            }
        }
    }
    assert!(CoreRecipe::scripts().contains("sha256sum --check"));

    let folder = tempfile::tempdir().unwrap();
    recipe.write_files(folder.path()).unwrap();
    let arguments = recipe.arguments(folder.path(), Path::new("/modules"));
    let early = b"source (memdisk)/grub.cfg\nsleep 30\nreboot\n";
    let files = [("--config", &early[..]), ("--memdisk", &tar)];
    for (option, content) in files {
        let at = arguments.iter().position(|one| one == option).unwrap();
        assert_eq!(fs::read(&arguments[at + 1]).unwrap(), content);
    }
    assert!(arguments.contains(&folder.path().join(CORE).into_os_string()));
    assert!(arguments.ends_with(&["terminal".into(), "test".into()]));
}

#[test]
fn sectors_are_told_where_the_next_one_is() {
    let mut plan = plan();
    install(&mut plan, &boot_code(), &core(1000)).unwrap();
    let written = |offset| {
        let write = plan.writes.iter().find(|write| write.offset == offset);
        match &write.unwrap().content {
            Content::Bytes(bytes) => bytes,
            Content::File(path) => panic!("{path:?}"),
        }
    };
    let bios = plan.partition(Partition::Bios).unwrap().start;
    let code = written(0);
    // The partition table and the disk's number stay.
    assert_eq!(code.len(), 440);
    assert_eq!(code[0x5c..0x64], (bios / 512).to_le_bytes());
    assert_eq!(code[0x66..0x68], [0x90, 0x90]);
    let core = written(bios);
    assert_eq!(core.len(), 1024);
    assert_eq!(core[0x1f4..0x1fc], (bios / 512 + 1).to_le_bytes());
    assert_eq!(core[0x1fc..0x1fe], [1, 0]);
    let grub_env = plan.partition(Partition::GrubEnv).unwrap().start;
    let file_system = written(grub_env);
    let at = keelson_bootstate::grub_env::find(file_system).unwrap();
    assert_eq!(
        keelson_bootstate::grub_env::decode_tries(&file_system[at..]),
        Tries::FRESH
    );
    assert_eq!(plan.writes.len(), 3);
}

#[test]
fn what_is_not_grub_2_12_is_refused() {
    let install =
        |boot: &[u8], core: &[u8]| install(&mut plan(), boot, core).unwrap_err().to_string();
    let good = boot_code();
    for at in [CORE_SECTOR, CORE_SECTOR + 7, DRIVE_CHECK, 511] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(install(&bad, &core(1000)).starts_with("boot.img is not"));
    }
    assert!(install(&good[..511], &core(1000)).starts_with("boot.img is not"));
    for at in [REST_SECTOR, REST_SECTOR + 8] {
        let mut bad = core(1000);
        bad[at] ^= 1;
        assert!(install(&good, &bad).starts_with("core.img is not"));
    }
    assert!(install(&good, &[]).starts_with("core.img is not"));
    let large = core(MAX_CORE + 1);
    assert!(install(&good, &large).contains("leave modules out"));
}

#[test]
fn disks_that_no_bios_starts_are_refused() {
    let try_plan = |plan: &mut DiskPlan| {
        install(plan, &boot_code(), &core(1000))
            .unwrap_err()
            .to_string()
    };
    let mut large = plan();
    large.sector_size = SectorSize::Bytes4096;
    assert!(try_plan(&mut large).contains("4096"));
    let mut none = plan();
    none.partitions.retain(|one| one.kind != Partition::Bios);
    assert!(try_plan(&mut none).contains("partition BIOS"));
    let mut no_slot = plan();
    no_slot
        .partitions
        .retain(|one| one.kind != Partition::BootB);
    let error = CoreRecipe::new(&no_slot).unwrap_err().to_string();
    assert!(error.contains("partition BOOT-B"), "{error}");
}
