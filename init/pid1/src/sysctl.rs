//! Kernel settings from a data file.
//!
//! One `key = value` per line, `#` for comments; a `-` in front of the key allows the setting to
//! be missing in this kernel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    key: String,
    value: String,
    optional: bool,
}

/// Why a setting is not in force.
#[derive(Debug, Error)]
pub(crate) enum SysctlError {
    /// The line has no `=` or a strange key.
    #[error("line {line}: {text:?} is not \"key = value\"")]
    Line { line: usize, text: String },
    /// The data file cannot be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The kernel refused.
    #[error("cannot set {key} to {value}")]
    Set {
        key: String,
        value: String,
        source: io::Error,
    },
}

/// Reads the data file and sets everything; what fails is reported and the rest goes on.
pub(crate) fn apply(file: &Path, proc_sys: &Path) -> Vec<SysctlError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(source) => {
            return vec![SysctlError::Read {
                path: file.to_owned(),
                source,
            }];
        }
    };
    parse(&text)
        .into_iter()
        .filter_map(|setting| setting.and_then(|setting| set(&setting, proc_sys)).err())
        .collect()
}

fn parse(text: &str) -> Vec<Result<Setting, SysctlError>> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            parse_line(line).ok_or_else(|| SysctlError::Line {
                line: number,
                text: line.to_owned(),
            })
        })
        .collect()
}

fn parse_line(line: &str) -> Option<Setting> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let (key, optional) = key
        .strip_prefix('-')
        .map_or((key, false), |key| (key, true));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let clean = !key.is_empty() && key.chars().all(plain) && !key.split('.').any(str::is_empty);
    clean.then(|| Setting {
        key: key.to_owned(),
        value: value.to_owned(),
        optional,
    })
}

fn set(setting: &Setting, proc_sys: &Path) -> Result<(), SysctlError> {
    let path = proc_sys.join(setting.key.replace('.', "/"));
    match fs::write(path, &setting.value) {
        Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SysctlError::Set {
            key: setting.key.clone(),
            value: setting.value.clone(),
            source,
        }),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_and_missing_ones_reported() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("net/ipv4")).unwrap();
        fs::write(dir.path().join("net/ipv4/ip_forward"), "0").unwrap();
        let file = dir.path().join("sysctl.conf");
        let text = "# comment\nnet.ipv4.ip_forward = 1\n-no.such = 1\n/etc/passwd = 1\n";
        fs::write(&file, text).unwrap();
        let errors: Vec<String> = apply(&file, dir.path())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            ["line 4: \"/etc/passwd = 1\" is not \"key = value\""]
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("net/ipv4/ip_forward")).unwrap(),
            "1"
        );
    }

    #[test]
    fn keys_cannot_leave_their_folder() {
        for line in ["../../x = 1", "a..b = 1", ".a = 1", " = 1", "a/b=1"] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
