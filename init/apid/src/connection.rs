//! One connection, from its handshake to its end.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::UnixTime;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Status;

use crate::caller::Outcast;
use crate::connections::{Ending, Session};
use crate::executor::Local;
use crate::front::Front;
use crate::handshake::{self, Arrival};
use crate::journal::Kind;
use crate::limits;
use crate::proxy;

/// Serves a connection until its client, or a reason of ours, ends it.
pub(crate) async fn serve(front: Rc<Front>, arrival: Arrival) {
    let Arrival { stream, session } = arrival;
    let _place = front.connections.join(&session);
    let service =
        service_fn(|request| proxy::answer(Rc::clone(&front), Rc::clone(&session), request));
    let connection = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_concurrent_streams(limits::STREAMS)
        .max_header_list_size(limits::HEADERS)
        .max_send_buf_size(limits::SEND_BUFFER)
        .keep_alive_interval(limits::PING)
        .keep_alive_timeout(limits::PING_ANSWER)
        .serve_connection(TokioIo::new(handshake::unread(stream)), service);
    let mut connection = pin!(connection);
    let ending = tokio::select! {
        // How a client goes is its own business.
        _ = connection.as_mut() => return,
        ending = told_to_end(&front, &session) => ending,
    };
    if !matches!(ending, Ending::Displaced | Ending::Idle | Ending::Stopping) {
        front.journal.warn(
            Kind::EndedConnection,
            format_args!(
                "ended the connection of {:?} from {}: {ending}",
                session.caller.name(),
                session.peer
            ),
        );
    }
    connection.as_mut().graceful_shutdown();
    // Without any time it says goodbye once, which is all that one without calls needs.
    let over = timeout(grace(ending), connection.as_mut()).await.is_ok();
    if over || matches!(ending, Ending::Displaced | Ending::Idle) {
        return;
    }
    session.fail_calls(&last_words(ending));
    // Over in time or not: dropping it closes it.
    let _ = timeout(limits::FAREWELL, connection).await;
}

/// Waits for a reason to end, which others or the connection itself can give.
async fn told_to_end(front: &Front, session: &Session) -> Ending {
    let mut check = interval(limits::CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ending = session.ending() => return ending,
            _ = check.tick() => {
                if let Err(outcast) = session.caller.role(&front.trust.now(), UnixTime::now()) {
                    return Ending::Outcast(outcast);
                }
                if let Some(waste) = session.waste(&front.connections, Instant::now()) {
                    return waste;
                }
            }
        }
    }
}

/// How long calls in flight may go on.
const fn grace(ending: Ending) -> Duration {
    match ending {
        Ending::Stopping => limits::STOP_GRACE,
        Ending::Outcast(Outcast::MaintenanceOver) => limits::MAINTENANCE_GRACE,
        Ending::Outcast(_) | Ending::Displaced | Ending::Idle | Ending::Unread => Duration::ZERO,
    }
}

/// What calls in flight are told when they may not.
fn last_words(ending: Ending) -> Status {
    match ending {
        Ending::Outcast(outcast) => Status::unauthenticated(outcast.to_string()),
        Ending::Unread => Status::resource_exhausted(ending.to_string()),
        Ending::Displaced | Ending::Idle | Ending::Stopping => {
            Status::unavailable(ending.to_string())
        }
    }
}
