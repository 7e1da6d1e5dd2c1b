//! `mount`: decides the calls first, then makes them.

mod request;

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};

use crate::EXIT_USAGE;
use crate::signature::{Found, identify};
use request::{Request, Step};

/// util-linux's code for "the mount failed".
const EXIT_FAILED: u8 = 32;

/// Where helpers for file systems with a program of their own are looked for.
const HELPER_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/bin"];

/// Runs `mount`.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let plan = match Request::parse(args).and_then(Request::plan) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("mount: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    for step in plan {
        if let Err(error) = carry_out(&step) {
            eprintln!("mount: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    }
    ExitCode::SUCCESS
}

/// The kernel said no. Never has options in it: some are passwords.
#[derive(Debug, thiserror::Error)]
enum MountError {
    #[error("{}: cannot bind {}: {reason}", .target.display(), .source_path.display())]
    Bind {
        source_path: PathBuf,
        target: PathBuf,
        reason: Errno,
    },
    #[error("{}: cannot change the propagation: {reason}", .target.display())]
    Change { target: PathBuf, reason: Errno },
    #[error("{}: cannot mount {source_path:?} as {fs_type:?}: {reason}{}", .target.display(), hint(*.reason))]
    Mount {
        source_path: OsString,
        target: PathBuf,
        fs_type: OsString,
        reason: Errno,
    },
    #[error("{}: cannot change the flags: {reason}", .target.display())]
    Remount { target: PathBuf, reason: Errno },
    #[error("{}: cannot find out the file system: {reason}; name it with -t", .device.display())]
    Identify { device: PathBuf, reason: String },
    #[error("an option has a zero byte in it")]
    ZeroByte,
    #[error("cannot run {}: {reason}", .helper.display())]
    Helper {
        helper: PathBuf,
        reason: std::io::Error,
    },
}

fn hint(reason: Errno) -> &'static str {
    match reason {
        Errno::NODEV => " (this kernel has no such file system)",
        Errno::INVAL => " (wrong option, or damaged file system: see the kernel's messages)",
        _ => "",
    }
}

fn carry_out(step: &Step) -> Result<(), MountError> {
    match step {
        Step::Bind {
            source,
            target,
            recursive,
        } => {
            let result = if *recursive {
                mount_bind_recursive(source, target)
            } else {
                mount_bind(source, target)
            };
            result.map_err(|reason| MountError::Bind {
                source_path: source.clone(),
                target: target.clone(),
                reason,
            })
        }
        Step::Change {
            target,
            propagation,
        } => mount_change(target, *propagation).map_err(|reason| MountError::Change {
            target: target.clone(),
            reason,
        }),
        Step::Mount {
            source,
            target,
            fs_type,
            flags,
            data,
        } => {
            let fs_type = match fs_type {
                Some(fs_type) if fs_type != "auto" => fs_type.clone(),
                _ => guess(Path::new(source))?,
            };
            if let Some(helper) = helper(&fs_type) {
                return Err(become_helper(helper, source, target, *flags, data));
            }
            let data = CString::new(data.as_bytes()).map_err(|_| MountError::ZeroByte)?;
            mount(source, target, &fs_type, *flags, data.as_c_str()).map_err(|reason| {
                let (source_path, target) = (source.clone(), target.clone());
                MountError::Mount {
                    source_path,
                    target,
                    fs_type,
                    reason,
                }
            })
        }
        Step::Remount {
            target,
            set,
            clear,
            data,
        } => {
            let failed = |reason| MountError::Remount {
                target: target.clone(),
                reason,
            };
            let present = present_flags(target).map_err(failed)?;
            mount_remount(target, (present - *clear) | *set, data).map_err(failed)
        }
    }
}

/// The kernel takes flags that are not repeated as cleared: nosuid must not get lost so.
fn present_flags(target: &Path) -> Result<MountFlags, Errno> {
    let present = statvfs(target)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let held = pairs
        .into_iter()
        .filter(|(seen, _)| present.contains(*seen));
    Ok(held.fold(MountFlags::empty(), |flags, (_, flag)| flags | flag))
}

