//! Runs mkfs.ext4 and e2fsck, each with a deadline. Their output goes to ours, which PID 1 keeps.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::volume::Volume;

/// With lazy initialisation mkfs writes some megabytes per terabyte: minutes on the slowest card.
const MAKE_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Replaying a journal takes seconds; the automatic check of a large damaged disk may take long.
const SAFE_CHECK_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// The last attempt to save data: it may read every table of a large, slow disk several times.
const THOROUGH_CHECK_DEADLINE: Duration = Duration::from_secs(4 * 60 * 60);

/// How e2fsck is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckMode {
    /// Only repairs that lose nothing.
    Safe,
    /// Every repair, and the whole file system even if it says it is clean.
    Thorough,
    /// The same, beginning with the copy of a superblock that is lost.
    BackupSuperblock,
}

impl CheckMode {
    /// The option of e2fsck.
    pub fn option(self) -> &'static str {
        match self {
            Self::Safe => "-p",
            Self::Thorough => "-y",
            Self::BackupSuperblock => "-b",
        }
    }
}

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It ended with an error of its own.
    #[error("{program} failed with {status}; its output is in the log before this line")]
    Failed {
        /// Program.
        program: &'static str,
        /// How it ended.
        status: String,
    },
    /// It cannot be run at all.
    #[error("cannot run {program}")]
    Start {
        /// Program.
        program: &'static str,
        /// Cause.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} did not finish within {} s and was killed; the disk may be failing", deadline.as_secs())]
    Deadline {
        /// Program.
        program: &'static str,
        /// What it was given.
        deadline: Duration,
    },
    /// What it wrote cannot be made safe.
    #[error("cannot flush {program}'s work to the disk")]
    Flush {
        /// Program.
        program: &'static str,
        /// Cause.
        source: io::Error,
    },
}

/// Makes the file system of a volume.
pub(crate) fn make(volume: Volume, device: &Path, blocks: u64) -> Result<(), ToolError> {
    const PROGRAM: &str = "mkfs.ext4";
    let mut words: Vec<OsString> = volume
        .mkfs_options(blocks)
        .into_iter()
        .map(OsString::from)
        .collect();
    words.push(device.into());
    words.push(blocks.to_string().into());
    let status = run(PROGRAM, &words, MAKE_DEADLINE)?;
    if !status.success() {
        return Err(ToolError::Failed {
            program: PROGRAM,
            status: words_for(status),
        });
    }
    let flush = || std::fs::File::open(device)?.sync_all();
    flush().map_err(|source| ToolError::Flush {
        program: PROGRAM,
        source,
    })
}

/// Checks a file system; returns whether it is good now.
pub(crate) fn check(volume: Volume, device: &Path, mode: CheckMode) -> Result<bool, ToolError> {
    const PROGRAM: &str = "e2fsck";
    let (options, deadline): (&[&str], _) = match mode {
        CheckMode::Safe => (&["-p"], SAFE_CHECK_DEADLINE),
        CheckMode::Thorough => (&["-f", "-y"], THOROUGH_CHECK_DEADLINE),
        CheckMode::BackupSuperblock => (
            &["-f", "-y", "-B", "4096", "-b", volume.backup_superblock()],
            THOROUGH_CHECK_DEADLINE,
        ),
    };
    let words: Vec<&OsStr> = options
        .iter()
        .map(OsStr::new)
        .chain([device.as_os_str()])
        .collect();
    let status = run(PROGRAM, &words, deadline)?;
    // 1: errors corrected; 2: and reboot if it was mounted, which it is not.
    match status.code() {
        Some(0..=3) => Ok(true),
        Some(_) => Ok(false),
        None => Err(ToolError::Failed {
            program: PROGRAM,
            status: words_for(status),
        }),
    }
}

/// Runs a program to its end, or kills it at the deadline.
fn run(
    program: &'static str,
    words: &[impl AsRef<OsStr>],
    deadline: Duration,
) -> Result<ExitStatus, ToolError> {
    let start = |source| ToolError::Start { program, source };
    let mut child = Command::new(program)
        .args(words)
        // Nothing but the path of the system: no configuration by environment.
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .spawn()
        .map_err(start)?;
    match wait(&mut child, deadline) {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(ToolError::Deadline { program, deadline }),
        Err(source) => Err(start(source)),
    }
}

/// The child's end; `None` when it had to be killed.
fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec {
        tv_sec: i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: deadline.subsec_nanos().into(),
    };
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    // No handler is installed in this process, so no signal ends the wait early.
    if poll(&mut fds, Some(&timeout))? == 0 {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    }
    child.wait().map(Some)
}

fn words_for(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed() {
        let error = run("sleep", &["600"], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, ToolError::Deadline { .. }), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("keelson-no-such-program", &[""; 0], Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.to_string(), "cannot run keelson-no-such-program");
    }

    /// The real programs on a file, so that options that do not exist cannot stay unseen.
    #[test]
    fn file_systems_are_made_and_checked() {
        if Command::new("/usr/sbin/mkfs.ext4")
            .arg("-V")
            .output()
            .is_err()
        {
            eprintln!("skipped: this host has no e2fsprogs");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for (volume, mib) in [(Volume::State, 128), (Volume::Data, 700)] {
            let image = folder.path().join(volume.name());
            let file = std::fs::File::create(&image).unwrap();
            file.set_len(mib << 20).unwrap();
            let blocks = (mib << 20) / 4096 - 1;
            make(volume, &image, blocks).unwrap();

            let mut head = vec![0; crate::content::HEAD];
            io::Read::read_exact(&mut std::fs::File::open(&image).unwrap(), &mut head).unwrap();
            let found = crate::content::Content::of(&head);
            let crate::content::Content::Ext(superblock) = found else {
                panic!("{found:?}")
            };
            assert_eq!(superblock.label, volume.name());
            assert_eq!((superblock.blocks, superblock.block_size), (blocks, 4096));
            assert!(superblock.clean);
            let reserved = u32::from_le_bytes(head[1032..1036].try_into().unwrap());
            let expected = if volume == Volume::Data { 128 << 8 } else { 0 };
            assert!(reserved.abs_diff(expected) < 256, "{reserved} blocks");
            assert!(check(volume, &image, CheckMode::Safe).unwrap());

            // A superblock that lost its checksum comes back from its copy.
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(&image)
                .unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], 1024 + 0x200).unwrap();
            assert!(!check(volume, &image, CheckMode::Safe).unwrap());
            assert!(check(volume, &image, CheckMode::BackupSuperblock).unwrap());
            assert!(check(volume, &image, CheckMode::Safe).unwrap());
        }
    }

    #[test]
    fn exit_codes_arrive() {
        assert_eq!(
            run("false", &[""; 0], Duration::from_secs(60))
                .unwrap()
                .code(),
            Some(1)
        );
    }
}
