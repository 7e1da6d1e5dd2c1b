//! What `mount` was asked for, and the calls that make it so.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::options::{Action, MountOptions};

/// Flags that belong to one mount, not to the file system: a second call sets them on a bind.
const PER_MOUNT: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOATIME)
    .union(MountFlags::NODIRATIME)
    .union(MountFlags::RELATIME)
    .union(MountFlags::STRICTATIME)
    .union(MountFlags::NOSYMFOLLOW);

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    options: MountOptions,
    fs_type: Option<OsString>,
    places: Vec<OsString>,
}

/// One call to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Bind {
        source: PathBuf,
        target: PathBuf,
        recursive: bool,
    },
    Change {
        target: PathBuf,
        propagation: MountPropagationFlags,
    },
    Mount {
        source: OsString,
        target: PathBuf,
        fs_type: Option<OsString>,
        flags: MountFlags,
        data: OsString,
    },
    /// Flags that are neither set nor cleared stay as they are.
    Remount {
        target: PathBuf,
        set: MountFlags,
        clear: MountFlags,
        data: OsString,
    },
}

/// The arguments make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("{0:?} needs a value")]
    NoValue(OsString),
    #[error(
        "there is no option {0:?} (known: -t -o -r -w -n --no-canonicalize --bind --rbind --make-…)"
    )]
    UnknownOption(OsString),
    #[error("no target: usage: mount [-t TYPE] [-o OPTIONS] [SOURCE] TARGET")]
    NoTarget,
    #[error("too many places: {0:?}")]
    TooMany(OsString),
    #[error("{0:?}: there is no fstab on this machine, so a source is needed")]
    NoSource(OsString),
}

impl Request {
    pub(crate) fn parse(args: &[OsString]) -> Result<Self, UsageError> {
        let mut request = Self::default();
        let mut args = args.iter();
        let mut only_places = false;
        while let Some(argument) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| UsageError::NoValue(argument.clone()))
            };
            match argument.to_str() {
                Some(_) | None if only_places => request.places.push(argument.clone()),
                Some("--") => only_places = true,
                Some("-t" | "--types") => request.fs_type = Some(value()?.clone()),
                Some("-o" | "--options") => request.options.add(value()?),
                Some("-r" | "--read-only") => request.options.add(OsStr::new("ro")),
                Some("-w" | "--rw" | "--read-write") => request.options.add(OsStr::new("rw")),
                Some("-B" | "--bind") => request.options.add(OsStr::new("bind")),
                Some("-R" | "--rbind") => request.options.add(OsStr::new("rbind")),
                // Paths are used as they are; there is no mtab to write.
                Some("-c" | "--no-canonicalize" | "-n" | "--no-mtab") => {}
                Some(text) if text.starts_with("--make-") => {
                    let before = request.options.propagation.len();
                    request.options.add(OsStr::new(&text["--make-".len()..]));
                    if request.options.propagation.len() == before {
                        return Err(UsageError::UnknownOption(argument.clone()));
                    }
                }
                Some(text) if text.starts_with('-') && text.len() > 1 => {
                    return Err(UsageError::UnknownOption(argument.clone()));
                }
                _ => request.places.push(argument.clone()),
            }
        }
        Ok(request)
    }

    pub(crate) fn plan(self) -> Result<Vec<Step>, UsageError> {
        let Self {
            options,
            fs_type,
            places,
        } = self;
        let mut places = places.into_iter();
        let (source, target) = match (places.next(), places.next(), places.next()) {
            (Some(target), None, None) => (None, PathBuf::from(target)),
            (Some(source), Some(target), None) => (Some(source), PathBuf::from(target)),
            (_, _, Some(extra)) => return Err(UsageError::TooMany(extra)),
            (None, _, _) => return Err(UsageError::NoTarget),
        };
        let MountOptions {
            action,
            set,
            clear,
            propagation,
            data,
        } = options;
        let mut steps = Vec::new();
        match (action, source) {
            (Action::Bind { recursive }, Some(source)) => {
                steps.push(Step::Bind {
                    source: source.into(),
                    target: target.clone(),
                    recursive,
                });
                if !((set | clear) & PER_MOUNT).is_empty() {
                    // The kernel ignores flags in the call that makes a bind mount.
                    let (set, clear) = (set | MountFlags::BIND, clear);
                    let data = OsString::new();
                    steps.push(Step::Remount {
                        target: target.clone(),
                        set,
                        clear,
                        data,
                    });
                }
            }
            (Action::Remount { bind }, _) => {
                let set = if bind { set | MountFlags::BIND } else { set };
                steps.push(Step::Remount {
                    target: target.clone(),
                    set,
                    clear,
                    data,
                });
            }
            // Only other propagation for a mount that is there.
            (Action::New, None) if !propagation.is_empty() && fs_type.is_none() => {}
            (Action::New, Some(source)) => {
                steps.push(Step::Mount {
                    source,
                    target: target.clone(),
                    fs_type,
                    flags: set,
                    data,
                });
            }
            (Action::Bind { .. } | Action::New, None) => {
                return Err(UsageError::NoSource(target.into_os_string()));
            }
        }
        let change = |propagation| Step::Change {
            target: target.clone(),
            propagation,
        };
        steps.extend(propagation.into_iter().map(change));
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(line: &str) -> Result<Vec<Step>, UsageError> {
        Request::parse(&crate::words(line))?.plan()
    }

    #[test]
    fn kubelets_calls_become_the_right_steps() {
        assert_eq!(
            plan("-t tmpfs -o size=1024 tmpfs /dst").unwrap(),
            [Step::Mount {
                source: "tmpfs".into(),
                target: "/dst".into(),
                fs_type: Some("tmpfs".into()),
                flags: MountFlags::empty(),
                data: "size=1024".into(),
            }]
        );
        assert_eq!(
            plan("--no-canonicalize -o bind /proc/7/fd/9 /dst").unwrap(),
            [Step::Bind {
                source: "/proc/7/fd/9".into(),
                target: "/dst".into(),
                recursive: false
            }]
        );
        assert_eq!(
            plan("-o bind,remount,ro /src /dst").unwrap(),
            [Step::Remount {
                target: "/dst".into(),
                set: MountFlags::RDONLY | MountFlags::BIND,
                clear: MountFlags::empty(),
                data: OsString::new(),
            }]
        );
        assert_eq!(plan("-o bind,ro /src /dst").unwrap().len(), 2);
        assert_eq!(
            plan("--bind --make-rshared /var/lib/kubelet /var/lib/kubelet")
                .unwrap()
                .len(),
            2
        );
        assert_eq!(plan("--make-rshared /").unwrap().len(), 1);
    }

    #[test]
    fn nonsense_is_named() {
        for (line, expected) in [
            ("", "no target"),
            ("/dst", "no fstab"),
            ("-o bind /dst", "no fstab"),
            ("a b c", "too many places: \"c\""),
            ("-t", "\"-t\" needs a value"),
            ("--fancy a b", "no option \"--fancy\""),
            ("--make-nice a", "no option \"--make-nice\""),
        ] {
            let error = plan(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_handled(args: Vec<String>) {
            let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
            if let Ok(request) = Request::parse(&args) {
                let _ = request.plan();
            }
        }
    }
}
