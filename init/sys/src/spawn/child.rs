//! What happens between clone and exec, in the child.
//!
//! Everything here is plain system calls on memory that the parent prepared.

use std::fmt;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Rlimit, Uid, setrlimit, setsid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::{Capabilities, Plan};

/// Exit code of a child that could not become its program, as shells use it.
const CANNOT_EXECUTE: i32 = 127;

/// Step and error number, four bytes each.
pub(super) const REPORT_BYTES: usize = 8;

/// Longest score: `-1000` and a newline.
pub(super) const OOM_SCORE_BYTES: usize = 6;

/// Most groups a service may have; kept small so that they fit on the stack.
const MAX_GROUPS: usize = 32;

/// What a child was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// Reducing or raising capabilities.
    Capabilities = 1,
    /// Changing to the root directory.
    ChangeDirectory = 2,
    /// Executing the program.
    Execute = 3,
    /// Changing user and groups.
    Identity = 4,
    /// Setting a limit.
    Limits = 5,
    /// Giving up privileges for good.
    NoNewPrivileges = 6,
    /// Setting the order of death.
    OomScore = 7,
    /// Beginning a session.
    Session = 8,
    /// Setting up standard input and output.
    StandardStreams = 9,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Capabilities,
        Self::ChangeDirectory,
        Self::Execute,
        Self::Identity,
        Self::Limits,
        Self::NoNewPrivileges,
        Self::OomScore,
        Self::Session,
        Self::StandardStreams,
    ];

    fn number(self) -> u32 {
        Self::ALL
            .iter()
            .zip(1..)
            .find(|(step, _)| **step == self)
            .map_or(0, |(_, number)| number)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capabilities => "set capabilities",
            Self::ChangeDirectory => "change to /",
            Self::Execute => "execute the program",
            Self::Identity => "change user and groups",
            Self::Limits => "set resource limits",
            Self::NoNewPrivileges => "set no_new_privs",
            Self::OomScore => "set oom_score_adj",
            Self::Session => "begin a session",
            Self::StandardStreams => "set up standard input and output",
        })
    }
}

/// Memory the parent prepared.
pub(super) struct Image<'a> {
    /// Null-terminated.
    pub(super) argv: &'a [*const libc::c_char],
    /// Null-terminated.
    pub(super) environment: &'a [*const libc::c_char],
    pub(super) plan: &'a Plan,
    /// As text, padded with newlines.
    pub(super) oom_score_adj: &'a [u8],
    pub(super) input: BorrowedFd<'a>,
    pub(super) output: BorrowedFd<'a>,
    pub(super) report: BorrowedFd<'a>,
}

/// Turns the child into the program, or reports why not and ends.
pub(super) fn become_program(image: &Image<'_>) -> ! {
    let (step, errno) = try_to_become(image);
    let mut report = [0; REPORT_BYTES];
    report[..4].copy_from_slice(&step.number().to_ne_bytes());
    report[4..].copy_from_slice(&errno.raw_os_error().to_ne_bytes());
    let _ = rustix::io::write(image.report, &report);
    // SAFETY: `_exit` ends the process without running anything of the parent's.
    unsafe { libc::_exit(CANNOT_EXECUTE) }
}

/// The counterpart of the report above.
pub(super) fn decode_report(bytes: [u8; REPORT_BYTES]) -> (Step, Errno) {
    let [a, b, c, d, e, f, g, h] = bytes;
    let number = u32::from_ne_bytes([a, b, c, d]);
    let errno = i32::from_ne_bytes([e, f, g, h]);
    let step = Step::ALL
        .into_iter()
        .find(|step| step.number() == number)
        .unwrap_or(Step::Execute);
    (step, Errno::from_raw_os_error(errno))
}

/// Writes a score as text without allocating; unused room becomes newlines, which the kernel
/// strips.
pub(super) fn format_score(score: i16, room: &mut [u8; OOM_SCORE_BYTES]) {
    let text = score.to_string();
    room.fill(b'\n');
    for (to, from) in room.iter_mut().zip(text.bytes()) {
        *to = from;
    }
}

/// Returns only when a step failed.
fn try_to_become(image: &Image<'_>) -> (Step, Errno) {
    let plan = image.plan;
    match prepare(image) {
        Ok(()) => {}
        Err(failure) => return failure,
    }
    let Some(program) = plan.argv.first() else {
        return (Step::Execute, Errno::NOENT);
    };
    // SAFETY: the path and both arrays are null-terminated and live in the copy of the parent's
    // memory.
    unsafe {
        libc::execve(
            program.as_ptr(),
            image.argv.as_ptr(),
            image.environment.as_ptr(),
        )
    };
    (Step::Execute, last_errno())
}

