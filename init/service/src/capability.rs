//! Linux capabilities by name.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Names in the order of their numbers in `linux/capability.h`, up to Linux 5.9's last one.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// The kernel's number for it.
    pub fn number(self) -> u8 {
        self.0
    }

    /// A set as the bit mask that the kernel uses.
    pub fn mask(capabilities: &[Self]) -> u64 {
        capabilities
            .iter()
            .fold(0, |mask, capability| mask | 1 << capability.0)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.get(usize::from(self.0)).copied().unwrap_or("?"))
    }
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        (0..)
            .zip(NAMES)
            .find(|(_, name)| *name == text)
            .map(|(number, _)| Self(number))
            .ok_or_else(|| {
                format!(
                    "{text:?} is no capability: write it in capitals without CAP_, like NET_ADMIN"
                )
            })
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        // From linux/capability.h.
        for (name, number) in [
            ("CHOWN", 0),
            ("NET_ADMIN", 12),
            ("NET_RAW", 13),
            ("SYS_ADMIN", 21),
            ("SYS_TIME", 25),
            ("BPF", 39),
            ("CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(
                name.parse::<Capability>().unwrap().number(),
                number,
                "{name}"
            );
        }
        assert!("CAP_NET_ADMIN".parse::<Capability>().is_err());
    }
}
