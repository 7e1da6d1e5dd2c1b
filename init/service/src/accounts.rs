//! Users and groups by name, from `/etc/passwd` and `/etc/group`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

/// The accounts of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, u32>,
}

/// One user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User number.
    pub uid: u32,
    /// Number of the main group.
    pub gid: u32,
}

impl Accounts {
    /// Reads both files below a root directory, `/` for this machine.
    pub fn read(root: &Path) -> Result<Self, AccountsError> {
        let read = |path: &str| {
            let path = root.join(path);
            fs::read_to_string(&path).map_err(|source| AccountsError::Read { path, source })
        };
        Self::parse(&read("etc/passwd")?, &read("etc/group")?)
    }

    /// Parses the text of both files.
    pub fn parse(passwd: &str, group: &str) -> Result<Self, AccountsError> {
        let mut accounts = Self::default();
        for (line, fields) in lines(passwd) {
            let error = || AccountsError::Line {
                file: "passwd",
                line,
            };
            let [name, _, uid, gid, ..] = &fields[..] else {
                return Err(error());
            };
            let user = User {
                uid: number(uid).ok_or_else(error)?,
                gid: number(gid).ok_or_else(error)?,
            };
            accounts.users.insert((*name).to_owned(), user);
        }
        for (line, fields) in lines(group) {
            let error = || AccountsError::Line {
                file: "group",
                line,
            };
            let [name, _, gid, ..] = &fields[..] else {
                return Err(error());
            };
            accounts
                .groups
                .insert((*name).to_owned(), number(gid).ok_or_else(error)?);
        }
        Ok(accounts)
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<User> {
        self.users.get(name).copied()
    }

    /// A group's name by number.
    pub fn group_name(&self, gid: u32) -> Option<&str> {
        let group = self.groups.iter().find(|(_, number)| **number == gid);
        group.map(|(name, _)| name.as_str())
    }

    /// A group's number by name.
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }
}

/// Why the accounts cannot be had.
#[derive(Debug, Error)]
pub enum AccountsError {
    /// A line is not of the file's form.
    #[error("line {line} of /etc/{file} is malformed")]
    Line {
        /// `passwd` or `group`.
        file: &'static str,
        /// Counted from 1.
        line: usize,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| (number, line.split(':').collect()))
}

fn number(field: &str) -> Option<u32> {
    field.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_bad_lines_named() {
        let passwd = "root:x:0:0:root:/:/\n\n# comment\netcd:x:911:911::/:/nologin\n";
        let accounts = Accounts::parse(passwd, "etcd:x:911:\n").unwrap();
        assert_eq!(accounts.user("etcd"), Some(User { uid: 911, gid: 911 }));
        assert_eq!(accounts.group("etcd"), Some(911));
        assert_eq!(accounts.group_name(911), Some("etcd"));
        assert_eq!(accounts.group_name(912), None);
        assert_eq!(accounts.user("kubelet"), None);
        let error = Accounts::parse("root:x:0:0::/:/\nbad:x:no:1::/:/\n", "").unwrap_err();
        assert_eq!(error.to_string(), "line 2 of /etc/passwd is malformed");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(passwd: String, group: String) {
            let _ = Accounts::parse(&passwd, &group);
        }
    }
}
