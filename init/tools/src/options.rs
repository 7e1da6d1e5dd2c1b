//! Mount options: `-o ro,bind,size=64Mi` as flags for the kernel and text for the file system.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::mount::{MountFlags, MountPropagationFlags};

/// Options, sorted by who they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) action: Action,
    /// Flags that were asked for.
    pub(crate) set: MountFlags,
    /// Flags whose opposite was asked for.
    pub(crate) clear: MountFlags,
    /// Applied after the mount, in this order.
    pub(crate) propagation: Vec<MountPropagationFlags>,
    /// For the file system, joined by commas.
    pub(crate) data: OsString,
}

/// What kind of mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A part of the tree at a second place.
    Bind { recursive: bool },
    /// A file system.
    New,
    /// Other flags for a mount that exists.
    Remount { bind: bool },
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            action: Action::New,
            set: MountFlags::empty(),
            clear: MountFlags::empty(),
            propagation: Vec::new(),
            data: OsString::new(),
        }
    }
}

/// What one option word means.
enum Meaning {
    Bind {
        recursive: bool,
    },
    Clear(MountFlags),
    /// For mount itself or for nobody: kept in fstab files, without effect here.
    Nothing,
    Propagation(MountPropagationFlags),
    Remount,
    Set(MountFlags),
}

impl MountOptions {
    /// Takes in one `-o` argument; later words win over earlier ones.
    pub(crate) fn add(&mut self, list: &OsStr) {
        for word in split(list.as_bytes()) {
            match meaning(word) {
                Some(meaning) => self.apply(meaning),
                None => self.add_data(word),
            }
        }
    }

    fn apply(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::Bind { recursive } => {
                self.action = match self.action {
                    Action::Remount { .. } => Action::Remount { bind: true },
                    Action::Bind { recursive: true } => Action::Bind { recursive: true },
                    Action::Bind { .. } | Action::New => Action::Bind { recursive },
                };
            }
            Meaning::Remount => {
                let bind = matches!(
                    self.action,
                    Action::Bind { .. } | Action::Remount { bind: true }
                );
                self.action = Action::Remount { bind };
            }
            Meaning::Set(flag) => {
                self.set |= flag;
                self.clear -= flag;
            }
            Meaning::Clear(flag) => {
                self.clear |= flag;
                self.set -= flag;
            }
            Meaning::Propagation(flags) => self.propagation.push(flags),
            Meaning::Nothing => {}
        }
    }

    fn add_data(&mut self, word: &[u8]) {
        if !self.data.is_empty() {
            self.data.push(",");
        }
        self.data.push(OsString::from_vec(word.to_vec()));
    }
}

/// Splits at commas outside of double quotes: SELinux contexts have commas in them.
fn split(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    list.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .filter(|word| !word.is_empty())
}

