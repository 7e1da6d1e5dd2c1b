//! What one caller, or all of them together, can take of this process.
//!
//! Memory at worst: 35 KiB for each connection (TLS and HTTP/2), 100 KiB for each call whose
//! answer nobody reads (windows and buffers on both sides, small frames), 128 KiB of the kernel's
//! for each socket that is stuck. tests/load.rs holds the sum against apid.yaml.

use std::time::Duration;

/// Connections with a finished handshake. Far more than people and scrapers of one node need.
/// When all places are taken, the connection that was idle longest makes room: because there are
/// more places than [`CALLS`], an idle one always exists and nobody is refused.
pub(crate) const CONNECTIONS: usize = 256;

/// Calls in flight: machined keeps state for each.
pub(crate) const CALLS: usize = 96;

/// Calls in flight of one person (of one address in maintenance): nobody takes all of [`CALLS`].
pub(crate) const CALLS_PER_OWNER: usize = 48;

/// Calls in flight on one connection; HTTP/2 makes the client wait with further ones.
pub(crate) const STREAMS: u32 = 32;

/// Handshakes under way. Each costs a few KiB and, when it gets that far, one signature. When
/// full, an unfinished one of the address with the most of them makes room.
pub(crate) const HANDSHAKES: usize = 64;

/// Handshakes under way of an address that is shut out but has an authenticated connection:
/// behind one address may sit both a broken client and a person.
pub(crate) const HANDSHAKES_OF_KNOWN: usize = 4;

/// TLS and HTTP/2 greeting together: three round trips, so enough for a second each way.
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Failed handshakes an address may have at once, and the time that gives one back. A client
/// with a wrong certificate that retries every second is never shut out; a flood soon is.
pub(crate) const FAILURES: u32 = 20;
pub(crate) const FAILURE_FORGIVEN: Duration = Duration::from_secs(1);

/// How long connections of an address with more failures are closed without a word.
pub(crate) const SHUT_OUT: Duration = Duration::from_secs(10);

/// Addresses whose failures are remembered: 64 bytes each. The least guilty is forgotten first.
pub(crate) const ADDRESSES: usize = 1024;

/// Idle connections beyond this number are closed after [`IDLE`]: they cost memory that a small
/// node has better uses for.
pub(crate) const IDLE_KEPT: usize = 16;
pub(crate) const IDLE: Duration = Duration::from_secs(300);

/// How often a silent client is asked whether it lives, and how long it may take to answer. Long
/// streams without news live on because of it.
pub(crate) const PING: Duration = Duration::from_secs(30);
pub(crate) const PING_ANSWER: Duration = Duration::from_secs(20);

/// How often a connection is held against the clock, the revocations and its own progress.
pub(crate) const CHECK: Duration = Duration::from_secs(2);

/// A request must be complete after this time. All calls take one message, of at most
/// [`keelson_api::MAX_MESSAGE_BYTES`]: 35 s at 1 Mbit/s.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// A response that nobody reads for this time is ended when calls are scarce: more than half of
/// [`CALLS`] in flight. Until then somebody may be looking at it in a pager; its memory is bounded
/// by the windows.
pub(crate) const UNREAD: Duration = Duration::from_secs(60);
pub(crate) const CALLS_SCARCE: usize = CALLS / 2;

/// Data a client may send before it is passed on: of one call, and of all calls of a connection
/// (the least that HTTP/2 knows).
pub(crate) const STREAM_WINDOW: u32 = 32 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 65_535;

/// Data machined may send for one call before its client takes it. In small frames it costs ten
/// times as much.
pub(crate) const ANSWER_WINDOW: u32 = 8 * 1024;

/// The same for all calls, which share a connection: the most HTTP/2 knows. Calls that nobody
/// reads must not stop others, and it also decides how many small frames may lie unread before
/// our side ends the connection.
pub(crate) const ANSWERS_WINDOW: u32 = (1 << 31) - 1;

/// Data of one call that waits to be written, in either direction.
pub(crate) const SEND_BUFFER: usize = 8 * 1024;

/// Encrypted data of one connection that waits to be written.
pub(crate) const TLS_BUFFER: usize = 16 * 1024;

/// The kernel's buffers of one connection; it doubles them for its own bookkeeping. Enough for
/// 0.6 MB/s over 100 ms; left alone, a client that does not read would take 4 MiB of our memory.
pub(crate) const SOCKET_BUFFER: u32 = 64 * 1024;

/// How long the client's kernel may take nothing of what waits for it: it is gone, or its program
/// reads nothing at all, not even our question whether it lives.
pub(crate) const UNTAKEN_MS: u32 = 60_000;

/// All headers of a request. Ours need 300 bytes.
pub(crate) const HEADERS: u32 = 8 * 1024;

/// Opening the connection to machined. It listens as long as it lives, so this is long.
pub(crate) const MACHINED_DEADLINE: Duration = Duration::from_secs(2);

/// How often machined is asked whether it lives while calls wait for it, and its time to answer:
/// one that is stopped must not hold them, one that is busy with a disk may.
pub(crate) const MACHINED_PING: Duration = Duration::from_secs(5);
pub(crate) const MACHINED_ANSWER: Duration = Duration::from_secs(10);

/// Time for calls in flight when this process is told to end.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(3);

/// Time for the answer to the call that ended maintenance: it carries the caller's certificate.
pub(crate) const MAINTENANCE_GRACE: Duration = Duration::from_secs(10);

/// Time for the last words on a connection that is ended.
pub(crate) const FAREWELL: Duration = Duration::from_millis(250);

/// The kernel's queue of connections that are not accepted yet.
pub(crate) const BACKLOG: u32 = 512;

/// Pause after the system refused a connection (no descriptors): asking at once would spin.
pub(crate) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How often files are looked at for changes, at most.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Lines per second in the log about one kind of event; further ones are counted.
pub(crate) const LINES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_fit_each_other() {
        const {
            assert!(CONNECTIONS > CALLS, "an idle connection must exist");
            assert!(CALLS > CALLS_PER_OWNER && CALLS > CALLS_SCARCE);
        }
    }
}