fn prepare(image: &Image<'_>) -> Result<(), (Step, Errno)> {
    let plan = image.plan;
    let at = |step| move |errno| (step, errno);
    setsid().map_err(at(Step::Session))?;
    reset_signals();
    standard_streams(image).map_err(at(Step::StandardStreams))?;
    rustix::process::chdir(c"/").map_err(at(Step::ChangeDirectory))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for (limit, value) in &plan.limits {
        let rlimit = Rlimit {
            current: *value,
            maximum: *value,
        };
        setrlimit(limit.resource(), rlimit).map_err(at(Step::Limits))?;
    }
    // Before the user changes: a lower score than the parent's needs root.
    oom_score(image.oom_score_adj).map_err(at(Step::OomScore))?;
    let mask = match plan.capabilities {
        Capabilities::Exactly(mask) => Some(mask),
        Capabilities::Unchanged => None,
    };
    if let Some(mask) = mask {
        // The bounding set first: dropping from it needs SETPCAP, which goes with the user.
        limit_bounding_set(mask).map_err(at(Step::Capabilities))?;
        set_keep_capabilities(true).map_err(at(Step::Capabilities))?;
    }
    identity(plan).map_err(at(Step::Identity))?;
    if let Some(mask) = mask {
        only_capabilities(mask, plan.credentials.uid != 0).map_err(at(Step::Capabilities))?;
    }
    if plan.no_new_privileges {
        set_no_new_privs(true).map_err(at(Step::NoNewPrivileges))?;
    }
    Ok(())
}

/// Default action for every signal, none blocked: exec keeps ignored and blocked ones.
///
/// By system call, because libc keeps its hands on signals 32 to 34.
fn reset_signals() {
    // The kernel's `struct sigaction` is at most four words; all zero means the default action.
    let default_action = [0_usize; 4];
    let empty_set = 0_u64;
    let set_bytes = size_of_val(&empty_set);
    for signal in 1..=64 {
        // SAFETY: the default action runs no code of ours, and the kernel reads no more than the
        // words above. Signals whose action cannot change are refused, which is as wanted.
        unsafe {
            let none = std::ptr::null_mut::<usize>();
            let action = default_action.as_ptr();
            libc::syscall(libc::SYS_rt_sigaction, signal, action, none, set_bytes);
        }
    }
    // SAFETY: the set is the size that is passed, and the kernel only reads it.
    unsafe {
        let none = std::ptr::null_mut::<u64>();
        let set = &raw const empty_set;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            set,
            none,
            set_bytes,
        );
    }
}

fn standard_streams(image: &Image<'_>) -> Result<(), Errno> {
    rustix::stdio::dup2_stdin(image.input)?;
    rustix::stdio::dup2_stdout(image.output)?;
    rustix::stdio::dup2_stderr(image.output)?;
    // Everything else closes at exec, whoever forgot to say so when it was opened.
    // SAFETY: only flags of descriptors are changed, and this copy of the process uses none but
    // those above and the report pipe, which closes at exec as well.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

fn oom_score(text: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, text).map(drop)
}

fn limit_bounding_set(mask: u64) -> Result<(), Errno> {
    for number in 0..64_u32 {
        if mask & (1 << number) != 0 {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes a number and no pointers.
        let result =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        if result != 0 {
            return match last_errno() {
                // Beyond the last capability of this kernel.
                Errno::INVAL => Ok(()),
                errno => Err(errno),
            };
        }
    }
    Ok(())
}

fn identity(plan: &Plan) -> Result<(), Errno> {
    let credentials = &plan.credentials;
    let mut groups = [Gid::ROOT; MAX_GROUPS];
    let groups = groups
        .get_mut(..credentials.groups.len())
        .ok_or(Errno::INVAL)?;
    for (to, from) in groups.iter_mut().zip(&credentials.groups) {
        *to = Gid::from_raw(*from);
    }
    let (uid, gid) = (
        Uid::from_raw(credentials.uid),
        Gid::from_raw(credentials.gid),
    );
    // The only thread of this process, so the per-thread calls change the process.
    set_thread_groups(groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn only_capabilities(mask: u64, ambient: bool) -> Result<(), Errno> {
    let set = CapabilitySet::from_bits_retain(mask);
    set_capabilities(
        None,
        CapabilitySets {
            effective: set,
            permitted: set,
            inheritable: set,
        },
    )?;
    if !ambient {
        return Ok(());
    }
    for number in (0..64_u32).filter(|number| mask & (1 << number) != 0) {
        // SAFETY: PR_CAP_AMBIENT_RAISE takes a number and no pointers.
        let result = unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                libc::c_ulong::from(number),
                0,
                0,
            )
        };
        if result != 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

fn last_errno() -> Errno {
    // SAFETY: the address of this thread's error number is always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
