//! Lines for people, on the console and in the log.

use keelson_control::{AsyncClient, Level};

/// Says something to the person at the console; the log has it too.
pub(crate) async fn say(control: &mut AsyncClient, level: Level, text: &str) {
    for line in text.lines() {
        match level {
            Level::Error => tracing::error!("{line}"),
            Level::Warn => tracing::warn!("{line}"),
            Level::Info => tracing::info!("{line}"),
        }
        show(control, level, line).await;
    }
}

/// Shows a line to the person at the console only: what it says is not for readers of logs.
pub(crate) async fn show(control: &mut AsyncClient, level: Level, line: &str) {
    // Without PID 1 there is no console to speak to.
    if let Err(error) = control.message(level, line).await {
        tracing::warn!(
            "a line is not on the console: {}",
            keelson_control::chain(&error)
        );
    }
}
