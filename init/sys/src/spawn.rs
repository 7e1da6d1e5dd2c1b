//! Starts a program as another user, in its own cgroup, with a pidfd.
//!
//! [`spawn`] never waits for the child: whether the program could be executed is told later
//! through [`Child::exec_status`], so a slow disk cannot hold up PID 1.

mod child;

use std::ffi::{CStr, CString, NulError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Resource;
use thiserror::Error;

pub use child::Step;

/// Everything about a new process, decided beforehand: after the clone nothing is looked up and
/// no memory is allocated.
#[derive(Clone, Debug)]
pub struct Plan {
    argv: Vec<CString>,
    environment: Vec<CString>,
    /// User, group and further groups.
    pub credentials: Credentials,
    /// What it may do beyond its user's rights.
    pub capabilities: Capabilities,
    /// Whether set-user-id programs have no effect below it.
    pub no_new_privileges: bool,
    /// Order of death when memory runs out.
    pub oom_score_adj: i16,
    /// Limits; `None` = unlimited. Soft and hard are the same.
    pub limits: Vec<(Limit, Option<u64>)>,
}

impl Plan {
    /// Plans to run `argv`, whose first element is a path, as root with everything inherited.
    pub fn new<'a>(
        argv: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, NulError> {
        let argv = argv
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()?;
        let environment = environment
            .into_iter()
            .map(|(key, value)| CString::new(format!("{key}={value}")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            argv,
            environment,
            credentials: Credentials {
                uid: 0,
                gid: 0,
                groups: Vec::new(),
            },
            capabilities: Capabilities::Unchanged,
            no_new_privileges: false,
            oom_score_adj: 0,
            limits: Vec::new(),
        })
    }
}

/// Identity of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// Capabilities of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capabilities {
    /// Exactly these, as a mask of capability numbers: in the bounding, permitted, effective,
    /// inheritable and (for users other than root) ambient set.
    Exactly(u64),
    /// What the parent has.
    Unchanged,
}

/// A limit that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Size of core files.
    Core,
    /// Open files.
    OpenFiles,
    /// Processes of the user.
    Processes,
}

impl Limit {
    fn resource(self) -> Resource {
        match self {
            Self::Core => Resource::Core,
            Self::OpenFiles => Resource::Nofile,
            Self::Processes => Resource::Nproc,
        }
    }
}

/// A started process.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: u32,
    /// Refers to it even when the number is used again.
    pub pidfd: OwnedFd,
    /// Becomes readable when the program runs or could not be executed.
    pub exec_status: ExecStatus,
}

/// The pipe through which the child tells that it could not become the program.
#[derive(Debug)]
pub struct ExecStatus {
    pipe: OwnedFd,
}

