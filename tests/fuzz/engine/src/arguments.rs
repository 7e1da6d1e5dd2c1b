//! What a target's program is asked to do.

use std::path::PathBuf;
use std::time::Duration;

/// The two things it can do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// Fuzz for a while.
    Fuzz(Run),
    /// Run the target on files, once.
    Repeat(Vec<PathBuf>),
}

/// How to fuzz.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) time: Duration,
    /// Where inputs go that show a mistake.
    pub(crate) found: PathBuf,
    /// Files and folders with inputs to begin with.
    pub(crate) seeds: Vec<PathBuf>,
}

const USAGE: &str = "usage: fuzz SECONDS FOUND-FOLDER SEED… | repeat FILE…\n\
    (keelson-build test fuzz does this: see tests/fuzz/README.md)";

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        match words.next().as_deref() {
            Some("fuzz") => {
                let seconds = words.next().and_then(|word| word.parse().ok());
                let (Some(seconds), Some(found)) = (seconds, words.next()) else {
                    return Err(USAGE.to_owned());
                };
                Ok(Self::Fuzz(Run {
                    time: Duration::from_secs(seconds),
                    found: found.into(),
                    seeds: words.map(PathBuf::from).collect(),
                }))
            }
            Some("repeat") => Ok(Self::Repeat(words.map(PathBuf::from).collect())),
            _ => Err(USAGE.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_commands_are_read() {
        assert_eq!(
            parse("fuzz 30 out a b"),
            Ok(Arguments::Fuzz(Run {
                time: Duration::from_secs(30),
                found: "out".into(),
                seeds: vec!["a".into(), "b".into()],
            }))
        );
        assert_eq!(parse("repeat x"), Ok(Arguments::Repeat(vec!["x".into()])));
        for wrong in ["", "fuzz", "fuzz soon out", "fuzz 3", "help"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
