//! What support can reach; what it cannot is in `escape`.

mod escape;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

const SECRET: &str = "PLANTED-SECRET-7f3a";

struct Node {
    dir: TempDir,
}

impl Node {
    /// A node with secrets in every place that has some.
    fn new() -> Self {
        let node = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for path in [
            "/dev/secret",
            "/proc/1/environ",
            "/proc/kcore",
            "/root/.ssh/key",
            "/run/keelson/boot.json",
            "/run/keelson/node-config.yaml",
            "/run/keelson/secrets/etcd/peer.pem",
            "/system/state/pki/ca.pem",
            "/system/state/config/keelson.yaml",
            "/var/lib/kubelet/pki/current.pem",
            "/var/logs/x",
        ] {
            node.write(path, SECRET, 0o644);
        }
        for folder in [
            "/etc",
            "/usr/lib",
            "/var/log/pods",
            "/run/keelson/etc",
            "/sys",
        ] {
            fs::create_dir_all(node.at(folder)).unwrap();
        }
        node
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: &str, mode: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn root(&self) -> Root {
        Root::at(self.dir.path())
    }

    fn read(&self, path: &str) -> Result<String, FilesError> {
        let mut content = String::new();
        open_for_reading(&self.root(), path)?
            .read_to_string(&mut content)
            .unwrap();
        Ok(content)
    }

    #[track_caller]
    fn refuses(&self, path: &str) {
        match self.read(path) {
            Err(FilesError::Refused { .. }) => {}
            other => panic!("{path}: {other:?}"),
        }
    }
}

fn attribute(value: &str) -> String {
    let page = rustix::param::page_size();
    format!("{value:\n<page$}")
}

#[test]
fn what_is_in_the_table_is_read() {
    let node = Node::new();
    node.write("/usr/share/keelson/build.json", "{}", 0o444);
    node.write("/var/log/keelson/etcd.log", "line\n", 0o640);
    node.write("/proc/sys/kernel/osrelease", "6.18\n", 0o444);
    node.write("/proc/meminfo", "MemTotal: 1 kB\n", 0o444);
    node.write("/proc/self/mounts", "tmpfs / tmpfs rw 0 0\n", 0o444);
    node.link("/proc/mounts", "self/mounts");
    node.write("/sys/devices/disk/size", &attribute("8"), 0o444);
    node.link("/sys/class/disk", "../devices/disk");
    node.link("/usr/lib/a", "b");
    node.link("/usr/lib/b", "../share/keelson/build.json");
    for (path, expected) in [
        ("/usr/share/keelson/build.json", "{}"),
        ("/usr//share/./keelson/build.json", "{}"),
        ("/usr/lib/a", "{}"),
        ("/var/log/keelson/etcd.log", "line\n"),
        ("/proc/sys/kernel/osrelease", "6.18\n"),
        ("/proc/meminfo", "MemTotal: 1 kB\n"),
        ("/proc/mounts", "tmpfs / tmpfs rw 0 0\n"),
    ] {
        assert_eq!(node.read(path).unwrap(), expected, "{path}");
    }
    assert_eq!(node.read("/sys/class/disk/size").unwrap().trim_end(), "8");
}

#[test]
fn links_of_the_image_lead_to_rendered_files() {
    let node = Node::new();
    node.write("/run/keelson/etc/hosts", "127.0.0.1 localhost\n", 0o644);
    node.write("/run/keelson/netd/resolv.conf", "nameserver ::1\n", 0o644);
    node.link("/etc/hosts", "/run/keelson/etc/hosts");
    node.link("/etc/resolv.conf", "../run/keelson/netd/resolv.conf");
    assert_eq!(node.read("/etc/hosts").unwrap(), "127.0.0.1 localhost\n");
    assert_eq!(node.read("/etc/resolv.conf").unwrap(), "nameserver ::1\n");
}

#[test]
fn only_regular_files_are_opened() {
    let node = Node::new();
    let fifo = node.at("/var/log/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(node.at("/var/log/socket")).unwrap();
    for path in ["/var/log/pipe", "/var/log/socket", "/var/log/pods"] {
        let result = node.read(path);
        assert!(
            matches!(result, Err(FilesError::WrongKind { .. })),
            "{path}: {result:?}"
        );
    }
    let result = node.read("/var/log/none");
    assert!(matches!(result, Err(FilesError::Open { .. })), "{result:?}");
}

/// The real /proc and /sys have mounts below them, and files without end.
#[test]
fn the_kernels_own_files_of_this_machine() {
    let root = Root::machine();
    let read = |path: &str| {
        let mut content = Vec::new();
        open_for_reading(&root, path)?
            .read_to_end(&mut content)
            .map_err(|source| FilesError::Open {
                path: path.into(),
                source,
            })?;
        Ok::<_, FilesError>(content)
    };
    for path in [
        "/proc/meminfo",
        "/proc/mounts",
        "/proc/net/dev",
        "/proc/sys/kernel/osrelease",
    ] {
        assert!(!read(path).unwrap().is_empty(), "{path}");
    }
    let own = format!("/proc/{}/environ", std::process::id());
    for path in [
        own.as_str(),
        "/proc/self/environ",
        "/proc/net/tcp",
        "/dev/null",
    ] {
        assert!(
            matches!(read(path), Err(FilesError::Refused { .. })),
            "{path}"
        );
    }
    let names: Vec<String> = list(&root, "/proc")
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert!(names.contains(&"meminfo".to_owned()) && names.contains(&"net".to_owned()));
    assert!(!names.contains(&"1".to_owned()) && !names.contains(&"kcore".to_owned()));
}

/// Needs a mount: every Linux has some below /sys or /proc/sys, but not every sandbox.
#[test]
fn what_is_mounted_in_a_folder_is_not_part_of_it() {
    let root = Root::machine();
    let mounts = crate::mounts(&root).unwrap();
    for mount in mounts
        .iter()
        .filter(|mount| mount.target.starts_with("/sys/") || mount.target.starts_with("/proc/sys/"))
    {
        let result = list(&root, &mount.target);
        assert!(
            matches!(
                result,
                Err(FilesError::Refused { .. } | FilesError::Open { .. })
            ),
            "{}: {result:?}",
            mount.target
        );
    }
}

#[test]
fn folders_are_listed() {
    let node = Node::new();
    node.write("/etc/passwd", "root:x:0:0::/:/\n", 0o644);
    node.write("/etc/group", "root:x:0:\n", 0o644);
    node.link("/etc/hosts", "/run/keelson/etc/hosts");
    let entries = list(&node.root(), "/etc").unwrap();
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.name.as_str(),
                entry.kind.as_str(),
                entry.target.as_str(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("group", "file", ""),
            ("hosts", "symlink", "/run/keelson/etc/hosts"),
            ("passwd", "file", ""),
        ]
    );
    assert_eq!(entries[2].size_bytes, 16);
    assert_eq!(entries[2].mode, "0644");
    assert!(entries[2].modified.ends_with('Z'));
    let top: Vec<_> = list(&node.root(), "/")
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(top, ["etc", "proc", "run", "sys", "usr", "var"]);
    for path in ["/var/lib", "/run/keelson/secrets", "/dev", "/proc/1"] {
        let result = list(&node.root(), path);
        assert!(matches!(result, Err(FilesError::Refused { .. })), "{path}");
    }
    assert!(matches!(
        list(&node.root(), "/etc/passwd"),
        Err(FilesError::Open { .. })
    ));
}

#[test]
fn a_file_that_grows_ends_where_it_ended() {
    use std::io::Write;
    let node = Node::new();
    node.write("/var/log/busy.log", "one\n", 0o640);
    let mut file = open_for_reading(&node.root(), "/var/log/busy.log").unwrap();
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(node.at("/var/log/busy.log"))
        .unwrap();
    log.write_all(b"two\n").unwrap();
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "one\n");
    let mut file = open_for_reading(&node.root(), "/var/log/busy.log").unwrap();
    assert_eq!(file.skip_to_last(100).unwrap(), 0);
    assert_eq!(file.skip_to_last(3).unwrap(), 5);
    log.write_all(b"three\n").unwrap();
    content.clear();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "wo\n");
}
