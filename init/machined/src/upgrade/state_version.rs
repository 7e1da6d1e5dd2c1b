//! The format of STATE: a number, and steps between numbers that can be gone both ways.
//!
//! A build reads every format up to its own. STATE has the newest format that the builds in both
//! slots read, so either may be started at any time: a new format is only used once nobody is left
//! who does not know it, and is left again before an older build gets its chance. Everything else
//! that changes on STATE only adds, and is ignored by those who do not know it.
//!
//! A step may be cut off at any place and is then done again from its beginning.

use std::io;
use std::path::{Path, PathBuf};

use keelson_durable::ReplaceError;

/// The newest format this build reads.
pub(crate) const KNOWN: u32 = 1;

/// The name by which a bundle says which format its build reads.
pub(crate) const COMPONENT: &str = "state";

/// Steps from each format to the next one.
const STEPS: &[Migration] = &[];

/// From one format to the next, and back. Both can be repeated.
pub(crate) struct Migration {
    /// The format it leads to.
    to: u32,
    forward: fn(&Path) -> io::Result<()>,
    back: fn(&Path) -> io::Result<()>,
}

/// STATE is not in the format it should be in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateVersionError {
    #[error("{} does not hold a number", path.display())]
    NoNumber { path: PathBuf },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot bring STATE from format {from} to {to}")]
    Step {
        from: u32,
        to: u32,
        source: io::Error,
    },
    #[error(
        "STATE has format {found}, which a later version of Keelson wrote; this one knows {KNOWN}"
    )]
    TooNew { found: u32 },
    #[error("cannot write down the format of STATE")]
    Write(#[from] ReplaceError),
}

/// Brings STATE into the newest format that both builds read; `other` is what the build in the
/// other slot reads, if there is one. Says which format that is.
pub(crate) fn settle(state: &Path, other: Option<u32>) -> Result<u32, StateVersionError> {
    settle_with(state, other, KNOWN, STEPS)
}

fn settle_with(
    state: &Path,
    other: Option<u32>,
    known: u32,
    steps: &[Migration],
) -> Result<u32, StateVersionError> {
    let wanted = other.map_or(known, |other| other.min(known)).max(1);
    let path = state.join("format");
    let mut now = match read(&path)? {
        Some(number) => number,
        None => {
            // A node's first boot: what is made from now on is of this format.
            write(&path, 1)?;
            1
        }
    };
    if now > known {
        return Err(StateVersionError::TooNew { found: now });
    }
    while now != wanted {
        let up = now < wanted;
        let between = if up { now + 1 } else { now };
        let next = if up { now + 1 } else { now - 1 };
        let failed = |source| StateVersionError::Step {
            from: now,
            to: next,
            source,
        };
        let step = steps
            .iter()
            .find(|step| step.to == between)
            .ok_or_else(|| failed(io::Error::other("this build has no such step")))?;
        let run = if up { step.forward } else { step.back };
        run(state).map_err(failed)?;
        write(&path, next)?;
        now = next;
    }
    Ok(now)
}

fn read(path: &Path) -> Result<Option<u32>, StateVersionError> {
    match std::fs::read_to_string(path) {
        Ok(text) => text
            .trim()
            .parse()
            .map(Some)
            .map_err(|_| StateVersionError::NoNumber {
                path: path.to_owned(),
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateVersionError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, number: u32) -> Result<(), StateVersionError> {
    Ok(keelson_durable::replace(
        path,
        format!("{number}\n").as_bytes(),
        0o644,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Format 2 calls the file `a` `b`; format 3 has its text in capitals.
    const TEST_STEPS: &[Migration] = &[
        Migration {
            to: 2,
            forward: |state| rename(state, "a", "b"),
            back: |state| rename(state, "b", "a"),
        },
        Migration {
            to: 3,
            forward: |state| change(state, str::to_uppercase),
            back: |state| change(state, str::to_lowercase),
        },
    ];

    fn rename(state: &Path, from: &str, to: &str) -> io::Result<()> {
        match std::fs::rename(state.join(from), state.join(to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn change(state: &Path, how: fn(&str) -> String) -> io::Result<()> {
        let path = state.join("b");
        let text = std::fs::read_to_string(&path)?;
        keelson_durable::replace(&path, how(&text).as_bytes(), 0o600).map_err(io::Error::other)
    }

    /// As the program of this format sees STATE.
    fn content(state: &Path, format: u32) -> String {
        let name = if format == 1 { "a" } else { "b" };
        std::fs::read_to_string(state.join(name)).unwrap()
    }

    #[test]
    fn the_newest_format_that_both_read_there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        std::fs::write(state.join("a"), "text").unwrap();
        let settle = |other| settle_with(state, other, 3, TEST_STEPS).unwrap();
        // The first boot of this build, beside one that knows less.
        assert_eq!(settle(Some(1)), 1);
        assert_eq!(content(state, 1), "text");
        assert_eq!(settle(Some(2)), 2);
        assert_eq!(content(state, 2), "text");
        assert_eq!(settle(Some(9)), 3);
        assert_eq!(content(state, 3), "TEXT");
        assert_eq!(settle(Some(9)), 3);
        // An older build is about to be started.
        assert_eq!(settle(Some(1)), 1);
        assert_eq!(content(state, 1), "text");
        // Nobody else is there.
        assert_eq!(settle(None), 3);
    }

    #[test]
    fn a_step_that_was_cut_off_is_done_again() {
        for (from, to, leave) in [
            // Cut off after the rename and before the number, upwards and downwards.
            (1, 2, "b"),
            (2, 1, "a"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let state = folder.path();
            write(&state.join("format"), from).unwrap();
            std::fs::write(state.join(leave), "text").unwrap();
            let settled = settle_with(state, Some(to), 2, TEST_STEPS).unwrap();
            assert_eq!(settled, to);
            assert_eq!(content(state, to), "text");
        }
    }

    #[test]
    fn what_cannot_be_is_an_error_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("format");
        std::fs::write(&path, "7\n").unwrap();
        let error = settle(folder.path(), None).unwrap_err();
        assert!(error.to_string().contains("format 7"), "{error}");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(
            settle(folder.path(), None),
            Err(StateVersionError::NoNumber { .. })
        ));
        std::fs::write(&path, "1").unwrap();
        assert!(matches!(
            settle_with(folder.path(), None, 2, &[]),
            Err(StateVersionError::Step { from: 1, to: 2, .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1");
    }

    #[test]
    fn every_format_has_a_step_that_leads_to_it() {
        let reached: Vec<u32> = STEPS.iter().map(|step| step.to).collect();
        let wanted: Vec<u32> = (1..KNOWN).map(|format| format + 1).collect();
        assert_eq!(reached, wanted);
    }
}
