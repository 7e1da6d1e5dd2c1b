//! Disks of made-up machines.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const STAT: &str = "    1000      200    2048      500      300      100    4096      700        0     6000     1200        0        0        0        0        0        0\n";

fn plant(root: &Path, way: &str, files: &[(&str, &str)]) {
    let folder = root.join("sys/devices").join(way);
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let blocks = root.join("sys/block");
    fs::create_dir_all(&blocks).unwrap();
    let name = folder.file_name().unwrap();
    symlink(Path::new("../devices").join(way), blocks.join(name)).unwrap();
}

#[test]
fn a_disk_with_partitions_is_read() {
    let dir = tempfile::tempdir().unwrap();
    plant(
        dir.path(),
        "pci0000:00/0000:00:04.0/virtio1/block/vda",
        &[
            ("size", "4194304\n"),
            ("ro", "0\n"),
            ("removable", "1\n"),
            ("serial", "keelson-0\n"),
            ("stat", STAT),
            ("queue/logical_block_size", "4096\n"),
            ("queue/rotational", "1\n"),
            ("vda10/partition", "10\n"),
            ("vda10/size", "8\n"),
            ("vda10/uevent", "MAJOR=254\nPARTN=10\nPARTNAME=DATA two\n"),
            ("vda2/partition", "2\n"),
            ("vda2/size", "2048\n"),
            ("vda2/uevent", "MAJOR=254\nPARTN=2\n"),
            ("holders/none", ""),
        ],
    );
    for other in ["loop0", "zram0", "dm-1"] {
        plant(
            dir.path(),
            &format!("virtual/block/{other}"),
            &[("size", "8\n"), ("stat", STAT)],
        );
    }
    plant(dir.path(), "virtual/block/sr0", &[("size", "0\n")]);
    fs::create_dir_all(dir.path().join("proc")).unwrap();
    fs::write(dir.path().join("proc/uptime"), "24.00 40.00\n").unwrap();
    let root = Root::at(dir.path());
    let partition = |device: &str, label: &str, size_bytes| Partition {
        device: device.to_owned(),
        label: label.to_owned(),
        size_bytes,
    };
    let expected = Disk {
        device: "/dev/vda".to_owned(),
        size_bytes: 2 << 30,
        sector_bytes: 4096,
        model: String::new(),
        serial: "keelson-0".to_owned(),
        transport: "virtio".to_owned(),
        rotational: true,
        removable: true,
        read_only: false,
        system: true,
        read_bytes: 2048 * 512,
        written_bytes: 4096 * 512,
        busy: 25.0,
        partitions: vec![
            partition("/dev/vda2", "", 1 << 20),
            partition("/dev/vda10", "DATA two", 4096),
        ],
    };
    assert_eq!(disks(&root, Some("/dev/vda")).unwrap(), [expected]);
    // A node that runs from a loop device shows it.
    let found = disks(&root, Some("/dev/loop0")).unwrap();
    let system: Vec<_> = found
        .iter()
        .map(|disk| (disk.device.as_str(), disk.system))
        .collect();
    assert_eq!(system, [("/dev/loop0", true), ("/dev/vda", false)]);
    assert_eq!(
        disk_activity(&root).unwrap(),
        [DiskActivity {
            name: "vda".to_owned(),
            read_bytes: 2048 * 512,
            written_bytes: 4096 * 512,
            busy_ms: 6000,
        }]
    );
}

#[test]
fn buses_are_told_apart() {
    for (name, way, expected) in [
        (
            "nvme0n1",
            "/sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1",
            "nvme",
        ),
        (
            "sda",
            "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda",
            "ata",
        ),
        (
            "sdb",
            "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb",
            "usb",
        ),
        (
            "sdc",
            "/sys/devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:0/2:0:0:0/block/sdc",
            "scsi",
        ),
        (
            "mmcblk0",
            "/sys/devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0",
            "mmc",
        ),
        (
            "vda",
            "/sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda",
            "virtio",
        ),
        ("xvda", "/sys/devices/vbd-51712/block/xvda", ""),
    ] {
        assert_eq!(transport(name, Path::new(way)), expected, "{name}");
    }
    assert_eq!(device("cciss!c0d0"), "/dev/cciss/c0d0");
}

#[test]
fn numbers_and_names_are_taken_apart() {
    assert_eq!(scsi_serial(b"\x00\x80\x00\x06  AB12 junk"), "AB12");
    assert_eq!(scsi_serial(b"\x00\x80\xff\xffAB"), "AB");
    assert_eq!(scsi_serial(b"\x00\x83\x00\x01A"), "");
    assert_eq!(uptime("26565.69 50000.00\n"), Some(26_565_690));
    assert!((percent(1, 3) - 33.33).abs() < 1e-9);
    assert!((percent(7, 0) - 100.0).abs() < 1e-9);
}

proptest::proptest! {
    #[test]
    fn never_panics(text: String, bytes: Vec<u8>, part: u64, whole: u64) {
        let _ = (activity(&text), uptime(&text), label(&text));
        let _ = scsi_serial(&[b"\x00\x80".as_slice(), &bytes].concat());
        proptest::prop_assert!((0.0..=100.0).contains(&percent(part, whole)));
    }
}
