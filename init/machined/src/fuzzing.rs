//! A door for tests/fuzz to the reader of log files. Compiled for it alone.

use std::io;
use std::path::Path;

use keelson_api::v1alpha1::LogLine;

use crate::api::log_files::LogCursor;

/// All lines of a service's files, or the last ones (`tail` > 0), none before `since`.
///
/// # Errors
/// When a file cannot be read.
pub fn lines(folder: &Path, service: &str, tail: usize, since: &str) -> io::Result<Vec<LogLine>> {
    let mut cursor = LogCursor::open(folder, service, tail, since)?;
    let mut lines = Vec::new();
    while let Some(line) = cursor.take()? {
        lines.push(line);
    }
    Ok(lines)
}
