//! Command line of PID 1.

use std::os::fd::RawFd;
use std::path::PathBuf;

/// What stage 1, or a test, passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Watchdog that stage 1 left open.
    pub(crate) watchdog: Option<RawFd>,
    /// Runs in a namespace of a test: mounts, clock, sysctls and power are left alone.
    pub(crate) namespace: bool,
    /// Folder of the service definitions.
    pub(crate) services: PathBuf,
    /// Cgroup below which services live.
    pub(crate) cgroup_root: PathBuf,
    /// Folder of the log files.
    pub(crate) logs: PathBuf,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            watchdog: None,
            namespace: false,
            services: "/usr/share/keelson/services".into(),
            cgroup_root: "/sys/fs/cgroup".into(),
            logs: "/var/log/keelson".into(),
        }
    }
}

impl Arguments {
    /// Reads `--key=value` words.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        for word in words {
            match word.split_once('=').unwrap_or((&word, "")) {
                ("--watchdog-fd", number) => {
                    let number = number
                        .parse()
                        .map_err(|_| format!("{word:?} has no number"))?;
                    arguments.watchdog = Some(number);
                }
                ("--namespace", "") => arguments.namespace = true,
                ("--services", path) => arguments.services = path.into(),
                ("--cgroup-root", path) => arguments.cgroup_root = path.into(),
                ("--logs", path) => arguments.logs = path.into(),
                // The kernel passes what it does not know, such as `single` or `splash`.
                (key, _) if !key.starts_with("--") => {}
                _ => return Err(format!("unknown option {word:?}")),
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn options_are_read_and_the_kernels_leftovers_ignored() {
        let arguments = parse(&["splash", "--watchdog-fd=5", "--services=/x"]).unwrap();
        assert_eq!(arguments.watchdog, Some(5));
        assert_eq!(arguments.services, PathBuf::from("/x"));
        assert!(parse(&["--watchdog-fd=x"]).is_err());
        assert!(parse(&["--format"]).is_err());
    }
}
