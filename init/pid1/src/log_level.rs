//! The level a program gave a line, as far as its form tells.

use std::fmt;

/// Levels as one letter, the way klog writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Error,
    Info,
    Warning,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "D",
            Self::Error => "E",
            Self::Info => "I",
            Self::Warning => "W",
        })
    }
}

/// How far into a line a `level=` is looked for; loggers put it near the beginning.
const SEARCHED_BYTES: usize = 160;

/// Recognises klog (`E1121 …`), JSON and logfmt (`"level":"error"`, `level=error`) and our own
/// (`ERROR …`). Anything else is information.
pub(crate) fn detect(line: &str) -> LogLevel {
    if let Some(level) = klog(line) {
        return level;
    }
    let mut end = line.len().min(SEARCHED_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let head = &line[..end];
    for key in ["\"level\":\"", "level="] {
        if let Some((_, value)) = head.split_once(key) {
            return word(value.trim_start_matches('"'));
        }
    }
    word(line.trim_start())
}

fn klog(line: &str) -> Option<LogLevel> {
    let (letter, rest) = line.split_at_checked(1)?;
    let date = rest.as_bytes().get(..5)?;
    if !date[..4].iter().all(u8::is_ascii_digit) || date[4] != b' ' {
        return None;
    }
    match letter {
        "I" => Some(LogLevel::Info),
        "W" => Some(LogLevel::Warning),
        "E" | "F" => Some(LogLevel::Error),
        _ => None,
    }
}

fn word(text: &str) -> LogLevel {
    let is = |word: &str| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !text[word.len()..].starts_with(|c: char| c.is_alphanumeric())
    };
    if ["error", "fatal", "panic", "dpanic"].into_iter().any(is) {
        LogLevel::Error
    } else if ["warn", "warning"].into_iter().any(is) {
        LogLevel::Warning
    } else if ["debug", "trace"].into_iter().any(is) {
        LogLevel::Debug
    } else {
        LogLevel::Info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms() {
        for (line, level) in [
            ("E1121 03:30:00.1 1 x.go:1] no", LogLevel::Error),
            ("W1121 03:30:00.1 1 x.go:1] no", LogLevel::Warning),
            ("I1121 error", LogLevel::Info),
            ("{\"level\":\"warn\",\"ts\":1}", LogLevel::Warning),
            ("time=\"x\" level=error msg=y", LogLevel::Error),
            ("time=\"x\" level=\"debug\"", LogLevel::Debug),
            (" WARN netd: no lease", LogLevel::Warning),
            ("ERROR x", LogLevel::Error),
            ("Errors happen", LogLevel::Info),
            ("", LogLevel::Info),
            ("panic: runtime error", LogLevel::Error),
        ] {
            assert_eq!(detect(line), level, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line: String) {
            let _ = detect(&line);
        }
    }
}
