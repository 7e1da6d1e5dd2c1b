//! The wall clock at boot: no earlier than what is known to be the past, and in no far future.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use keelson_sys::boot_clock::{PLAUSIBLE, set_wall_clock};

use crate::timestamp::rfc3339;

/// The image's build time is the modification time of this file.
pub(crate) const BUILD_FILE: &str = "/usr/share/keelson/build.json";

/// Corrects the clock by a file's modification time. Returns a line for people when it did.
pub(crate) fn correct_by_file(path: &Path) -> Option<String> {
    correct(
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()?,
    )
}

/// Corrects the clock by the newest modification time in a folder: the logs of the last boot.
pub(crate) fn correct_by_newest_in(folder: &Path) -> Option<String> {
    let times = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| {
        entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
    });
    // A boot with a wrong clock may have written some of them.
    correct(times.filter(|time| is_plausible(*time)).max()?)
}

fn correct(floor: SystemTime) -> Option<String> {
    let now = SystemTime::now();
    if is_right(now, floor) {
        return None;
    }
    let (wrong, time) = (rfc3339(now), rfc3339(floor));
    Some(match set_wall_clock(floor) {
        Ok(()) => format!("the clock was wrong ({wrong}), set it to {time} for now"),
        Err(error) => format!("the clock is wrong ({wrong}) and cannot be set to {time}: {error}"),
    })
}

fn is_right(now: SystemTime, floor: SystemTime) -> bool {
    now >= floor && (is_plausible(now) || !is_plausible(floor))
}

fn is_plausible(time: SystemTime) -> bool {
    time.duration_since(UNIX_EPOCH)
        .is_ok_and(|time| PLAUSIBLE.contains(&time))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn year(year: u64) -> SystemTime {
        // Near enough: a year has 365.2425 days.
        UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_556_952 + 86_400)
    }

    #[test]
    fn the_past_and_a_far_future_are_wrong() {
        let built = year(2026);
        assert!(is_right(year(2026), built));
        assert!(is_right(year(2040), built));
        assert!(!is_right(year(1970), built));
        assert!(!is_right(year(2025), built));
        assert!(!is_right(year(2070), built));
    }

    /// Only a machine that is behind could be helped by an image that does not know its own time.
    #[test]
    fn a_wrong_floor_takes_nothing_away() {
        assert!(is_right(year(2070), year(1980)));
        assert!(is_right(year(1990), year(1980)));
    }

    #[test]
    fn logs_of_a_boot_in_the_far_future_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = fs::File::create(folder.path().join("etcd.log")).unwrap();
        file.set_modified(year(2070)).unwrap();
        assert_eq!(correct_by_newest_in(folder.path()), None);
    }
}