/// `None`: the file system's own.
fn meaning(word: &[u8]) -> Option<Meaning> {
    use Meaning::{Bind, Clear, Nothing, Propagation, Remount, Set};
    let deep = MountPropagationFlags::REC;
    Some(match word {
        b"bind" => Bind { recursive: false },
        b"rbind" => Bind { recursive: true },
        b"remount" => Remount,
        b"ro" => Set(MountFlags::RDONLY),
        b"rw" => Clear(MountFlags::RDONLY),
        b"nosuid" => Set(MountFlags::NOSUID),
        b"suid" => Clear(MountFlags::NOSUID),
        b"nodev" => Set(MountFlags::NODEV),
        b"dev" => Clear(MountFlags::NODEV),
        b"noexec" => Set(MountFlags::NOEXEC),
        b"exec" => Clear(MountFlags::NOEXEC),
        b"sync" => Set(MountFlags::SYNCHRONOUS),
        b"async" => Clear(MountFlags::SYNCHRONOUS),
        b"dirsync" => Set(MountFlags::DIRSYNC),
        b"noatime" => Set(MountFlags::NOATIME),
        b"atime" => Clear(MountFlags::NOATIME),
        b"nodiratime" => Set(MountFlags::NODIRATIME),
        b"diratime" => Clear(MountFlags::NODIRATIME),
        b"relatime" => Set(MountFlags::RELATIME),
        b"norelatime" => Clear(MountFlags::RELATIME),
        b"strictatime" => Set(MountFlags::STRICTATIME),
        b"nostrictatime" => Clear(MountFlags::STRICTATIME),
        b"lazytime" => Set(MountFlags::LAZYTIME),
        b"nolazytime" => Clear(MountFlags::LAZYTIME),
        b"nosymfollow" => Set(MountFlags::NOSYMFOLLOW),
        b"symfollow" => Clear(MountFlags::NOSYMFOLLOW),
        b"silent" => Set(MountFlags::SILENT),
        b"loud" => Clear(MountFlags::SILENT),
        b"shared" => Propagation(MountPropagationFlags::SHARED),
        b"rshared" => Propagation(MountPropagationFlags::SHARED | deep),
        b"slave" => Propagation(MountPropagationFlags::DOWNSTREAM),
        b"rslave" => Propagation(MountPropagationFlags::DOWNSTREAM | deep),
        b"private" => Propagation(MountPropagationFlags::PRIVATE),
        b"rprivate" => Propagation(MountPropagationFlags::PRIVATE | deep),
        b"unbindable" => Propagation(MountPropagationFlags::UNBINDABLE),
        b"runbindable" => Propagation(MountPropagationFlags::UNBINDABLE | deep),
        b"defaults" | b"_netdev" | b"auto" | b"noauto" | b"nofail" | b"user" | b"nouser"
        | b"users" | b"owner" | b"group" => Nothing,
        _ if word.starts_with(b"x-")
            || word.starts_with(b"X-")
            || word.starts_with(b"comment=") =>
        {
            Nothing
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(list: &str) -> MountOptions {
        let mut options = MountOptions::default();
        options.add(OsStr::new(list));
        options
    }

    #[test]
    fn what_kubelet_passes_is_sorted() {
        let tmpfs = parse("size=67108864,noswap");
        assert_eq!(
            (tmpfs.action, tmpfs.data.to_str()),
            (Action::New, Some("size=67108864,noswap"))
        );
        let bind = parse("bind,remount,ro,nosuid,relatime");
        assert_eq!(bind.action, Action::Remount { bind: true });
        assert_eq!(
            bind.set,
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::RELATIME
        );
        assert_eq!(bind.data, "");
        let disk = parse("defaults,_netdev,nouuid,noatime,x-systemd.automount");
        assert_eq!(
            (disk.set, disk.data.to_str()),
            (MountFlags::NOATIME, Some("nouuid"))
        );
        assert_eq!(parse("remount,bind").action, parse("bind,remount").action);
        assert_eq!(
            parse("rbind,rshared").action,
            Action::Bind { recursive: true }
        );
        assert_eq!(parse("rslave").propagation.len(), 1);
    }

    #[test]
    fn the_last_word_wins() {
        let options = parse("ro,rw");
        assert_eq!(
            (options.set, options.clear),
            (MountFlags::empty(), MountFlags::RDONLY)
        );
        let options = parse("rw,ro");
        assert_eq!(
            (options.set, options.clear),
            (MountFlags::RDONLY, MountFlags::empty())
        );
    }

    #[test]
    fn a_quoted_context_keeps_its_commas() {
        let options = parse("context=\"system_u:object_r:container_file_t:s0:c1,c2\",ro");
        assert_eq!(
            options.data,
            "context=\"system_u:object_r:container_file_t:s0:c1,c2\""
        );
        assert_eq!(options.set, MountFlags::RDONLY);
    }

    proptest! {
        #[test]
        fn no_word_is_lost(words in proptest::collection::vec("[a-z]{1,6}(=[a-z0-9]{1,4})?", 0..8)) {
            let options = parse(&words.join(","));
            let data: Vec<String> = words.iter().filter(|word| meaning(word.as_bytes()).is_none()).cloned().collect();
            prop_assert_eq!(options.data.to_str().unwrap(), data.join(","));
            prop_assert!((options.set & options.clear).is_empty());
        }

        #[test]
        fn any_text_is_handled(text: Vec<u8>) {
            MountOptions::default().add(&OsString::from_vec(text));
        }
    }
}
