//! `blkid -p -s TYPE -s PTTYPE -o export DEVICE`: what is on a device, by looking at it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::EXIT_USAGE;
use crate::signature::{Found, identify};

/// Nothing was found. kubelet takes this, and only this, for an empty disk.
const EXIT_NOTHING: u8 = 2;

/// The device cannot be read; util-linux's code for other errors, and none that means "empty".
const EXIT_FAILED: u8 = 4;

/// Runs `blkid`.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("blkid: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let found = File::open(&request.device).and_then(|mut device| identify(&mut device));
    match found {
        Ok(found) => {
            let text = request.render(&found);
            print!("{text}");
            if text.is_empty() {
                ExitCode::from(EXIT_NOTHING)
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("blkid: cannot read {}: {error}", request.device.display());
            ExitCode::from(EXIT_FAILED)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    device: PathBuf,
    format: Format,
    /// Empty: all.
    tags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Export,
    Full,
    Value,
}

/// The arguments make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum UsageError {
    #[error("{0:?} needs a value")]
    NoValue(OsString),
    #[error("there is no option {0:?} (known: -p -s TAG -o full|value|export)")]
    UnknownOption(OsString),
    #[error("there is no format {0:?} (known: full, value, export)")]
    Format(OsString),
    #[error("exactly one device is needed")]
    NotOneDevice,
}

impl Request {
    fn parse(args: &[OsString]) -> Result<Self, UsageError> {
        let (mut device, mut format, mut tags) = (None, Format::Full, Vec::new());
        let mut args = args.iter();
        while let Some(argument) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| UsageError::NoValue(argument.clone()))
            };
            match argument.to_str() {
                // It always looks; there is no cache to ask.
                Some("-p" | "--probe") => {}
                Some("-s" | "--match-tag") => tags.push(value()?.to_string_lossy().into_owned()),
                Some("-o" | "--output") => {
                    let name = value()?;
                    format = match name.to_str() {
                        Some("export") => Format::Export,
                        Some("full") => Format::Full,
                        Some("value") => Format::Value,
                        _ => return Err(UsageError::Format(name.clone())),
                    };
                }
                Some(text) if text.starts_with('-') => {
                    return Err(UsageError::UnknownOption(argument.clone()));
                }
                _ if device.is_some() => return Err(UsageError::NotOneDevice),
                _ => device = Some(PathBuf::from(argument)),
            }
        }
        Ok(Self {
            device: device.ok_or(UsageError::NotOneDevice)?,
            format,
            tags,
        })
    }

    /// Empty if none of the wanted tags was found.
    fn render(&self, found: &Found) -> String {
        let tags = [("TYPE", found.fs_type.as_deref()), ("PTTYPE", found.table)];
        let wanted = |tag: &str| self.tags.is_empty() || self.tags.iter().any(|name| name == tag);
        let present: Vec<(&str, &str)> = tags
            .into_iter()
            .filter_map(|(tag, value)| value.filter(|_| wanted(tag)).map(|value| (tag, value)))
            .collect();
        let mut text = String::new();
        if present.is_empty() {
            return text;
        }
        // Writing to a String cannot fail.
        let _ = match self.format {
            Format::Export => writeln!(text, "DEVNAME={}", escaped(&self.device)),
            Format::Full => write!(text, "{}:", self.device.display()),
            Format::Value => Ok(()),
        };
        for (tag, value) in present {
            let _ = match self.format {
                Format::Export => writeln!(text, "{tag}={value}"),
                Format::Full => write!(text, " {tag}=\"{value}\""),
                Format::Value => writeln!(text, "{value}"),
            };
        }
        if self.format == Format::Full {
            text.push('\n');
        }
        text
    }
}

/// One line, one `=`: kubelet refuses anything else.
fn escaped(device: &Path) -> String {
    device
        .display()
        .to_string()
        .chars()
        .map(|c| if c == '=' || c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, UsageError> {
        Request::parse(&crate::words(line))
    }

    #[test]
    fn kubelets_call_gets_lines_it_can_read() {
        let request = parse("-p -s TYPE -s PTTYPE -o export /dev/a=b").unwrap();
        let found = Found {
            fs_type: Some("ext4".to_owned()),
            table: None,
        };
        assert_eq!(request.render(&found), "DEVNAME=/dev/a?b\nTYPE=ext4\n");
        let found = Found {
            fs_type: None,
            table: Some("gpt"),
        };
        assert_eq!(request.render(&found), "DEVNAME=/dev/a?b\nPTTYPE=gpt\n");
        assert_eq!(request.render(&Found::default()), "");
    }

    #[test]
    fn other_formats() {
        let found = Found {
            fs_type: Some("xfs".to_owned()),
            table: None,
        };
        assert_eq!(
            parse("-s TYPE -o value /dev/x").unwrap().render(&found),
            "xfs\n"
        );
        assert_eq!(
            parse("/dev/x").unwrap().render(&found),
            "/dev/x: TYPE=\"xfs\"\n"
        );
    }

    #[test]
    fn nonsense_is_named() {
        for (line, expected) in [
            ("", "exactly one device"),
            ("/dev/a /dev/b", "exactly one device"),
            ("-o json /dev/a", "no format \"json\""),
            ("-s", "needs a value"),
            ("-U /dev/a", "no option \"-U\""),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
