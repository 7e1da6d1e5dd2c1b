//! The floor of the wall clock: no boot goes back behind what is known to be the past.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use keelson_sys::boot_clock::raise_wall_clock;

/// The image's build time is the modification time of this file.
pub(crate) const BUILD_FILE: &str = "/usr/share/keelson/build.json";

/// Raises the clock to a file's modification time. Returns a line for people when it did.
pub(crate) fn raise_to_file(path: &Path) -> Option<String> {
    raise(
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()?,
    )
}

/// Raises the clock to the newest modification time in a folder: the logs of the last boot.
pub(crate) fn raise_to_newest_in(folder: &Path) -> Option<String> {
    let times = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| {
        entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
    });
    raise(times.max()?)
}

fn raise(floor: SystemTime) -> Option<String> {
    let time = crate::timestamp::rfc3339(floor);
    match raise_wall_clock(floor) {
        Ok(false) => None,
        Ok(true) => Some(format!("the clock was behind, set it to {time} for now")),
        Err(error) => Some(format!("cannot set the clock to {time}: {error}")),
    }
}
