//! Asks other people's tools about what we write: `veritysetup`, `qemu-img`, `objdump`, GRUB's, and
//! systemd's own stub. They come from the build root, whose folder is in `KEELSON_BUILDROOT`
//! (`make test` sets it); without it these tests say that they were left out.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use keelson_bootstate::Guid;
use keelson_bootstate::layout::{MIB, Partition};
use keelson_images::bios::{self, BOOT_CODE, CORE, CoreRecipe, MODULES_FOLDER};
use keelson_images::disk::{DiskPlan, PlannedEsp, PlannedPartition};
use keelson_images::{SectorSize, uki, verity};

/// The build root's programs, run with its own loader and libraries: no root needs to be entered
/// for programs that only read and write files.
struct Tools {
    root: PathBuf,
}

impl Tools {
    fn find(test: &str) -> Option<Self> {
        match std::env::var_os("KEELSON_BUILDROOT") {
            Some(root) => Some(Self { root: root.into() }),
            None => {
                eprintln!("{test}: LEFT OUT, KEELSON_BUILDROOT is not set (make test sets it)");
                None
            }
        }
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let output = self.try_run(program, args);
        let text = [output.stdout.as_slice(), &output.stderr].concat();
        assert!(
            output.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&text)
        );
        output
    }

    fn try_run(&self, program: &str, args: &[&str]) -> Output {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        Command::new(libraries.join("ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(&libraries)
            .arg(self.root.join("usr").join(program))
            .args(args)
            .output()
            .unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn veritysetup_accepts_our_tree_and_sees_a_flipped_byte() {
    let Some(tools) = Tools::find("veritysetup") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (fs, image) = (folder.path().join("fs"), folder.path().join("image"));
    for blocks in [1usize, 2, 129, 20_000] {
        let data: Vec<u8> = (0..blocks)
            .flat_map(|n| [n.to_le_bytes()[0]; 4096])
            .collect();
        std::fs::write(&fs, data).unwrap();
        let sealed = verity::seal(&fs, &image).unwrap();
        let offset = format!("--hash-offset={}", blocks * verity::BLOCK);
        let root = sealed.root_hash.to_string();
        let args = ["verify", &offset, text(&image), text(&image), &root];
        tools.run("sbin/veritysetup", &args);
    }

    let sealed = verity::seal(&fs, &image).unwrap();
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[12_345_678] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let offset = format!("--hash-offset={}", 20_000 * verity::BLOCK);
    let root = sealed.root_hash.to_string();
    let args = ["verify", &offset, text(&image), text(&image), &root];
    let status = tools.try_run("sbin/veritysetup", &args).status;
    assert!(!status.success(), "veritysetup accepts a damaged image");
}

#[test]
fn qemu_img_reads_our_qcow2_as_the_same_disk() {
    let Some(tools) = Tools::find("qemu-img") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (folder.path().join("raw"), folder.path().join("qcow2"));
    // Text compresses, the state of a generator does not, the rest is a hole.
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let mut content = b"keelson ".repeat(200_000);
    content.extend((0..1_000_000).map(|_| noise()));
    std::fs::write(&raw, content).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&raw).unwrap();
    file.set_len(700 * 1024 * 1024 + 512).unwrap();

    keelson_images::qcow2::convert(&raw, &qcow2).unwrap();
    tools.run("bin/qemu-img", &["check", text(&qcow2)]);
    tools.run(
        "bin/qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            text(&raw),
            text(&qcow2),
        ],
    );
}

#[test]
fn objdump_reads_a_unified_kernel_image_made_with_the_real_stub() {
    let Some(tools) = Tools::find("objdump") else {
        return;
    };
    let stub = std::fs::read(
        tools
            .root
            .join("usr/lib/systemd/boot/efi/linuxx64.efi.stub"),
    )
    .unwrap();
    let image = uki::Uki {
        stub: &stub,
        // Any EFI program will do as a kernel here.
        linux: &stub,
        initrd: &[1; 70_000],
        command_line: "roothash=ab",
        uname: "6.12",
        os_release: b"ID=keelson\n",
    }
    .assemble()
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uki.efi");
    std::fs::write(&path, image).unwrap();
    let output = tools.run(
        "bin/objdump",
        &["--section-headers", "--private-headers", text(&path)],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    for section in [
        ".sdmagic", ".osrel", ".cmdline", ".uname", ".initrd", ".linux",
    ] {
        assert!(text.contains(section), "{section} is missing in {text}");
    }
    assert!(
        text.contains("Subsystem\t\t0000000a"),
        "still an EFI application: {text}"
    );
}

#[test]
fn grub_accepts_our_scripts_and_makes_the_same_core_image_twice() {
    let Some(tools) = Tools::find("grub-mkimage") else {
        return;
    };
    let plan = disk_with_bios();
    let recipe = CoreRecipe::new(&plan).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("all.cfg");
    let all: String = recipe.files.iter().map(|(_, text)| text.as_str()).collect();
    std::fs::write(&script, &all).unwrap();
    tools.run("bin/grub-script-check", &[text(&script)]);
    std::fs::write(&script, all + "if").unwrap();
    let status = tools
        .try_run("bin/grub-script-check", &[text(&script)])
        .status;
    assert!(!status.success(), "grub-script-check accepts half an if");

    let modules = tools.root.join(MODULES_FOLDER);
    let core = || {
        recipe.write_files(folder.path()).unwrap();
        let arguments = recipe.arguments(folder.path(), &modules);
        let arguments: Vec<_> = arguments.iter().map(|one| one.to_str().unwrap()).collect();
        tools.run("bin/grub-mkimage", &arguments);
        std::fs::read(folder.path().join(CORE)).unwrap()
    };
    let one = core();
    assert!(one == core(), "two core images from the same parts differ");
    let boot_code = std::fs::read(modules.join(BOOT_CODE)).unwrap();
    let mut installed = plan.clone();
    bios::install(&mut installed, &boot_code, &one).unwrap();
    assert_eq!(installed.writes.len(), 3);
}

fn disk_with_bios() -> DiskPlan {
    let mut end = MIB;
    let partitions = Partition::ALL
        .into_iter()
        .filter_map(|kind| {
            let (start, size) = (end, kind.size()?);
            end += size;
            let id = Guid::from_u128(u128::from(start));
            Some(PlannedPartition {
                kind,
                id,
                start,
                size,
            })
        })
        .collect();
    DiskPlan {
        id: Guid::from_u128(1),
        sector_size: SectorSize::Bytes512,
        size: end + MIB,
        partitions,
        writes: vec![],
        esp: PlannedEsp {
            volume_id: 1,
            loader_path: "loader".to_owned(),
            loader: vec![],
        },
    }
}