impl ExecStatus {
    /// What is known by now.
    pub fn read(&self) -> io::Result<ExecOutcome> {
        let mut bytes = [0; child::REPORT_BYTES];
        match rustix::io::read(&self.pipe, &mut bytes[..]) {
            Ok(0) => Ok(ExecOutcome::Running),
            Ok(length) if length == bytes.len() => {
                let (step, errno) = child::decode_report(bytes);
                Ok(ExecOutcome::Failed(ExecError {
                    step,
                    source: errno.into(),
                }))
            }
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Errno::AGAIN | Errno::INTR) => Ok(ExecOutcome::Pending),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for ExecStatus {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Whether the child became the program.
#[derive(Debug)]
pub enum ExecOutcome {
    /// It could not, and is ending.
    Failed(ExecError),
    /// Not known yet.
    Pending,
    /// It did.
    Running,
}

/// Why a child could not become the program.
#[derive(Debug, Error)]
#[error("cannot {step}")]
pub struct ExecError {
    /// What it was doing.
    pub step: Step,
    /// Cause.
    pub source: io::Error,
}

/// Why there is no child at all.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// No memory, no process numbers left, or the cgroup takes no process.
    #[error("cannot create a process")]
    Clone(#[source] io::Error),
    /// The command is empty.
    #[error("the command is empty")]
    EmptyCommand,
    /// No descriptors left.
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
}

/// Starts a process with `input` as standard input and `output` as standard output and error.
/// `cgroup` is an open cgroup directory it is born in.
pub fn spawn(
    plan: &Plan,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Child, SpawnError> {
    if plan.argv.is_empty() {
        return Err(SpawnError::EmptyCommand);
    }
    let (report_read, report_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|error| SpawnError::Pipe(error.into()))?;
    let argv = pointers(&plan.argv);
    let environment = pointers(&plan.environment);
    let mut oom_score_adj = [0; child::OOM_SCORE_BYTES];
    child::format_score(plan.oom_score_adj, &mut oom_score_adj);
    let image = child::Image {
        argv: &argv,
        environment: &environment,
        plan,
        oom_score_adj: &oom_score_adj,
        input,
        output,
        report: report_write.as_fd(),
    };
    let mut pidfd = -1;
    match clone3(&mut pidfd, cgroup).map_err(|error| SpawnError::Clone(error.into()))? {
        0 => child::become_program(&image),
        pid => {
            // SAFETY: the kernel stored a new descriptor here, which nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child {
                pid,
                pidfd,
                exec_status: ExecStatus { pipe: report_read },
            })
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| CStr::as_ptr(string))
        .chain([ptr::null()])
        .collect()
}

/// `struct clone_args` of `linux/sched.h`, up to the cgroup.
#[repr(C, align(8))]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Clones this process as `fork` does. Returns the child's number, 0 in the child.
///
/// Only the calling thread exists in the child, whose memory is a copy. The child may therefore
/// call nothing that takes a lock another thread could have held: no allocation, no libc state.
fn clone3(pidfd: &mut libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> Result<u32, Errno> {
    let address = |pointer: *mut libc::c_int| pointer.expose_provenance();
    let mut args = CloneArgs {
        flags: CLONE_PIDFD,
        // An address fits in 64 bits on every machine.
        pidfd: u64::try_from(address(pidfd)).unwrap_or(0),
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the arguments are those of a plain fork plus a pidfd address that is valid and
    // writable, and a cgroup descriptor that is borrowed over the call. With no stack given the
    // child goes on with a copy of this one. What the child may do is bounded by
    // `become_program`, its only continuation.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    u32::try_from(result)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::process::Exit;

    /// Waits for one child by its pidfd and number, and leaves the other tests' children alone.
    fn wait_for(child: &Child) -> Exit {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let id = WaitId::PidFd(child.pidfd.as_fd());
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if let Some(status) = waitid(id, options).unwrap() {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (_, signal) => Exit::Signal(signal.unwrap()),
                };
            }
            assert!(Instant::now() < deadline, "child did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn run(plan: &Plan) -> (Exit, String, ExecOutcome) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let null = File::open("/dev/null").unwrap();
        let child = spawn(plan, null.as_fd(), write.as_fd(), None).unwrap();
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        let exit = wait_for(&child);
        (exit, text, child.exec_status.read().unwrap())
    }

    #[test]
    fn a_program_gets_exactly_what_was_planned() {
        let plan = Plan::new(
            [
                "/bin/sh",
                "-c",
                "echo $A $1; pwd; read x || echo eof; ls /proc/self/fd",
                "sh",
                "b c",
            ],
            [("A", "a"), ("PATH", "/usr/bin:/bin")],
        )
        .unwrap();
        let (exit, text, outcome) = run(&plan);
        assert_eq!(exit, Exit::Code(0));
        assert!(matches!(outcome, ExecOutcome::Running));
        let lines: Vec<_> = text.lines().collect();
        // Descriptor 3 is the directory that ls reads.
        assert_eq!(lines, ["a b c", "/", "eof", "0", "1", "2", "3"]);
    }

    #[test]
    fn a_missing_program_is_told_apart_from_its_exit_code() {
        let plan = Plan::new(["/nonexistent/program"], []).unwrap();
        let (exit, _, outcome) = run(&plan);
        assert_eq!(exit, Exit::Code(127));
        let ExecOutcome::Failed(error) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(error.step, Step::Execute);
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn limits_and_privileges_are_set() {
        let mut plan =
            Plan::new(["/bin/sh", "-c", "ulimit -n; ulimit -c; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj"], [("PATH", "/usr/bin:/bin")])
                .unwrap();
        plan.no_new_privileges = true;
        plan.oom_score_adj = 137;
        plan.limits = vec![(Limit::OpenFiles, Some(123)), (Limit::Core, Some(0))];
        // As the user who runs the test: changing users is tested as root below.
        plan.credentials.uid = rustix::process::getuid().as_raw();
        plan.credentials.gid = rustix::process::getgid().as_raw();
        if plan.credentials.uid != 0 {
            return;
        }
        let (exit, text, _) = run(&plan);
        assert_eq!(exit, Exit::Code(0));
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            ["123", "0", "NoNewPrivs:\t1", "137"]
        );
    }

    #[test]
    fn another_user_has_its_groups_and_only_the_named_capabilities() {
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: needs root to become another user");
            return;
        }
        let status = "cat /proc/self/status";
        let mut plan = Plan::new(["/bin/sh", "-c", status], [("PATH", "/usr/bin:/bin")]).unwrap();
        plan.credentials = Credentials {
            uid: 913,
            gid: 914,
            groups: vec![915, 916],
        };
        // NET_ADMIN
        plan.capabilities = Capabilities::Exactly(1 << 12);
        let (exit, text, _) = run(&plan);
        assert_eq!(exit, Exit::Code(0));
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(field("Uid:"), "913 913 913 913");
        assert_eq!(field("Gid:"), "914 914 914 914");
        assert_eq!(field("Groups:"), "915 916");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000001000", "{set}");
        }
        assert_eq!(field("SigIgn:"), "0000000000000000");
        assert_eq!(field("SigBlk:"), "0000000000000000");
    }

    #[test]
    fn root_with_named_capabilities_has_no_others() {
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let mut plan = Plan::new(["/bin/cat", "/proc/self/status"], []).unwrap();
        plan.capabilities = Capabilities::Exactly(1 << 13);
        let (_, text, _) = run(&plan);
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert!(
                text.contains(&format!("{set}\t0000000000002000")),
                "{set} in {text}"
            );
        }
    }

    #[test]
    fn no_descriptor_of_the_parent_is_left_over() {
        let leak = fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let plan = Plan::new(
            ["/bin/sh", "-c", "ls /proc/self/fd"],
            [("PATH", "/usr/bin:/bin")],
        )
        .unwrap();
        let (_, text, _) = run(&plan);
        assert_eq!(text.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }
}
