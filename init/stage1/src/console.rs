//! Lines for people, on every console of the machine.

use std::fs::{self, OpenOptions};
use std::io::Write;

/// Prints one line. A console that cannot be written to is no reason to stop.
pub(crate) fn say(text: &str) {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let mut printed = false;
    for name in active.split_whitespace() {
        if let Ok(mut console) = OpenOptions::new().write(true).open(format!("/dev/{name}")) {
            printed |= console
                .write_all(format!("keelson: {text}\r\n").as_bytes())
                .is_ok();
        }
    }
    if !printed {
        eprintln!("keelson: {text}");
    }
}
