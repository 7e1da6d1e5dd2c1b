//! What a panic of PID 1 does: say it, save what can be saved, start again.

use std::fs::OpenOptions;
use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::system::{RebootCommand, reboot};

/// Time to read the message on a screen.
const DELAY: Duration = Duration::from_secs(10);

/// Installs the hook. Without it the kernel would panic with no word of ours.
pub(crate) fn install() {
    std::panic::set_hook(Box::new(|info| {
        let text = format!("keelson: PID 1 panicked, restarting in 10 s: {info}");
        for path in ["/dev/kmsg", "/dev/console"] {
            if let Ok(mut output) = OpenOptions::new().write(true).open(path) {
                let _ = output.write_all(format!("<2>{}\n", text.replace('\n', " ")).as_bytes());
            }
        }
        rustix::fs::sync();
        thread::sleep(DELAY);
        let _ = reboot(RebootCommand::Restart);
    }));
}