fn guess(device: &Path) -> Result<OsString, MountError> {
    let failed = |reason: String| MountError::Identify {
        device: device.to_owned(),
        reason,
    };
    let mut file = File::open(device).map_err(|error| failed(error.to_string()))?;
    match identify(&mut file) {
        Ok(Found {
            fs_type: Some(fs_type),
            ..
        }) => Ok(fs_type.into()),
        Ok(_) => Err(failed("nothing known is on it".to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// NFS and others come with a program that does the mount; the root image or an extension may
/// have one.
fn helper(fs_type: &OsStr) -> Option<PathBuf> {
    if fs_type.as_bytes().contains(&b'/') {
        return None;
    }
    let mut name = OsString::from("mount.");
    name.push(fs_type);
    HELPER_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(&name))
        .find(|path| path.is_file())
}

/// Replaces this process; returns only if that fails.
fn become_helper(
    helper: PathBuf,
    source: &OsStr,
    target: &Path,
    flags: MountFlags,
    data: &OsStr,
) -> MountError {
    let mut options = OsString::from(if flags.contains(MountFlags::RDONLY) {
        "ro"
    } else {
        "rw"
    });
    let words = [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
        (MountFlags::SYNCHRONOUS, ",sync"),
    ];
    for (_, word) in words.into_iter().filter(|(flag, _)| flags.contains(*flag)) {
        options.push(word);
    }
    if !data.is_empty() {
        options.push(",");
        options.push(data);
    }
    let reason = Command::new(&helper)
        .arg(source)
        .arg(target)
        .arg("-o")
        .arg(options)
        .exec();
    MountError::Helper { helper, reason }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sched::{CloneFlags, unshare};
    use rustix::mount::MountPropagationFlags;

    use super::*;
    use crate::umount;

    /// Runs on a thread with its own mount table.
    fn in_namespace(test: impl FnOnce(&Path) + Send + 'static) {
        let thread = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNS).is_err() {
                eprintln!("skipped: making a mount namespace needs root");
                return;
            }
            let deep = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", deep).unwrap();
            let folder = tempfile::tempdir().unwrap();
            test(folder.path());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn success(code: ExitCode) -> bool {
        format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
    }

    fn call(line: String) -> bool {
        success(run(&crate::words(&line)))
    }

    #[test]
    fn tmpfs_bind_and_remount_work_in_the_kernel() {
        in_namespace(|folder| {
            let (a, b) = (folder.join("a"), folder.join("b"));
            fs::create_dir(&a).unwrap();
            fs::create_dir(&b).unwrap();
            let (a_name, b_name) = (a.display(), b.display());
            assert!(call(format!(
                "-t tmpfs -o size=1m,nosuid,noexec tmpfs {a_name}"
            )));
            fs::write(a.join("file"), "content").unwrap();
            assert!(call(format!("--no-canonicalize -o bind {a_name} {b_name}")));
            assert_eq!(fs::read_to_string(b.join("file")).unwrap(), "content");
            assert!(call(format!("-o bind,remount,ro {a_name} {b_name}")));
            assert_eq!(
                fs::write(b.join("file"), "x").unwrap_err().kind(),
                std::io::ErrorKind::ReadOnlyFilesystem
            );
            // Only this mount: the other one is still writable, and nosuid did not get lost.
            fs::write(a.join("file"), "more").unwrap();
            assert!(
                present_flags(&b)
                    .unwrap()
                    .contains(MountFlags::NOSUID | MountFlags::RDONLY)
            );
            assert!(success(umount::run(&crate::words(&b_name.to_string()))));
            assert!(!b.join("file").exists());
            assert!(!success(umount::run(&crate::words(&b_name.to_string()))));
            assert!(success(umount::run(&crate::words(&format!("-f {a_name}")))));
        });
    }

    #[test]
    fn failures_are_failures() {
        in_namespace(|folder| {
            let here = folder.display();
            assert!(!call(format!("-t nosuchfs none {here}")));
            assert!(!call(format!("-o bind {here}/missing {here}")));
            assert!(!call(format!("/dev/null {here}")));
            assert!(!success(umount::run(&crate::words(&format!(
                "{here}/missing"
            )))));
        });
    }
}
