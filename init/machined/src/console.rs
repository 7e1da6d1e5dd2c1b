//! Lines for people, on the console and in the log.

use keelson_control::{AsyncClient, ClientError, Level, chain};

/// Says something to the person at the console; the log has it too.
pub(crate) async fn say(control: &mut AsyncClient, level: Level, text: &str) {
    for line in text.lines() {
        match level {
            Level::Error => tracing::error!("{line}"),
            Level::Warn => tracing::warn!("{line}"),
            Level::Info => tracing::info!("{line}"),
        }
        warn_if_unheard(control.message(level, line).await);
    }
}

/// Shows a line to the person at the console only: what it says is not for readers of logs, and
/// not for those of the kernel's log either.
pub(crate) async fn show(control: &mut AsyncClient, line: &str) {
    warn_if_unheard(control.show(line).await);
}

/// Without PID 1 there is no console to speak to.
fn warn_if_unheard(told: Result<(), ClientError>) {
    if let Err(error) = told {
        tracing::warn!("a line is not on the console: {}", chain(&error));
    }
}
