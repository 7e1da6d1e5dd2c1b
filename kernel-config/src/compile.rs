//! The build itself: unpack the source, configure, check, compile, keep what the image needs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use keelson_buildroot::{Bind, BuildRoot, RunError, run, run_watched};
use keelson_cache::Progress;
use thiserror::Error;

use crate::fragment::{Lost, lost};
use crate::plan::Plan;

/// Debian's package names the folder in its tar file like the file.
const SOURCE: &str = "linux-source-6.12";
/// Where the work folder and the compiler's cache appear in the root: the same on every machine, because paths get into the result.
const WORK: &str = "/build";
const CCACHE: &str = "/ccache";
/// A compressed kernel's worth of objects per variant is 100 MiB.
const CCACHE_SIZE: &str = "2G";

/// Parts of the source that no kernel of ours reads, half of its 85,000 files: documents, other
/// architectures, and the code (never the Kconfig files) of drivers for screens, sound,
/// television and radio. A fragment that wants one of those has to take it off this list.
const NOT_UNPACKED: [&str; 27] = [
    "Documentation/*/*",
    "arch/alpha/*.[chS]",
    "arch/arc/*.[chS]",
    "arch/csky/*.[chS]",
    "arch/hexagon/*.[chS]",
    "arch/loongarch/*.[chS]",
    "arch/m68k/*.[chS]",
    "arch/microblaze/*.[chS]",
    "arch/mips/*.[chS]",
    "arch/nios2/*.[chS]",
    "arch/openrisc/*.[chS]",
    "arch/parisc/*.[chS]",
    "arch/powerpc/*.[chS]",
    "arch/riscv/*.[chS]",
    "arch/s390/*.[chS]",
    "arch/sh/*.[chS]",
    "arch/sparc/*.[chS]",
    "arch/um/*.[chS]",
    "arch/xtensa/*.[chS]",
    "drivers/gpu/drm/*/*.[ch]",
    "drivers/media/*.[ch]",
    "drivers/net/wireless/*.[ch]",
    "drivers/staging/*.[ch]",
    "samples/*.[ch]",
    "sound/*.[ch]",
    "tools/perf/*",
    "tools/testing/*",
];

/// 160 MB of xz on a slow disk.
const UNPACK_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// Seconds, as it only compiles the configuration program.
const CONFIGURE_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Twenty minutes on two processors; more than a quarter of a day is a hung machine.
const COMPILE_DEADLINE: Duration = Duration::from_secs(6 * 60 * 60);
/// Status lines while compiling: one per this many files.
const FILES_PER_LINE: usize = 50;

/// The compilation's output, in the work folder.
const LOG: &str = "make.log";

/// What a finished build leaves in the cache entry.
pub(crate) const IMAGE: &str = "kernel";
pub(crate) const CONFIG: &str = "config";
pub(crate) const RELEASE: &str = "release";
pub(crate) const BUILTIN: &str = "modules.builtin";
pub(crate) const BUILTIN_INFO: &str = "modules.builtin.modinfo";

/// Why there is no kernel.
#[derive(Debug, Error)]
pub enum CompileError {
    /// A file or folder.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program in the build root.
    #[error("cannot {action}")]
    Run {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: RunError,
    },
    /// The compilation.
    #[error("cannot compile the kernel; {log} has everything that was said")]
    Make {
        /// The whole output.
        log: PathBuf,
        /// Its end.
        source: RunError,
    },
    /// Fragment lines that the kernel's rules threw out.
    #[error("{} of the fragments' lines did not survive configuration:{}", lost.len(), lines(lost))]
    Lost {
        /// Each of them.
        lost: Vec<Lost>,
    },
}

fn lines(lost: &[Lost]) -> String {
    let mut text = String::new();
    for line in lost {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {line}");
    }
    text
}

/// A build in a work folder of its own.
pub(crate) struct Build<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) root: &'a BuildRoot,
    pub(crate) work: PathBuf,
    pub(crate) ccache: PathBuf,
}

