//! The real build root: entered, it shows what it should, and stays as the cache made it.
//!
//! Uses the machine's own cache, where the build of the image has put the root already.

// Helpers outside of #[test] functions unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keelson_buildroot::{Bind, BuildRoot, ensure, run};
use keelson_cache::Cache;

const DEADLINE: Duration = Duration::from_secs(60);

fn root(said: &RefCell<Vec<String>>) -> BuildRoot {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = Cache::from_environment().unwrap();
    let progress = |line: &str| said.borrow_mut().push(line.to_owned());
    ensure(&cache, &repository, &progress).unwrap()
}

fn shell(root: &BuildRoot, binds: &[Bind], script: &str) -> Command {
    let mut command = root.command("sh", binds);
    command.args(["-c", script]);
    command
}

#[test]
fn every_tool_runs_inside() {
    let root = root(&RefCell::default());
    for (program, argument, says) in [
        (
            "qemu-system-x86_64",
            "--version",
            "QEMU emulator version 10.",
        ),
        ("mkfs.erofs", "--version", "mkfs.erofs"),
        ("veritysetup", "--version", "veritysetup"),
        ("gcc-14", "--version", "14."),
        ("cc", "--version", "14."),
        ("awk", "--version", "mawk"),
        ("nft", "--version", "nftables v1."),
        ("mkfs.ext4", "-V", "mke2fs"),
        ("grub-mkimage", "--version", " 2.12-"),
    ] {
        let mut command = root.command(program, &[]);
        command.arg(argument);
        let text = run(command, DEADLINE).unwrap();
        assert!(text.contains(says), "{program}: {text}");
    }
    for file in [
        "usr/share/OVMF/OVMF_CODE_4M.fd",
        "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        "usr/src/linux-source-6.12.tar.xz",
        "usr/lib/grub/i386-pc/boot.img",
    ] {
        assert!(root.path().join(file).exists(), "{file}");
    }
    let used = fs::read_to_string(root.used_lock()).unwrap();
    assert!(
        used.contains(" gcc-14 ") && !used.contains("grub"),
        "{used}"
    );
    let loaders = fs::read_to_string(root.used_for_loaders()).unwrap();
    assert!(
        loaders.contains(" grub-pc-bin ") && !loaders.contains("gcc"),
        "{loaders}"
    );
}

#[test]
fn only_what_is_bound_for_writing_can_be_written() {
    let said = RefCell::default();
    let root = root(&said);
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().join("shown");
    let writable = folder.path().join("writable");
    fs::create_dir(&shown).unwrap();
    fs::write(shown.join("file"), "from the host").unwrap();
    fs::create_dir(&writable).unwrap();
    let binds = [
        Bind::read_only(&shown).at(Path::new("/elsewhere/shown")),
        Bind::writable(&writable),
    ];
    let script = "cat /elsewhere/shown/file; touch /usr/x /etc/x /elsewhere/shown/x; \
        touch /tmp/x && echo ; pwd; echo inside >made; env | sort";
    let mut command = shell(&root, &binds, script);
    command.current_dir(&writable).env("EXTRA", "1");
    let text = run(command, DEADLINE).unwrap();
    assert!(text.starts_with("from the host"), "{text}");
    for place in ["/usr/x", "/etc/x", "/elsewhere/shown/x"] {
        let refused = format!("'{place}': Read-only file system");
        assert!(text.contains(&refused), "{text}");
    }
    assert!(
        text.contains(&format!("\n{}\n", writable.display())),
        "{text}"
    );
    assert!(
        text.contains("\nEXTRA=1\nHOME=/root\nLC_ALL=C.UTF-8\n"),
        "{text}"
    );
    assert!(
        !text.contains("CARGO"),
        "the host's environment stays outside: {text}"
    );
    assert_eq!(
        fs::read_to_string(writable.join("made")).unwrap(),
        "inside\n"
    );
    assert_eq!(fs::read_dir(&shown).unwrap().count(), 1);

    said.borrow_mut().clear();
    self::root(&said);
    assert_eq!(
        said.take(),
        Vec::<String>::new(),
        "the entry is as it was made"
    );
}

#[test]
fn a_failing_program_and_a_missing_one_are_errors() {
    let root = root(&RefCell::default());
    let failed = run(shell(&root, &[], "echo why >&2; exit 7"), DEADLINE).unwrap_err();
    assert!(failed.to_string().contains("why"), "{failed}");
    let missing = run(root.command("no-such-program", &[]), DEADLINE).unwrap_err();
    assert!(missing.to_string().contains("no-such-program"), "{missing}");
}
