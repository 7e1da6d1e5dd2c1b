//! What a daemon tells PID 1 about itself: that it is ready, that it still works (sd_notify).
//!
//! Without `NOTIFY_SOCKET`, which PID 1 sets for services that are to report, nothing is sent:
//! the same program runs in a terminal and in tests. The message counts only when the main
//! process of the service sends it, from any of its threads.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use thiserror::Error;

/// PID 1 was not told.
#[derive(Debug, Error)]
#[error("cannot send {message} to PID 1 at {socket}")]
pub struct NotifyError {
    message: &'static str,
    socket: String,
    source: io::Error,
}

/// Says that the service is ready: those that need it may start.
pub fn ready() -> Result<(), NotifyError> {
    send("READY=1")
}

/// Says that the service still works. To be called from its main loop, at least every
/// [`watchdog_interval`]: a loop that hangs must fall silent.
pub fn watchdog() -> Result<(), NotifyError> {
    send("WATCHDOG=1")
}

/// How often to call [`watchdog`]; `None` when PID 1 does not watch this service. A third of
/// the time after which it would be restarted, so that two calls may be late.
pub fn watchdog_interval() -> Option<Duration> {
    interval(&std::env::var("WATCHDOG_USEC").ok()?)
}

/// Calls [`watchdog`] as often as PID 1 wants, for ever: one branch of a daemon's main `select!`.
#[cfg(feature = "tokio")]
pub async fn keep_alive() {
    let Some(interval) = watchdog_interval() else {
        return std::future::pending().await;
    };
    loop {
        // PID 1 not being told shows by itself; the next message is a third of the time away.
        let _ = watchdog();
        tokio::time::sleep(interval).await;
    }
}

fn interval(period_us: &str) -> Option<Duration> {
    let period = Duration::from_micros(period_us.parse().ok()?);
    (!period.is_zero()).then(|| period / 3)
}

fn send(message: &'static str) -> Result<(), NotifyError> {
    match std::env::var("NOTIFY_SOCKET") {
        Ok(socket) => send_to(&socket, message),
        Err(_) => Ok(()),
    }
}

/// Never waits: when PID 1 is behind with its reading, an error is better than a daemon that
/// stands still because of it.
fn send_to(path: &str, message: &'static str) -> Result<(), NotifyError> {
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(message.as_bytes(), path)
    });
    sent.map(drop).map_err(|source| NotifyError {
        message,
        socket: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let receiver = UnixDatagram::bind(&path).unwrap();
        send_to(path.to_str().unwrap(), "WATCHDOG=1").unwrap();
        let mut bytes = [0; 64];
        let length = receiver.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"WATCHDOG=1");
    }

    #[test]
    fn a_full_or_absent_socket_is_an_error_and_no_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let text = path.to_str().unwrap();
        let error = send_to(text, "READY=1").unwrap_err();
        assert!(error.to_string().contains("READY=1"), "{error}");
        let _receiver = UnixDatagram::bind(&path).unwrap();
        // Far more than any queue holds.
        assert!((0..100_000).any(|_| send_to(text, "WATCHDOG=1").is_err()));
    }

    #[test]
    fn the_interval_is_a_third_of_the_period() {
        assert_eq!(interval("60000000"), Some(Duration::from_secs(20)));
        for nonsense in ["", "0", "-1", "soon"] {
            assert_eq!(interval(nonsense), None, "{nonsense:?}");
        }
    }
}
