//! Running programs inside the root: a mount namespace, as root or through a user namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use thiserror::Error;

use crate::run::{RunError, run};

const SCRIPT: &str = include_str!("enter.sh");

/// Entering takes milliseconds.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);

/// A folder or file of the host that is visible in the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    source: PathBuf,
    place: PathBuf,
    writable: bool,
}

impl Bind {
    /// Visible at the same path; programs may write to it.
    pub fn writable(path: &Path) -> Self {
        Self {
            source: path.to_owned(),
            place: path.to_owned(),
            writable: true,
        }
    }

    /// Visible at the same path, read-only.
    pub fn read_only(path: &Path) -> Self {
        Self {
            writable: false,
            ..Self::writable(path)
        }
    }

    /// The same at another place, which must be absolute and not below /usr, /etc, /opt or /var.
    #[must_use]
    pub fn at(self, place: &Path) -> Self {
        Self {
            place: place.to_owned(),
            ..self
        }
    }
}

/// How this machine lets us enter the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// We are root and may mount.
    Root,
    /// Through a user namespace.
    UserNamespace,
}

/// Why the root cannot be entered.
#[derive(Debug, Error)]
#[error("this machine does not let us enter the build root; {hint}")]
pub struct EnterError {
    hint: String,
    /// What the attempt said.
    source: RunError,
}

/// Finds the way in, by trying.
pub(crate) fn find_entrance(tree: &Path) -> Result<Entrance, EnterError> {
    let mut ways = vec![Entrance::UserNamespace];
    if rustix::process::geteuid().is_root() {
        ways.insert(0, Entrance::Root);
    }
    let mut failure = None;
    for way in ways {
        let probe = command(tree, way, Path::new("/usr/bin/true"), &[]);
        match run(probe, PROBE_DEADLINE) {
            Ok(_) => return Ok(way),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(source) => Err(EnterError {
            hint: hint(Path::new("/proc/sys")),
            source,
        }),
        // Not reachable: the list of ways is never empty, and each either returns or leaves a failure.
        None => Ok(Entrance::UserNamespace),
    }
}

/// The command that runs `program` in the root; the caller appends the program's arguments.
pub(crate) fn command(tree: &Path, entrance: Entrance, program: &Path, binds: &[Bind]) -> Command {
    let mut command = Command::new("unshare");
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8");
    if entrance == Entrance::UserNamespace {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c", SCRIPT, "enter.sh"]);
    command.arg(tree).arg(binds.len().to_string());
    for bind in binds {
        command.arg(if bind.writable { "rw" } else { "ro" });
        command.arg(&bind.source).arg(&bind.place);
    }
    command.arg(program);
    command
}

/// What to change, from the kernel's own settings.
fn hint(settings: &Path) -> String {
    let is = |name: &str, value: &str| {
        fs::read_to_string(settings.join(name)).is_ok_and(|text| text.trim() == value)
    };
    let change = if is("kernel/unprivileged_userns_clone", "0") {
        Some("kernel.unprivileged_userns_clone=1")
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        Some("kernel.apparmor_restrict_unprivileged_userns=0")
    } else if is("user/max_user_namespaces", "0") {
        Some("user.max_user_namespaces=15000")
    } else {
        None
    };
    match change {
        Some(change) => {
            format!("allow user namespaces with `sysctl -w {change}` as root, or run this as root")
        }
        None => String::from(
            "it needs user namespaces (containers often forbid them) or the rights of root",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_in_the_order_the_script_reads() {
        let binds = [
            Bind::read_only(Path::new("/a")),
            Bind::writable(Path::new("/b")).at(Path::new("/c")),
        ];
        let command = command(
            Path::new("/tree"),
            Entrance::UserNamespace,
            Path::new("make"),
            &binds,
        );
        let arguments: Vec<_> = command
            .get_args()
            .map(|one| one.to_str().unwrap())
            .collect();
        assert_eq!(
            arguments[..4],
            ["--user", "--map-root-user", "--mount", "sh"]
        );
        let rest = &arguments[7..];
        assert_eq!(
            rest,
            ["/tree", "2", "ro", "/a", "/a", "rw", "/b", "/c", "make"]
        );
    }

    #[test]
    fn the_hint_names_the_setting_that_is_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        assert!(hint(folder.path()).contains("rights of root"));
        fs::create_dir(folder.path().join("kernel")).unwrap();
        let path = folder.path().join("kernel/unprivileged_userns_clone");
        fs::write(path, "0\n").unwrap();
        assert!(hint(folder.path()).contains("unprivileged_userns_clone=1"));
    }
}
