//! `blockdev --getsize64|--getro|--flushbufs DEVICE`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use keelson_sys::block;

use crate::EXIT_USAGE;

/// Runs `blockdev`.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("blockdev: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match request.answer() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("blockdev: {}: {error}", request.device.display());
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    command: Command,
    device: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    FlushBuffers,
    IsReadOnly,
    Size,
}

/// The arguments make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage: blockdev --getsize64|--getro|--flushbufs DEVICE")]
struct UsageError;

impl Request {
    fn parse(args: &[OsString]) -> Result<Self, UsageError> {
        let [command, device] = args else {
            return Err(UsageError);
        };
        let command = match command.to_str() {
            Some("--flushbufs") => Command::FlushBuffers,
            Some("--getro") => Command::IsReadOnly,
            Some("--getsize64") => Command::Size,
            _ => return Err(UsageError),
        };
        Ok(Self {
            command,
            device: PathBuf::from(device),
        })
    }

    fn answer(&self) -> io::Result<String> {
        let device = File::open(&self.device)?;
        Ok(match self.command {
            Command::FlushBuffers => {
                block::flush_buffers(&device)?;
                String::new()
            }
            Command::IsReadOnly => format!("{}\n", u8::from(block::read_only(&device)?)),
            Command::Size => format!("{}\n", block::size(&device)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, UsageError> {
        Request::parse(&crate::words(line))
    }

    #[test]
    fn kubelets_calls_are_understood_and_others_refused() {
        let device = PathBuf::from("/dev/x");
        assert_eq!(
            parse("--getsize64 /dev/x"),
            Ok(Request {
                command: Command::Size,
                device
            })
        );
        for line in [
            "",
            "--getsize64",
            "/dev/x",
            "--setro /dev/x",
            "--getro /dev/x /dev/y",
        ] {
            assert_eq!(parse(line), Err(UsageError), "{line}");
        }
    }

    #[test]
    fn what_is_no_block_device_is_an_error() {
        let request = parse("--getsize64 /dev/null").unwrap();
        assert!(request.answer().is_err());
    }
}
