//! `losetup -f FILE` and `losetup -d DEVICE`: block devices made of files.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keelson_sys::loop_device::{Options, attach, detach};
use rustix::io::Errno;

use crate::EXIT_USAGE;

/// Runs `losetup`.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("losetup: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let (path, result) = match &request {
        Request::Attach {
            file,
            options,
            show,
        } => {
            let shown = |device: PathBuf| {
                if *show {
                    println!("{}", device.display());
                }
            };
            (file, attach_as_allowed(file, *options).map(shown))
        }
        Request::Detach { device } => (device, detach(device)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("losetup: {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// A file that cannot be written makes a device that cannot be written, as with util-linux.
fn attach_as_allowed(file: &Path, options: Options) -> io::Result<PathBuf> {
    let protected = [Errno::ROFS, Errno::ACCESS, Errno::PERM].map(Errno::raw_os_error);
    match attach(file, options) {
        Err(error)
            if !options.read_only
                && error
                    .raw_os_error()
                    .is_some_and(|code| protected.contains(&code)) =>
        {
            eprintln!(
                "losetup: {}: write-protected, using read-only",
                file.display()
            );
            attach(
                file,
                Options {
                    read_only: true,
                    ..options
                },
            )
        }
        result => result,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Attach {
        file: PathBuf,
        options: Options,
        show: bool,
    },
    Detach {
        device: PathBuf,
    },
}

/// The arguments make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum UsageError {
    #[error("usage: losetup -f [--show] [-r] [--direct-io=on] FILE | losetup -d DEVICE")]
    Usage,
    #[error("there is no option {0:?}")]
    UnknownOption(OsString),
}

impl Request {
    fn parse(args: &[OsString]) -> Result<Self, UsageError> {
        let mut options = Options::default();
        let (mut find, mut delete, mut show, mut path) = (false, false, false, None);
        for argument in args {
            match argument.to_str() {
                Some("-f" | "--find") => find = true,
                Some("-d" | "--detach") => delete = true,
                Some("--show") => show = true,
                Some("-r" | "--read-only") => options.read_only = true,
                Some("--direct-io" | "--direct-io=on") => options.direct_io = true,
                Some("--direct-io=off") => options.direct_io = false,
                Some(text) if text.starts_with('-') => {
                    return Err(UsageError::UnknownOption(argument.clone()));
                }
                _ if path.is_some() => return Err(UsageError::Usage),
                _ => path = Some(PathBuf::from(argument)),
            }
        }
        match (find, delete, path) {
            (true, false, Some(file)) => Ok(Self::Attach {
                file,
                options,
                show,
            }),
            (false, true, Some(device)) => Ok(Self::Detach { device }),
            _ => Err(UsageError::Usage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, UsageError> {
        Request::parse(&crate::words(line))
    }

    #[test]
    fn kubelets_calls_are_understood() {
        let file = PathBuf::from("/disk");
        let options = Options::default();
        assert_eq!(
            parse("-f /disk"),
            Ok(Request::Attach {
                file,
                options,
                show: false
            })
        );
        assert_eq!(
            parse("-d /dev/loop3"),
            Ok(Request::Detach {
                device: "/dev/loop3".into()
            })
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "-f", "-d", "/disk", "-f -d /disk", "-f /a /b"] {
            assert_eq!(parse(line), Err(UsageError::Usage), "{line}");
        }
        assert_eq!(parse("-x /a"), Err(UsageError::UnknownOption("-x".into())));
    }

    #[test]
    fn a_file_becomes_a_device_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        std::fs::write(&file, vec![7; 1 << 20]).unwrap();
        let device = match attach_as_allowed(&file, Options::default()) {
            Ok(device) => device,
            Err(error) => {
                eprintln!("skipped: no loop devices here: {error}");
                return;
            }
        };
        let name = device.file_name().unwrap().to_str().unwrap();
        let backing =
            std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).unwrap();
        assert_eq!(Path::new(backing.trim()), file);
        assert_eq!(std::fs::read(&device).unwrap(), vec![7; 1 << 20]);
        detach(&device).unwrap();
    }
}