impl Build<'_> {
    /// Makes the work folder anew, with the source in it.
    pub(crate) fn unpack(&self, progress: Progress<'_>) -> Result<(), CompileError> {
        // Left by a build that was interrupted.
        if self.work.exists() {
            fs::remove_dir_all(&self.work).map_err(file_error("remove", &self.work))?;
        }
        fs::create_dir_all(&self.work).map_err(file_error("make", &self.work))?;
        progress(&format!("unpacking {SOURCE}"));
        let mut unpack = self.command("tar");
        for pattern in NOT_UNPACKED {
            unpack.arg(format!("--exclude={SOURCE}/{pattern}"));
        }
        unpack.args(["-C", WORK, "-xf"]);
        unpack.arg(format!("/usr/src/{SOURCE}.tar.xz"));
        run(unpack, UNPACK_DEADLINE)
            .map(drop)
            .map_err(run_error("unpack the kernel source"))
    }

    /// Configures; an error names every lost line.
    pub(crate) fn configure(&self, progress: Progress<'_>) -> Result<(), CompileError> {
        progress(&format!("configuring kernel {}", self.plan.target));
        let wanted = self.work.join("wanted.config");
        fs::write(&wanted, &self.plan.merged).map_err(file_error("write", &wanted))?;
        let mut configure = self.make();
        configure
            .arg(format!("KCONFIG_ALLCONFIG={WORK}/wanted.config"))
            .arg("allnoconfig");
        run(configure, CONFIGURE_DEADLINE).map_err(run_error("configure the kernel"))?;

        let path = self.out().join(".config");
        let config = fs::read_to_string(&path).map_err(file_error("read", &path))?;
        let lost = lost(&self.plan.fragments, &config);
        if lost.is_empty() {
            Ok(())
        } else {
            Err(CompileError::Lost { lost })
        }
    }

    /// Compiles what was configured and puts the results into `entry`.
    pub(crate) fn compile(&self, entry: &Path, progress: Progress<'_>) -> Result<(), CompileError> {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        progress(&format!(
            "compiling kernel {} with {jobs} jobs",
            self.plan.target
        ));
        let mut make = self.make();
        make.arg(format!("-j{jobs}")).arg(&self.plan.image);
        // With several jobs the last lines seldom are the ones that say what went wrong.
        let path = self.work.join(LOG);
        let mut log = BufWriter::new(File::create(&path).map_err(file_error("write", &path))?);
        let mut files = 0;
        let each = |line: &str| {
            // A log that cannot be written, on a full disk, must not hide the compiler's own error.
            let _ = writeln!(log, "{line}");
            if let Some(file) = compiled_file(line) {
                files += 1;
                if files % FILES_PER_LINE == 0 {
                    progress(&format!("compiling the kernel: {files} files, now {file}"));
                }
            }
        };
        run_watched(make, COMPILE_DEADLINE, each)
            .map_err(|source| CompileError::Make { log: path, source })?;
        self.keep(entry)?;
        // Only space is at stake: the next build removes it first.
        let _ = fs::remove_dir_all(&self.work);
        Ok(())
    }

    fn keep(&self, entry: &Path) -> Result<(), CompileError> {
        let results = [
            (self.plan.image_path.as_path(), IMAGE),
            (Path::new(".config"), CONFIG),
            (Path::new("include/config/kernel.release"), RELEASE),
            (Path::new("modules.builtin"), BUILTIN),
            (Path::new("modules.builtin.modinfo"), BUILTIN_INFO),
        ];
        for (from, to) in results {
            let path = self.out().join(from);
            // Content only: modes and times of the build do not belong to the result.
            let bytes = fs::read(&path).map_err(file_error("read", &path))?;
            let path = entry.join(to);
            fs::write(&path, bytes).map_err(file_error("write", &path))?;
        }
        Ok(())
    }

    fn out(&self) -> PathBuf {
        self.work.join("out")
    }

    fn make(&self) -> Command {
        let mut command = self.command("make");
        command.args(["-C", &format!("{WORK}/{SOURCE}"), &format!("O={WORK}/out")]);
        command.arg(format!("ARCH={}", self.plan.make));
        command.arg(format!("CC=ccache {}", self.plan.compiler));
        command
    }

    fn command(&self, program: &str) -> Command {
        let binds = [
            Bind::writable(&self.work).at(Path::new(WORK)),
            Bind::writable(&self.ccache).at(Path::new(CCACHE)),
        ];
        let mut command = self.root.command(program, &binds);
        command
            .env("CCACHE_DIR", CCACHE)
            .env("CCACHE_MAXSIZE", CCACHE_SIZE)
            // Headers found by the compiler itself decide: saves a preprocessor run per file.
            .env("CCACHE_DEPEND", "1")
            // Same inputs, same bytes: who built it, where and when is in no kernel of ours.
            // The date says nothing that the version does not.
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970")
            .env("KBUILD_BUILD_USER", "keelson")
            .env("KBUILD_BUILD_HOST", "keelson")
            .env("KBUILD_BUILD_VERSION", "1");
        command
    }
}

/// The file of a line such as `  CC      net/ipv4/tcp.o`.
fn compiled_file(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("CC"), Some(file), None) => Some(file),
        _ => None,
    }
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CompileError {
    let path = path.to_owned();
    move |source| CompileError::File {
        action,
        path,
        source,
    }
}

fn run_error(action: &'static str) -> impl FnOnce(RunError) -> CompileError {
    move |source| CompileError::Run { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_files_are_counted_and_nothing_else() {
        assert_eq!(
            compiled_file("  CC      net/ipv4/tcp.o"),
            Some("net/ipv4/tcp.o")
        );
        for line in ["  AS      a.o", "make[1]: Entering directory", "", "CC a b"] {
            assert_eq!(compiled_file(line), None, "{line}");
        }
    }
}
