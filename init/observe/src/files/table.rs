//! The table of what support may read.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use rustix::fs::Stat;

/// What is readable in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The kernel's attributes: see [`is_attribute`].
    Attributes,
    /// Log files, whoever may read them.
    Logs,
    /// Only these files. They are the kernel's own, and so are symbolic links on the way.
    Named(&'static [&'static str]),
    /// What every user of the node may read.
    Public,
}

/// One folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: &'static str,
    pub(super) rule: Rule,
}

/// All there is. Everything else is out of reach: keys (/run/keelson/secrets), state and
/// configuration (/system/state), data (/var/lib), processes (/proc/PID), devices.
pub(super) const FOLDERS: &[Folder] = &[
    folder("/etc", Rule::Public),
    folder("/proc", Rule::Named(PROC)),
    folder("/proc/pressure", Rule::Public),
    folder("/proc/sys", Rule::Public),
    folder("/run/keelson/etc", Rule::Public),
    folder("/run/keelson/netd", Rule::Public),
    folder("/run/keelson/rendered", Rule::Public),
    folder("/sys", Rule::Attributes),
    folder("/usr", Rule::Public),
    folder("/var/log", Rule::Logs),
];

/// Files of /proc about the machine, not about a process.
const PROC: &[&str] = &[
    "buddyinfo",
    "cgroups",
    "cmdline",
    "consoles",
    "cpuinfo",
    "crypto",
    "devices",
    "diskstats",
    "filesystems",
    "interrupts",
    "loadavg",
    "meminfo",
    "misc",
    "mounts",
    "net/dev",
    "net/dev_mcast",
    "net/if_inet6",
    "net/ipv6_route",
    "net/netstat",
    "net/protocols",
    "net/route",
    "net/snmp",
    "net/snmp6",
    "net/sockstat",
    "net/sockstat6",
    "net/softnet_stat",
    "partitions",
    "schedstat",
    "softirqs",
    "stat",
    "swaps",
    "uptime",
    "version",
    "vmstat",
    "zoneinfo",
];

const fn folder(path: &'static str, rule: Rule) -> Folder {
    Folder { path, rule }
}

/// The innermost folder a path lies in, and the rest of the path.
pub(super) fn find(path: &Path) -> Option<(&'static Folder, &Path)> {
    FOLDERS
        .iter()
        .filter_map(|folder| Some((folder, path.strip_prefix(folder.path).ok()?)))
        .max_by_key(|(folder, _)| folder.path.len())
        .filter(|(folder, rest)| match folder.rule {
            Rule::Named(names) => names.iter().any(|name| *rest == Path::new(name)),
            Rule::Attributes | Rule::Logs | Rule::Public => true,
        })
}

/// Names on the way from a folder to what the table holds; none when the folder is itself
/// listed from the disk.
pub(super) fn below(path: &Path) -> Vec<String> {
    if find(path).is_some() {
        return Vec::new();
    }
    let mut next = BTreeSet::new();
    let mut add = |whole: &Path| {
        let rest = whole.strip_prefix(path).ok();
        if let Some(Component::Normal(name)) = rest.and_then(|rest| rest.components().next()) {
            next.insert(name.to_string_lossy().into_owned());
        }
    };
    for folder in FOLDERS {
        match folder.rule {
            Rule::Named(names) => {
                for name in names {
                    add(&Path::new(folder.path).join(name));
                }
            }
            Rule::Attributes | Rule::Logs | Rule::Public => add(Path::new(folder.path)),
        }
    }
    next.into_iter().collect()
}

/// The folders, for people.
pub(super) fn summary() -> String {
    let folders: Vec<String> = FOLDERS
        .iter()
        .map(|folder| match folder.rule {
            Rule::Named(_) => format!("{} (some files)", folder.path),
            Rule::Attributes | Rule::Logs | Rule::Public => folder.path.to_owned(),
        })
        .collect();
    folders.join(", ")
}

/// Whether a regular file may be read; `way_open` says whether every user may enter the folders
/// it lies in.
pub(super) fn may_be_read(rule: Rule, name: Option<&Path>, stat: &Stat, way_open: bool) -> bool {
    let by_everyone = way_open && stat.st_mode & 0o004 != 0;
    match rule {
        Rule::Attributes => by_everyone && is_attribute(name, stat),
        // Files of a service are its own; one with a second name may be somebody else's.
        Rule::Logs => stat.st_nlink == 1,
        Rule::Named(_) | Rule::Public => by_everyone,
    }
}

/// Registers of a PCI device; some devices do not survive being read there.
const PCI_REGISTERS: &str = "config";

/// Whether a file of /sys is a plain attribute. Those have the size of a page, whatever they hold;
/// binary ones (firmware tables, device memory) have their true size.
fn is_attribute(name: Option<&Path>, stat: &Stat) -> bool {
    let page = u64::try_from(rustix::param::page_size());
    let size = u64::try_from(stat.st_size);
    size.ok() == page.ok() && name != Some(Path::new(PCI_REGISTERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(path: &str) -> Option<&'static str> {
        find(Path::new(path)).map(|(folder, _)| folder.path)
    }

    #[test]
    fn only_whole_names_of_folders_count() {
        assert_eq!(folder_of("/etc/hosts"), Some("/etc"));
        assert_eq!(folder_of("/etc"), Some("/etc"));
        assert_eq!(folder_of("/proc/sys/kernel/osrelease"), Some("/proc/sys"));
        assert_eq!(folder_of("/proc/net/dev"), Some("/proc"));
        for refused in [
            "/",
            "/etcetera",
            "/proc",
            "/proc/1/environ",
            "/proc/self/mounts",
            "/proc/net",
            "/proc/net/tcp",
            "/proc/kcore",
            "/proc/systematic",
            "/run/keelson",
            "/run/keelson/secrets/etcd/peer.pem",
            "/run/keelson/node-config.yaml",
            "/system/state/pki/ca.pem",
            "/var/lib/kubelet/pki",
            "/dev/vda",
        ] {
            assert_eq!(folder_of(refused), None, "{refused}");
        }
    }

    #[test]
    fn the_way_to_the_folders_is_shown() {
        assert_eq!(
            below(Path::new("/")),
            ["etc", "proc", "run", "sys", "usr", "var"]
        );
        assert_eq!(below(Path::new("/run")), ["keelson"]);
        assert_eq!(
            below(Path::new("/run/keelson")),
            ["etc", "netd", "rendered"]
        );
        let proc = below(Path::new("/proc"));
        assert!(proc.contains(&"net".to_owned()) && proc.contains(&"sys".to_owned()));
        assert_eq!(below(Path::new("/etc")), [""; 0]);
        assert_eq!(below(Path::new("/var/lib")), [""; 0]);
    }
}
