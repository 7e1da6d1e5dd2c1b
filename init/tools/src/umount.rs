//! `umount`. kubelet tests at its start whether the text for a path that is no mount has
//! "not mounted" in it, and then takes that text for success at teardown.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::EXIT_USAGE;

/// util-linux's code for "the unmount failed".
const EXIT_FAILED: u8 = 32;

/// Runs `umount`.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("umount: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let mut code = ExitCode::SUCCESS;
    for target in &request.targets {
        let target = Path::new(target);
        if let Err(error) = unmount(target, request.flags) {
            eprintln!("umount: {}: {}", target.display(), explain(error));
            code = ExitCode::from(EXIT_FAILED);
        }
    }
    code
}

#[derive(Debug)]
struct Request {
    flags: UnmountFlags,
    targets: Vec<OsString>,
}

/// The arguments make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum UsageError {
    #[error("there is no option {0:?} (known: -f -l -n -v)")]
    UnknownOption(OsString),
    #[error("no path: usage: umount [-f] [-l] PATH...")]
    NoPath,
}

impl Request {
    fn parse(args: &[OsString]) -> Result<Self, UsageError> {
        let mut request = Self {
            flags: UnmountFlags::empty(),
            targets: Vec::new(),
        };
        for argument in args {
            match argument.to_str() {
                Some("-f" | "--force") => request.flags |= UnmountFlags::FORCE,
                Some("-l" | "--lazy") => request.flags |= UnmountFlags::DETACH,
                Some(
                    "-n" | "--no-mtab" | "-v" | "--verbose" | "-c" | "--no-canonicalize" | "--",
                ) => {}
                Some(text) if text.starts_with('-') => {
                    return Err(UsageError::UnknownOption(argument.clone()));
                }
                _ => request.targets.push(argument.clone()),
            }
        }
        if request.targets.is_empty() {
            return Err(UsageError::NoPath);
        }
        Ok(request)
    }
}

/// util-linux's words.
fn explain(error: Errno) -> String {
    match error {
        Errno::INVAL => "not mounted.".to_owned(),
        Errno::NOENT => "no mount point specified.".to_owned(),
        Errno::BUSY => "target is busy.".to_owned(),
        Errno::PERM => "must be superuser to unmount.".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, UsageError> {
        Request::parse(&crate::words(line))
    }

    #[test]
    fn kubelet_finds_its_words() {
        assert!(explain(Errno::INVAL).contains("not mounted"));
        for other in [Errno::NOENT, Errno::BUSY, Errno::PERM, Errno::IO] {
            assert!(!explain(other).contains("not mounted"));
        }
    }

    #[test]
    fn arguments_are_understood_or_named() {
        assert_eq!(parse("-f /a").unwrap().flags, UnmountFlags::FORCE);
        assert_eq!(parse("/a /b").unwrap().targets.len(), 2);
        assert_eq!(parse("").unwrap_err(), UsageError::NoPath);
        assert_eq!(
            parse("-x /a").unwrap_err(),
            UsageError::UnknownOption("-x".into())
        );
    }
}
